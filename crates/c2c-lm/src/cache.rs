//! The KV cache: one key and one value tensor a layer, readable and replaceable.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use c2c_kernels::KernelBackend;

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
/// Invariant: every filled layer holds `mask[0].len()` tokens. A layer's tensors may be longer than what is filled:
/// on devices with kernels of our own new tokens are written in place behind the filled slots, which nobody else sees.
#[derive(Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<Option<Slots<B>>>,
    mask: Vec<Vec<bool>>,
}

/// A layer's tensors and how many of their slots are filled.
#[derive(Debug)]
struct Slots<B: Backend> {
    kv: LayerKv<B>,
    filled: usize,
}

impl<B: Backend> Slots<B> {
    fn exact(kv: LayerKv<B>) -> Self {
        let filled = kv.key.dims()[2];
        Self { kv, filled }
    }

    fn capacity(&self) -> usize {
        self.kv.key.dims()[2]
    }

    /// The filled slots.
    fn view(&self) -> LayerKv<B> {
        if self.capacity() == self.filled {
            return self.kv.clone();
        }
        let narrow = |x: &Tensor<B, 4>| x.clone().narrow(2, 0, self.filled);
        LayerKv { key: narrow(&self.kv.key), value: narrow(&self.kv.value) }
    }
}

/// A copy has no room to write in: it sees the filled slots of the original, which goes on alone.
impl<B: Backend> Clone for KvCache<B> {
    fn clone(&self) -> Self {
        let layers = self.layers.iter().map(|l| l.as_ref().map(|slots| Slots::exact(slots.view()))).collect();
        Self { layers, mask: self.mask.clone() }
    }
}

/// Slots are allocated in steps of this many, so that a decoded token seldom moves the cache.
const GROWTH: usize = 256;
/// The least room behind what a processor appends.
const ROOM: usize = 16;

impl<B: Backend> KvCache<B> {
    /// An empty cache for `layers` layers and `rows` rows.
    pub fn new(layers: usize, rows: usize) -> Self {
        Self { layers: (0..layers).map(|_| None).collect(), mask: vec![Vec::new(); rows] }
    }

    /// A cache from tensors, for programs that bring their own.
    ///
    /// # Errors
    /// A mask that doesn't have the tensors' rows and tokens; tensors of other heads, head width or dtype than the first
    /// layer's keys.
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
        if let Some(first) = layers.first() {
            let (shape, dtype) = (first.key.dims(), first.key.dtype());
            layers.iter().enumerate().try_for_each(|(index, layer)| check(layer, index, shape, dtype))?;
        }
        Ok(Self { layers: layers.into_iter().map(|kv| Some(Slots::exact(kv))).collect(), mask })
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
    pub fn layer(&self, layer: usize) -> Option<LayerKv<B>> {
        self.layers.get(layer).and_then(Option::as_ref).map(Slots::view)
    }

    /// The slice `[start, end)` of a layer along the tokens.
    pub fn slice(&self, layer: usize, start: usize, end: usize) -> Option<LayerKv<B>> {
        self.layer(layer).map(|kv| LayerKv {
            key: kv.key.narrow(2, start, end - start),
            value: kv.value.narrow(2, start, end - start),
        })
    }

    /// Replaces the slots from `start` on of a layer with `new`.
    ///
    /// # Errors
    /// A layer that isn't filled, a slice that reaches past the end, or tensors of other rows, heads or head width than the
    /// layer's.
    pub fn replace(&mut self, layer: usize, start: usize, new: LayerKv<B>) -> Result<(), LmError> {
        let total = self.len();
        let layers = self.layers.len();
        let Some(slots) = self.layers.get_mut(layer).filter(|slots| slots.is_some()) else {
            return Err(LmError::CacheMismatch { what: "filled layers", found: layers, expected: layer + 1 });
        };
        let [_, _, n, _] = new.key.dims();
        if start + n > total {
            return Err(LmError::CacheMismatch { what: "tokens", found: total, expected: start + n });
        }
        if let Some(old) = slots.as_ref() {
            let [rows, heads, _, width] = old.kv.key.dims();
            for (what, x) in [("keys", &new.key), ("values", &new.value)] {
                // Of any dtype: it is cast to the layer's.
                check_tensor(x, layer, what, [rows, heads, n, width], x.dtype())?;
            }
        }
        let Some(old) = slots.take() else { return Ok(()) };
        if old.capacity() > old.filled {
            // In place, unless someone else holds the tensor.
            let write = |old: Tensor<B, 4>, new: Tensor<B, 4>| {
                let [rows, heads, _, width] = old.dims();
                let new = crate::ops::to_dtype(new, old.dtype());
                old.slice_assign([0..rows, 0..heads, start..start + n, 0..width], new)
            };
            let kv = LayerKv { key: write(old.kv.key, new.key), value: write(old.kv.value, new.value) };
            *slots = Some(Slots { kv, filled: old.filled });
            return Ok(());
        }
        let old = old.kv;
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
        *slots = Some(Slots::exact(LayerKv { key: write(&old.key, new.key), value: write(&old.value, new.value) }));
        Ok(())
    }

    /// Maps every filled layer into another backend's cache (for example onto the autodiff device).
    pub fn map<B2: Backend>(&self, mut f: impl FnMut(Tensor<B, 4>) -> Tensor<B2, 4>) -> KvCache<B2> {
        KvCache {
            layers: self
                .layers
                .iter()
                .map(|l| l.as_ref().map(Slots::view))
                .map(|l| l.map(|kv| Slots::exact(LayerKv { key: f(kv.key), value: f(kv.value) })))
                .collect(),
            mask: self.mask.clone(),
        }
    }

    /// The rows of these numbers, in this order: fewer of them, or one several times.
    ///
    /// # Errors
    /// A row that isn't there.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self, LmError> {
        if let Some(row) = rows.iter().find(|row| **row >= self.rows()) {
            return Err(LmError::CacheMismatch { what: "rows", found: self.rows(), expected: row + 1 });
        }
        let of = |x: Tensor<B, 4>| {
            let wanted: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
            let wanted = Tensor::from_data(TensorData::new(wanted, [rows.len()]), &x.device());
            x.select(0, wanted)
        };
        Ok(Self { mask: rows.iter().map(|row| self.mask[*row].clone()).collect(), ..self.map(of) })
    }

    /// The cache without some of its slots. What is left keeps the positions that its keys were rotated by.
    ///
    /// # Errors
    /// Slots that aren't there.
    pub fn without_slots(&self, slots: Range<usize>) -> Result<Self, LmError> {
        let total = self.len();
        if slots.start > slots.end || slots.end > total {
            return Err(LmError::CacheMismatch { what: "tokens", found: total, expected: slots.end.max(slots.start) });
        }
        let of = |x: Tensor<B, 4>| {
            let parts = [(0, slots.start), (slots.end, total)].into_iter().filter(|(start, end)| start < end);
            let parts: Vec<_> = parts.map(|(start, end)| x.clone().narrow(2, start, end - start)).collect();
            if parts.is_empty() { x.narrow(2, 0, 0) } else { Tensor::cat(parts, 2) }
        };
        let left = |row: &Vec<bool>| [&row[..slots.start], &row[slots.end..]].concat();
        Ok(Self { mask: self.mask.iter().map(left).collect(), ..self.map(of) })
    }

    /// This cache with some layers taken from another one over the same slots.
    ///
    /// # Errors
    /// Another number of layers, rows or slots, or other padding.
    pub fn with_layers_of(self, other: &Self, layers: &[usize]) -> Result<Self, LmError> {
        let sizes = |cache: &Self| [("layers", cache.num_layers()), ("rows", cache.rows()), ("tokens", cache.len())];
        for ((what, expected), (_, found)) in sizes(&self).into_iter().zip(sizes(other)) {
            if found != expected {
                return Err(LmError::CacheMismatch { what, found, expected });
            }
        }
        let real = |cache: &Self| cache.mask.iter().flatten().filter(|real| **real).count();
        if self.mask != other.mask {
            return Err(LmError::CacheMismatch { what: "real tokens", found: real(other), expected: real(&self) });
        }
        if let Some(layer) = layers.iter().find(|layer| **layer >= self.num_layers()) {
            return Err(LmError::CacheMismatch { what: "layers", found: self.num_layers(), expected: layer + 1 });
        }
        let mut mixed = self;
        for layer in layers {
            mixed.layers[*layer] = other.layer(*layer).map(Slots::exact);
        }
        Ok(mixed)
    }

    /// Checks that the first `layers` layers hold every slot, in this many heads of this width and in this dtype.
    pub(crate) fn check_layers(&self, layers: usize, [heads, width]: [usize; 2], dtype: DType) -> Result<(), LmError> {
        for (index, slots) in self.layers.iter().enumerate().take(layers) {
            match slots {
                None if self.is_empty() => {}
                Some(slots) if slots.filled == self.len() => {
                    check(&slots.kv, index, [self.rows(), heads, slots.capacity(), width], dtype)?;
                }
                _ => {
                    return Err(LmError::CacheMismatch { what: "filled layers", found: index, expected: layers });
                }
            }
        }
        Ok(())
    }

    /// Empties the layers from this one on, which new tokens don't reach.
    pub(crate) fn forget_from(&mut self, layer: usize) {
        self.layers.iter_mut().skip(layer).for_each(|slots| *slots = None);
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
                let old = old.view();
                LayerKv { key: Tensor::cat(vec![old.key, key], 2), value: Tensor::cat(vec![old.value, value], 2) }
            }
        };
        self.layers[layer] = Some(Slots::exact(all.clone()));
        all
    }

    /// Appends new tokens to a layer in place, on the processor. The first fill is kept as it is; what comes behind it gets room for
    /// more, so that decoded tokens seldom move the cache.
    pub(crate) fn append_in_place(&mut self, layer: usize, key: &Tensor<B, 4>, value: &Tensor<B, 4>)
    where
        B: KernelBackend,
    {
        let [rows, heads, new, width] = key.dims();
        let Some(old) = self.layers[layer].take() else {
            self.layers[layer] = Some(Slots::exact(LayerKv { key: key.clone(), value: value.clone() }));
            return;
        };
        let (past, filled) = (old.filled, old.filled + new);
        let kv = if old.capacity() >= filled {
            old.kv
        } else {
            let shape = [rows, heads, filled + filled.div_ceil(4).clamp(ROOM, GROWTH), width];
            let old = old.view();
            let moved = |x: Tensor<B, 4>| B::cpu_write_slots(Tensor::zeros(shape, &x.device()), &x, 0);
            LayerKv { key: moved(old.key), value: moved(old.value) }
        };
        let kv =
            LayerKv { key: B::cpu_write_slots(kv.key, key, past), value: B::cpu_write_slots(kv.value, value, past) };
        self.layers[layer] = Some(Slots { kv, filled });
    }

    /// Makes room for `new` more slots in a layer and counts them as filled; the caller writes them.
    ///
    /// # Shapes
    /// `shape`: `[batch, kv_heads, slots filled afterwards, head_dim]`.
    pub(crate) fn reserve(&mut self, layer: usize, shape: [usize; 4], new: usize, dtype: DType, device: &B::Device) {
        let [rows, heads, filled, width] = shape;
        let grown = match self.layers[layer].take() {
            Some(old) if old.capacity() >= filled => Slots { kv: old.kv, filled },
            old => {
                let capacity = filled.next_multiple_of(GROWTH) + if old.is_some() { 0 } else { GROWTH };
                // Made flat: CUDA pads the rows of tensors of more axes, and the kernels want none of that.
                let fresh = || {
                    let flat = Tensor::<B, 1>::empty([rows * heads * capacity * width], (device, dtype));
                    flat.reshape([rows, heads, capacity, width])
                };
                let kv = match old {
                    None => LayerKv { key: fresh(), value: fresh() },
                    Some(old) => {
                        let old = old.view();
                        let past = filled - new;
                        let moved = |x| fresh().slice_assign([0..rows, 0..heads, 0..past, 0..width], x);
                        LayerKv { key: moved(old.key), value: moved(old.value) }
                    }
                };
                Slots { kv, filled }
            }
        };
        self.layers[layer] = Some(grown);
    }

    /// The tensors of a layer with whatever room lies behind the filled slots, `[batch, kv_heads, capacity, head_dim]`, if
    /// it was run. [`KvCache::layer`] has the filled slots alone.
    pub fn whole(&self, layer: usize) -> Option<&LayerKv<B>> {
        self.layers.get(layer).and_then(Option::as_ref).map(|slots| &slots.kv)
    }

    /// Gives a layer's tensors, room included, to `rewrite` and keeps what it returns, which has the same shapes. Nobody
    /// else holds them if no copy of the cache lives. A layer that wasn't run stays so.
    pub fn rewrite(&mut self, layer: usize, rewrite: impl FnOnce(LayerKv<B>) -> LayerKv<B>) {
        if let Some(slot) = self.layers.get_mut(layer) {
            *slot = slot.take().map(|Slots { kv, filled }| Slots { kv: rewrite(kv), filled });
        }
    }

    /// The whole tensors of a layer that was reserved, `[batch, kv_heads, capacity, head_dim]`.
    pub(crate) fn buffers(&self, layer: usize) -> &LayerKv<B> {
        match &self.layers[layer] {
            Some(slots) => &slots.kv,
            None => panic!("layer {layer} of the cache is written before it is reserved"),
        }
    }
}

/// Checks both tensors of a layer.
fn check<B: Backend>(kv: &LayerKv<B>, layer: usize, shape: [usize; 4], dtype: DType) -> Result<(), LmError> {
    check_tensor(&kv.key, layer, "keys", shape, dtype)?;
    check_tensor(&kv.value, layer, "values", shape, dtype)
}

fn check_tensor<B: Backend>(
    x: &Tensor<B, 4>,
    layer: usize,
    what: &'static str,
    shape: [usize; 4],
    dtype: DType,
) -> Result<(), LmError> {
    if x.dims() == shape && x.dtype() == dtype {
        return Ok(());
    }
    let told = |shape: [usize; 4], dtype: DType| format!("{shape:?} in {dtype:?}");
    Err(LmError::CacheTensor { layer, what, found: told(x.dims(), x.dtype()), expected: told(shape, dtype) })
}
