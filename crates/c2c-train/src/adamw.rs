//! AdamW in one pass over a parameter where the device has a kernel for it; Burn's elsewhere.
//!
//! Burn's step is some fifteen operations, each of which reads and writes tensors of the parameter's size. State and results are the
//! same, so that checkpoints don't depend on which of the two wrote them.
//!
//! The mean over micro-batches and clipping multiply every gradient by one factor. Burn's `Optimizer` has no place for it, so a
//! step finds it in a [`GradientFactor`], and needs no pass for it either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::optim::LearningRate;
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, SimpleOptimizer};
use burn::tensor::{DType, Tensor};
use c2c_kernels::{AdamWStep, KernelBackend};
use c2c_lm::to_dtype;

/// What gradients are multiplied with in the step that is being taken; clones share it. The bits of an f64.
#[derive(Clone, Debug)]
pub(crate) struct GradientFactor(Arc<AtomicU64>);

impl GradientFactor {
    fn none() -> Self {
        Self(Arc::new(AtomicU64::new(1.0_f64.to_bits())))
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Takes a step of the optimiser with this factor.
    pub(crate) fn during<T>(&self, factor: f64, step: impl FnOnce() -> T) -> T {
        self.0.store(factor.to_bits(), Ordering::Relaxed);
        let stepped = step();
        self.0.store(1.0_f64.to_bits(), Ordering::Relaxed);
        stepped
    }
}

/// AdamW without AMSGrad and without clipping of its own.
#[derive(Clone)]
pub struct OnePassAdamW {
    burn: AdamW,
    factor: GradientFactor,
    /// Factor, rate and time are each step's own.
    step: AdamWStep,
}

impl OnePassAdamW {
    /// Decay is decoupled and multiplied by the rate.
    pub fn new(beta_1: f64, beta_2: f64, epsilon: f64, decay: f64) -> Self {
        let (beta_1, beta_2, epsilon) = (beta_1 as f32, beta_2 as f32, epsilon as f32);
        let burn = AdamWConfig::new()
            .with_beta_1(beta_1)
            .with_beta_2(beta_2)
            .with_epsilon(epsilon)
            .with_weight_decay(decay as f32)
            .build();
        let step = AdamWStep { factor: 1.0, rate: 0.0, decay, beta_1, beta_2, epsilon, time: 0 };
        Self { burn, factor: GradientFactor::none(), step }
    }

    /// The factor of its gradients.
    pub(crate) fn factor(&self) -> GradientFactor {
        self.factor.clone()
    }
}

impl<B: KernelBackend> SimpleOptimizer<B> for OnePassAdamW {
    type State<const D: usize> = AdamWState<B, D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<B, D>,
        grad: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let factor = self.factor.get();
        if !B::has_kernels(&tensor.device()) || tensor.dtype() != DType::F32 {
            let grad = to_dtype(grad, tensor.dtype());
            let grad = if factor == 1.0 { grad } else { grad.mul_scalar(factor) };
            return self.burn.step(rate, tensor, grad, state);
        }
        let time = 1 + state.as_ref().map_or(0, |state| state.momentum.time);
        let moments = state.map(|AdamWState { momentum }| [momentum.moment_1, momentum.moment_2]);
        let step = AdamWStep { factor, rate, time, ..self.step };
        let [tensor, moment_1, moment_2] = B::adamw(tensor, grad, moments, step);
        let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2: None };
        (tensor, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        <AdamW as SimpleOptimizer<B>>::to_device(state, device)
    }
}
