//! Rotary position embeddings: tables made once a model, rows picked by position.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use c2c_kernels::KernelBackend;

use crate::RopeScaling;
use crate::ops::to_dtype;

/// Cosines and sines of every position, `[max_position, head_dim]`, the two halves equal.
#[derive(Module, Debug)]
pub(crate) struct RopeTable<B: Backend> {
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    /// `x @ turn` is `[-second half, first half]` of `x`.
    turn: Tensor<B, 2>,
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
                    let ramp =
                        (original_max_position / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - ramp) * f / factor + ramp * f
                };
                scaled as f32
            })
            .collect(),
    }
}

/// The matrix that turns the two halves of a head by a quarter.
fn quarter_turn(half: usize) -> Vec<f32> {
    let width = 2 * half;
    let mut turn = vec![0.0; width * width];
    for i in 0..half {
        turn[(half + i) * width + i] = -1.0;
        turn[i * width + half + i] = 1.0;
    }
    turn
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
            turn: Tensor::from_data(TensorData::new(quarter_turn(half), [half * 2, half * 2]), device),
        }
    }

    /// Cosines and sines, each `[max_position, head_dim]`, f32.
    pub(crate) fn tables(&self) -> (&Tensor<B, 2>, &Tensor<B, 2>) {
        (&self.cos, &self.sin)
    }

    /// The rotation of one forward pass, laid out for query heads followed by key heads.
    ///
    /// `scale` is folded into the query heads, which saves a pass over the scores.
    ///
    /// # Shapes
    /// `positions`: `[rows]`, rows being batch times tokens.
    pub(crate) fn rows(&self, positions: Tensor<B, 1, Int>, heads: usize, kv_heads: usize, scale: f64) -> RopeRows<B> {
        let [_, head_dim] = self.cos.dims();
        let rows = positions.dims()[0];
        let spread = |table: &Tensor<B, 2>| {
            let one = table.clone().select(0, positions.clone()).reshape([rows, 1, head_dim]);
            let query = one.clone().mul_scalar(scale).repeat_dim(1, heads);
            let all = Tensor::cat(vec![query, one.repeat_dim(1, kv_heads)], 1);
            all.reshape([rows, (heads + kv_heads) * head_dim])
        };
        RopeRows { cos: spread(&self.cos), sin: spread(&self.sin), turn: self.turn.clone() }
    }
}

/// The rotation of one forward pass.
///
/// Everything stays in whole rows: a rotation is two products of equal shape and one small matrix product, never an
/// operation on a strided half of a head.
#[derive(Clone, Debug)]
pub(crate) struct RopeRows<B: Backend> {
    /// `[rows, (heads + kv_heads) * head_dim]`.
    cos: Tensor<B, 2>,
    /// As `cos`.
    sin: Tensor<B, 2>,
    /// `[head_dim, head_dim]`.
    turn: Tensor<B, 2>,
}

impl<B: KernelBackend> RopeRows<B> {
    /// Rotates queries and keys, `[rows, (heads + kv_heads) * head_dim]`, in their own dtype.
    pub(crate) fn rotate(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, width] = x.dims();
        let head_dim = self.turn.dims()[0];
        let dtype = x.dtype();
        let own = |t: &Tensor<B, 2>| to_dtype(t.clone(), dtype);
        let heads = x.clone().reshape([rows * width / head_dim, head_dim]);
        let turned = B::product(heads, own(&self.turn)).reshape([rows, width]);
        x * own(&self.cos) + turned * own(&self.sin)
    }
}
