//! Scaled dot-product attention from batched products, with an f32 softmax.
//!
//! Burn's `module::attention` is not used: on CUDA its tuned kernels take minutes to compile, and under autodiff it is
//! composed from products anyway. Query heads that share a key head are folded into the query length, so keys and values
//! are never repeated in memory.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, activation};
use c2c_kernels::KernelBackend;

use crate::ops::{to_dtype, to_f32};

/// The score of a pair that must not attend. Finite, so that a row without any allowed key stays finite.
const BLOCKED: f32 = -1e30;

/// An additive mask over scores flattened to `[batch * kv_heads, group * tokens * slots]`.
///
/// One row if all rows of the batch block the same pairs (so that it broadcasts as a whole row, which every backend does
/// fast), else one row a batch row and key head.
#[derive(Clone, Debug)]
pub struct AttentionMask<B: Backend>(Tensor<B, 2>);

impl<B: Backend> AttentionMask<B> {
    /// The mask of `tokens` new tokens against all slots of the cache, or `None` when nothing is blocked.
    ///
    /// Slot `j` may be attended by the new token in slot `past + i` if it is real, not in the future, and, where a
    /// window is given, fewer than `window` slots away.
    ///
    /// # Shapes
    /// `keys`: one row a batch row, `past + tokens` long, true for real tokens.
    pub fn new(
        keys: &[Vec<bool>],
        tokens: usize,
        window: Option<usize>,
        kv_heads: usize,
        group: usize,
        device: &B::Device,
    ) -> Option<Self> {
        let total = keys.first().map_or(0, Vec::len);
        let past = total - tokens;
        let windowed = window.is_some_and(|w| w < total);
        if tokens == 1 && !windowed && keys.iter().flatten().all(|real| *real) {
            return None;
        }
        let equal = keys.windows(2).all(|pair| pair[0] == pair[1]);
        let rows = if equal { &keys[..1] } else { keys };
        let copies = if equal { 1 } else { kv_heads };
        let mut data = Vec::with_capacity(rows.len() * copies * group * tokens * total);
        for row in rows {
            let start = data.len();
            for i in 0..tokens {
                let query = past + i;
                let first = window.map_or(0, |w| (query + 1).saturating_sub(w));
                data.extend(row.iter().enumerate().map(
                    |(j, real)| {
                        if *real && j <= query && j >= first { 0.0 } else { BLOCKED }
                    },
                ));
            }
            let end = data.len();
            for _ in 1..group * copies {
                data.extend_from_within(start..end);
            }
        }
        let shape = [rows.len() * copies, group * tokens * total];
        Some(Self(Tensor::from_data(TensorData::new(data, shape), device)))
    }

    /// Adds the mask to scores `[batch, kv_heads, group * tokens, slots]`.
    fn add_to(&self, scores: Tensor<B, 4>) -> Tensor<B, 4> {
        let shape = scores.dims();
        let [batch, kv_heads, queries, slots] = shape;
        (scores.reshape([batch * kv_heads, queries * slots]) + self.0.clone()).reshape(shape)
    }
}

/// Attention of `query`, already scaled, over `key` and `value`.
///
/// # Shapes
/// `query`: `[batch, tokens, heads, head_dim]`, `key` and `value`: `[batch, kv_heads, slots, head_dim]`; returns
/// `[batch * tokens, heads * head_dim]`.
pub(crate) fn attend<B: KernelBackend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<&AttentionMask<B>>,
) -> Tensor<B, 2> {
    let [batch, tokens, heads, head_dim] = query.dims();
    let kv_heads = key.dims()[1];
    let group = heads / kv_heads;
    let dtype = query.dtype();
    let query = query.swap_dims(1, 2).reshape([batch, kv_heads, group * tokens, head_dim]);
    let scores = to_f32(B::product(query, key.transpose()));
    let scores = match mask {
        Some(mask) => mask.add_to(scores),
        None => scores,
    };
    let weights = to_dtype(activation::softmax(scores, 3), dtype);
    B::product(weights, value)
        .reshape([batch, heads, tokens, head_dim])
        .swap_dims(1, 2)
        .reshape([batch * tokens, heads * head_dim])
}
