//! Attention of several new tokens a row, from products and a masked softmax.

use burn::tensor::Tensor;

use crate::{KernelBackend, SoftmaxMask};

/// The weights, `[batch, kv_heads, group * tokens, slots]`, and what they attend to, `[batch * tokens, heads * head_dim]`, on devices
/// with kernels.
///
/// # Shapes
/// As for [`KernelBackend::prefill_attention`]. Query heads that share keys are folded into the tokens.
pub fn attention_by_products<B: KernelBackend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: SoftmaxMask<'_, B>,
) -> (Tensor<B, 4>, Tensor<B, 2>) {
    let [batch, heads, tokens, head_dim] = query.dims();
    let kv_heads = key.dims()[1];
    let query = query.reshape([batch, kv_heads, heads / kv_heads * tokens, head_dim]);
    let weights = B::masked_softmax(B::product(query, key.transpose()), mask);
    let attended = B::product(weights.clone(), value)
        .reshape([batch, heads, tokens, head_dim])
        .swap_dims(1, 2)
        .reshape([batch * tokens, heads * head_dim]);
    (weights, attended)
}
