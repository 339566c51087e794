//! One decoder layer.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};

use crate::attention::attend;
use crate::cache::KvCache;
use crate::ops::{gelu_tanh, linear, rms_norm};
use crate::rope::RopeRows;
use crate::{Activation, LmConfig};

/// The parameters of a layer. Norm weights are f32 (Gemma's `1 + w` is folded in at load).
#[derive(Module, Debug)]
pub(crate) struct DecoderLayer<B: Backend> {
    /// `[hidden]`, before attention.
    pub(crate) input_norm: Param<Tensor<B, 1>>,
    /// `[(heads + 2 * kv_heads) * head_dim, hidden]`: query, key, value.
    pub(crate) qkv: Param<Tensor<B, 2>>,
    /// `[(heads + 2 * kv_heads) * head_dim]`.
    pub(crate) qkv_bias: Option<Param<Tensor<B, 1>>>,
    /// `[head_dim]`.
    pub(crate) q_norm: Option<Param<Tensor<B, 1>>>,
    /// `[head_dim]`.
    pub(crate) k_norm: Option<Param<Tensor<B, 1>>>,
    /// `[hidden, heads * head_dim]`.
    pub(crate) o: Param<Tensor<B, 2>>,
    /// `[hidden]`.
    pub(crate) o_bias: Option<Param<Tensor<B, 1>>>,
    /// `[hidden]`, after attention and before the residual sum (Gemma 3).
    pub(crate) post_attention_norm: Option<Param<Tensor<B, 1>>>,
    /// `[hidden]`, before the MLP.
    pub(crate) mlp_norm: Param<Tensor<B, 1>>,
    /// `[2 * intermediate, hidden]`: gate, up.
    pub(crate) gate_up: Param<Tensor<B, 2>>,
    /// `[hidden, intermediate]`.
    pub(crate) down: Param<Tensor<B, 2>>,
    /// `[hidden]`, after the MLP and before the residual sum (Gemma 3).
    pub(crate) post_mlp_norm: Option<Param<Tensor<B, 1>>>,
}

/// What every layer of one forward pass shares.
pub(crate) struct Pass<'a, B: Backend> {
    pub(crate) config: &'a LmConfig,
    pub(crate) rope: &'a RopeRows<B>,
    pub(crate) mask: Option<Tensor<B, 4>>,
}

impl<B: Backend> DecoderLayer<B> {
    /// Runs the layer on `[batch, tokens, hidden]` and appends its keys and values to the cache.
    pub(crate) fn forward(&self, x: Tensor<B, 3>, index: usize, pass: &Pass<'_, B>, cache: &mut KvCache<B>) -> Tensor<B, 3> {
        let config = pass.config;
        let (query, key, value) = self.project(x.clone(), pass);
        let all = cache.append(index, key, value);
        let attended = attend(query, all.key, all.value, pass.mask.clone(), config.attention_scale);
        let attended = linear(attended, self.o.val(), self.o_bias.as_ref().map(Param::val));
        let attended = post_norm(attended, &self.post_attention_norm, config.rms_norm_eps);
        let x = x + attended;

        let inner = rms_norm(x.clone(), self.mlp_norm.val().unsqueeze(), config.rms_norm_eps);
        let joined = linear(inner, self.gate_up.val(), None);
        let gate = joined.clone().narrow(2, 0, config.intermediate_size);
        let up = joined.narrow(2, config.intermediate_size, config.intermediate_size);
        let gate = match config.activation {
            Activation::Silu => activation::silu(gate),
            Activation::GeluTanh => gelu_tanh(gate),
        };
        let inner = linear(gate * up, self.down.val(), None);
        x + post_norm(inner, &self.post_mlp_norm, config.rms_norm_eps)
    }

    /// Only fills the cache: what a sharer's last needed layer has to do.
    pub(crate) fn fill(&self, x: Tensor<B, 3>, index: usize, pass: &Pass<'_, B>, cache: &mut KvCache<B>) {
        let (_, key, value) = self.project(x, pass);
        cache.append(index, key, value);
    }

    /// Rotated queries and keys, and values, each `[batch, heads, tokens, head_dim]`.
    fn project(&self, x: Tensor<B, 3>, pass: &Pass<'_, B>) -> (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) {
        let config = pass.config;
        let [batch, tokens, _] = x.dims();
        let x = rms_norm(x, self.input_norm.val().unsqueeze(), config.rms_norm_eps);
        let joined = linear(x, self.qkv.val(), self.qkv_bias.as_ref().map(Param::val));
        let (q_width, kv_width) = (config.num_heads * config.head_dim, config.kv_width());
        let part = |start: usize, heads: usize| {
            joined
                .clone()
                .narrow(2, start, heads * config.head_dim)
                .reshape([batch, tokens, heads, config.head_dim])
        };
        let normed = |x: Tensor<B, 4>, weight: &Option<Param<Tensor<B, 1>>>| match weight {
            Some(weight) => rms_norm(x, weight.val().unsqueeze(), config.rms_norm_eps),
            None => x,
        };
        let query = normed(part(0, config.num_heads), &self.q_norm).swap_dims(1, 2);
        let key = normed(part(q_width, config.num_kv_heads), &self.k_norm).swap_dims(1, 2);
        let value = part(q_width + kv_width, config.num_kv_heads).swap_dims(1, 2);
        (pass.rope.rotate(query), pass.rope.rotate(key), value)
    }
}

fn post_norm<B: Backend>(x: Tensor<B, 3>, weight: &Option<Param<Tensor<B, 1>>>, eps: f64) -> Tensor<B, 3> {
    match weight {
        Some(weight) => rms_norm(x, weight.val().unsqueeze(), eps),
        None => x,
    }
}
