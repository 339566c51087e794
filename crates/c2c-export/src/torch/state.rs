//! A state dict: names and tensors of a PyTorch file, each checked against its storage.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};

use super::TorchError;
use super::archive::{Archive, MAX_PICKLE_BYTES};
use super::pickle::state_dict;
use super::view::{StorageType, TensorView};

/// The tensors of a PyTorch file. Values stay on disk until they are asked for.
///
/// All tensors of one storage together have no more elements than it has: reading them all takes about the file's size.
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
        let mut left = BTreeMap::new();
        let mut views = BTreeMap::new();
        for (name, view) in state_dict(&pickle)? {
            let found = archive.storage_size(&view.storage);
            let count = check(&view, found).map_err(|reason| TorchError::Tensor { name: name.clone(), reason })?;
            let left: &mut u64 = left.entry(view.storage.clone()).or_insert(view.storage_len);
            match left.checked_sub(count) {
                Some(rest) => *left = rest,
                None => {
                    let reason = format!("shares elements of storage {} with other tensors", view.storage);
                    return Err(TorchError::Tensor { name, reason });
                }
            }
            views.insert(name, view);
        }
        if let Some(key) = archive.storages().find(|key| !left.contains_key(*key)) {
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
        let bytes = self.archive.read_storage(&view.storage)?;
        let values: Vec<f32> = match view.kind {
            StorageType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            StorageType::Bf16 => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            StorageType::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            StorageType::Other(kind) => {
                let reason = format!("is in a torch.{kind}, expected FloatStorage, BFloat16Storage or HalfStorage");
                return Err(TorchError::Tensor { name: name.to_owned(), reason });
            }
        };
        Ok(Some(gather(view, values)))
    }
}

/// Elements of a tensor, after checking that all of them lie in a storage of these bytes.
fn check(view: &TensorView, storage_bytes: Option<u64>) -> Result<u64, String> {
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
    let mut end = view.offset;
    for (size, stride) in shape.iter().zip(&view.strides).filter(|_| count > 0) {
        let step = (size - 1).checked_mul(*stride);
        let next = step.and_then(|step| end.checked_add(step));
        end = next.ok_or_else(|| format!("strides {:?} are beyond all memory", view.strides))?;
    }
    let inside = if count == 0 { end <= view.storage_len } else { end < view.storage_len };
    if !inside || count > view.storage_len {
        return Err(format!(
            "shape {shape:?}, strides {:?} and offset {} reach over the {} elements of storage {}",
            view.strides, view.offset, view.storage_len, view.storage
        ));
    }
    Ok(count)
}

/// The elements of a checked tensor, in row order.
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
        values.truncate((view.offset + count) as usize);
        return values.split_off(view.offset as usize);
    }
    let place = |mut index: u64| {
        let axes = view.shape.iter().zip(&view.strides).rev();
        axes.fold(view.offset, |place, (size, stride)| {
            let at = index % size;
            index /= size;
            place + at * stride
        })
    };
    (0..count).map(|index| values[place(index) as usize]).collect()
}
