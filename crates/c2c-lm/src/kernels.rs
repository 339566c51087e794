//! The forward pass on devices with kernels of our own ([`c2c_kernels::KernelBackend`]).
//!
//! The same arithmetic as [`crate::layer`], in fewer and larger steps: on a GPU the time of a pass is first of all the
//! number of its launches. Few rows (a decoded token) go through products that norm, add and gate on the way.

use burn::module::Param;
use burn::tensor::{Int, Tensor, TensorData};
use c2c_kernels::{Act, GEMV_ROWS, Gemv, KernelBackend, QkvToCache, SoftmaxMask};

use crate::cache::KvCache;
use crate::layer::DecoderLayer;
use crate::model::Look;
use crate::ops::linear;
use crate::rope::RopeTable;
use crate::{Activation, Lm, LmConfig, TokenBatch};

/// The widest head that one cube can hold, a unit an element.
const MAX_HEAD_DIM: usize = 256;

/// What every layer of one pass shares.
#[derive(Debug)]
pub(crate) struct Pass<'a, B: KernelBackend> {
    pub(crate) config: &'a LmConfig,
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) past: usize,
    pub(crate) positions: Tensor<B, 1, Int>,
    /// `[batch, slots]`; `None` without padding.
    real: Option<Tensor<B, 2, Int>>,
    /// Few rows: products one plane an output.
    gemv: bool,
    /// One new token a row, and slots few enough for a kernel of its own.
    single: bool,
}

/// Hidden states as a sum that the next norm will add up: `x` and what is to be added to it.
pub(crate) type Pending<B> = (Tensor<B, 2>, Option<Tensor<B, 2>>);

/// True if the kernels can run this model.
pub(crate) fn fits<B: KernelBackend>(config: &LmConfig, device: &B::Device) -> bool {
    B::has_kernels(device) && config.head_dim.is_power_of_two() && config.head_dim <= MAX_HEAD_DIM
}

impl<B: KernelBackend> Lm<B> {
    /// As [`Lm::run`](crate::Lm), after its checks; the cache's mask already holds the new tokens.
    pub(crate) fn run_kernels(
        &self,
        x: Tensor<B, 2>,
        positions: Tensor<B, 1, Int>,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        full: usize,
        mut look: Option<Look<'_, B>>,
    ) -> Pending<B> {
        let gemv = tokens.rows() * tokens.tokens() <= GEMV_ROWS && B::has_gemv(&x.device());
        let single = tokens.tokens() == 1 && cache.len() <= B::decode_slots(&x.device());
        let pass = Pass { gemv, single, ..self.pass(positions, tokens, cache) };
        let mut state = (x, None);
        for (index, layer) in self.layers.iter().enumerate().take(full + 1) {
            if let Some(look) = &mut look {
                let (x, pending) = state;
                let x = pending.into_iter().fold(x, |x, y| x + y);
                look(index, &x.clone().reshape([pass.batch, pass.tokens, pass.config.hidden_size]));
                state = (x, None);
            }
            let Projected { x, query, .. } = layer.project_kernels(state, index, &pass, self.rope_of(index), cache);
            if index == full {
                return (x, None);
            }
            let attended = pass.attend(query, index, cache);
            state = layer.finish_kernels(x, attended, &pass);
        }
        state
    }

    /// A pass over new tokens that the cache's mask already holds, by products alone.
    pub(crate) fn pass(&self, positions: Tensor<B, 1, Int>, tokens: &TokenBatch, cache: &KvCache<B>) -> Pass<'_, B> {
        let (batch, n, slots) = (tokens.rows(), tokens.tokens(), cache.len());
        let real = cache.mask().iter().flatten().any(|real| !real).then(|| {
            let flat: Vec<i32> = cache.mask().iter().flatten().map(|real| i32::from(*real)).collect();
            Tensor::from_data(TensorData::new(flat, [batch, slots]), &self.device())
        });
        let (config, past) = (self.config(), slots - n);
        Pass { config, batch, tokens: n, past, positions, real, gemv: false, single: false }
    }

    /// The rotation of a layer.
    pub(crate) fn rope_of(&self, layer: usize) -> &RopeTable<B> {
        match (self.config.sliding_windows[layer], &self.rope_local) {
            (Some(_), Some(local)) => local,
            _ => &self.rope,
        }
    }
}

/// What a layer makes of its input before attention.
#[derive(Debug)]
pub(crate) struct Projected<B: KernelBackend> {
    /// The summed input, `[rows, hidden]`.
    pub(crate) x: Tensor<B, 2>,
    /// The joined projections, without bias unless the product added it.
    pub(crate) joined: Tensor<B, 2>,
    /// The queries, scaled and rotated, `[batch, heads, tokens, head_dim]`.
    pub(crate) query: Tensor<B, 4>,
}

/// What a layer makes of the attended values, where it goes through whole rows.
#[derive(Debug)]
pub(crate) struct Finished<B: KernelBackend> {
    /// The output projection, before a norm of its own.
    pub(crate) output: Tensor<B, 2>,
    /// The input of the MLP's norm.
    pub(crate) x: Tensor<B, 2>,
    /// Gate and up projection, `[2, rows, intermediate]`.
    pub(crate) both: Tensor<B, 3>,
    /// The down projection, before a norm of its own.
    pub(crate) down: Tensor<B, 2>,
}

/// Products over the slots are fastest where their number divides by this. The room of a cache does.
const SLOT_STEP: usize = 64;

impl<B: KernelBackend> Pass<'_, B> {
    /// Slots behind the filled ones that products read, too.
    pub(crate) fn tail(&self, capacity: usize) -> usize {
        let slots = self.past + self.tokens;
        if self.single { 0 } else { slots.next_multiple_of(SLOT_STEP).min(capacity) - slots }
    }

    /// The attended values, `[batch * tokens, heads * head_dim]`.
    fn attend(&self, query: Tensor<B, 4>, index: usize, cache: &KvCache<B>) -> Tensor<B, 2> {
        if self.single {
            let buffers = cache.buffers(index);
            return B::decode_attention(query, &buffers.key, &buffers.value, self.mask(index));
        }
        let [key, value] = self.seen(index, cache);
        B::prefill_attention(query, key, value, self.mask(index))
    }

    /// Which slots a layer's queries may attend to.
    pub(crate) fn mask(&self, index: usize) -> SoftmaxMask<'_, B> {
        let window = self.config.sliding_windows[index];
        SoftmaxMask { real: self.real.as_ref(), tokens: self.tokens, slots: self.past + self.tokens, window }
    }

    /// The keys and values that a layer's products read, `[batch, kv_heads, slots and tail, head_dim]`.
    pub(crate) fn seen(&self, index: usize, cache: &KvCache<B>) -> [Tensor<B, 4>; 2] {
        let buffers = cache.buffers(index);
        let slots = self.past + self.tokens + self.tail(buffers.key.dims()[2]);
        [B::first_slots(&buffers.key, slots), B::first_slots(&buffers.value, slots)]
    }

    /// `[batch, heads, tokens, head_dim]` with the heads that share keys folded into the tokens.
    pub(crate) fn by_group(&self, query: Tensor<B, 4>) -> Tensor<B, 4> {
        let [batch, heads, tokens, head_dim] = query.dims();
        let kv_heads = self.config.num_kv_heads;
        query.reshape([batch, kv_heads, heads / kv_heads * tokens, head_dim])
    }
}

impl<B: KernelBackend> DecoderLayer<B> {
    /// Keys and values are written into the cache.
    pub(crate) fn project_kernels(
        &self,
        (x, pending): Pending<B>,
        index: usize,
        pass: &Pass<'_, B>,
        rope: &RopeTable<B>,
        cache: &mut KvCache<B>,
    ) -> Projected<B> {
        let config = pass.config;
        let eps = config.rms_norm_eps;
        let bias = self.qkv_bias.as_ref().map(Param::val);
        let weight = self.qkv.val();
        let norm = self.input_norm.val();
        let (x, joined, bias) = match pending {
            None if pass.gemv => {
                let args =
                    Gemv { x: x.clone(), weight: &weight, norm: Some((norm, eps)), bias, residual: None, gated: None };
                (x, B::gemv(args), None)
            }
            pending => {
                let (x, normed) = B::add_rms_norm(x, pending, norm, eps);
                (x, linear(normed, weight, None), bias)
            }
        };
        let shape = [pass.batch, config.num_kv_heads, pass.past + pass.tokens, config.head_dim];
        cache.reserve(index, shape, pass.tokens, x.dtype(), &x.device());
        let buffers = cache.buffers(index);
        let query = B::qkv_to_cache(QkvToCache {
            joined: joined.clone(),
            bias,
            norms: self.q_norm.as_ref().zip(self.k_norm.as_ref()).map(|(q, k)| (q.val(), k.val())),
            tables: rope.tables(),
            positions: &pass.positions,
            key: &buffers.key,
            value: &buffers.value,
            past: pass.past,
            tail: pass.tail(buffers.key.dims()[2]),
            heads: config.num_heads,
            scale: config.attention_scale,
            eps,
        });
        Projected { x, joined, query }
    }

    /// From the attended values to the layer's output, by products of whole rows.
    pub(crate) fn finish_rows(
        &self,
        x: Tensor<B, 2>,
        attended: Tensor<B, 2>,
        pass: &Pass<'_, B>,
    ) -> (Pending<B>, Finished<B>) {
        let eps = pass.config.rms_norm_eps;
        let gate_up = self.gate_up.val();
        let [_, _, hidden] = gate_up.dims();
        let output = linear(attended, self.o.val(), self.o_bias.as_ref().map(Param::val));
        let y = after(output.clone(), &self.post_attention_norm, eps);
        let (x, normed) = B::add_rms_norm(x, Some(y), self.mlp_norm.val(), eps);
        let rows = x.dims()[0];
        let both = B::product(normed.reshape([1, rows, hidden]), gate_up.transpose());
        let down = linear(B::gated(both.clone(), act(pass.config)), self.down.val(), None);
        let y = after(down.clone(), &self.post_mlp_norm, eps);
        ((x.clone(), Some(y)), Finished { output, x, both, down })
    }

    /// From the attended values to the layer's output.
    fn finish_kernels(&self, x: Tensor<B, 2>, attended: Tensor<B, 2>, pass: &Pass<'_, B>) -> Pending<B> {
        if !pass.gemv {
            return self.finish_rows(x, attended, pass).0;
        }
        let eps = pass.config.rms_norm_eps;
        let o_bias = self.o_bias.as_ref().map(Param::val);
        let (o, down, gate_up) = (self.o.val(), self.down.val(), self.gate_up.val());
        let [_, inner, hidden] = gate_up.dims();
        // `x + norm(weight @ y)`, in one step where there is no norm between.
        let add = |x: Tensor<B, 2>, y, weight, bias, norm: &Option<Param<Tensor<B, 1>>>| {
            let plain = |residual| Gemv { x: y, weight, norm: None, bias, residual, gated: None };
            match norm {
                None => B::gemv(plain(Some(x))),
                Some(_) => x + after(B::gemv(plain(None)), norm, eps),
            }
        };
        let x = add(x, attended, &o, o_bias, &self.post_attention_norm);
        let gate_up = gate_up.reshape([2 * inner, hidden]);
        let norm = Some((self.mlp_norm.val(), eps));
        let gated = Some(act(pass.config));
        let y = B::gemv(Gemv { x: x.clone(), weight: &gate_up, norm, bias: None, residual: None, gated });
        (add(x, y, &down, None, &self.post_mlp_norm), None)
    }
}

/// The norm behind attention or MLP, where a family has one.
fn after<B: KernelBackend>(y: Tensor<B, 2>, weight: &Option<Param<Tensor<B, 1>>>, eps: f64) -> Tensor<B, 2> {
    match weight {
        Some(weight) => B::add_rms_norm(y, None, weight.val(), eps).1,
        None => y,
    }
}

/// The MLP's activation.
pub(crate) fn act(config: &LmConfig) -> Act {
    match config.activation {
        Activation::Silu => Act::Silu,
        Activation::GeluTanh => Act::GeluTanh,
    }
}
