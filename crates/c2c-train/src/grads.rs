//! Gradients of a whole module: their norm, scaling and global clipping.

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use c2c_lm::LmError;

/// Added to the norm before dividing, as the reference implementation's clipping does.
const CLIP_EPSILON: f64 = 1e-6;

struct Norm<'a, B: AutodiffBackend> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Norm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            let squares = (grad.clone() * grad).sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

/// The L2 norm over all gradients of a module.
///
/// # Errors
/// A tensor that can't be read back from the device.
pub fn global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    grads: &GradientsParams,
) -> Result<f64, LmError> {
    let mut norm = Norm::<B> { grads, sum: None };
    module.visit(&mut norm);
    match norm.sum {
        None => Ok(0.0),
        Some(sum) => {
            let data = sum.try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
            Ok(data.iter::<f64>().next().unwrap_or(0.0).sqrt())
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: f64,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) {
            self.grads.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}

/// Multiplies every gradient of a module.
pub fn scale<B: AutodiffBackend, M: AutodiffModule<B>>(module: &M, grads: &mut GradientsParams, factor: f64) {
    if factor != 1.0 {
        Module::<B>::visit(module, &mut Scale { grads, factor });
    }
}

/// The factor that brings a gradient of this norm to at most `max_norm`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + CLIP_EPSILON)).min(1.0)
}
