//! Linear maps with norms and activations between them, one stack a branch.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use c2c_kernels::KernelBackend;
use c2c_lm::{to_dtype, to_f32};

use super::config::Activation;
use crate::stacked::{Params, StackedLinear, Values, dropped, param};

/// Epsilon of the LayerNorm.
const NORM_EPS: f64 = 1e-5;

/// How a stack is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub branches: usize,
    pub input: usize,
    pub hidden: usize,
    pub output: usize,
    pub layers: usize,
    pub norm: bool,
    pub swiglu: bool,
    pub residual: bool,
    pub activation: Activation,
}

/// `(x - mean) / deviation * weight + bias` over the width.
///
/// # Shapes
/// Both `[branches, 1, width]`.
#[derive(Module, Debug)]
struct StackedNorm<B: Backend> {
    weight: Param<Tensor<B, 3>>,
    bias: Param<Tensor<B, 3>>,
}

impl<B: Backend> StackedNorm<B> {
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let dtype = x.dtype();
        let x = to_f32(x);
        let x = x.clone() - x.mean_dim(2);
        let variance = x.clone().powi_scalar(2).mean_dim(2);
        let x = x / variance.add_scalar(NORM_EPS).sqrt();
        to_dtype(x * to_f32(self.weight.val()) + to_f32(self.bias.val()), dtype)
    }
}

/// A linear map, or the product of two, and its norm.
#[derive(Module, Debug)]
struct Layer<B: Backend> {
    linear: StackedLinear<B>,
    /// The second map of a SwiGLU; the first is gated by it.
    up: Option<StackedLinear<B>>,
    norm: Option<StackedNorm<B>>,
}

/// The stack. Activation and dropout follow every layer but the last.
#[derive(Module, Debug)]
pub(super) struct StackedMlp<B: Backend> {
    layers: Vec<Layer<B>>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    residual: bool,
}

impl<B: Backend> StackedMlp<B> {
    pub fn new(values: &mut Values<'_>, name: &str, form: Form, device: &B::Device) -> Self {
        let m = form.branches;
        let layer = |index: usize| {
            let last = index + 1 == form.layers;
            let input = if index == 0 { form.input } else { form.hidden };
            let output = if last { form.output } else { form.hidden };
            let name = format!("{name}.{index}");
            let mut linear = |name: &str| StackedLinear::new(values, name, [m, input, output], device);
            let (linear, up) = if form.swiglu && !last {
                (linear(&format!("{name}.gate")), Some(linear(&format!("{name}.up"))))
            } else {
                (linear(&name), None)
            };
            let norm = (form.norm && !last).then(|| StackedNorm {
                weight: param(values, &format!("{name}.norm.weight"), [m, 1, output], device),
                bias: param(values, &format!("{name}.norm.bias"), [m, 1, output], device),
            });
            Layer { linear, up, norm }
        };
        let residual = form.residual && form.input == form.output;
        Self { layers: (0..form.layers).map(layer).collect(), activation: form.activation, residual }
    }

    pub fn named<'a>(&'a self, name: &str, out: &mut Params<'a, B>) {
        for (index, layer) in self.layers.iter().enumerate() {
            let name = format!("{name}.{index}");
            match &layer.up {
                Some(up) => {
                    layer.linear.named(&format!("{name}.gate"), out);
                    up.named(&format!("{name}.up"), out);
                }
                None => layer.linear.named(&name, out),
            }
            if let Some(norm) = &layer.norm {
                out.push((format!("{name}.norm.weight"), &norm.weight));
                out.push((format!("{name}.norm.bias"), &norm.bias));
            }
        }
    }
}

impl<B: KernelBackend> StackedMlp<B> {
    /// `[branches, rows, input]` to `[branches, rows, output]`; `dropout` is 0 outside training.
    pub fn forward(&self, input: Tensor<B, 3>, dropout: f64) -> Tensor<B, 3> {
        let mut x = input.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let mapped = layer.linear.forward(x.clone());
            x = match &layer.up {
                Some(up) => activation::silu(mapped) * up.forward(x),
                None => mapped,
            };
            if let Some(norm) = &layer.norm {
                x = norm.forward(x);
            }
            if index + 1 == self.layers.len() {
                break;
            }
            if layer.up.is_none() {
                x = match self.activation {
                    Activation::Gelu => B::exact_gelu(x),
                    Activation::Relu => activation::relu(x),
                    Activation::Silu => activation::silu(x),
                };
            }
            x = dropped(x, dropout);
        }
        if self.residual { x + input } else { x }
    }
}
