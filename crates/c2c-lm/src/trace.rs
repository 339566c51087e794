//! Forwards through a frozen model and back to its cache.
//!
//! Training a fuser needs the gradient of the loss in the receiver's keys and values and in nothing else of the receiver. Autodiff
//! finds it through thousands of small operations; here a layer's way back is eight products and five kernels. What a layer
//! made on its way forwards is kept, the normed rows and the activations are made again.

use std::ops::Range;

use burn::module::Param;
use burn::tensor::Tensor;
use c2c_kernels::{KernelBackend, QkvBackward, attention_by_products};

use crate::kernels::{Finished, Pass, Projected, act, fits};
use crate::ops::to_dtype;
use crate::{KvCache, LayerKv, Lm, LmError, TokenBatch};

/// What a forward pass leaves for the way back.
#[derive(Debug)]
pub struct Trace<'a, B: KernelBackend> {
    pass: Pass<'a, B>,
    layers: Vec<LayerTrace<B>>,
    /// The input of the final norm.
    last: Tensor<B, 2>,
}

#[derive(Debug)]
struct LayerTrace<B: KernelBackend> {
    projected: Projected<B>,
    /// `[batch, kv_heads, group * tokens, slots and tail]`.
    weights: Tensor<B, 4>,
    finished: Finished<B>,
}

impl<B: KernelBackend> Lm<B> {
    /// True if [`Lm::hidden_traced`] can be called: the device has kernels of our own for this model, and it has no adapters.
    pub fn traces(&self) -> bool {
        fits::<B>(&self.config, &self.device()) && self.compute.is_none() && !self.has_lora()
    }

    /// As [`Lm::hidden`], remembering what [`Lm::cache_gradient`] needs.
    ///
    /// # Errors
    /// As [`Lm::forward`].
    ///
    /// # Panics
    /// A model that doesn't [trace](Lm::traces).
    pub fn hidden_traced(
        &self,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
    ) -> Result<(Tensor<B, 3>, Trace<'_, B>), LmError> {
        let (x, positions) = self.begin(tokens, cache, self.layers.len())?;
        let pass = self.pass(positions, tokens, cache);
        let mut state = (x, None);
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let projected = layer.project_kernels(state, index, &pass, self.rope_of(index), cache);
            let [key, value] = pass.seen(index, cache);
            let (weights, attended) = attention_by_products(projected.query.clone(), key, value, pass.mask(index));
            let (next, finished) = layer.finish_rows(projected.x.clone(), attended, &pass);
            layers.push(LayerTrace { projected, weights, finished });
            state = next;
        }
        let (x, pending) = state;
        let (last, hidden) = B::add_rms_norm(x, pending, self.final_norm.val(), self.config.rms_norm_eps);
        let hidden = hidden.reshape([tokens.rows(), tokens.tokens(), self.config.hidden_size]);
        Ok((hidden, Trace { pass, layers, last }))
    }

    /// The gradient in some of the cache's earlier slots, from that of the traced hidden states, `[batch, tokens, hidden]`.
    ///
    /// # Shapes
    /// One `[batch, kv_heads, slots, head_dim]` pair a layer, in the model's dtype.
    ///
    /// # Panics
    /// A cache that the trace didn't go through, or slots behind those that were filled before it.
    pub fn cache_gradient(
        &self,
        trace: Trace<'_, B>,
        cache: &KvCache<B>,
        hidden: Tensor<B, 3>,
        slots: Range<usize>,
    ) -> Vec<LayerKv<B>> {
        let Trace { pass, layers, last } = trace;
        let (config, eps) = (pass.config, pass.config.rms_norm_eps);
        let [batch, tokens, width] = hidden.dims();
        let (heads, head_dim) = (config.num_heads, config.head_dim);
        let hidden = to_dtype(hidden, self.dtype()).reshape([batch * tokens, width]);
        // The gradient of a layer's output, and so of what is added up along the layers.
        let mut grad = B::rms_norm_backward(last, self.final_norm.val(), hidden, None, eps);
        let mut found = Vec::with_capacity(layers.len());
        let through = |x: Tensor<B, 2>, weight: &Option<Param<Tensor<B, 1>>>, grad: Tensor<B, 2>| match weight {
            Some(weight) => B::rms_norm_backward(x, weight.val(), grad, None, eps),
            None => grad,
        };
        for (index, (layer, trace)) in self.layers.iter().zip(layers).enumerate().rev() {
            let LayerTrace { projected, weights, finished } = trace;
            let down = through(finished.down, &layer.post_mlp_norm, grad.clone());
            let inner = B::gated_backward(finished.both, B::product(down, layer.down.val()), act(config));
            let gate_up = layer.gate_up.val();
            let [_, intermediate, _] = gate_up.dims();
            let normed = B::product(inner, gate_up.reshape([2 * intermediate, width]));
            grad = B::rms_norm_backward(finished.x, layer.mlp_norm.val(), normed, Some(grad), eps);

            let output = through(finished.output, &layer.post_attention_norm, grad.clone());
            let attended = B::product(output, layer.o.val());
            let attended = pass.by_group(attended.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2));
            let [key, value] = pass.seen(index, cache);
            let value_grad = B::product(weights.clone().transpose(), attended.clone());
            let scores = B::softmax_backward(weights, B::product(attended, value.transpose()));
            let queries = pass.by_group(projected.query);
            let key_grad = B::product(scores.clone().transpose(), queries);
            let part = |x: &Tensor<B, 4>| x.clone().narrow(2, slots.start, slots.len());
            found.push(LayerKv { key: part(&key_grad), value: part(&value_grad) });
            if index == 0 {
                // What lies below is the embedding, which is frozen.
                break;
            }
            let joined = B::qkv_backward(QkvBackward {
                joined: &projected.joined,
                bias: layer.qkv_bias.as_ref().map(Param::val),
                norms: layer.q_norm.as_ref().zip(layer.k_norm.as_ref()).map(|(q, k)| (q.val(), k.val())),
                tables: self.rope_of(index).tables(),
                positions: &pass.positions,
                query: B::product(scores, key).reshape([batch, heads, tokens, head_dim]),
                key: key_grad,
                value: value_grad,
                past: pass.past,
                scale: config.attention_scale,
                eps,
            });
            let normed = B::product(joined, layer.qkv.val());
            grad = B::rms_norm_backward(projected.x, layer.input_norm.val(), normed, Some(grad), eps);
        }
        found.reverse();
        found
    }

    /// The gradient of hidden states from that of their logits, `[rows, vocab]` to `[rows, hidden]`, in the model's dtype.
    pub fn logits_gradient(&self, logits: Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = self.head.as_ref().unwrap_or(&self.embedding).val();
        B::product(to_dtype(logits, self.dtype()), to_dtype(weight, self.dtype()))
    }
}
