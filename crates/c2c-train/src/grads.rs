//! Gradients of a whole module: their norm, scaling, dtype and global clipping.
//!
//! A gradient is not always of its parameter's dtype: that of a parameter which a GPU multiplies in bf16 is left in bf16
//! ([`c2c_kernels::KernelBackend::parameter_as`]). Norm and optimiser read it as it is; where several are added up they are cast
//! first, by [`in_own_dtype`].

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use c2c_kernels::{KernelBackend, TrainBackend};
use c2c_lm::{LmError, to_dtype, to_f32};

/// Added to the norm before dividing, as the reference implementation's clipping does.
const CLIP_EPSILON: f64 = 1e-6;

struct Norm<'a, B: AutodiffBackend> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
    /// Gradients that a kernel reads all at once, flat.
    flat: Vec<Tensor<B::InnerBackend, 1>>,
}

impl<B: TrainBackend> ModuleVisitor<B> for Norm<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) else { return };
        if B::InnerBackend::has_kernels(&grad.device()) {
            let count = grad.shape().num_elements();
            return self.flat.push(grad.reshape([count]));
        }
        let grad = to_f32(grad);
        let squares = (grad.clone() * grad).sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + squares,
            None => squares,
        });
    }
}

/// The L2 norm over all gradients of a module, which are on one device.
///
/// # Errors
/// A tensor that can't be read back from the device.
pub fn global_norm<B: TrainBackend, M: AutodiffModule<B>>(module: &M, grads: &GradientsParams) -> Result<f64, LmError> {
    let mut norm = Norm::<B> { grads, sum: None, flat: Vec::new() };
    module.visit(&mut norm);
    let Norm { sum, flat, .. } = norm;
    let sum = if flat.is_empty() { sum } else { Some(B::InnerBackend::sum_of_squares(flat)) };
    match sum {
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

/// Multiplies every gradient of a module. An optimiser that takes a factor ([`crate::FuserOptimizer::scale_gradients`]) needs no
/// such pass.
pub fn scale<B: AutodiffBackend, M: AutodiffModule<B>>(module: &M, grads: &mut GradientsParams, factor: f64) {
    if factor != 1.0 {
        Module::<B>::visit(module, &mut Scale { grads, factor });
    }
}

struct OwnDtype<'a>(&'a mut GradientsParams);

impl<B: AutodiffBackend> ModuleVisitor<B> for OwnDtype<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.0.remove::<B::InnerBackend, D>(param.id) {
            self.0.register(param.id, to_dtype(grad, param.val().dtype()));
        }
    }
}

/// Casts every gradient to the dtype of its parameter, for it to be added to others: a sum in bf16 would be rounded anew with each
/// term, and lose what is small beside it. A gradient that is the only one of its step needs none of this: in bf16 it is what
/// the product gave (times its norm's weight, for the one parameter of a block that is multiplied by one).
pub fn in_own_dtype<B: AutodiffBackend, M: AutodiffModule<B>>(module: &M, grads: &mut GradientsParams) {
    Module::<B>::visit(module, &mut OwnDtype(grads));
}

/// The factor that brings a gradient of this norm to at most `max_norm`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + CLIP_EPSILON)).min(1.0)
}
