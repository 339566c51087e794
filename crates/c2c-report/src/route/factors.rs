//! Matrix factorisation, the form in which RouteLLM routes (Ong et al. 2024).
//!
//! Each method `m` has an embedding `v_m`, each question the embedding `W x + b`, where `x` are its hashed words, and what a
//! method is worth on a question is their product `v_m . (W x + b)`. (The original weighs the product's entries once more
//! before it sums them; a free `v_m` holds that weight already.) One method is better than another with the probability
//! `sigma` of the difference of their worths. All of `v`, `W` and `b` are trained together on every two methods of a run:
//! 1 where only the first is right, 0 where only the second is, a half where they tie. So the score grows with the accuracy
//! that a call is expected to gain.
//!
//! With two methods a difference of worths is linear in `x`, as in a logistic regression. What the form adds is what the other
//! methods' answers tell about questions: the penalty on `v` and `W` is that of the nuclear norm of their product (Srebro,
//! Rennie and Jaakkola 2004), so methods share the few directions in which questions differ.
//!
//! `W` and `b` begin at zero, so that words that no example has count for nothing; `v` is drawn by the seed.

use std::collections::HashMap;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::features::Features;
use super::penalty::best_penalty;

/// Length of an embedding.
pub(super) const DIMENSIONS: usize = 8;
/// Steps of gradient descent, by Adam on all examples at once.
const STEPS: usize = 200;
/// Adam's rate at the first step; it falls to zero along half a cosine.
const RATE: f64 = 0.05;
/// Adam's decay of the mean of gradients, and of their squares.
const DECAY: [f64; 2] = [0.9, 0.999];
/// Strengths of the penalty that are tried.
const PENALTIES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];
/// An example: what a question looks like, and which methods are right.
pub(super) type Example<'a> = (&'a Features, &'a [bool]);

/// An example by the places of its buckets' rows.
type Placed<'a> = (Vec<(usize, f64)>, &'a [bool]);

/// A method's embedding, a question's, or what a word adds to one.
type Vector = [f64; DIMENSIONS];

/// Embeddings of methods, and what makes embeddings of questions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factors {
    /// Where the row of a bucket stands among those that examples have.
    places: HashMap<usize, usize>,
    /// Methods' embeddings, then `b`, then the rows of `W`.
    rows: Vec<Vector>,
    methods: usize,
    /// Strength of the quadratic penalty on all rows but `b`.
    pub(super) penalty: f64,
}

impl Factors {
    /// Fits so many methods, with the penalty that predicts best who of `pair`, by their places, is better on what is left
    /// out.
    pub(super) fn fit(examples: &[Example<'_>], methods: usize, pair: [usize; 2], seed: u64) -> Self {
        let penalty = best_penalty(
            examples,
            &PENALTIES,
            |kept, penalty| Self::with_penalty(kept, methods, penalty, seed),
            |fitted, example| fitted.loss(example, pair),
        );
        Self::with_penalty(examples, methods, penalty, seed)
    }

    fn with_penalty(examples: &[Example<'_>], methods: usize, penalty: f64, seed: u64) -> Self {
        let mut places = HashMap::new();
        for (bucket, _) in examples.iter().flat_map(|(features, _)| features.iter()) {
            let next = places.len();
            places.entry(*bucket).or_insert(next);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let spread = (1.0 / DIMENSIONS as f64).sqrt();
        let mut rows: Vec<Vector> =
            (0..methods).map(|_| std::array::from_fn(|_| rng.random_range(-spread..spread))).collect();
        rows.resize(methods + 1 + places.len(), [0.0; DIMENSIONS]);
        let mut fitted = Self { places, rows, methods, penalty };
        // Buckets by their places once, not in every step.
        let placed: Vec<Placed<'_>> =
            examples.iter().map(|(features, right)| (fitted.placed(features), *right)).collect();
        let mut means = vec![[[0.0; 2]; DIMENSIONS]; fitted.rows.len()];
        let mut decayed = [1.0; 2];
        for step in 0..STEPS {
            let gradient = fitted.gradient(&placed);
            decayed = [0, 1].map(|which| decayed[which] * DECAY[which]);
            let rate = RATE * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / STEPS as f64).cos());
            for ((row, means), gradient) in fitted.rows.iter_mut().zip(&mut means).zip(gradient) {
                for ((number, [first, second]), gradient) in row.iter_mut().zip(means).zip(gradient) {
                    *first = DECAY[0] * *first + (1.0 - DECAY[0]) * gradient;
                    *second = DECAY[1] * *second + (1.0 - DECAY[1]) * gradient * gradient;
                    let (mean, square) = (*first / (1.0 - decayed[0]), *second / (1.0 - decayed[1]));
                    *number -= rate * mean / (square.sqrt() + 1e-12);
                }
            }
        }
        fitted
    }

    /// Buckets by the places of their weights; those that no example has are left out.
    fn placed(&self, features: &Features) -> Vec<(usize, f64)> {
        features.iter().filter_map(|(bucket, amount)| Some((*self.places.get(bucket)?, *amount))).collect()
    }

    /// `W x + b`.
    fn embedding(&self, placed: &[(usize, f64)]) -> Vector {
        let mut sum = self.rows[self.methods];
        placed.iter().for_each(|(place, amount)| add(&mut sum, *amount, &self.rows[self.methods + 1 + place]));
        sum
    }

    /// What a method is worth on a question.
    fn worth(&self, method: usize, embedding: &Vector) -> f64 {
        self.rows[method].iter().zip(embedding).map(|(v, x)| v * x).sum()
    }

    /// Of the mean loss of all examples and of all pairs of methods, and of the penalty.
    fn gradient(&self, placed: &[Placed<'_>]) -> Vec<Vector> {
        let b = self.methods;
        let mut gradient: Vec<Vector> = self.rows.iter().map(|row| row.map(|number| self.penalty * number)).collect();
        gradient[b] = [0.0; DIMENSIONS];
        let pairs = (self.methods * self.methods.saturating_sub(1) / 2).max(1);
        let share = 1.0 / (placed.len() * pairs).max(1) as f64;
        let mut errors = vec![0.0; self.methods];
        for (features, right) in placed {
            let embedding = self.embedding(features);
            let worths: Vec<f64> = (0..self.methods).map(|method| self.worth(method, &embedding)).collect();
            // By method: how much its worth should be less.
            errors.fill(0.0);
            for first in 0..self.methods {
                for second in first + 1..self.methods {
                    let error = (sigma(worths[first] - worths[second]) - target(right, [second, first])) * share;
                    errors[first] += error;
                    errors[second] -= error;
                }
            }
            let mut back = [0.0; DIMENSIONS];
            for (method, error) in errors.iter().enumerate() {
                add(&mut gradient[method], *error, &embedding);
                add(&mut back, *error, &self.rows[method]);
            }
            add(&mut gradient[b], 1.0, &back);
            features.iter().for_each(|(place, amount)| add(&mut gradient[b + 1 + place], *amount, &back));
        }
        gradient
    }

    /// How probable it is that the second of a pair is better, a tie counting half.
    pub(super) fn score(&self, features: &Features, [first, second]: [usize; 2]) -> f64 {
        let embedding = self.embedding(&self.placed(features));
        sigma(self.worth(second, &embedding) - self.worth(first, &embedding))
    }

    fn loss(&self, (features, right): Example<'_>, pair: [usize; 2]) -> f64 {
        let (score, target) = (self.score(features, pair), target(right, pair));
        -target * score.max(f64::MIN_POSITIVE).ln() - (1.0 - target) * (1.0 - score).max(f64::MIN_POSITIVE).ln()
    }
}

fn add(sum: &mut Vector, amount: f64, row: &Vector) {
    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += amount * x);
}

fn sigma(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// 1 where only the second of a pair is right, 0 where only the first is, a half where they tie.
fn target(right: &[bool], [first, second]: [usize; 2]) -> f64 {
    (1.0 + f64::from(u8::from(right[second])) - f64::from(u8::from(right[first]))) / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::features::features;
    use super::*;

    /// Questions of three topics, and three methods: the first knows iron, the second iron and lead, the third gold.
    fn examples() -> Vec<(Features, Vec<bool>)> {
        let example = |n: usize| {
            let topic = n % 3;
            (
                features(&format!("word{} of {}", n % 7, ["iron", "lead", "gold"][topic])),
                vec![topic == 0, topic < 2, topic == 2],
            )
        };
        (0..84).map(example).collect()
    }

    fn borrowed(examples: &[(Features, Vec<bool>)]) -> Vec<Example<'_>> {
        examples.iter().map(|(features, right)| (features, right.as_slice())).collect()
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let examples = examples();
        let examples = borrowed(&examples);
        let mut fitted = Factors::with_penalty(&examples, 3, 1e-2, 1);
        let placed: Vec<_> = examples.iter().map(|(features, right)| (fitted.placed(features), *right)).collect();
        let whole = |fitted: &Factors| -> f64 {
            let pairs = [[1, 0], [2, 0], [2, 1]];
            let loss: f64 = examples.iter().flat_map(|example| pairs.map(|pair| fitted.loss(*example, pair))).sum();
            let free = fitted.rows.iter().enumerate().filter(|(place, _)| *place != fitted.methods);
            let penalty: f64 = free.flat_map(|(_, row)| row.map(|number| number * number)).sum();
            loss / (examples.len() * pairs.len()) as f64 + fitted.penalty / 2.0 * penalty
        };
        // Away from the minimum, where gradients are not small.
        let numbers = fitted.rows.iter_mut().flatten().enumerate();
        numbers.for_each(|(place, number)| *number += 0.3 * (place as f64).sin());
        let gradient = fitted.gradient(&placed);
        for (row, gradient) in gradient.iter().enumerate() {
            let at = row % DIMENSIONS;
            let moved = |by: f64| {
                let mut moved = fitted.clone();
                moved.rows[row][at] += by;
                whole(&moved)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[at] - expected).abs() < 1e-8, "{row}: {} and {expected}", gradient[at]);
        }
    }

    #[test]
    fn a_fit_is_where_nothing_is_left_to_be_gained_and_tells_who_is_better() {
        let examples = examples();
        let examples = borrowed(&examples);
        let fitted = Factors::with_penalty(&examples, 3, 1e-3, 1);
        let placed: Vec<_> = examples.iter().map(|(features, right)| (fitted.placed(features), *right)).collect();
        let length = |gradient: Vec<Vector>| gradient.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        assert!(length(fitted.gradient(&placed)) < 1e-3, "{}", length(fitted.gradient(&placed)));
        let score = |text: &str, pair| fitted.score(&features(text), pair);
        // Only the second knows lead; both know iron; only the third knows gold.
        assert!(score("word1 of lead", [0, 1]) > 0.75);
        assert!((score("word1 of iron", [0, 1]) - 0.5).abs() < 0.1);
        assert!(score("word1 of gold", [1, 2]) > 0.75 && score("word1 of gold", [2, 1]) < 0.25);
        // Words that were never seen tell nothing: only what the methods are worth in general is left.
        assert_eq!(score("tungsten", [0, 1]), score("zinc", [0, 1]));
    }

    #[test]
    fn the_seed_draws_the_beginning_and_nothing_else_is_drawn() {
        let examples = examples();
        let examples = borrowed(&examples);
        let fit = |seed| Factors::fit(&examples, 3, [0, 1], seed);
        assert_eq!(fit(1), fit(1));
        let (one, other) = (fit(1), fit(2));
        assert_ne!(one.rows, other.rows);
        // Other beginnings end at the same scores, or nearly.
        for (features, _) in &examples {
            assert!((one.score(features, [0, 1]) - other.score(features, [0, 1])).abs() < 0.02);
        }
    }

    #[test]
    fn without_examples_every_score_is_a_half() {
        let fitted = Factors::fit(&[], 3, [0, 1], 1);
        assert_eq!((fitted.penalty, fitted.score(&features("iron"), [0, 1])), (0.1, 0.5));
    }
}
