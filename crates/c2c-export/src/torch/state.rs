//! A state dict: names and tensors of a PyTorch file, each checked against its storage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};

use super::TorchError;
use super::archive::{Archive, MAX_PICKLE_BYTES};
use super::pickle::state_dict;
use super::view::{StorageType, TensorView};
use crate::files::shown;

/// The tensors of a PyTorch file. Values stay on disk until they are asked for.
///
/// The elements of a storage that one tensor reaches over belong to no other one, so that reading all tensors takes about
/// the file's size.
#[derive(Debug)]
pub struct StateDict {
    archive: Archive,
    views: BTreeMap<String, TensorView>,
}

impl StateDict {
    /// Opens a file and checks everything but the values.
    ///
    /// # Errors
    /// A container or a pickle that is refused; a tensor that doesn't lie inside its storage; a storage without tensor.
    pub fn open(path: &Path) -> Result<Self, TorchError> {
        let mut archive = Archive::open(path)?;
        let pickle = archive.read("data.pkl", MAX_PICKLE_BYTES)?;
        // Of each storage the ranges that tensors reach over.
        let mut ranges: BTreeMap<String, Vec<(Range<u64>, String)>> = BTreeMap::new();
        let mut views = BTreeMap::new();
        for (name, view) in state_dict(&pickle)? {
            let found = archive.storage_size(&view.storage);
            let range = check(&view, found).map_err(|reason| TorchError::Tensor { name: shown(&name), reason })?;
            ranges.entry(view.storage.clone()).or_default().push((range, name.clone()));
            views.insert(name, view);
        }
        for (storage, ranges) in &mut ranges {
            ranges.retain(|(range, _)| !range.is_empty());
            ranges.sort_by_key(|(range, _)| range.start);
            let shared = ranges.windows(2).find(|pair| pair[0].0.end > pair[1].0.start);
            if let Some([(_, first), (_, name)]) = shared {
                let reason = format!("shares elements of storage {storage} with the tensor `{}`", shown(first));
                return Err(TorchError::Tensor { name: shown(name), reason });
            }
        }
        if let Some(key) = archive.storages().find(|key| !ranges.contains_key(*key)) {
            return Err(TorchError::NotAStateDict(format!("storage {key} belongs to no tensor")));
        }
        Ok(Self { archive, views })
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.views.keys().map(String::as_str)
    }

    /// What the file says about a tensor.
    pub fn view(&self, name: &str) -> Option<&TensorView> {
        self.views.get(name)
    }

    /// The values of a tensor in row order, exactly, in f32. `None` if there is no tensor of that name.
    ///
    /// # Errors
    /// A storage that can't be read, is damaged, or has another number format than f32, bf16 and f16.
    pub fn read(&mut self, name: &str) -> Result<Option<Vec<f32>>, TorchError> {
        let Some(view) = self.views.get(name) else { return Ok(None) };
        let range = reach(view).unwrap_or(0..0);
        let size = view.kind.size().unwrap_or(1) as u64;
        let bytes = self.archive.read_storage(&view.storage, range.start * size, (range.end - range.start) * size)?;
        let values: Vec<f32> = match view.kind {
            StorageType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            StorageType::Bf16 => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            StorageType::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            StorageType::Other(kind) => {
                let reason = format!("is in a torch.{kind}, expected FloatStorage, BFloat16Storage or HalfStorage");
                return Err(TorchError::Tensor { name: shown(name), reason });
            }
        };
        Ok(Some(gather(view, values)))
    }
}

/// The elements of its storage that a tensor reaches over; `None` if that is beyond all numbers.
fn reach(view: &TensorView) -> Option<Range<u64>> {
    if view.shape.contains(&0) {
        return Some(view.offset..view.offset);
    }
    let last = view
        .shape
        .iter()
        .zip(&view.strides)
        .try_fold(view.offset, |last, (size, stride)| last.checked_add((size - 1).checked_mul(*stride)?));
    Some(view.offset..last?.checked_add(1)?)
}

/// What a tensor reaches over, after checking that it lies in a storage of these bytes and has no more elements.
fn check(view: &TensorView, storage_bytes: Option<u64>) -> Result<Range<u64>, String> {
    let Some(found) = storage_bytes else { return Err(format!("storage {} is not in the file", view.storage)) };
    if let Some(size) = view.kind.size()
        && view.storage_len.checked_mul(size as u64) != Some(found)
    {
        let expected = view.storage_len;
        return Err(format!("storage {} has {found} bytes, expected {expected} elements of {size}", view.storage));
    }
    let shape = &view.shape;
    let count = shape.iter().try_fold(1u64, |n, size| n.checked_mul(*size));
    let count = count.ok_or_else(|| format!("shape {shape:?} is beyond all memory"))?;
    let range = reach(view).ok_or_else(|| format!("strides {:?} are beyond all memory", view.strides))?;
    // With a stride of 0 a tensor would have more elements than it reaches over.
    if range.end > view.storage_len || count > range.end - range.start {
        return Err(format!(
            "shape {shape:?}, strides {:?} and offset {} reach over the {} elements of storage {}",
            view.strides, view.offset, view.storage_len, view.storage
        ));
    }
    Ok(range)
}

/// The elements of a checked tensor, in row order, from those that it reaches over.
fn gather(view: &TensorView, mut values: Vec<f32>) -> Vec<f32> {
    let count: u64 = view.shape.iter().product();
    if count == 0 {
        return Vec::new();
    }
    let mut dense = 1;
    let mut contiguous = true;
    for (size, stride) in view.shape.iter().zip(&view.strides).rev() {
        contiguous &= *size == 1 || *stride == dense;
        dense *= size;
    }
    if contiguous {
        values.truncate(count as usize);
        return values;
    }
    let place = |mut index: u64| {
        let axes = view.shape.iter().zip(&view.strides).rev();
        axes.fold(0, |place, (size, stride)| {
            let at = index % size;
            index /= size;
            place + at * stride
        })
    };
    (0..count).map(|index| values[place(index) as usize]).collect()
}
