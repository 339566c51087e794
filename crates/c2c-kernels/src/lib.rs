//! Kernels for language models that Burn doesn't have, where a GPU can run them.
//!
//! A model asks [`KernelBackend::has_kernels`] once; if there are none it composes the same arithmetic from Burn's
//! operations, which is also what the kernels are tested against. Kernels exist for CUDA and WGPU tensors without
//! gradients. All arithmetic is f32; inputs and outputs are the model's dtype.

mod args;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cube;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod dispatch;
#[cfg(feature = "cuda")]
pub mod tuning;

pub use args::{Act, Gemv, QkvToCache, SoftmaxMask};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub use dispatch::reserved_bytes;

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

/// A backend that may have kernels of its own for what models do most.
///
/// Every function but [`has_kernels`](Self::has_kernels) may only be called where that is true.
pub trait KernelBackend: Backend {
    /// True if the functions of this trait can be called for tensors of this device.
    fn has_kernels(_device: &Self::Device) -> bool {
        false
    }

    /// True if [`gemv`](Self::gemv) can be called: it needs lanes that add up without shared memory.
    fn has_gemv(_device: &Self::Device) -> bool {
        false
    }

    /// True if products of bf16 matrices are much faster than those of f32, with or without gradients.
    fn has_fast_bf16(_device: &Self::Device) -> bool {
        false
    }

    /// `a @ b` by the fastest way known here; f32 factors are not rounded to tf32. Burn's own product where nothing better
    /// is known or the shapes are beyond it.
    fn product<const D: usize>(a: Tensor<Self, D>, b: Tensor<Self, D>) -> Tensor<Self, D> {
        a.matmul(b)
    }

    /// RMSNorm of `x`, or of `x + y`: the sum (of `x` alone: `x` itself) and the normed rows.
    ///
    /// # Shapes
    /// `x`, `y` and both results: `[rows, width]`; `weight`: `[width]`, f32.
    fn add_rms_norm(
        _x: Tensor<Self, 2>,
        _y: Option<Tensor<Self, 2>>,
        _weight: Tensor<Self, 1>,
        _eps: f64,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        absent()
    }

    /// `act(x[0]) * x[1]`.
    ///
    /// # Shapes
    /// `x`: `[2, rows, width]`; returns `[rows, width]`.
    fn gated(_x: Tensor<Self, 3>, _act: Act) -> Tensor<Self, 2> {
        absent()
    }

    /// Bias, head norms, rotary embedding and the write into the cache, in one pass; returns the scaled queries
    /// `[batch, heads, tokens, head_dim]`.
    ///
    /// # Panics
    /// A cache whose rows are padded or strided: it is written in place.
    fn qkv_to_cache(_args: QkvToCache<'_, Self>) -> Tensor<Self, 4> {
        absent()
    }

    /// Masked softmax over the last axis, in place.
    ///
    /// # Shapes
    /// `scores`: `[batch, kv_heads, group * tokens, slots]`.
    fn masked_softmax(_scores: Tensor<Self, 4>, _mask: SoftmaxMask<'_, Self>) -> Tensor<Self, 4> {
        absent()
    }

    /// Attention of one new token a row over the first slots of a cache; returns `[batch, heads * head_dim]`.
    ///
    /// # Shapes
    /// `query`: `[batch, heads, 1, head_dim]`, scaled; `key`, `value`: `[batch, kv_heads, capacity, head_dim]`.
    fn decode_attention(
        _query: Tensor<Self, 4>,
        _key: &Tensor<Self, 4>,
        _value: &Tensor<Self, 4>,
        _mask: SoftmaxMask<'_, Self>,
    ) -> Tensor<Self, 2> {
        absent()
    }

    /// A product of few rows with a matrix, with what comes before and after it.
    fn gemv(_args: Gemv<'_, Self>) -> Tensor<Self, 2> {
        absent()
    }
}

/// The most slots that [`KernelBackend::decode_attention`] can attend to: its scores lie in shared memory.
pub const DECODE_SLOTS: usize = 8192;

/// The most rows that [`KernelBackend::gemv`] multiplies.
pub const GEMV_ROWS: usize = 8;

/// Bytes that the device's memory pool holds, where the backend tells.
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
pub fn reserved_bytes(_device: &burn::DispatchDevice) -> Option<u64> {
    None
}

#[cold]
fn absent<T>() -> T {
    panic!("a kernel was called on a device without kernels: ask `has_kernels` first")
}

impl KernelBackend for burn::backend::Flex {}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
impl KernelBackend for burn::Dispatch {}

/// A backend to train on: gradients here, kernels on the plain backend beneath.
pub trait TrainBackend: KernelBackend + AutodiffBackend<InnerBackend: KernelBackend> {}

impl<B: KernelBackend + AutodiffBackend<InnerBackend: KernelBackend>> TrainBackend for B {}
