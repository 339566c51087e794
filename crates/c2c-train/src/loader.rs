//! Batches in an order of our own, made when they are asked for or a bounded number of them ahead.
//!
//! What a batch is made of depends on the order and on nothing else, so that a run with batches made ahead is the run
//! without them, to the bit. An error, or a panic of the thread that makes batches, ends the epoch and stays in the error
//! slot of the run.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;

use crate::{ErrorSlot, Order, TrainError};

/// Makes a learner's item of some examples.
pub type MakeItem<I> = Arc<dyn Fn(&[usize]) -> Result<I, TrainError> + Send + Sync>;

/// A data loader over batches made on demand. Every call of `iter` is the next epoch.
pub struct BatchLoader<I> {
    examples: usize,
    batch_size: usize,
    order: Order,
    epoch: AtomicUsize,
    /// Examples left out at the beginning of the next epoch.
    skip: AtomicUsize,
    make: MakeItem<I>,
    errors: ErrorSlot,
    /// Items that are made before they are asked for; 0 makes each where it is asked for.
    ahead: usize,
}

impl<I> BatchLoader<I> {
    /// A loader over `examples` examples. An item that can't be made ends its epoch; why stays in `errors`.
    pub fn new(examples: usize, batch_size: usize, order: Order, make: MakeItem<I>, errors: ErrorSlot) -> Self {
        Self {
            examples,
            batch_size,
            order,
            epoch: AtomicUsize::new(0),
            skip: AtomicUsize::new(0),
            make,
            errors,
            ahead: 0,
        }
    }

    /// Begins in an epoch, counted from 0, behind its first `examples`; later epochs are whole.
    pub fn starting_at(mut self, epoch: usize, examples: usize) -> Self {
        self.epoch = AtomicUsize::new(epoch);
        self.skip = AtomicUsize::new(examples);
        self
    }

    /// Makes so many items ahead, on a thread of their own that lives as long as its epoch's iterator.
    pub fn ahead(self, items: usize) -> Self {
        Self { ahead: items, ..self }
    }

    /// A loader of the same settings from its first epoch on.
    fn anew(&self, examples: usize, order: Order, make: MakeItem<I>) -> Self {
        Self::new(examples, self.batch_size, order, make, self.errors.clone()).ahead(self.ahead)
    }
}

impl<B: Backend, I: Send + 'static> DataLoader<B, I> for BatchLoader<I> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<I> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let next = self.skip.swap(0, Ordering::Relaxed);
        let order = self.order.epoch(self.examples, epoch);
        let examples = order.len();
        let pieces = Pieces { order, next, batch_size: self.batch_size, make: self.make.clone() };
        let from = match self.ahead {
            0 => Source::Here(pieces),
            ahead => Ahead::start(pieces, ahead).map_or_else(|error| Source::Failed(Some(error)), Source::Ahead),
        };
        Box::new(Batches { from, errors: self.errors.clone(), done: next, examples })
    }

    fn num_items(&self) -> usize {
        self.order.epoch_len(self.examples)
    }

    fn to_device(&self, _device: &B::Device) -> Arc<dyn DataLoader<B, I>> {
        // Batches stay on the host until a model reads them.
        Arc::new(self.anew(self.examples, self.order.clone(), self.make.clone()))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, I>> {
        Arc::new(self.part(start, end))
    }
}

impl<I: 'static> BatchLoader<I> {
    /// A loader over some of the examples, as workers of Burn's own strategies ask for one: without weights or buckets,
    /// which are about all of them.
    fn part(&self, start: usize, end: usize) -> Self {
        let make = self.make.clone();
        let shifted: MakeItem<I> = Arc::new(move |indexes| {
            let indexes: Vec<usize> = indexes.iter().map(|i| i + start).collect();
            make(&indexes)
        });
        let order = match &self.order {
            Order::Planned(plan) if plan.shuffle => Order::Shuffled { seed: plan.seed },
            Order::Planned(_) => Order::AsIs,
            order => order.clone(),
        };
        self.anew(end - start, order, shifted)
    }
}

/// An epoch's order, taken a batch at a time.
struct Pieces<I> {
    order: Vec<usize>,
    next: usize,
    batch_size: usize,
    make: MakeItem<I>,
}

/// An item, and how many examples of the epoch are done with it.
type Made<I> = Result<(I, usize), TrainError>;

impl<I> Iterator for Pieces<I> {
    type Item = Made<I>;

    fn next(&mut self) -> Option<Made<I>> {
        if self.next >= self.order.len() {
            return None;
        }
        let end = (self.next + self.batch_size).min(self.order.len());
        let item = (self.make)(&self.order[self.next..end]);
        self.next = end;
        Some(item.map(|item| (item, end)))
    }
}

/// A thread that makes the items of an epoch.
struct Ahead<I> {
    /// `None` once the iterator is being dropped: the thread then finds nobody to send to, and ends.
    items: Option<Receiver<Made<I>>>,
    thread: Option<JoinHandle<()>>,
}

impl<I: Send + 'static> Ahead<I> {
    fn start(pieces: Pieces<I>, ahead: usize) -> Result<Self, TrainError> {
        // One more waits in the hands of the thread.
        let (sender, items) = sync_channel(ahead - 1);
        let work = move || {
            for made in pieces {
                let failed = made.is_err();
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("c2c-batches".into()).spawn(work);
        let thread = thread.map_err(|e| TrainError::Batches(format!("the system gives no thread: {e}")))?;
        Ok(Self { items: Some(items), thread: Some(thread) })
    }
}

impl<I> Ahead<I> {
    /// The next item; `None` behind the last one.
    fn next(&mut self) -> Option<Made<I>> {
        if let Ok(made) = self.items.as_ref()?.recv() {
            return Some(made);
        }
        // The thread has ended: behind the last item, or by a panic.
        match self.thread.take()?.join() {
            Ok(()) => None,
            Err(panic) => Some(Err(TrainError::Batches(message(&*panic)))),
        }
    }
}

impl<I> Drop for Ahead<I> {
    fn drop(&mut self) {
        self.items = None;
        if let Some(thread) = self.thread.take() {
            // At most one batch is still being made. What it ended with interests nobody any more.
            let _ = thread.join();
        }
    }
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}

enum Source<I> {
    Here(Pieces<I>),
    Ahead(Ahead<I>),
    /// The thread could not be started.
    Failed(Option<TrainError>),
}

struct Batches<I> {
    from: Source<I>,
    errors: ErrorSlot,
    done: usize,
    examples: usize,
}

impl<I> Iterator for Batches<I> {
    type Item = I;

    fn next(&mut self) -> Option<I> {
        let made = match &mut self.from {
            Source::Here(pieces) => pieces.next(),
            Source::Ahead(ahead) => ahead.next(),
            Source::Failed(error) => error.take().map(Err),
        };
        match made? {
            Ok((item, done)) => {
                self.done = done;
                Some(item)
            }
            Err(error) => {
                self.errors.put(error);
                // Nothing comes behind an error.
                self.from = Source::Failed(None);
                None
            }
        }
    }
}

impl<I> DataLoaderIterator<I> for Batches<I> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.examples)
    }
}

#[cfg(test)]
mod tests;
