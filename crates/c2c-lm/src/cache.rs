//! The KV cache: one key and one value tensor a layer, readable and replaceable.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::LmError;

/// Keys and values of one layer.
///
/// # Shapes
/// Both `[batch, kv_heads, tokens, head_dim]`; keys after RoPE.
#[derive(Clone, Debug)]
pub struct LayerKv<B: Backend> {
    /// Keys, after RoPE and key norm.
    pub key: Tensor<B, 4>,
    /// Values, as projected.
    pub value: Tensor<B, 4>,
}

/// The cache of a model over a batch of rows.
///
/// It also remembers which slots hold padding, so that decoding never attends to them.
/// Invariant: every filled layer holds `mask[0].len()` tokens.
#[derive(Clone, Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<Option<LayerKv<B>>>,
    mask: Vec<Vec<bool>>,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for `layers` layers and `rows` rows.
    pub fn new(layers: usize, rows: usize) -> Self {
        Self { layers: vec![None; layers], mask: vec![Vec::new(); rows] }
    }

    /// A cache from tensors, for programs that bring their own.
    ///
    /// # Errors
    /// A mask that doesn't have the tensors' rows and tokens.
    pub fn from_layers(layers: Vec<LayerKv<B>>, mask: Vec<Vec<bool>>) -> Result<Self, LmError> {
        for layer in &layers {
            let [rows, _, tokens, _] = layer.key.dims();
            if rows != mask.len() {
                return Err(LmError::CacheMismatch { what: "rows", found: rows, expected: mask.len() });
            }
            if let Some(row) = mask.iter().find(|r| r.len() != tokens) {
                return Err(LmError::CacheMismatch { what: "tokens", found: tokens, expected: row.len() });
            }
        }
        Ok(Self { layers: layers.into_iter().map(Some).collect(), mask })
    }

    /// Layers, filled or not.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.mask.len()
    }

    /// Tokens in the cache, padding included.
    pub fn len(&self) -> usize {
        self.mask.first().map_or(0, Vec::len)
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True where a slot holds a real token, row by row.
    pub fn mask(&self) -> &[Vec<bool>] {
        &self.mask
    }

    /// The keys and values of a layer, if it was run.
    pub fn layer(&self, layer: usize) -> Option<&LayerKv<B>> {
        self.layers.get(layer).and_then(Option::as_ref)
    }

    /// The slice `[start, end)` of a layer along the tokens.
    pub fn slice(&self, layer: usize, start: usize, end: usize) -> Option<LayerKv<B>> {
        self.layer(layer).map(|kv| LayerKv {
            key: kv.key.clone().narrow(2, start, end - start),
            value: kv.value.clone().narrow(2, start, end - start),
        })
    }

    /// Replaces the slots from `start` on of a layer with `new`.
    ///
    /// # Errors
    /// A layer that isn't filled, or a slice that reaches past the end.
    pub fn replace(&mut self, layer: usize, start: usize, new: LayerKv<B>) -> Result<(), LmError> {
        let total = self.len();
        let layers = self.layers.len();
        let Some(Some(old)) = self.layers.get(layer) else {
            return Err(LmError::CacheMismatch { what: "filled layers", found: layers, expected: layer + 1 });
        };
        let [_, _, n, _] = new.key.dims();
        if start + n > total {
            return Err(LmError::CacheMismatch { what: "tokens", found: total, expected: start + n });
        }
        let dtype = old.key.dtype();
        let write = |old: &Tensor<B, 4>, new: Tensor<B, 4>| {
            let new = if new.dtype() == dtype { new } else { new.cast(dtype) };
            if n == total {
                return new;
            }
            let mut parts = Vec::with_capacity(3);
            if start > 0 {
                parts.push(old.clone().narrow(2, 0, start));
            }
            parts.push(new);
            if start + n < total {
                parts.push(old.clone().narrow(2, start + n, total - start - n));
            }
            Tensor::cat(parts, 2)
        };
        self.layers[layer] = Some(LayerKv { key: write(&old.key, new.key), value: write(&old.value, new.value) });
        Ok(())
    }

    /// Maps every filled layer into another backend's cache (for example onto the autodiff device).
    pub fn map<B2: Backend>(&self, mut f: impl FnMut(Tensor<B, 4>) -> Tensor<B2, 4>) -> KvCache<B2> {
        KvCache {
            layers: self
                .layers
                .iter()
                .map(|l| l.as_ref().map(|kv| LayerKv { key: f(kv.key.clone()), value: f(kv.value.clone()) }))
                .collect(),
            mask: self.mask.clone(),
        }
    }

    pub(crate) fn extend_mask(&mut self, new: &[Vec<bool>]) {
        for (row, more) in self.mask.iter_mut().zip(new) {
            row.extend_from_slice(more);
        }
    }

    /// Appends new tokens to a layer and returns all of the layer.
    pub(crate) fn append(&mut self, layer: usize, key: Tensor<B, 4>, value: Tensor<B, 4>) -> LayerKv<B> {
        let all = match self.layers[layer].take() {
            None => LayerKv { key, value },
            Some(old) => {
                LayerKv { key: Tensor::cat(vec![old.key, key], 2), value: Tensor::cat(vec![old.value, value], 2) }
            }
        };
        self.layers[layer] = Some(all.clone());
        all
    }
}
