//! AdamW in one pass over a parameter where the device has a kernel for it; Burn's elsewhere.
//!
//! Burn's step is some fifteen operations, each of which reads and writes tensors of the parameter's size. State and results are the
//! same, so that checkpoints don't depend on which of the two wrote them.

use burn::optim::LearningRate;
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, SimpleOptimizer};
use burn::tensor::{DType, Tensor};
use c2c_kernels::{AdamWStep, KernelBackend};

/// AdamW without AMSGrad and without clipping of its own.
#[derive(Clone)]
pub struct OnePassAdamW {
    burn: AdamW,
    /// Rate and time are each step's own.
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
        Self { burn, step: AdamWStep { rate: 0.0, decay, beta_1, beta_2, epsilon, time: 0 } }
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
        if !B::has_kernels(&tensor.device()) || tensor.dtype() != DType::F32 || grad.dtype() != DType::F32 {
            return self.burn.step(rate, tensor, grad, state);
        }
        let time = 1 + state.as_ref().map_or(0, |state| state.momentum.time);
        let moments = state.map(|AdamWState { momentum }| [momentum.moment_1, momentum.moment_2]);
        let [tensor, moment_1, moment_2] = B::adamw(tensor, grad, moments, AdamWStep { rate, time, ..self.step });
        let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2: None };
        (tensor, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        <AdamW as SimpleOptimizer<B>>::to_device(state, device)
    }
}
