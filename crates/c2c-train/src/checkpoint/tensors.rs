//! Tensors of a checkpoint as safetensors: written one at a time, so that a large fuser isn't held twice.
//!
//! The safetensors crate checks and spells the header; its own writers want all tensors in memory.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use c2c_fuser::{Fuser, FuserConfig};
use c2c_kernels::TrainBackend;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::folder::HashedFile;
use super::{CheckpointError, FORMAT, KeptTensor, OptimizerTimes};
use crate::optimizer::Moments;

/// Bytes of a header's length; headers are padded to it.
const LENGTH_BYTES: usize = 8;

/// Writes tensors in this order.
pub(super) fn write(file: &mut HashedFile, path: &Path, tensors: &[KeptTensor]) -> Result<(), CheckpointError> {
    let mut end = 0;
    let infos = tensors.iter().map(|KeptTensor { name, shape, .. }| {
        let (shape, start) = (shape.clone(), end);
        end += size_of::<f32>() * shape.iter().product::<usize>();
        (name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) })
    });
    let impossible = |reason: String| CheckpointError::Tensors { path: path.to_owned(), problems: vec![reason] };
    let about = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    let metadata = Metadata::new(Some(about), infos.collect()).map_err(|e| impossible(e.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| impossible(e.to_string()))?;
    header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');
    file.put(&(header.len() as u64).to_le_bytes())?;
    file.put(&header)?;
    for KeptTensor { name, read, .. } in tensors {
        let failed = |reason: String| CheckpointError::Readback { name: name.clone(), reason };
        let data = read().map_err(failed)?.convert::<f32>();
        if cfg!(target_endian = "little") {
            file.put(data.as_bytes())?;
        } else {
            let values = data.into_vec::<f32>().map_err(|e| failed(format!("{e:?}")))?;
            file.put(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
    }
    Ok(())
}

/// All tensors of a file, by name.
pub(super) fn read_all(path: &Path, bytes: &[u8]) -> Result<HashMap<String, TensorData>, CheckpointError> {
    let Taken { tensors, problems, .. } = Taken::open(path, bytes)?;
    if !problems.is_empty() {
        return Err(CheckpointError::Tensors { path: path.to_owned(), problems });
    }
    let all = tensors.into_iter().map(|(name, (shape, bytes))| {
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (name, TensorData::new(values, shape))
    });
    Ok(all.collect())
}

/// A file whose tensors are taken one by one, until none is left.
struct Taken<'a> {
    path: &'a Path,
    tensors: HashMap<String, (Vec<usize>, &'a [u8])>,
    problems: Vec<String>,
}

impl<'a> Taken<'a> {
    fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self, CheckpointError> {
        let parsed = SafeTensors::deserialize(bytes);
        let parsed = parsed.map_err(|e| CheckpointError::Tensors {
            path: path.to_owned(),
            problems: vec![format!("  header: {e}")],
        })?;
        let mut taken = Self { path, tensors: HashMap::new(), problems: Vec::new() };
        for (name, view) in parsed.tensors() {
            if view.dtype() == Dtype::F32 {
                taken.tensors.insert(name, (view.shape().to_vec(), view.data()));
            } else {
                taken.problems.push(format!("  {name}: found dtype {:?}, expected F32", view.dtype()));
            }
        }
        Ok(taken)
    }

    fn take(&mut self, name: &str, shape: [usize; 3]) -> Result<Vec<f32>, String> {
        match self.tensors.remove(name) {
            None => Err(format!("  {name}: missing, expected shape {shape:?}")),
            Some((found, _)) if found != shape => Err(format!("  {name}: found shape {found:?}, expected {shape:?}")),
            Some((_, bytes)) => Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        }
    }

    fn end(mut self, more: Vec<String>) -> Result<(), CheckpointError> {
        self.problems.extend(more);
        let mut unused: Vec<String> = self.tensors.keys().map(|name| format!("  {name}: no such tensor")).collect();
        unused.sort_unstable();
        self.problems.append(&mut unused);
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(CheckpointError::Tensors { path: self.path.to_owned(), problems: self.problems })
        }
    }
}

/// The fuser of a file.
pub(super) fn read_fuser<B: Backend>(
    path: &Path,
    bytes: &[u8],
    config: &FuserConfig,
    device: &B::Device,
) -> Result<Fuser<B>, CheckpointError> {
    let mut tensors = Taken::open(path, bytes)?;
    match Fuser::load(config, device, |name, shape| tensors.take(name, shape)) {
        Ok(fuser) => tensors.end(Vec::new()).map(|()| fuser),
        Err(c2c_fuser::FuserError::Weights(problems)) => {
            tensors.end(problems)?;
            // `end` has failed if there was a problem, and there was one.
            Err(CheckpointError::Tensors { path: path.to_owned(), problems: Vec::new() })
        }
        Err(other) => Err(CheckpointError::Tensors { path: path.to_owned(), problems: vec![format!("  {other}")] }),
    }
}

/// The moments of a file, for the parameters of this fuser; on the plain device beneath it.
pub(super) fn read_moments<B: TrainBackend>(
    path: &Path,
    bytes: &[u8],
    times: &OptimizerTimes,
    fuser: &Fuser<B>,
) -> Result<Vec<Moments<B::InnerBackend>>, CheckpointError> {
    let mut tensors = Taken::open(path, bytes)?;
    let (mut moments, mut problems) = (Vec::new(), Vec::new());
    let mut known = 0;
    for (name, param) in fuser.named_params() {
        let Some(time) = times.get(&name) else { continue };
        known += 1;
        let value = param.val().inner();
        let (shape, device) = (value.dims(), value.device());
        let mut read = |which: &str| match tensors.take(&format!("{name}.{which}"), shape) {
            Ok(values) => Some(Tensor::from_data(TensorData::new(values, shape), &device)),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if let (Some(first), Some(second)) = (read("moment_1"), read("moment_2")) {
            moments.push(Moments { name, time: *time, first, second });
        }
    }
    if known != times.len() {
        problems.push(format!("  state.json has times of {} parameters, the fuser has {known} of them", times.len()));
    }
    tensors.end(problems)?;
    Ok(moments)
}
