//! One decoder layer.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use c2c_kernels::{KernelBackend, rms_scale};

use crate::attention::{AttentionMask, attend};
use crate::cache::KvCache;
use crate::lora::{LayerLora, LoraTarget};
use crate::ops::{gelu_tanh, linear, rms_norm, to_dtype, to_f32};
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
    /// `[2, intermediate, hidden]`: gate, up.
    pub(crate) gate_up: Param<Tensor<B, 3>>,
    /// `[hidden, intermediate]`.
    pub(crate) down: Param<Tensor<B, 2>>,
    /// `[hidden]`, after the MLP and before the residual sum (Gemma 3).
    pub(crate) post_mlp_norm: Option<Param<Tensor<B, 1>>>,
    /// Adapters, while a frozen model is tuned by them.
    pub(crate) lora: Option<LayerLora<B>>,
}

/// What every layer of one forward pass shares.
///
/// Activations are `[rows, width]`, rows being batch times tokens: every product is then a plain matrix product, and
/// element-wise operations run over whole rows.
pub(crate) struct Pass<'a, B: Backend> {
    pub(crate) config: &'a LmConfig,
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) rope: &'a RopeRows<B>,
    pub(crate) mask: Option<&'a AttentionMask<B>>,
}

impl<B: KernelBackend> DecoderLayer<B> {
    /// Runs the layer on `[rows, hidden]` and appends its keys and values to the cache.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        index: usize,
        pass: &Pass<'_, B>,
        cache: &mut KvCache<B>,
    ) -> Tensor<B, 2> {
        let config = pass.config;
        let (query, key, value) = self.project(x.clone(), pass);
        let all = cache.append(index, key, value);
        let attended = attend(query, all.key, all.value, pass.mask);
        let attended = self.adapted(attended, LoraTarget::Output, config, |x| {
            linear(x, self.o.val(), self.o_bias.as_ref().map(Param::val))
        });
        let x = x + post_norm(attended, &self.post_attention_norm, config.rms_norm_eps);

        let [rows, hidden] = x.dims();
        let inner = rms_norm(x.clone(), self.mlp_norm.val().unsqueeze(), config.rms_norm_eps);
        let gate_up = to_dtype(self.gate_up.val(), inner.dtype());
        let both = B::product(inner.clone().reshape([1, rows, hidden]), gate_up.transpose());
        let both = match &self.lora {
            Some(lora) => lora.gate_up(&inner, both),
            None => both,
        };
        let part = |i: usize| both.clone().narrow(0, i, 1).reshape([rows, config.intermediate_size]);
        let gate = match config.activation {
            Activation::Silu => activation::silu(part(0)),
            Activation::GeluTanh => gelu_tanh(part(0)),
        };
        let inner = self.adapted(gate * part(1), LoraTarget::Down, config, |x| linear(x, self.down.val(), None));
        x + post_norm(inner, &self.post_mlp_norm, config.rms_norm_eps)
    }

    /// A product with one matrix and what its adapter adds, if there is one.
    fn adapted(
        &self,
        x: Tensor<B, 2>,
        target: LoraTarget,
        config: &LmConfig,
        product: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        match &self.lora {
            None => product(x),
            Some(lora) => lora.add(&x, product(x.clone()), &[target], config),
        }
    }

    /// Only fills the cache: what a sharer's last needed layer has to do.
    pub(crate) fn fill(&self, x: Tensor<B, 2>, index: usize, pass: &Pass<'_, B>, cache: &mut KvCache<B>) {
        let (_, key, value) = self.project(x, pass);
        cache.append(index, key, value);
    }

    /// Scaled and rotated queries `[batch, tokens, heads, head_dim]`, rotated keys and plain values
    /// `[batch, kv_heads, tokens, head_dim]`.
    fn project(&self, x: Tensor<B, 2>, pass: &Pass<'_, B>) -> (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) {
        let Pass { config, batch, tokens, .. } = *pass;
        let (heads, kv_heads, head_dim) = (config.num_heads, config.num_kv_heads, config.head_dim);
        let rows = batch * tokens;
        let (q_width, kv_width) = (heads * head_dim, config.kv_width());
        let x = rms_norm(x, self.input_norm.val().unsqueeze(), config.rms_norm_eps);
        let joined = linear(x.clone(), self.qkv.val(), self.qkv_bias.as_ref().map(Param::val));
        let joined = match &self.lora {
            Some(lora) => lora.qkv(&x, joined, config),
            None => joined,
        };
        let mut qk = joined.clone().narrow(1, 0, q_width + kv_width);
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            let dtype = qk.dtype();
            let per_head = to_f32(qk.reshape([rows * (heads + kv_heads), head_dim]));
            let normed = rms_scale(per_head, config.rms_norm_eps).reshape([rows, q_width + kv_width]);
            // Repeated along an axis of its own: Burn 0.21's gradient of `repeat_dim` mixes up the places of a longer axis.
            let each = |norm: &Param<Tensor<B, 1>>, heads: usize| {
                norm.val().unsqueeze::<2>().repeat_dim(0, heads).reshape([heads * head_dim])
            };
            let weight = Tensor::cat(vec![each(q_norm, heads), each(k_norm, kv_heads)], 0);
            qk = to_dtype(normed * weight.unsqueeze(), dtype);
        }
        let rotated = pass.rope.rotate(qk);
        let query = rotated.clone().narrow(1, 0, q_width).reshape([batch, tokens, heads, head_dim]);
        let to_cache = |x: Tensor<B, 2>, start: usize| {
            x.narrow(1, start, kv_width).reshape([batch, tokens, kv_heads, head_dim]).swap_dims(1, 2)
        };
        (query, to_cache(rotated, q_width), to_cache(joined, q_width + kv_width))
    }
}

pub(crate) fn post_norm<B: Backend>(x: Tensor<B, 2>, weight: &Option<Param<Tensor<B, 1>>>, eps: f64) -> Tensor<B, 2> {
    match weight {
        Some(weight) => rms_norm(x, weight.val().unsqueeze(), eps),
        None => x,
    }
}
