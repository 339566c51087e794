//! Kernels for language models that Burn doesn't have, where a GPU can run them.
//!
//! A model asks [`KernelBackend::has_kernels`] once; if there are none it composes the same arithmetic from Burn's
//! operations, which is also what the kernels are tested against. Kernels exist for CUDA and WGPU tensors without
//! gradients. All arithmetic is f32; inputs and outputs are the model's dtype.

mod args;
#[cfg(cuda_kernels)]
mod autodiff;
#[cfg(kernels)]
mod compiled;
#[cfg(kernels)]
mod cube;
#[cfg(kernels)]
mod dispatch;
#[cfg(any(cuda_kernels, test))]
mod hopper;
#[cfg(kernels)]
mod memory;
mod prefill;
mod processor;
#[cfg(kernels)]
mod side;
#[cfg(kernels)]
mod tracked;
#[cfg(cuda_kernels)]
pub mod tuning;

pub use args::{
    Act, AdamWStep, CpuAttention, CpuQkv, Draw, FusedLayer, FusedResult, Gemv, QkvBackward, QkvToCache, Sampling,
    SoftmaxMask,
};
#[cfg(kernels)]
pub use compiled::keep_compiled;
#[cfg(kernels)]
pub use memory::{largest_bytes, long_lived, release_unused, reserved_bytes};
pub use prefill::attention_by_products;
pub use processor::ProcessorBackend;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Tensor, activation};

/// A backend that may have kernels of its own for what models do most.
///
/// Every function but [`has_kernels`](Self::has_kernels) may only be called where that is true.
pub trait KernelBackend: ProcessorBackend {
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

    /// `a @ b` by the fastest way known here, with gradients where the device tracks them; f32 factors are not rounded to
    /// tf32. Burn's own product where nothing better is known or the shapes are beyond it.
    fn product<const D: usize>(a: Tensor<Self, D>, b: Tensor<Self, D>) -> Tensor<Self, D> {
        a.matmul(b)
    }

    /// The first slots of a cache, without copying them: a view whose heads lie apart. For [`product`](Self::product).
    ///
    /// # Shapes
    /// `[batch, kv_heads, capacity, head_dim]` to `[batch, kv_heads, slots, head_dim]`.
    fn first_slots(_x: &Tensor<Self, 4>, _slots: usize) -> Tensor<Self, 4> {
        absent()
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

    /// The rows of the last axis divided by their root mean square, on any device and with gradients where they are tracked; in
    /// f32, and the result in the dtype of `x`.
    fn rms_scale<const D: usize>(x: Tensor<Self, D>, eps: f64) -> Tensor<Self, D> {
        rms_scale(x, eps)
    }

    /// The exact GELU, `x (1 + erf(x / sqrt 2)) / 2`, on any device, with its own derivative.
    ///
    /// Burn's GPU backends (0.21) go back through GELU by the derivative of the tanh approximation, which is off by up to 9e-4;
    /// its CPU backend doesn't.
    fn exact_gelu<const D: usize>(x: Tensor<Self, D>) -> Tensor<Self, D> {
        activation::gelu(x)
    }

    /// `gelu(rms_scale(x) w1) w2`, the inside of a residual block, on any device; where gradients are tracked on a GPU it keeps
    /// `x` and the weights alone.
    ///
    /// # Shapes
    /// `x`: `[batch, rows, width]`; `w1`: `[batch, width, inner]`; `w2`: `[batch, inner, width]`.
    fn ffn(x: Tensor<Self, 3>, w1: Tensor<Self, 3>, w2: Tensor<Self, 3>, eps: f64) -> Tensor<Self, 3> {
        ffn(x, w1, w2, eps)
    }

    /// `x + dropout(y)` with a mask that follows from the seed and is made again on the way back, where gradients are tracked on
    /// a GPU; `None` elsewhere.
    fn add_dropped(_x: &Tensor<Self, 3>, _y: &Tensor<Self, 3>, _share: f64, _seed: u64) -> Option<Tensor<Self, 3>> {
        None
    }

    /// A parameter in the dtype of the product that it goes into, on any device. Where gradients are tracked on a GPU its gradient
    /// stays in that dtype, unless it is used more than once: those are added in f32.
    fn parameter_as<const D: usize>(param: Tensor<Self, D>, dtype: DType) -> Tensor<Self, D> {
        if param.dtype() == dtype { param } else { param.cast(dtype) }
    }

    /// A weight whose rows are multiplied by a norm's weight, in the dtype of the product that it goes into, on any device. Where
    /// gradients are tracked on a GPU the weight's stays in that dtype, as in [`parameter_as`](Self::parameter_as); the norm's
    /// is summed in f32.
    ///
    /// # Shapes
    /// `weight` and the result: `[branches, rows, width]`; `norm`: `[branches, 1, rows]`.
    fn scaled_weight(weight: Tensor<Self, 3>, norm: Tensor<Self, 3>, dtype: DType) -> Tensor<Self, 3> {
        scaled_weight(weight, norm, dtype)
    }

    /// The sum of the squares of all elements of some tensors of any float dtype, at least one; it is the same every time.
    ///
    /// # Shapes
    /// Returns `[1]`, f32.
    fn sum_of_squares(_tensors: Vec<Tensor<Self, 1>>) -> Tensor<Self, 1> {
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
    /// `scores`: `[batch, kv_heads, group * tokens, slots or more]`; what lies behind the mask's slots becomes 0.
    fn masked_softmax(_scores: Tensor<Self, 4>, _mask: SoftmaxMask<'_, Self>) -> Tensor<Self, 4> {
        absent()
    }

    /// Attention of the last slots' queries over a cache, in one launch where the device has a kernel for it.
    ///
    /// # Shapes
    /// `query`: `[batch, heads, tokens, head_dim]`, scaled; `key`, `value`: `[batch, kv_heads, slots or more, head_dim]`, what lies
    /// behind the mask's slots being finite; returns `[batch * tokens, heads * head_dim]`.
    fn prefill_attention(
        query: Tensor<Self, 4>,
        key: Tensor<Self, 4>,
        value: Tensor<Self, 4>,
        mask: SoftmaxMask<'_, Self>,
    ) -> Tensor<Self, 2> {
        attention_by_products(query, key, value, mask).1
    }

    /// The gradient of RMSNorm's input, and `residual` with it.
    ///
    /// # Shapes
    /// `x`, what was normed, `grad`, the normed rows' gradient, `residual` and the result: `[rows, width]`; `weight`:
    /// `[width]`, f32.
    fn rms_norm_backward(
        _x: Tensor<Self, 2>,
        _weight: Tensor<Self, 1>,
        _grad: Tensor<Self, 2>,
        _residual: Option<Tensor<Self, 2>>,
        _eps: f64,
    ) -> Tensor<Self, 2> {
        absent()
    }

    /// The gradient of what [`gated`](Self::gated) was given, gate and up projection side by side in a row.
    ///
    /// # Shapes
    /// `x`: `[2, rows, width]`; `grad`: `[rows, width]`; returns `[rows, 2 * width]`.
    fn gated_backward(_x: Tensor<Self, 3>, _grad: Tensor<Self, 2>, _act: Act) -> Tensor<Self, 2> {
        absent()
    }

    /// The gradient of a softmax's scores from its result and that one's gradient, which is overwritten.
    ///
    /// # Shapes
    /// All `[batch, kv_heads, queries, slots]`.
    fn softmax_backward(_weights: Tensor<Self, 4>, _grad: Tensor<Self, 4>) -> Tensor<Self, 4> {
        absent()
    }

    /// The gradient of what [`qkv_to_cache`](Self::qkv_to_cache) was given, of the same shape.
    fn qkv_backward(_args: QkvBackward<'_, Self>) -> Tensor<Self, 2> {
        absent()
    }

    /// The logarithm of the sum of the exponentials of each row.
    ///
    /// # Shapes
    /// `logits`: `[rows, vocab]`; returns `[rows]`, f32.
    fn log_sum_exp(_logits: Tensor<Self, 2>) -> Tensor<Self, 1> {
        absent()
    }

    /// Cross entropy of rows of logits and its gradient in them, both multiplied by the row's share of the loss.
    ///
    /// # Shapes
    /// `logits`: `[rows, vocab]`; `targets` and `shares` (f32): `[rows]`; returns losses `[rows]`, f32, and the gradient in the dtype
    /// of the logits.
    fn cross_entropy(
        _logits: Tensor<Self, 2>,
        _targets: Tensor<Self, 1, Int>,
        _shares: Tensor<Self, 1>,
    ) -> (Tensor<Self, 1>, Tensor<Self, 2>) {
        absent()
    }

    /// A parameter and its two moments after a step of AdamW, all f32; without moments it is the first step. The gradient is of any
    /// float dtype.
    fn adamw<const D: usize>(
        _param: Tensor<Self, D>,
        _grad: Tensor<Self, D>,
        _moments: Option<[Tensor<Self, D>; 2]>,
        _step: AdamWStep,
    ) -> [Tensor<Self, D>; 3] {
        absent()
    }

    /// The most slots that [`decode_attention`](Self::decode_attention) can attend to: its scores lie in shared memory.
    fn decode_slots(_device: &Self::Device) -> usize {
        0
    }

    /// Attention of one new token a row over the first slots of a cache; returns `[batch, heads * head_dim]`.
    ///
    /// # Shapes
    /// `query`: `[batch, heads, 1, head_dim]`, scaled; `key`, `value`: `[batch, kv_heads, capacity, head_dim]`. The head's
    /// width is a power of two, 256 at most.
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

    /// The position of the largest value of each row; the first of equals. Of a row that holds a NaN, or nothing above minus
    /// infinity, [`FAULT_NAN`] or [`FAULT_NOTHING`].
    ///
    /// # Shapes
    /// `scores`: `[rows, width]`; returns `[rows]`.
    fn argmax(_scores: Tensor<Self, 2>) -> Tensor<Self, 1, Int> {
        absent()
    }

    /// Chooses an id of each row: penalties for what was seen, then the likeliest, or a draw from what temperature, top-k and top-p
    /// leave; of equal logits the lower ids are the better ones. A row that is no distribution gives [`FAULT_NAN`],
    /// [`FAULT_NOTHING`] or, where one is drawn from, [`FAULT_INFINITE`]. The same input gives the same ids every time.
    ///
    /// `counts` says how often each id was seen; they are returned with the chosen ids counted in, in place if nobody else holds
    /// them. Without them there is no penalty.
    ///
    /// `drawn` has a uniform number of `0..2^24` a row, which falls among the ids in their order; it isn't read where nothing is
    /// drawn.
    ///
    /// Masses of tokens are rounded to `2^-31` of the row's: a token with less than half of that is never drawn.
    ///
    /// # Shapes
    /// `logits` and `counts`: `[rows, vocab]`; `drawn` and the ids: `[rows]`.
    fn sample(
        _logits: Tensor<Self, 2>,
        _counts: Option<Tensor<Self, 2, Int>>,
        _drawn: Tensor<Self, 1, Int>,
        _sampling: Sampling,
    ) -> (Tensor<Self, 1, Int>, Option<Tensor<Self, 2, Int>>) {
        absent()
    }

    /// Copies the caches of one layer, sharer and receiver side by side, to their branches of a fuser's input.
    ///
    /// # Shapes
    /// `input`: `[branches, batch * tokens, sharer width + receiver width]`, contiguous, written in place.
    fn gather_layer(_input: &Tensor<Self, 3>, _layer: FusedLayer<'_, Self>) {
        absent()
    }

    /// Adds what a fuser made for one layer to the receiver's cache: `own + sigmoid(weight) * projected`, where the gate is
    /// open. Keys and values are written in place if nobody else holds them.
    fn scatter_layer(
        _key: Tensor<Self, 4>,
        _value: Tensor<Self, 4>,
        _result: FusedResult<'_, Self>,
    ) -> [Tensor<Self, 4>; 2] {
        absent()
    }
}

/// In place of an id: the row holds a NaN.
pub const FAULT_NAN: i32 = -1;
/// In place of an id: nothing in the row is above minus infinity.
pub const FAULT_NOTHING: i32 = -2;
/// In place of an id: the row holds plus infinity, and was to be drawn from.
pub const FAULT_INFINITE: i32 = -3;

/// The most rows that [`KernelBackend::gemv`] multiplies.
pub const GEMV_ROWS: usize = 8;

/// Bytes that the device's memory pool holds, where the backend tells.
#[cfg(not(kernels))]
pub fn reserved_bytes(_device: &burn::DispatchDevice) -> Option<u64> {
    None
}

/// Bytes of the largest tensor that the device holds, where the backend tells.
#[cfg(not(kernels))]
pub fn largest_bytes(_device: &burn::DispatchDevice) -> Option<u64> {
    None
}

/// Gives memory that the device's pool holds and nobody uses back to the device, on backends that have a pool.
#[cfg(not(kernels))]
pub fn release_unused(_device: &burn::DispatchDevice) {}

/// Makes tensors that will be kept for long, as a model's weights are, apart from the pool's other memory, on backends that have a
/// pool.
#[cfg(not(kernels))]
pub fn long_lived<T: Send>(_device: &burn::DispatchDevice, make: impl FnOnce() -> T + Send) -> T {
    make()
}

/// Keeps compiled kernels in a folder, on backends that compile any.
#[cfg(not(kernels))]
pub fn keep_compiled(_folder: &std::path::Path) {}

/// [`KernelBackend::rms_scale`] from Burn's operations, for any backend.
pub fn rms_scale<B: Backend, const D: usize>(x: Tensor<B, D>, eps: f64) -> Tensor<B, D> {
    let dtype = x.dtype();
    let x = if dtype == DType::F32 { x } else { x.cast(DType::F32) };
    let scale = (x.clone() * x.clone()).mean_dim(D - 1).add_scalar(eps).sqrt().recip();
    let scaled = x * scale;
    if dtype == DType::F32 { scaled } else { scaled.cast(dtype) }
}

/// [`KernelBackend::ffn`] from its parts.
fn ffn<B: KernelBackend>(x: Tensor<B, 3>, w1: Tensor<B, 3>, w2: Tensor<B, 3>, eps: f64) -> Tensor<B, 3> {
    B::product(B::exact_gelu(B::product(B::rms_scale(x, eps), w1)), w2)
}

/// [`KernelBackend::scaled_weight`] from Burn's operations.
fn scaled_weight<B: KernelBackend>(weight: Tensor<B, 3>, norm: Tensor<B, 3>, dtype: DType) -> Tensor<B, 3> {
    let [branches, _, rows] = norm.dims();
    let scaled = weight * norm.reshape([branches, rows, 1]);
    if scaled.dtype() == dtype { scaled } else { scaled.cast(dtype) }
}

#[cold]
fn absent<T>() -> T {
    panic!("a kernel was called on a device without kernels: ask `has_kernels` first")
}

impl KernelBackend for burn::backend::Flex {}

#[cfg(not(kernels))]
impl KernelBackend for burn::Dispatch {}

/// A backend to train on: gradients here, kernels on the plain backend beneath.
pub trait TrainBackend: KernelBackend + AutodiffBackend<InnerBackend: KernelBackend> {}

impl<B: KernelBackend + AutodiffBackend<InnerBackend: KernelBackend>> TrainBackend for B {}
