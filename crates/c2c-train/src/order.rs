//! The order in which examples are seen: an index stream drawn from the run's seed, one for each epoch.
//!
//! An order is a function of the epoch alone, so a run can be taken up in the middle of one. Batches are consecutive pieces
//! of it. Weights decide how often a source's examples are in it; length buckets arrange it so that a batch's examples
//! are of like length.

use std::sync::Arc;

use c2c_recipe::TrainRecipe;
use c2c_text::Prompt;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::{SliceRandom, index};

use crate::data::TrainExample;

/// The order of the examples.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// As they are, the same in each epoch.
    AsIs,
    /// A new order for each epoch.
    Shuffled {
        /// The run's seed.
        seed: u64,
    },
    /// With weights or length buckets.
    Planned(Arc<Plan>),
}

/// An order with weights or length buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Draws the order, and which examples a fraction of a weight takes.
    pub seed: u64,
    /// Whether the order is drawn anew for each epoch.
    pub shuffle: bool,
    /// The examples of each source and how often each of them is seen.
    pub groups: Vec<(Vec<usize>, f64)>,
    /// How many batches' examples are sorted together, and the examples in one batch.
    pub bucket: Option<(usize, usize)>,
    /// The lengths of each example: prompt up to the last section, and last section.
    pub lengths: Vec<(usize, usize)>,
}

impl Order {
    /// The order that a recipe wants of its examples.
    pub fn of(recipe: &TrainRecipe, examples: &[TrainExample]) -> Self {
        let weight = |source: usize| recipe.data.sources.get(source).and_then(|s| s.options.weight).unwrap_or(1.0);
        let weighted = recipe.data.sources.iter().any(|source| source.options.weight.is_some());
        if !weighted && recipe.data.length_bucket.is_none() {
            return if recipe.data.shuffle { Self::Shuffled { seed: recipe.seed } } else { Self::AsIs };
        }
        let groups = (0..recipe.data.sources.len()).map(|source| {
            let own = examples.iter().enumerate().filter(|(_, example)| example.source == source);
            (own.map(|(index, _)| index).collect(), weight(source))
        });
        Self::Planned(Arc::new(Plan {
            seed: recipe.seed,
            shuffle: recipe.data.shuffle,
            groups: groups.collect(),
            bucket: recipe.data.length_bucket.map(|batches| (batches, recipe.training.batch_size)),
            lengths: examples.iter().map(|example| lengths(&example.prompt)).collect(),
        }))
    }

    /// The indexes of an epoch, counted from 0.
    pub fn epoch(&self, examples: usize, epoch: usize) -> Vec<usize> {
        match self {
            Self::AsIs => (0..examples).collect(),
            Self::Shuffled { seed } => {
                let mut order: Vec<usize> = (0..examples).collect();
                order.shuffle(&mut generator(*seed, epoch));
                order
            }
            Self::Planned(plan) => plan.epoch(epoch),
        }
    }

    /// Examples seen in an epoch; the same for each.
    pub fn epoch_len(&self, examples: usize) -> usize {
        match self {
            Self::AsIs | Self::Shuffled { .. } => examples,
            Self::Planned(plan) => plan.groups.iter().map(|(own, weight)| wanted(own.len(), *weight)).sum(),
        }
    }
}

fn generator(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    rng
}

fn lengths(prompt: &Prompt) -> (usize, usize) {
    let last = prompt.sections.last().map_or(0, c2c_text::Section::len);
    (prompt.len() - last, last)
}

/// Examples of a source in an epoch: at least one, if it has any.
fn wanted(examples: usize, weight: f64) -> usize {
    ((examples as f64 * weight).round() as usize).max(examples.min(1))
}

impl Plan {
    fn epoch(&self, epoch: usize) -> Vec<usize> {
        let mut rng = generator(self.seed, epoch);
        let mut order = Vec::new();
        for (own, weight) in self.groups.iter().filter(|(own, _)| !own.is_empty()) {
            let wanted = wanted(own.len(), *weight);
            for _ in 0..wanted / own.len() {
                order.extend_from_slice(own);
            }
            let mut some = index::sample(&mut rng, own.len(), wanted % own.len()).into_vec();
            some.sort_unstable();
            order.extend(some.into_iter().map(|place| own[place]));
        }
        if self.shuffle {
            order.shuffle(&mut rng);
        }
        match self.bucket {
            Some((batches, batch_size)) => self.bucketed(&order, batches, batch_size, &mut rng),
            None => order,
        }
    }

    /// Arranges the examples of some batches at a time. The order of the batches is drawn again (if any is), so that
    /// lengths don't follow each other; a batch that isn't full stays the last.
    fn bucketed(&self, order: &[usize], batches: usize, batch_size: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let (full, rest) = order.split_at(order.len() - order.len() % batch_size);
        let mut arranged = full.to_vec();
        arranged.chunks_mut(batches.saturating_mul(batch_size)).for_each(|bucket| self.halve(bucket, batch_size));
        let mut batches: Vec<&[usize]> = arranged.chunks(batch_size).collect();
        if self.shuffle {
            batches.shuffle(rng);
        }
        let mut order = batches.concat();
        order.extend_from_slice(rest);
        order
    }

    /// Sorts and halves a bucket until a half is one batch, each time by the length that leaves least to pad: prompt,
    /// reply or both. Prompt and reply are padded by themselves, so sorting by one of them alone, or by their sum, leaves
    /// much more padding in large buckets.
    fn halve(&self, bucket: &mut [usize], batch_size: usize) {
        let half = bucket.len().div_ceil(batch_size) / 2 * batch_size;
        if half == 0 {
            return;
        }
        let lengths: [fn((usize, usize)) -> usize; 3] = [|(prompt, _)| prompt, |(_, reply)| reply, |(p, r)| p + r];
        let sorted = lengths.map(|length| {
            let mut sorted = bucket.to_vec();
            sorted.sort_by_key(|example| length(self.lengths[*example]));
            (self.slots(&sorted[..half]) + self.slots(&sorted[half..]), sorted)
        });
        // Of equals the first, so that one seed gives one order.
        if let Some((_, best)) = sorted.iter().min_by_key(|(slots, _)| *slots) {
            bucket.copy_from_slice(best);
        }
        let (first, second) = bucket.split_at_mut(half);
        self.halve(first, batch_size);
        self.halve(second, batch_size);
    }

    /// Slots of these examples if they were one batch.
    fn slots(&self, examples: &[usize]) -> usize {
        let longest =
            |of: fn(&(usize, usize)) -> usize| examples.iter().map(|e| of(&self.lengths[*e])).max().unwrap_or(0);
        examples.len() * (longest(|l| l.0) + longest(|l| l.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_differ_and_seeds_repeat() {
        let order = Order::Shuffled { seed: 7 };
        let first = order.epoch(50, 0);
        assert_eq!(first, Order::Shuffled { seed: 7 }.epoch(50, 0));
        assert_ne!(first, order.epoch(50, 1));
        assert_ne!(first, Order::Shuffled { seed: 8 }.epoch(50, 0));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    fn plan(weights: &[f64], bucket: Option<(usize, usize)>) -> Order {
        let lengths = (0..100).map(|example: usize| ((example * 37) % 91, (example * 53) % 89)).collect();
        let size = 100 / weights.len();
        let groups = weights.iter().enumerate().map(|(at, weight)| ((at * size..(at + 1) * size).collect(), *weight));
        Order::Planned(Arc::new(Plan { seed: 3, shuffle: true, groups: groups.collect(), bucket, lengths }))
    }

    #[test]
    fn weights_decide_how_often_an_example_is_seen() {
        let order = plan(&[2.5, 0.5], None);
        let (first, second) = (order.epoch(100, 0), order.epoch(100, 1));
        assert_eq!((first.len(), second.len(), order.epoch_len(100)), (150, 150, 150));
        let seen = |epoch: &[usize], example: usize| epoch.iter().filter(|other| **other == example).count();
        for example in 0..100 {
            let expected = if example < 50 { 2..=3 } else { 0..=1 };
            assert!(expected.contains(&seen(&first, example)), "{example}");
        }
        let halves = |epoch: &[usize]| (50..100).filter(|example| seen(epoch, *example) == 1).collect::<Vec<_>>();
        assert_eq!(halves(&first).len(), 25);
        assert_ne!(halves(&first), halves(&second), "the half is drawn anew");
    }

    #[test]
    fn buckets_keep_every_example_and_the_short_batch_last() {
        let order = plan(&[1.0], Some((4, 8)));
        let epoch = order.epoch(100, 0);
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(epoch, order.epoch(100, 0));
        assert_ne!(epoch, order.epoch(100, 1));
    }

    #[test]
    fn buckets_waste_less_than_chance() {
        let Order::Planned(plan) = plan(&[1.0], Some((12, 8))) else { unreachable!() };
        let slots = |epoch: &[usize]| -> usize { epoch.chunks(8).map(|batch| plan.slots(batch)).sum() };
        let drawn = Order::Shuffled { seed: 3 }.epoch(100, 0);
        let real: usize = plan.lengths.iter().map(|l| l.0 + l.1).sum();
        let (drawn, bucketed) = (slots(&drawn) - real, slots(&plan.epoch(0)) - real);
        assert!(2 * bucketed < drawn, "{bucketed} slots of padding, {drawn} without buckets");
    }
}
