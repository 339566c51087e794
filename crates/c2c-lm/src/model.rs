//! The model: embedding, layers, norm and head.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use c2c_kernels::{GEMV_ROWS, Gemv, KernelBackend};

use crate::attention::AttentionMask;
use crate::kernels::{self, Pending};
use crate::layer::{DecoderLayer, Pass};
use crate::ops::{linear, rms_norm, to_dtype, to_f32};
use crate::rope::RopeTable;
use crate::{Family, KvCache, LmConfig, LmError, TokenBatch};

/// Which logits a forward pass returns. The head is only computed for those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsWanted {
    /// Of the last position: `[batch, 1, vocab]`.
    Last,
    /// Of every new position: `[batch, tokens, vocab]`.
    All,
}

/// Is shown the input of every layer.
pub(crate) type Look<'a, B> = &'a mut dyn FnMut(usize, &Tensor<B, 3>);

/// A decoder-only language model.
#[derive(Module, Debug)]
pub struct Lm<B: Backend> {
    #[module(skip)]
    pub(crate) config: LmConfig,
    /// `[vocab, hidden]`.
    pub(crate) embedding: Param<Tensor<B, 2>>,
    pub(crate) layers: Vec<DecoderLayer<B>>,
    /// `[hidden]`, f32.
    pub(crate) final_norm: Param<Tensor<B, 1>>,
    /// `[vocab, hidden]`; absent when tied to the embedding.
    pub(crate) head: Option<Param<Tensor<B, 2>>>,
    pub(crate) rope: RopeTable<B>,
    pub(crate) rope_local: Option<RopeTable<B>>,
    /// The dtype of the arithmetic, if it isn't that of the matrices.
    #[module(skip)]
    pub(crate) compute: Option<DType>,
}

impl<B: Backend> Lm<B> {
    /// The configuration.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// The device that holds the weights.
    pub fn device(&self) -> B::Device {
        self.embedding.val().device()
    }

    /// The dtype of activations and caches: that of the matrices unless [`Lm::computing_in`] says otherwise.
    pub fn dtype(&self) -> DType {
        self.compute.unwrap_or_else(|| self.embedding.val().dtype())
    }

    /// The same weights with arithmetic in another dtype: weights that are trained are held in f32, whatever the
    /// arithmetic is, since a step is often smaller than bf16 can tell from nothing.
    pub fn computing_in(self, dtype: DType) -> Self {
        let compute = (self.embedding.val().dtype() != dtype || self.compute.is_some()).then_some(dtype);
        Self { compute, ..self }
    }

    /// An empty cache for `rows` rows.
    pub fn new_cache(&self, rows: usize) -> KvCache<B> {
        KvCache::new(self.layers.len(), rows)
    }
}

impl<B: KernelBackend> Lm<B> {
    /// Runs new tokens through the model; their keys and values are appended to the cache.
    ///
    /// # Shapes
    /// Returns f32 logits `[batch, 1 or tokens, vocab]`.
    ///
    /// # Errors
    /// Ids outside the vocabulary, positions past the context, a cache of other rows, layers, heads, head width or dtype, or
    /// one whose deeper layers weren't filled ([`Lm::fill_cache`]).
    pub fn forward(
        &self,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        wanted: LogitsWanted,
    ) -> Result<Tensor<B, 3>, LmError> {
        let hidden = self.hidden(tokens, cache)?;
        Ok(self.logits(hidden, wanted))
    }

    /// Runs new tokens and returns the hidden states after the final norm, `[batch, tokens, hidden]`.
    ///
    /// # Errors
    /// As [`Lm::forward`].
    pub fn hidden(&self, tokens: &TokenBatch, cache: &mut KvCache<B>) -> Result<Tensor<B, 3>, LmError> {
        let state = self.run(tokens, cache, self.layers.len(), None)?;
        Ok(self.normed(state, tokens))
    }

    /// Like [`Lm::hidden`], showing the input of every layer to `look(layer, [batch, tokens, hidden])` on the way.
    ///
    /// # Errors
    /// As [`Lm::forward`].
    pub fn hidden_with(
        &self,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        mut look: impl FnMut(usize, &Tensor<B, 3>),
    ) -> Result<Tensor<B, 3>, LmError> {
        let state = self.run(tokens, cache, self.layers.len(), Some(&mut look))?;
        Ok(self.normed(state, tokens))
    }

    /// The final norm on the last layer's output.
    fn normed(&self, (x, pending): Pending<B>, tokens: &TokenBatch) -> Tensor<B, 3> {
        let (weight, eps) = (self.final_norm.val(), self.config.rms_norm_eps);
        let x = if kernels::fits::<B>(&self.config, &x.device()) {
            B::add_rms_norm(x, pending, weight, eps).1
        } else {
            rms_norm(x, weight.unsqueeze(), eps)
        };
        x.reshape([tokens.rows(), tokens.tokens(), self.config.hidden_size])
    }

    /// Runs only what is needed to fill the first `layers` layers of the cache: what a sharer has to do.
    ///
    /// The last of them computes its keys and values, not its attention or MLP; no head is computed. Layers behind them, which
    /// now lack tokens, are emptied: from then on the cache is good for these layers alone.
    ///
    /// # Errors
    /// As [`Lm::forward`].
    pub fn fill_cache(&self, tokens: &TokenBatch, cache: &mut KvCache<B>, layers: usize) -> Result<(), LmError> {
        match layers.checked_sub(1) {
            Some(full) => self.run(tokens, cache, full, None).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The head on hidden states that went through the final norm; f32.
    pub fn logits(&self, hidden: Tensor<B, 3>, wanted: LogitsWanted) -> Tensor<B, 3> {
        let [batch, tokens, width] = hidden.dims();
        let (hidden, kept) = match wanted {
            LogitsWanted::All => (hidden, tokens),
            LogitsWanted::Last => (hidden.narrow(1, tokens - 1, 1), 1),
        };
        let logits = self.row_logits(hidden.reshape([batch * kept, width]));
        to_f32(logits).reshape([batch, kept, self.config.vocab_size])
    }

    /// As [`Lm::logits`], `[rows, hidden]` to `[rows, vocab]`, in the dtype that the head multiplies in.
    pub fn row_logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = self.head.as_ref().unwrap_or(&self.embedding).val();
        if self.compute.is_none() && hidden.dims()[0] <= GEMV_ROWS && B::has_gemv(&hidden.device()) {
            B::gemv(Gemv { x: hidden, weight: &weight, norm: None, bias: None, residual: None, gated: None })
        } else {
            linear(hidden, weight, None)
        }
    }

    /// Runs layers `0..full` whole; if there is one more, that one only fills its cache.
    fn run(
        &self,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        full: usize,
        look: Option<Look<'_, B>>,
    ) -> Result<Pending<B>, LmError> {
        let (x, positions) = self.begin(tokens, cache, full + 1)?;
        if self.traces() {
            return Ok(self.run_kernels(x, positions, tokens, cache, full, look));
        }
        if self.runs_on_processor(&x) {
            return Ok((self.run_processor(x, tokens, cache, full, look), None));
        }
        Ok((self.run_composed(x, positions, tokens, cache, full, look), None))
    }

    /// Checks new tokens for the first `layers` layers and adds them to the cache's mask; their embeddings and positions.
    pub(crate) fn begin(
        &self,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        layers: usize,
    ) -> Result<(Tensor<B, 2>, Tensor<B, 1, Int>), LmError> {
        let config = self.config();
        tokens.check(config.vocab_size, config.max_position)?;
        let (batch, n) = (tokens.rows(), tokens.tokens());
        let mismatch = |what, found, expected| Err(LmError::CacheMismatch { what, found, expected });
        if cache.rows() != batch {
            return mismatch("rows", cache.rows(), batch);
        }
        if cache.num_layers() != self.layers.len() {
            return mismatch("layers", cache.num_layers(), self.layers.len());
        }
        let layers = layers.min(self.layers.len());
        cache.check_layers(layers, [config.num_kv_heads, config.head_dim], self.dtype())?;
        cache.forget_from(layers);
        cache.extend_mask(tokens.mask());

        let device = self.device();
        let ids: Vec<i32> = tokens.ids().iter().flatten().map(|id| *id as i32).collect();
        let positions: Vec<i32> = tokens.positions().iter().flatten().map(|p| *p as i32).collect();
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [batch * n]), &device);
        let positions = Tensor::<B, 1, Int>::from_data(TensorData::new(positions, [batch * n]), &device);
        Ok((self.embed(ids), positions))
    }

    /// The pass from Burn's own operations, on any backend.
    fn run_composed(
        &self,
        x: Tensor<B, 2>,
        positions: Tensor<B, 1, Int>,
        tokens: &TokenBatch,
        cache: &mut KvCache<B>,
        full: usize,
        mut look: Option<Look<'_, B>>,
    ) -> Tensor<B, 2> {
        let config = self.config();
        let (batch, n) = (tokens.rows(), tokens.tokens());
        let device = self.device();
        let (heads, kv_heads) = (config.num_heads, config.num_kv_heads);
        let rows_of = |table: &RopeTable<B>| table.rows(positions.clone(), heads, kv_heads, config.attention_scale);
        let rope = rows_of(&self.rope);
        let rope_local = self.rope_local.as_ref().map(rows_of);
        let mask_of = |window| AttentionMask::new(cache.mask(), n, window, kv_heads, config.group(), &device);
        let full_mask = mask_of(None);
        let local_window = config.sliding_windows.iter().flatten().next().copied();
        let local_mask = local_window.and_then(|w| mask_of(Some(w)));

        let mut x = x;
        for (index, layer) in self.layers.iter().enumerate().take(full + 1) {
            let local = config.sliding_windows[index].is_some();
            let pass = Pass {
                config,
                batch,
                tokens: n,
                rope: if local { rope_local.as_ref().unwrap_or(&rope) } else { &rope },
                mask: if local { local_mask.as_ref() } else { full_mask.as_ref() },
            };
            if let Some(look) = &mut look {
                look(index, &x.clone().reshape([batch, n, config.hidden_size]));
            }
            if index == full {
                layer.fill(x.clone(), index, &pass, cache);
            } else {
                x = layer.forward(x, index, &pass, cache);
            }
        }
        x
    }

    /// `[rows]` to `[rows, hidden]`.
    fn embed(&self, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let config = self.config();
        let x = to_dtype(self.embedding.val().select(0, ids), self.dtype());
        if config.family != Family::Gemma3 {
            return x;
        }
        // Gemma multiplies by sqrt(hidden) rounded to the model's own dtype.
        let scale = (config.hidden_size as f64).sqrt();
        let scale = match x.dtype() {
            burn::tensor::DType::BF16 => half::bf16::from_f64(scale).to_f64(),
            _ => f64::from(scale as f32),
        };
        x.mul_scalar(scale)
    }
}
