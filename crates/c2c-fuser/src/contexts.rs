//! What both frozen models know of a batch before anything is fused, on a device and on the host.
//!
//! Neither depends on the Fuser, so the caches can be computed once and read by many runs. Of them only some slots are
//! ever looked at: the Receiver's own tokens up to the end of the first fused section, and the Sharer's slots where the
//! Receiver has a token in a fused section. All others are masked, weigh exactly 0, and are 0 when read from a record.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_lm::{KvCache, LayerKv, Lm, LmError};

use crate::c2c::{context, fill_sharer};
use crate::{FuserConfig, FuserError, PairBatch};

/// The caches of a batch: the Receiver's over the sections before the first fusion, the Sharer's over all it reads.
#[derive(Clone, Debug)]
pub struct Contexts<B: Backend> {
    pub(crate) receiver: KvCache<B>,
    /// Sections in the Receiver's cache.
    pub(crate) done: usize,
    pub(crate) sharer: KvCache<B>,
}

/// The slots of one prompt's caches that are looked at, whatever batch it is in.
///
/// `bytes` holds, little-endian, for each Receiver layer its keys and then its values, `[heads, receiver, head_dim]`, and
/// for each Sharer layer that is read, from the lowest on, the same as `[heads, sharer, head_dim]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRecord {
    /// Slots of the Receiver's cache.
    pub receiver: usize,
    /// Slots of the Sharer's cache.
    pub sharer: usize,
    /// The values.
    pub bytes: Vec<u8>,
}

/// The shape of records: the same for all of a pair and a layer map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordShape {
    receiver: Side,
    sharer: Side,
    /// The Sharer's layers that are read, ascending.
    layers: Vec<usize>,
    dtype: DType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    layers: usize,
    heads: usize,
    head_dim: usize,
}

/// The caches of a batch on the host, in the batch's layout.
#[derive(Clone, Debug)]
pub struct HostContexts {
    shape: RecordShape,
    rows: usize,
    done: usize,
    receiver: HostCache,
    sharer: HostCache,
}

/// Keys and values of some layers, each `[rows, heads, slots, head_dim]`, and the mask of the slots.
#[derive(Clone, Debug)]
struct HostCache {
    slots: usize,
    tensors: Vec<Vec<u8>>,
    mask: Vec<Vec<bool>>,
}

impl RecordShape {
    /// Records of these caches in f32 or bf16.
    pub fn new(config: &FuserConfig, dtype: DType) -> Self {
        let mut layers = config.layer_map.clone();
        layers.sort_unstable();
        layers.dedup();
        let (heads, head_dim) = (config.receiver_heads, config.receiver_head_dim);
        let receiver = Side { layers: config.layers(), heads, head_dim };
        let (heads, head_dim) = (config.sharer_heads, config.sharer_head_dim);
        Self { receiver, sharer: Side { layers: layers.len(), heads, head_dim }, layers, dtype }
    }

    /// The Sharer's layers in a record.
    pub fn sharer_layers(&self) -> &[usize] {
        &self.layers
    }

    /// Bytes of a record of so many slots.
    pub fn bytes(&self, receiver: usize, sharer: usize) -> usize {
        let values = |side: Side, slots: usize| 2 * side.layers * side.heads * slots * side.head_dim;
        self.dtype.size() * (values(self.receiver, receiver) + values(self.sharer, sharer))
    }
}

impl<B: KernelBackend> Contexts<B> {
    /// Runs both models as far as they are frozen; the Sharer's first `depth` layers.
    ///
    /// # Errors
    /// What the models refuse.
    pub fn compute(receiver: &Lm<B>, sharer: &Lm<B>, depth: usize, batch: &PairBatch) -> Result<Self, FuserError> {
        let mut cache = sharer.new_cache(batch.rows());
        fill_sharer(sharer, depth, batch, &mut cache)?;
        let start = context(receiver, batch)?;
        Ok(Self { receiver: start.cache, done: start.done, sharer: cache })
    }

    /// One record a row. A row's is shorter than in a batch of its own if the batch is fused before the row is.
    ///
    /// # Errors
    /// A tensor that can't be read back from the device.
    pub fn records(&self, batch: &PairBatch, shape: &RecordShape) -> Result<Vec<ContextRecord>, FuserError> {
        let slots: Vec<[Vec<usize>; 2]> = (0..batch.rows()).map(|row| looked_at(batch, self.done, row)).collect();
        let mut out: Vec<ContextRecord> = slots
            .iter()
            .map(|[receiver, sharer]| {
                let bytes = Vec::with_capacity(shape.bytes(receiver.len(), sharer.len()));
                ContextRecord { receiver: receiver.len(), sharer: sharer.len(), bytes }
            })
            .collect();
        let receiver = (0..shape.receiver.layers).map(|layer| (&self.receiver, layer, shape.receiver, 0));
        let sharer = shape.layers.iter().map(|layer| (&self.sharer, *layer, shape.sharer, 1));
        for (cache, layer, side, which) in receiver.chain(sharer) {
            // Nothing is in the cache of a prompt without a fused section.
            let Some(LayerKv { key, value }) = cache.layer(layer) else { continue };
            for tensor in [key, value] {
                let total = tensor.dims()[2];
                let data = tensor.try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
                let data = data.convert_dtype(shape.dtype);
                let (bytes, width) = (data.as_bytes(), side.head_dim * shape.dtype.size());
                for (row, (record, slots)) in out.iter_mut().zip(&slots).enumerate() {
                    for head in 0..side.heads {
                        let base = (row * side.heads + head) * total;
                        for slot in &slots[which] {
                            let at = (base + slot) * width;
                            record.bytes.extend_from_slice(&bytes[at..at + width]);
                        }
                    }
                }
            }
        }
        Ok(out)
    }
}

impl HostContexts {
    /// Puts the records of a batch's rows where the batch has their slots.
    ///
    /// # Errors
    /// A record that isn't of this row or shape.
    pub fn assemble(batch: &PairBatch, shape: &RecordShape, records: &[ContextRecord]) -> Result<Self, FuserError> {
        let sections = batch.sections();
        let done = before_fusion(batch);
        let read = sections.iter().rposition(|s| s.fuse).map_or(0, |last| last + 1);
        let mask = |range: Range<usize>, of: fn(&crate::BatchSection) -> &c2c_lm::TokenBatch| -> Vec<Vec<bool>> {
            let row = |row: usize| sections[range.clone()].iter().flat_map(|s| of(s).mask()[row].clone()).collect();
            (0..batch.rows()).map(row).collect()
        };
        let empty = |side: Side, mask: Vec<Vec<bool>>| {
            let slots = mask.first().map_or(0, Vec::len);
            let bytes = batch.rows() * side.heads * slots * side.head_dim * shape.dtype.size();
            HostCache { slots, tensors: vec![vec![0; bytes]; 2 * side.layers], mask }
        };
        let mut receiver = empty(shape.receiver, mask(0..done, |s| &s.receiver));
        let mut sharer = empty(shape.sharer, mask(0..read, |s| &s.sharer));
        if records.len() != batch.rows() {
            let (expected, found) = (batch.rows().to_string(), records.len().to_string());
            return Err(FuserError::Shape { what: "context records", expected, found });
        }
        for (row, record) in records.iter().enumerate() {
            let [own, other] = looked_at(batch, done, row);
            let fits = record.receiver >= own.len() && record.sharer == other.len();
            if !fits || record.bytes.len() != shape.bytes(record.receiver, record.sharer) {
                let expected =
                    format!("{} and {} slots, {} bytes", own.len(), other.len(), shape.bytes(own.len(), other.len()));
                let found = format!("{} and {} slots, {} bytes", record.receiver, record.sharer, record.bytes.len());
                return Err(FuserError::Shape { what: "a context record of", expected, found });
            }
            let mut from = record.bytes.as_slice();
            for (cache, side, slots, held) in [
                (&mut receiver, shape.receiver, own, record.receiver),
                (&mut sharer, shape.sharer, other, record.sharer),
            ] {
                let width = side.head_dim * shape.dtype.size();
                let total = cache.slots;
                for tensor in &mut cache.tensors {
                    for head in 0..side.heads {
                        let (head_bytes, rest) = from.split_at(held * width);
                        from = rest;
                        let base = (row * side.heads + head) * total;
                        for (slot, value) in slots.iter().zip(head_bytes.chunks_exact(width)) {
                            let at = (base + slot) * width;
                            tensor[at..at + width].copy_from_slice(value);
                        }
                    }
                }
            }
        }
        Ok(Self { shape: shape.clone(), rows: batch.rows(), done, receiver, sharer })
    }

    /// Those of some of the rows.
    pub fn part(&self, rows: Range<usize>) -> Self {
        let cache = |cache: &HostCache| {
            let part = |bytes: &Vec<u8>| {
                let row = bytes.len() / self.rows.max(1);
                bytes[rows.start * row..rows.end * row].to_vec()
            };
            let tensors = cache.tensors.iter().map(part).collect();
            HostCache { slots: cache.slots, tensors, mask: cache.mask[rows.clone()].to_vec() }
        };
        let (receiver, sharer) = (cache(&self.receiver), cache(&self.sharer));
        Self { shape: self.shape.clone(), rows: rows.len(), done: self.done, receiver, sharer }
    }

    /// The caches on the models' device, in the models' dtypes.
    ///
    /// # Errors
    /// None that assembled contexts have.
    pub fn load<B: Backend>(&self, receiver: &Lm<B>, sharer: &Lm<B>) -> Result<Contexts<B>, FuserError> {
        let own = self.layers(&self.receiver, self.shape.receiver, receiver);
        let own = match self.receiver.slots {
            0 => receiver.new_cache(self.rows),
            _ => KvCache::from_layers(own, self.receiver.mask.clone())?,
        };
        let read = self.layers(&self.sharer, self.shape.sharer, sharer);
        let other = match self.sharer.slots {
            0 => sharer.new_cache(self.rows),
            _ => {
                // A layer below that nobody reads holds the next one that is read: a handle, no memory.
                let depth = self.shape.layers.last().map_or(0, |last| last + 1);
                let of = |layer: usize| self.shape.layers.partition_point(|read| *read < layer);
                KvCache::from_layers(
                    (0..depth).map(|layer| read[of(layer)].clone()).collect(),
                    self.sharer.mask.clone(),
                )?
            }
        };
        Ok(Contexts { receiver: own, done: self.done, sharer: other })
    }

    fn layers<B: Backend>(&self, cache: &HostCache, side: Side, model: &Lm<B>) -> Vec<LayerKv<B>> {
        let shape = [self.rows, side.heads, cache.slots, side.head_dim];
        let (device, dtype) = (model.device(), model.dtype());
        let tensor = |bytes: &Vec<u8>| {
            let count = shape.iter().product::<usize>();
            let data = TensorData::from_bytes_vec(bytes.clone(), [count], self.shape.dtype);
            // Made flat: CUDA pads the rows of tensors of more axes, and the kernels want none of that.
            Tensor::<B, 1>::from_data(data, (&device, dtype)).reshape(shape)
        };
        if cache.slots == 0 {
            return Vec::new();
        }
        cache.tensors.chunks_exact(2).map(|kv| LayerKv { key: tensor(&kv[0]), value: tensor(&kv[1]) }).collect()
    }
}

/// Sections of the Receiver's cache before the first fusion; all but the last if there is none.
pub(crate) fn before_fusion(batch: &PairBatch) -> usize {
    let sections = batch.sections();
    sections.iter().position(|s| s.fuse).map_or(sections.len() - 1, |index| index + 1)
}

/// The slots of a row that are looked at, in the Receiver's and in the Sharer's cache, ascending.
fn looked_at(batch: &PairBatch, done: usize, row: usize) -> [Vec<usize>; 2] {
    let (mut receiver, mut sharer, mut offset) = (Vec::new(), Vec::new(), 0);
    for (index, section) in batch.sections().iter().enumerate() {
        let mask = &section.receiver.mask()[row];
        let real = mask.iter().enumerate().filter(|(_, real)| **real).map(|(slot, _)| offset + slot);
        if index < done {
            receiver.extend(real.clone());
        }
        if section.fuse {
            sharer.extend(real);
        }
        offset += section.receiver.tokens();
    }
    [receiver, sharer]
}
