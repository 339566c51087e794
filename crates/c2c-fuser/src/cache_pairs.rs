//! What both models hold of the same tokens before anything is fused: the two sides of a cache transformation (paper,
//! section 3.2).

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_lm::{KvCache, LayerKv, Lm};

use crate::c2c::fill_sharer;
use crate::{FuserError, PairBatch};

/// The caches of a batch at the slots that fusion rewrites: those of fused sections where the Receiver has a token.
///
/// Each model has read its own side alone, all sections up to the last fused one. Rows of the batch and slots are one
/// axis, so that there is no padding.
#[derive(Clone, Debug)]
pub struct CachePairs<B: Backend> {
    /// The Sharer's layers up to the highest that was run, `[1, heads, tokens, head_dim]` each.
    pub sharer: Vec<LayerKv<B>>,
    /// The Receiver's layers, `[1, heads, tokens, head_dim]` each.
    pub receiver: Vec<LayerKv<B>>,
    /// Of each token its row in the batch, and which of that row's tokens here it is.
    pub places: Vec<(usize, usize)>,
    /// Of each token whether the Sharer has one in its slot, too. Where the alignment pads the Sharer, its cache holds what
    /// padding left there, which fusion reads all the same.
    pub shared: Vec<bool>,
}

impl<B: KernelBackend> CachePairs<B> {
    /// Runs both models; the Sharer's first `depth` layers. Nothing of a batch without a fused section.
    ///
    /// # Errors
    /// What the models refuse.
    pub fn compute(
        receiver: &Lm<B>,
        sharer: &Lm<B>,
        depth: usize,
        batch: &PairBatch,
    ) -> Result<Option<Self>, FuserError> {
        let sections = batch.sections();
        let Some(last) = sections.iter().rposition(|s| s.fuse) else { return Ok(None) };
        let (mut indexes, mut places, mut shared) = (Vec::new(), Vec::new(), Vec::new());
        let total: usize = sections[..=last].iter().map(|s| s.receiver.tokens()).sum();
        for row in 0..batch.rows() {
            let slots = sections[..=last].iter().flat_map(|s| {
                let both = s.receiver.mask()[row].iter().zip(&s.sharer.mask()[row]);
                both.map(|(own, other)| (*own && s.fuse, *other))
            });
            let slots = slots.enumerate().filter(|(_, (taken, _))| *taken).enumerate();
            for (token, (slot, (_, other))) in slots {
                indexes.push((row * total + slot) as i32);
                places.push((row, token));
                shared.push(other);
            }
        }
        if places.is_empty() {
            return Ok(None);
        }
        let (mut own, mut other) = (receiver.new_cache(batch.rows()), sharer.new_cache(batch.rows()));
        let tokens = batch.join(0..last + 1, |s| &s.receiver)?;
        receiver.fill_cache(&tokens, &mut own, receiver.config().num_layers)?;
        fill_sharer(sharer, depth, batch, &mut other)?;
        let indexes = Tensor::from_data(TensorData::new(indexes, [places.len()]), &receiver.device());
        Ok(Some(Self { sharer: picked(&other, &indexes), receiver: picked(&own, &indexes), places, shared }))
    }
}

impl<B: Backend> CachePairs<B> {
    /// Tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.places.len()
    }

    /// The same caches on another backend.
    pub fn map<B2: Backend>(self, f: impl Fn(Tensor<B, 4>) -> Tensor<B2, 4>) -> CachePairs<B2> {
        let layers = |layers: Vec<LayerKv<B>>| {
            layers.into_iter().map(|kv| LayerKv { key: f(kv.key), value: f(kv.value) }).collect()
        };
        let (sharer, receiver) = (layers(self.sharer), layers(self.receiver));
        CachePairs { sharer, receiver, places: self.places, shared: self.shared }
    }
}

/// The filled layers of a cache at some of its slots, rows and slots counted as one axis.
fn picked<B: Backend>(cache: &KvCache<B>, indexes: &Tensor<B, 1, Int>) -> Vec<LayerKv<B>> {
    let pick = |x: Tensor<B, 4>| {
        let [rows, heads, slots, head_dim] = x.dims();
        let flat = x.swap_dims(1, 2).reshape([rows * slots, heads * head_dim]);
        let [tokens] = indexes.dims();
        flat.select(0, indexes.clone()).reshape([1, tokens, heads, head_dim]).swap_dims(1, 2)
    };
    let layers = (0..cache.num_layers()).map_while(|layer| cache.layer(layer));
    layers.map(|kv| LayerKv { key: pick(kv.key), value: pick(kv.value) }).collect()
}
