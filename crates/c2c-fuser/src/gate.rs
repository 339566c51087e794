//! The gate: noisy and soft in training, hard at inference.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor, activation};

use crate::GateNoise;

/// Keeps the logarithms finite.
const TINY: f64 = 1e-20;

/// Where the uniform draws of the noise come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateDraw {
    /// The device's generator, seeded by the caller.
    Random,
    /// The device's generator, seeded with this for each fused section while no other thread draws. Backends have one
    /// generator for all devices, so that otherwise the draws of one would depend on what the others do.
    Seeded(u64),
    /// One value for every draw: training without noise in tests and gradient checks. Of dropout only that of
    /// [`FuserConfig::dropout`](crate::FuserConfig::dropout) is left.
    Fixed(f64),
}

/// Held while seeded draws are made.
static DRAWING: Mutex<()> = Mutex::new(());

impl GateDraw {
    /// Seeds the generator if the draws are to be; they are this thread's until the guard is dropped.
    pub(crate) fn begin<B: Backend>(self, device: &B::Device) -> Option<MutexGuard<'static, ()>> {
        let Self::Seeded(seed) = self else { return None };
        let guard = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        B::seed(device, seed);
        Some(guard)
    }

    /// The seed of seeded draws.
    pub(crate) fn seed(self) -> Option<u64> {
        match self {
            Self::Seeded(seed) => Some(seed),
            Self::Random | Self::Fixed(_) => None,
        }
    }

    /// The draws of a fused section, counted from 0: those of a later one must not repeat the first one's.
    pub(crate) fn of_section(self, section: usize) -> Self {
        match self {
            Self::Seeded(seed) if section > 0 => {
                let mixed = (seed ^ section as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                Self::Seeded(mixed ^ (mixed >> 31))
            }
            draw => draw,
        }
    }

    fn uniform<B: Backend>(self, shape: [usize; 4], device: &B::Device) -> Tensor<B, 4> {
        match self {
            Self::Random | Self::Seeded(_) => Tensor::random(shape, Distribution::Uniform(0.0, 1.0), device),
            Self::Fixed(value) => Tensor::full(shape, value, device),
        }
    }
}

/// The temperature after `steps` optimiser steps: geometric from `initial` to `last` over `anneal_steps`, then constant.
pub fn anneal(initial: f64, last: f64, anneal_steps: usize, steps: usize) -> f64 {
    let share = (steps as f64 / anneal_steps.max(1) as f64).min(1.0);
    initial * (last / initial).powf(share)
}

/// `sigmoid((logit + noise) / temperature)`, one draw a token and head.
///
/// # Shapes
/// `logit`: `[branches, 1, 1, 1]`; `shape` and the result: `[branches, tokens, heads, 1]`.
pub(crate) fn soft_gate<B: Backend>(
    logit: Tensor<B, 4>,
    noise: GateNoise,
    draw: GateDraw,
    temperature: f64,
    shape: [usize; 4],
) -> Tensor<B, 4> {
    let device = logit.device();
    let gumbel = || draw.uniform::<B>(shape, &device).add_scalar(TINY).log().neg().add_scalar(TINY).log().neg();
    let noise = match noise {
        GateNoise::Gumbel => gumbel(),
        GateNoise::Logistic => gumbel() - gumbel(),
    };
    activation::sigmoid((noise + logit).div_scalar(temperature))
}

/// 1 where the logit is above 0, else 0.
pub(crate) fn hard_gate<B: Backend>(logit: Tensor<B, 4>) -> Tensor<B, 4> {
    logit.sign().clamp_min(0.0)
}
