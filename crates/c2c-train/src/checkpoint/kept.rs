//! What a checkpoint keeps of whatever is trained: tensors by name, read from the device one at a time.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use c2c_fuser::Fuser;
use c2c_kernels::TrainBackend;

use super::{FUSER_FILE, OptimizerTimes, WEIGHTS_FILE};
use crate::FuserOptimizer;

/// Reads a tensor back from its device, or says why it can't.
type Read = Box<dyn Fn() -> Result<TensorData, String>>;

/// A tensor of a checkpoint. It stays on its device until it is written.
pub struct KeptTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) read: Read,
}

impl<B: Backend, const D: usize> From<(&String, &Tensor<B, D>)> for KeptTensor {
    fn from((name, tensor): (&String, &Tensor<B, D>)) -> Self {
        let (shape, tensor) = (tensor.dims().to_vec(), tensor.clone());
        let read = move || tensor.clone().try_into_data().map_err(|e| format!("{e:?}"));
        Self { name: name.clone(), shape, read: Box::new(read) }
    }
}

/// The tensors of a checkpoint.
pub struct Kept {
    /// The file of the weights.
    pub(super) file: &'static str,
    pub(crate) weights: Vec<KeptTensor>,
    /// AdamW's moments: `<parameter>.moment_1` and `.moment_2`.
    pub(crate) moments: Vec<KeptTensor>,
    /// AdamW's step counts.
    pub(crate) times: OptimizerTimes,
}

impl Default for Kept {
    /// Nothing yet, of what is no fuser.
    fn default() -> Self {
        Self { file: WEIGHTS_FILE, weights: Vec::new(), moments: Vec::new(), times: OptimizerTimes::new() }
    }
}

impl Kept {
    /// A fuser under the names of the artefact, and its optimiser.
    pub fn of_fuser<B: TrainBackend>(fuser: &Fuser<B>, optimizer: &FuserOptimizer<B>) -> Self {
        let mut kept = Self { file: FUSER_FILE, ..Self::default() };
        kept.weights.extend(fuser.named_params().into_iter().map(|(name, param)| (&name, &param.val()).into()));
        for m in optimizer.moments(fuser) {
            kept.moments.push((&format!("{}.moment_1", m.name), &m.first).into());
            kept.moments.push((&format!("{}.moment_2", m.name), &m.second).into());
            kept.times.insert(m.name, m.time);
        }
        kept
    }
}
