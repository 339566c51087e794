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
        Self { examples, batch_size, order, epoch: AtomicUsize::new(0), make_batch, make_item }
    }
}

impl<B: Backend, I: Send + 'static> DataLoader<B, I> for BatchLoader<I> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<I> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Box::new(Batches { loader: self, order: self.order.epoch(self.examples, epoch), next: 0 })
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
