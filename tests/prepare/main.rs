//! End to end: batches made ahead, plans, prepared caches and several devices, through the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod devices;
#[path = "../kit/mod.rs"]
mod kit;
mod lab;
mod plan;
mod prefetch;
mod prepared;
