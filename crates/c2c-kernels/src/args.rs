//! What the larger kernels take.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// The activation of a gated MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU.
    GeluTanh,
}

/// Joined projections on their way into queries and cache.
#[derive(Debug)]
pub struct QkvToCache<'a, B: Backend> {
    /// `[batch * tokens, (heads + 2 * kv_heads) * head_dim]`, without bias.
    pub joined: Tensor<B, 2>,
    /// `[(heads + 2 * kv_heads) * head_dim]`.
    pub bias: Option<Tensor<B, 1>>,
    /// Query and key norms, `[head_dim]`, f32.
    pub norms: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
    /// Cosines and sines, `[max_position, head_dim]`, f32.
    pub tables: (&'a Tensor<B, 2>, &'a Tensor<B, 2>),
    /// `[batch * tokens]`.
    pub positions: &'a Tensor<B, 1, Int>,
    /// `[batch, kv_heads, capacity, head_dim]`, contiguous. Slots `past..past + tokens` are written in place, whoever
    /// else holds the tensor: the caller owns those slots.
    pub key: &'a Tensor<B, 4>,
    /// As `key`.
    pub value: &'a Tensor<B, 4>,
    /// Slots filled before.
    pub past: usize,
    /// Query heads.
    pub heads: usize,
    /// Multiplied into the queries.
    pub scale: f64,
    /// Of the head norms.
    pub eps: f64,
}

/// Which slots a query may attend to: real ones, not in the future, fewer than `window` slots away.
#[derive(Debug)]
pub struct SoftmaxMask<'a, B: Backend> {
    /// `[batch, slots]`, 1 for real tokens; `None` if all are.
    pub real: Option<&'a Tensor<B, 2, Int>>,
    /// New tokens a row.
    pub tokens: usize,
    /// Slots in use, the new tokens' included.
    pub slots: usize,
    /// The sliding window.
    pub window: Option<usize>,
}

impl<B: Backend> Clone for SoftmaxMask<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for SoftmaxMask<'_, B> {}

/// `residual + act(norm(x) @ weight^T + bias)`, each part optional.
#[derive(Debug)]
pub struct Gemv<'a, B: Backend> {
    /// `[rows, in]`, at most [`crate::GEMV_ROWS`] rows.
    pub x: Tensor<B, 2>,
    /// `[out, in]`; with `gated` the gate's rows, then the up projection's: `[2 * out, in]`.
    pub weight: &'a Tensor<B, 2>,
    /// Weight `[in]`, f32, and epsilon of an RMSNorm before the product.
    pub norm: Option<(Tensor<B, 1>, f64)>,
    /// `[out]`.
    pub bias: Option<Tensor<B, 1>>,
    /// `[rows, out]`.
    pub residual: Option<Tensor<B, 2>>,
    /// The gate's activation.
    pub gated: Option<Act>,
}
