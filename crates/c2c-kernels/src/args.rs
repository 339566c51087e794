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
    /// Slots behind the new tokens that are written with zeros, so that a product may read them.
    pub tail: usize,
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

/// One layer's caches on their way into a fuser.
#[derive(Debug)]
pub struct FusedLayer<'a, B: Backend> {
    /// The sharer's keys and values, `[batch, sharer_heads, capacity, sharer_head_dim]`.
    pub sharer: (&'a Tensor<B, 4>, &'a Tensor<B, 4>),
    /// The receiver's, `[batch, heads, capacity, head_dim]`.
    pub own: (&'a Tensor<B, 4>, &'a Tensor<B, 4>),
    /// The first slot that is fused; the same in both.
    pub begin: usize,
    /// Slots that are fused.
    pub tokens: usize,
    /// Where the input has the keys and the values; `None` leaves them out.
    pub branches: [Option<usize>; 2],
}

/// What a fuser made of all layers, and which part of it belongs to one.
#[derive(Debug)]
pub struct FusedResult<'a, B: Backend> {
    /// `[branches, batch * tokens, heads * head_dim]`.
    pub projected: &'a Tensor<B, 3>,
    /// The heads' weights before the sigmoid, `[branches, batch * tokens, heads]`.
    pub weight: &'a Tensor<B, 3>,
    /// The gates' logits, `[branches]`, f32: open above 0.
    pub gate: &'a Tensor<B, 1>,
    /// The first slot that is fused.
    pub begin: usize,
    /// Slots that are fused.
    pub tokens: usize,
    /// The branches of this layer's keys and values; `None` leaves them as they are.
    pub branches: [Option<usize>; 2],
}

/// Gradients of queries, keys and values on their way back to the joined projections.
#[derive(Debug)]
pub struct QkvBackward<'a, B: Backend> {
    /// What [`QkvToCache::joined`] was.
    pub joined: &'a Tensor<B, 2>,
    /// What [`QkvToCache::bias`] was.
    pub bias: Option<Tensor<B, 1>>,
    /// What [`QkvToCache::norms`] were.
    pub norms: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
    /// What [`QkvToCache::tables`] were.
    pub tables: (&'a Tensor<B, 2>, &'a Tensor<B, 2>),
    /// What [`QkvToCache::positions`] were.
    pub positions: &'a Tensor<B, 1, Int>,
    /// The gradient of the scaled queries, `[batch, heads, tokens, head_dim]`.
    pub query: Tensor<B, 4>,
    /// That of the keys in the cache, `[batch, kv_heads, slots, head_dim]`.
    pub key: Tensor<B, 4>,
    /// That of the values.
    pub value: Tensor<B, 4>,
    /// Slots before the new tokens'.
    pub past: usize,
    /// What the queries were multiplied by.
    pub scale: f64,
    /// Of the head norms.
    pub eps: f64,
}

/// The numbers of one step of AdamW (Loshchilov and Hutter, 2019), decay decoupled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The gradient is multiplied with this first: one over the micro-batches of a sum, and what clips it.
    pub factor: f64,
    /// Learning rate.
    pub rate: f64,
    /// Weight decay, multiplied by the rate.
    pub decay: f64,
    /// Share of the first moment that is kept.
    pub beta_1: f32,
    /// Share of the second moment that is kept.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// This step's number, from 1.
    pub time: usize,
}

/// How [`crate::KernelBackend::sample`] chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Subtracted from the logits of seen tokens.
    pub presence: f64,
    /// Subtracted once for every time a token was seen.
    pub frequency: f64,
    /// Divides positive and multiplies negative logits of seen tokens.
    pub repetition: f64,
    /// How the token is drawn; `None` takes the likeliest.
    pub draw: Option<Draw>,
}

/// A distribution over the tokens of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Divides the logits; above 0.
    pub temperature: f64,
    /// Keeps this many best tokens, at least one.
    pub top_k: Option<usize>,
    /// Keeps the best tokens up to this probability, above 0; 1 keeps all.
    pub top_p: f64,
    /// True if the token that crosses `top_p` goes, unless it is the best one.
    pub drops_crossing: bool,
}

/// Joined projections on the processor and how they become queries, keys and values.
#[derive(Debug)]
pub struct CpuQkv<'a, B: Backend> {
    /// `[batch * tokens, (heads + 2 * kv_heads) * head_dim]`, with bias.
    pub joined: &'a Tensor<B, 2>,
    /// Weights of the norms of query and key heads, `[head_dim]`, and epsilon.
    pub norms: Option<(Tensor<B, 1>, Tensor<B, 1>, f64)>,
    /// Cosines and sines, `[positions, head_dim]`, the two halves equal.
    pub tables: (&'a Tensor<B, 2>, &'a Tensor<B, 2>),
    /// Of each row of `joined`.
    pub positions: &'a [usize],
    /// New tokens of a row of the batch.
    pub tokens: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// What queries are multiplied by.
    pub scale: f64,
}

/// Attention of the last slots' queries over a cache in the processor's memory.
#[derive(Debug)]
pub struct CpuAttention<'a, B: Backend> {
    /// `[batch, heads, tokens, head_dim]`, scaled.
    pub query: &'a Tensor<B, 4>,
    /// `[batch, kv_heads, slots or more, head_dim]`.
    pub key: &'a Tensor<B, 4>,
    /// As `key`.
    pub value: &'a Tensor<B, 4>,
    /// Which slots hold a token and not padding: `batch` rows of all that are filled.
    pub real: &'a [Vec<bool>],
    /// How many slots back a query sees, itself included.
    pub window: Option<usize>,
}
