//! Products of bf16 matrices, and attention, by Hopper's warpgroup instructions.
//!
//! Neither CubeCL 0.10 nor cubek 0.2 reaches `wgmma`, without which an H100 gives less than half of its rate. The kernels are
//! CUDA source (`product.cu`, `attention.cu`), compiled by the runtime like any other. A product's factors are read as they lie,
//! transposed or not, strided or broadcast over batches, and no shape needs to be a multiple of a tile.
//!
//! Invariant: what [`product`] and [`attention`](attention()) take, the kernels do; everything that a kernel relies on is checked
//! before its launch.

#[cfg(cuda_kernels)]
mod attention;
mod batches;
#[cfg(cuda_kernels)]
mod launch;
#[cfg(cuda_kernels)]
mod source;
mod tile;

#[cfg(cuda_kernels)]
pub(crate) use attention::attention;
#[cfg(cuda_kernels)]
pub(crate) use launch::{product, product_by};
#[cfg(cuda_kernels)]
pub use tile::Tile;
