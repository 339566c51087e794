#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::*;

type Item = Vec<usize>;

/// An item is its examples.
fn plain() -> MakeItem<Item> {
    Arc::new(|examples: &[usize]| Ok(examples.to_vec()))
}

fn loader(make: MakeItem<Item>, ahead: usize) -> (BatchLoader<Item>, ErrorSlot) {
    let errors = ErrorSlot::default();
    (BatchLoader::new(11, 2, Order::Shuffled { seed: 7 }, make, errors.clone()).ahead(ahead), errors)
}

fn iter(loader: &BatchLoader<Item>) -> Box<dyn DataLoaderIterator<Item> + '_> {
    DataLoader::<burn::Dispatch, Item>::iter(loader)
}

/// The items of each epoch.
fn drawn(loader: &BatchLoader<Item>, epochs: usize) -> Vec<Vec<Item>> {
    (0..epochs).map(|_| iter(loader).collect()).collect()
}

#[test]
fn starting_inside_an_epoch_gives_the_rest_of_it_and_then_whole_epochs() {
    let whole = drawn(&loader(plain(), 0).0, 3);
    assert_eq!(whole.concat().concat().len(), 33);
    for ahead in [0, 1, 2, 9] {
        assert_eq!(drawn(&loader(plain(), ahead).0, 3), whole, "{ahead} ahead");
        for (examples, batches) in [(0, 0), (4, 2), (10, 5)] {
            let rest = drawn(&loader(plain(), ahead).0.starting_at(1, examples), 2);
            assert_eq!(rest, [whole[1][batches..].to_vec(), whole[2].clone()], "{examples} examples done");
        }
    }
}

#[test]
fn progress_counts_what_was_handed_out_and_not_what_was_made() {
    for ahead in [0, 3] {
        let (loader, _) = loader(plain(), ahead);
        let mut items = iter(&loader);
        for done in [2, 4, 6, 8, 10, 11] {
            assert!(items.next().is_some());
            let progress = items.progress();
            assert_eq!((progress.items_processed, progress.items_total), (done, 11), "{ahead} ahead");
        }
        assert!(items.next().is_none());
    }
}

#[test]
fn no_more_than_so_many_are_made_ahead() {
    for ahead in [1, 3] {
        // The thread says when it begins an item, and waits for a permit to finish it.
        let (begun, begins) = channel();
        let (permit, permits) = channel::<()>();
        let permits = Mutex::new(permits);
        let make: MakeItem<Item> = Arc::new(move |examples: &[usize]| {
            begun.send(()).unwrap();
            permits.lock().unwrap().recv().unwrap();
            Ok(examples.to_vec())
        });
        let (loader, _) = loader(make, ahead);
        let mut items = iter(&loader);
        (0..6).for_each(|_| permit.send(()).unwrap());
        (0..ahead).for_each(|_| begins.recv().unwrap());
        // The thread now holds one item that nobody takes; had it room, it would begin another.
        let more = begins.recv_timeout(std::time::Duration::from_millis(200));
        assert!(more.is_err(), "{ahead} were made and another one begun");
        assert!(items.next().is_some());
        begins.recv().unwrap();
        assert_eq!(items.count(), 5);
    }
}

#[test]
fn an_error_ends_the_epoch_behind_what_came_before_it() {
    for ahead in [0, 1, 4] {
        let made = AtomicUsize::new(0);
        let make: MakeItem<Item> = Arc::new(move |examples: &[usize]| match made.fetch_add(1, Ordering::Relaxed) {
            2 => Err(TrainError::Stopped("the third".into())),
            _ => Ok(examples.to_vec()),
        });
        let (loader, errors) = loader(make, ahead);
        assert_eq!(iter(&loader).count(), 2, "{ahead} ahead");
        assert!(errors.take().unwrap().to_string().contains("the third"));
    }
}

#[test]
fn a_panic_of_the_thread_is_an_error() {
    let made = AtomicUsize::new(0);
    let make: MakeItem<Item> = Arc::new(move |examples: &[usize]| {
        assert!(made.fetch_add(1, Ordering::Relaxed) < 2, "the third {}", "fails");
        Ok(examples.to_vec())
    });
    let (loader, errors) = loader(make, 2);
    let mut items = iter(&loader);
    assert_eq!((items.next().is_some(), items.next().is_some()), (true, true));
    assert!(items.next().is_none() && items.next().is_none());
    let error = errors.take().unwrap();
    assert!(matches!(&error, TrainError::Batches(said) if said == "the third fails"), "{error}");
}

#[test]
fn a_dropped_epoch_ends_its_thread() {
    // Held by the maker alone, so gone with the thread and the loader.
    let held = Arc::new(());
    let watch = Arc::downgrade(&held);
    let make: MakeItem<Item> = Arc::new(move |examples: &[usize]| {
        let _held = &held;
        Ok(examples.to_vec())
    });
    let (loader, _) = loader(make, 2);
    let mut items = iter(&loader);
    assert!(items.next().is_some());
    drop(items);
    drop(loader);
    assert!(watch.upgrade().is_none(), "the thread has ended when the iterator is gone");
}
