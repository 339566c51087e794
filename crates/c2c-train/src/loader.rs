//! Batches in an order of our own, made when they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;
use c2c_fuser::PairBatch;

use crate::Order;

/// Makes a learner's item of a batch.
pub type MakeItem<I> = Arc<dyn Fn(Arc<PairBatch>) -> I + Send + Sync>;

/// Makes the batch of some examples.
pub type MakeBatch = Arc<dyn Fn(&[usize]) -> PairBatch + Send + Sync>;

/// A data loader over batches made on demand. Every call of `iter` is the next epoch.
pub struct BatchLoader<I> {
    examples: usize,
    batch_size: usize,
    order: Order,
    epoch: AtomicUsize,
    /// Examples left out at the beginning of the next epoch.
    skip: AtomicUsize,
    make_batch: MakeBatch,
    make_item: MakeItem<I>,
}

impl<I> BatchLoader<I> {
    /// A loader over `examples` examples.
    pub fn new(
        examples: usize,
        batch_size: usize,
        order: Order,
        make_batch: MakeBatch,
        make_item: MakeItem<I>,
    ) -> Self {
        Self {
            examples,
            batch_size,
            order,
            epoch: AtomicUsize::new(0),
            skip: AtomicUsize::new(0),
            make_batch,
            make_item,
        }
    }

    /// Begins in an epoch, counted from 0, behind its first `examples`; later epochs are whole.
    pub fn starting_at(mut self, epoch: usize, examples: usize) -> Self {
        self.epoch = AtomicUsize::new(epoch);
        self.skip = AtomicUsize::new(examples);
        self
    }
}

impl<B: Backend, I: Send + 'static> DataLoader<B, I> for BatchLoader<I> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<I> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let next = self.skip.swap(0, Ordering::Relaxed);
        Box::new(Batches { loader: self, order: self.order.epoch(self.examples, epoch), next })
    }

    fn num_items(&self) -> usize {
        self.order.epoch_len(self.examples)
    }

    fn to_device(&self, _device: &B::Device) -> Arc<dyn DataLoader<B, I>> {
        // Batches stay on the host until a model reads them.
        let Self { examples, batch_size, order, make_batch, make_item, .. } = self;
        Arc::new(Self::new(*examples, *batch_size, order.clone(), make_batch.clone(), make_item.clone()))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, I>> {
        Arc::new(self.part(start, end))
    }
}

impl<I> BatchLoader<I> {
    /// A loader over some of the examples, as workers of Burn's own strategies ask for one: without weights or buckets,
    /// which are about all of them.
    fn part(&self, start: usize, end: usize) -> Self {
        let make_batch = self.make_batch.clone();
        let shifted: MakeBatch = Arc::new(move |indexes| {
            let indexes: Vec<usize> = indexes.iter().map(|i| i + start).collect();
            make_batch(&indexes)
        });
        let order = match &self.order {
            Order::Planned(plan) if plan.shuffle => Order::Shuffled { seed: plan.seed },
            Order::Planned(_) => Order::AsIs,
            order => order.clone(),
        };
        Self::new(end - start, self.batch_size, order, shifted, self.make_item.clone())
    }
}

struct Batches<'a, I> {
    loader: &'a BatchLoader<I>,
    order: Vec<usize>,
    next: usize,
}

impl<I> Iterator for Batches<'_, I> {
    type Item = I;

    fn next(&mut self) -> Option<I> {
        if self.next >= self.order.len() {
            return None;
        }
        let end = (self.next + self.loader.batch_size).min(self.order.len());
        let batch = (self.loader.make_batch)(&self.order[self.next..end]);
        self.next = end;
        Some((self.loader.make_item)(Arc::new(batch)))
    }
}

impl<I> DataLoaderIterator<I> for Batches<'_, I> {
    fn progress(&self) -> Progress {
        Progress::new(self.next, self.order.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use c2c_fuser::BatchSection;
    use c2c_lm::TokenBatch;

    use super::*;

    /// The examples of each batch, an epoch a list. A batch's receiver ids are its examples.
    fn drawn(loader: &BatchLoader<Vec<u32>>, epochs: usize) -> Vec<Vec<Vec<u32>>> {
        (0..epochs).map(|_| DataLoader::<burn::Dispatch, Vec<u32>>::iter(loader).collect()).collect()
    }

    fn loader() -> BatchLoader<Vec<u32>> {
        let make_batch: MakeBatch = Arc::new(|examples: &[usize]| {
            let ids = || TokenBatch::new(examples.iter().map(|e| vec![*e as u32]).collect(), 0).unwrap();
            let labels = vec![vec![None]; examples.len()];
            PairBatch::new(vec![BatchSection { receiver: ids(), sharer: ids(), fuse: false, labels }]).unwrap()
        });
        let ids = |batch: Arc<PairBatch>| batch.last().receiver.ids().iter().flatten().copied().collect();
        BatchLoader::new(11, 2, Order::Shuffled { seed: 7 }, make_batch, Arc::new(ids))
    }

    #[test]
    fn starting_inside_an_epoch_gives_the_rest_of_it_and_then_whole_epochs() {
        let whole = drawn(&loader(), 3);
        assert_eq!(whole.concat().concat().len(), 33);
        for (examples, batches) in [(0, 0), (4, 2), (10, 5)] {
            let rest = drawn(&loader().starting_at(1, examples), 2);
            assert_eq!(rest, [whole[1][batches..].to_vec(), whole[2].clone()], "{examples} examples done");
        }
    }
}
