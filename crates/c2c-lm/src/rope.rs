//! Rotary position embeddings: tables made once a model, rows picked by position.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::RopeScaling;
use crate::ops::to_dtype;

/// Cosines and sines of every position, `[max_position, head_dim]`, the two halves equal.
#[derive(Module, Debug)]
pub(crate) struct RopeTable<B: Backend> {
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
}

/// The inverse frequencies, `head_dim / 2` of them.
pub(crate) fn inverse_frequencies(head_dim: usize, theta: f64, scaling: Option<RopeScaling>) -> Vec<f32> {
    let base = (0..head_dim / 2).map(|i| 1.0 / theta.powf(2.0 * i as f64 / head_dim as f64));
    match scaling {
        None => base.map(|f| f as f32).collect(),
        Some(RopeScaling::Linear { factor }) => base.map(|f| (f / factor) as f32).collect(),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position }) => base
            .map(|f| {
                let wavelength = 2.0 * std::f64::consts::PI / f;
                let long = original_max_position / low_freq_factor;
                let short = original_max_position / high_freq_factor;
                let scaled = if wavelength > long {
                    f / factor
                } else if wavelength < short {
                    f
                } else {
                    let ramp = (original_max_position / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - ramp) * f / factor + ramp * f
                };
                scaled as f32
            })
            .collect(),
    }
}

impl<B: Backend> RopeTable<B> {
    pub(crate) fn new(frequencies: &[f32], max_position: usize, device: &B::Device) -> Self {
        let half = frequencies.len();
        let mut cos = Vec::with_capacity(max_position * half * 2);
        let mut sin = Vec::with_capacity(max_position * half * 2);
        for position in 0..max_position {
            for _ in 0..2 {
                for f in frequencies {
                    let angle = position as f32 * f;
                    cos.push(angle.cos());
                    sin.push(angle.sin());
                }
            }
        }
        let shape = [max_position, half * 2];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        }
    }

    /// The rows of the given positions, shaped to broadcast over heads.
    ///
    /// # Shapes
    /// `positions`: `[batch * tokens]`; returns two `[batch, 1, tokens, head_dim]`.
    pub(crate) fn rows(&self, positions: Tensor<B, 1, Int>, batch: usize, tokens: usize) -> RopeRows<B> {
        let [_, width] = self.cos.dims();
        let pick = |table: &Tensor<B, 2>| {
            table.clone().select(0, positions.clone()).reshape([batch, 1, tokens, width])
        };
        RopeRows { cos: pick(&self.cos), sin: pick(&self.sin) }
    }
}

/// The rotation of one forward pass.
#[derive(Clone, Debug)]
pub(crate) struct RopeRows<B: Backend> {
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
}

impl<B: Backend> RopeRows<B> {
    /// Rotates queries or keys, `[batch, heads, tokens, head_dim]`, in their own dtype.
    pub(crate) fn rotate(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, _, _, width] = x.dims();
        let half = width / 2;
        let dtype = x.dtype();
        let (cos, sin) = (to_dtype(self.cos.clone(), dtype), to_dtype(self.sin.clone(), dtype));
        let first = x.clone().narrow(3, 0, half);
        let second = x.clone().narrow(3, half, half);
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        x * cos + turned * sin
    }
}
