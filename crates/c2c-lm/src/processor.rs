//! The forward pass on the processor, in f32 and without gradients ([`c2c_kernels::ProcessorBackend`]).
//!
//! The same arithmetic as [`crate::layer`], a few passes a layer. Padding that sees nothing real becomes zero.

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use c2c_kernels::{CpuAttention, CpuQkv, KernelBackend};

use crate::kernels::act;
use crate::layer::{DecoderLayer, post_norm};
use crate::model::Look;
use crate::{KvCache, Lm, TokenBatch};

impl<B: KernelBackend> Lm<B> {
    /// True if a pass over these hidden states can go this way: adapters and weights of another dtype can't.
    pub(crate) fn runs_on_processor(&self, x: &Tensor<B, 2>) -> bool {
        let plain = |layer: &DecoderLayer<B>| layer.lora.is_none() && layer.qkv.val().dtype() == DType::F32;
        B::cpu_takes(x) && self.layers.iter().all(plain)
    }

    /// As [`Lm::run`](crate::Lm), after its checks; the cache's mask already holds the new tokens.
    pub(crate) fn run_processor(
        &self,
        x: Tensor<B, 2>,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        full: usize,
        mut look: Option<Look<'_, B>>,
    ) -> Tensor<B, 2> {
        let config = self.config();
        let positions: Vec<usize> = tokens.positions().iter().flatten().copied().collect();
        let mut x = x;
        for (index, layer) in self.layers.iter().enumerate().take(full + 1) {
            if let Some(look) = &mut look {
                look(index, &x.clone().reshape([tokens.rows(), tokens.tokens(), config.hidden_size]));
            }
            let eps = config.rms_norm_eps;
            let normed = B::cpu_norm(&x, &layer.input_norm.val(), eps);
            let bias = layer.qkv_bias.as_ref().map(Param::val);
            let joined = B::cpu_linear(&normed, &layer.qkv.val(), bias.as_ref());
            let [query, key, value] = B::cpu_qkv(CpuQkv {
                joined: &joined,
                norms: layer.q_norm.as_ref().zip(layer.k_norm.as_ref()).map(|(q, k)| (q.val(), k.val(), eps)),
                tables: self.rope_of(index).tables(),
                positions: &positions,
                tokens: tokens.tokens(),
                heads: config.num_heads,
                kv_heads: config.num_kv_heads,
                scale: config.attention_scale,
            });
            cache.append_in_place(index, &key, &value);
            if index == full {
                break;
            }
            let all = cache.buffers(index);
            let attended = B::cpu_attention(CpuAttention {
                query: &query,
                key: &all.key,
                value: &all.value,
                real: cache.mask(),
                window: config.sliding_windows[index],
            });
            let bias = layer.o_bias.as_ref().map(Param::val);
            let attended = B::cpu_linear(&attended, &layer.o.val(), bias.as_ref());
            x = x + post_norm(attended, &layer.post_attention_norm, eps);
            let normed = B::cpu_norm(&x, &layer.mlp_norm.val(), eps);
            let inner = B::cpu_mlp(&normed, &layer.gate_up.val(), &layer.down.val(), act(config));
            x = x + post_norm(inner, &layer.post_mlp_norm, eps);
        }
        x
    }
}
