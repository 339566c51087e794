//! The identity of a model's weights as they are in memory.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sha2::{Digest, Sha256};

use crate::{Lm, LmError};

/// SHA-256 over the bytes of every parameter, in the order of the modules.
///
/// Taken before and after training it proves that a frozen model was frozen. It depends on the dtype the model was
/// loaded in, and not on the device.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint(pub String);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

struct Hasher {
    sha: Sha256,
    error: Option<LmError>,
}

impl<B: Backend> ModuleVisitor<B> for Hasher {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        match param.val().try_into_data() {
            Ok(data) => {
                for size in data.shape.iter() {
                    self.sha.update((*size as u64).to_le_bytes());
                }
                self.sha.update(data.as_bytes());
            }
            Err(e) => self.error = Some(LmError::Readback(format!("{e:?}"))),
        }
    }
}

impl Fingerprint {
    /// The fingerprint of any Burn module's float parameters.
    ///
    /// # Errors
    /// A tensor that can't be read back from the device.
    pub fn of<B: Backend>(module: &impl Module<B>) -> Result<Self, LmError> {
        let mut hasher = Hasher { sha: Sha256::new(), error: None };
        module.visit(&mut hasher);
        match hasher.error {
            Some(error) => Err(error),
            None => Ok(Self(hasher.sha.finalize().iter().map(|b| format!("{b:02x}")).collect())),
        }
    }
}

impl<B: Backend> Lm<B> {
    /// The fingerprint of this model's weights.
    ///
    /// # Errors
    /// A tensor that can't be read back from the device.
    pub fn fingerprint(&self) -> Result<Fingerprint, LmError> {
        Fingerprint::of::<B>(self)
    }
}
