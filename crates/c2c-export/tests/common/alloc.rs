//! An allocator that notes the most memory that the present thread has held since it was asked to begin.
#![allow(dead_code, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

pub struct Counting;

fn add(bytes: isize) {
    // A thread that is ending has no counters left.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is handed on to the system's allocator unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// The result of `work`, and the most bytes that it held at once.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let out = work();
    (out, (MOST.get() - before).max(0) as usize)
}

/// Longest time in which a hostile file has to be refused.
const QUICK: Duration = Duration::from_millis(50);

/// As [`measured`], and the best of up to five attempts has to be quick: of a busy machine, one is.
pub fn quick<T>(case: &str, mut work: impl FnMut() -> T) -> (T, usize) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let out = measured(&mut work);
        best = best.min(start.elapsed());
        if best < QUICK {
            return out;
        }
    }
    panic!("{case}: {best:?}, expected less than {QUICK:?}");
}
