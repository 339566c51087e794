//! Products of bf16 matrices by Hopper's warpgroup instructions.
//!
//! Neither CubeCL 0.10 nor cubek 0.2 reaches `wgmma`, without which an H100 gives less than half of its rate. The kernel is CUDA
//! source (`product.cu`), compiled by the runtime like any other. It reads factors as they lie, transposed or not, strided or
//! broadcast over batches, and needs no shape to be a multiple of a tile.
//!
//! Invariant: what [`product`] takes, the kernel does; everything that the kernel relies on is checked before the launch.

mod batches;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod source;
mod tile;

#[cfg(feature = "cuda")]
pub(crate) use launch::{product, product_by};
#[cfg(feature = "cuda")]
pub use tile::Tile;
