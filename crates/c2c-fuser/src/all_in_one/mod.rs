//! The reference implementation's older network, `AllInOneProjector`: projections of the sharer's cache alone, and a choice
//! of gates and weights.
//!
//! For every layer, with `s` the sharer's and `t` the receiver's key or value: `p = projection(s)`, or `combiner([projection(s),
//! t])`; the weight `w = sigmoid(weight / temperature)` and the gate are parameters or made by small networks, for a layer, a
//! token, a head or a channel. The result is `t + gate * w * p`, `(1 - w) * t + gate * w * p` or `gate * w * p`.
//!
//! Parameters are stacked as in the paper's network: keys of all layers, then values. What keys and values share (the gate,
//! the hidden part of the weights' network) has one row a layer.

mod config;
mod mlp;

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use c2c_kernels::KernelBackend;
use c2c_lm::{to_dtype, to_f32};

pub use config::{Activation, AllInOneConfig, Features, Granularity, ReceiverTerm, Scaling};
use mlp::{Form, StackedMlp};

use crate::gate::{hard_gate, soft_gate};
use crate::stacked::{Params, StackedLinear, Values, param};
use crate::{FuserConfig, FuserMode, GateDraw};

/// Layers and dropout of the small networks that make gates and weights.
const SMALL_LAYERS: usize = 2;
const SMALL_DROPOUT: f64 = 0.1;

/// The parameters of all layers.
#[derive(Module, Debug)]
pub(crate) struct AllInOne<B: Backend> {
    #[module(skip)]
    choices: AllInOneConfig,
    /// `[layers, 1 or max_tokens, columns]`.
    pub(crate) gate_logit: Option<Param<Tensor<B, 3>>>,
    /// `[branches, 1 or max_tokens, columns]`.
    weight: Option<Param<Tensor<B, 3>>>,
    projection: StackedMlp<B>,
    gate_mlp: Option<StackedMlp<B>>,
    weight_mlp: Option<StackedMlp<B>>,
    weight_head: Option<StackedLinear<B>>,
    combiner: Option<StackedLinear<B>>,
}

/// Sizes of a fusion: rows of the batch, tokens, heads and their width.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    tokens: usize,
    heads: usize,
    width: usize,
}

/// The receiver's and the projected caches, `[layers, batch * tokens, heads, width]` each.
struct Caches<'a, B: Backend> {
    own: &'a [Tensor<B, 4>; 2],
    projected: &'a [Tensor<B, 4>; 2],
}

impl<B: Backend> AllInOne<B> {
    pub(crate) fn new(
        config: &FuserConfig,
        choices: &AllInOneConfig,
        device: &B::Device,
        values: &mut Values<'_>,
    ) -> Self {
        let (layers, m) = (config.layers(), config.branches());
        let (heads, width, t) = (config.receiver_heads, config.receiver_head_dim, config.receiver_width());
        let small = |input: usize, hidden: usize, output: usize| Form {
            branches: layers,
            input,
            hidden,
            output,
            layers: SMALL_LAYERS,
            norm: true,
            swiglu: false,
            residual: false,
            activation: Activation::Gelu,
        };
        let (gate, weight) = (choices.gate, choices.weight);
        let table = |values: &mut Values<'_>, name: &str, scaling: Scaling, n: usize| {
            let [rows, columns] =
                scaling.features.is_none().then(|| scaling.table(choices.max_tokens, heads, width)).flatten()?;
            Some(param(values, name, [n, rows, columns], device))
        };
        let hidden = config.intermediate_dim;
        let of_gate = gate.input_width(heads, width).map(|input| {
            let output = gate.output_width(heads, width);
            small(input, config.hidden_dim, output)
        });
        let of_weight = weight.input_width(heads, width).map(|input| small(input, hidden, hidden));
        let projection = Form {
            branches: m,
            input: config.sharer_width(),
            hidden: config.hidden_dim,
            output: t,
            layers: config.num_layers,
            norm: choices.layer_norm,
            swiglu: choices.swiglu,
            residual: choices.residual,
            activation: choices.activation,
        };
        Self {
            choices: choices.clone(),
            gate_logit: table(values, "gate_logit", gate, layers),
            weight: table(values, "weight", weight, m),
            projection: StackedMlp::new(values, "projection", projection, device),
            gate_mlp: of_gate.map(|form| StackedMlp::new(values, "gate_mlp", form, device)),
            weight_mlp: of_weight.map(|form| StackedMlp::new(values, "weight_mlp", form, device)),
            weight_head: of_weight.map(|_| {
                StackedLinear::new(values, "weight_head", [m, hidden, weight.output_width(heads, width)], device)
            }),
            combiner: choices.combine.then(|| StackedLinear::new(values, "combiner", [m, 2 * t, t], device)),
        }
    }

    pub(crate) fn named<'a>(&'a self, out: &mut Params<'a, B>) {
        for (name, table) in [("gate_logit", &self.gate_logit), ("weight", &self.weight)] {
            out.extend(table.as_ref().map(|table| (name.to_owned(), table)));
        }
        self.projection.named("projection", out);
        for (name, mlp) in [("gate_mlp", &self.gate_mlp), ("weight_mlp", &self.weight_mlp)] {
            if let Some(mlp) = mlp {
                mlp.named(name, out);
            }
        }
        for (name, linear) in [("weight_head", &self.weight_head), ("combiner", &self.combiner)] {
            if let Some(linear) = linear {
                linear.named(name, out);
            }
        }
    }
}

impl<B: KernelBackend> AllInOne<B> {
    /// Fuses; keys of all layers, then values.
    ///
    /// # Shapes
    /// `x`: `[branches, batch * tokens, sharer width]`; `own` and the result: the same of the receiver's width.
    pub(crate) fn fuse(
        &self,
        config: &FuserConfig,
        x: Tensor<B, 3>,
        own: Tensor<B, 3>,
        batch: usize,
        mode: FuserMode,
    ) -> Tensor<B, 3> {
        let choices = &self.choices;
        let [m, rows, t] = own.dims();
        let (heads, width) = (config.receiver_heads, config.receiver_head_dim);
        let sizes = Sizes { batch, tokens: rows / batch, heads, width };
        let (dropout, small_dropout) = match mode {
            // Without noise: no config could turn off what the small networks drop.
            FuserMode::Train { draw: GateDraw::Fixed(_), .. } => (config.dropout, 0.0),
            FuserMode::Train { .. } => (config.dropout, SMALL_DROPOUT),
            FuserMode::Infer => (0.0, 0.0),
        };
        let mut p = self.projection.forward(x, dropout);
        if let Some(combiner) = &self.combiner {
            p = combiner.forward(Tensor::cat(vec![p, own.clone()], 2));
        }
        let split = |x: &Tensor<B, 3>| {
            let x = x.clone().reshape([m, rows, heads, width]);
            [x.clone().narrow(0, 0, m / 2), x.narrow(0, m / 2, m / 2)]
        };
        let caches = Caches { own: &split(&own), projected: &split(&p) };

        let gate = match (&self.gate_logit, &self.gate_mlp, choices.gate.features) {
            (Some(table), ..) => placed(table.val(), choices.gate.granularity, sizes),
            (None, Some(mlp), Some(features)) => {
                let made = mlp.forward(arranged(&caches, features, choices.gate.granularity, sizes), small_dropout);
                spread(made, choices.gate.granularity, sizes)
            }
            // A gate is made by one of the two; validated configs have no third.
            _ => Tensor::ones([m / 2, rows, 1, 1], &own.device()),
        };
        let gate = to_f32(gate);
        let gate = match mode {
            FuserMode::Infer => hard_gate(gate),
            FuserMode::Train { temperature, draw } => {
                soft_gate(gate, config.gate_noise, draw, temperature, [m / 2, rows, heads, width])
            }
        };
        let gate = Tensor::cat(vec![gate.clone(), gate], 0);

        let weight = match (&self.weight, &self.weight_mlp, &self.weight_head, choices.weight.features) {
            (None, Some(mlp), Some(head), Some(features)) => {
                let made = mlp.forward(arranged(&caches, features, choices.weight.granularity, sizes), small_dropout);
                spread(head.forward(Tensor::cat(vec![made.clone(), made], 0)), choices.weight.granularity, sizes)
            }
            (Some(table), ..) => placed(table.val(), choices.weight.granularity, sizes),
            _ => Tensor::zeros([m, rows, 1, 1], &own.device()),
        };
        let weight = activation::sigmoid(to_f32(weight).div_scalar(choices.weight_temperature));

        let dtype = own.dtype();
        let by_head = |x: Tensor<B, 3>| x.reshape([m, rows, heads, width]);
        let scaled = by_head(p) * to_dtype(gate * weight.clone(), dtype);
        let fused = match choices.receiver {
            ReceiverTerm::Added => by_head(own) + scaled,
            ReceiverTerm::Blended => by_head(own) * to_dtype(weight.neg().add_scalar(1.0), dtype) + scaled,
            ReceiverTerm::Replaced => scaled,
        };
        fused.reshape([m, rows, t])
    }
}

/// The input of a small network: `[layers, batch]`, `[layers, batch * tokens]` or `[layers, batch * tokens * heads]` rows.
fn arranged<B: Backend>(
    caches: &Caches<'_, B>,
    features: Features,
    granularity: Granularity,
    s: Sizes,
) -> Tensor<B, 3> {
    let ([key, value], [projected_key, projected_value]) = (caches.own, caches.projected);
    let parts: Vec<&Tensor<B, 4>> = match features {
        Features::ReceiverKey => vec![key],
        Features::ReceiverValue => vec![value],
        Features::ReceiverBoth => vec![key, value],
        Features::ProjectedKey => vec![key, projected_key],
        Features::ProjectedValue => vec![value, projected_value],
        Features::ProjectedBoth => vec![key, value, projected_key, projected_value],
    };
    let x = Tensor::cat(parts.into_iter().cloned().collect(), 3);
    let [layers, rows, heads, width] = x.dims();
    match granularity {
        Granularity::Scalar => {
            let x = x.reshape([layers, s.batch, s.tokens * heads, width]);
            x.mean_dim(2).reshape([layers, s.batch, width])
        }
        Granularity::Token | Granularity::HeadMerged => x.reshape([layers, rows, heads * width]),
        Granularity::Head | Granularity::Value => x.reshape([layers, rows * heads, width]),
    }
}

// Rows are repeated, not expanded: Burn 0.21's GPU backends read an expanded tensor wrongly once it is reshaped.

/// What a small network made, `[n, batch * tokens, heads or 1, width or 1]`.
fn spread<B: Backend>(x: Tensor<B, 3>, granularity: Granularity, s: Sizes) -> Tensor<B, 4> {
    let [n, ..] = x.dims();
    let rows = s.batch * s.tokens;
    match granularity {
        Granularity::Scalar => x.reshape([n, s.batch, 1, 1]).repeat_dim(2, s.tokens).reshape([n, rows, 1, 1]),
        Granularity::Token => x.reshape([n, rows, 1, 1]),
        Granularity::Head | Granularity::HeadMerged => x.reshape([n, rows, s.heads, 1]),
        Granularity::Value => x.reshape([n, rows, s.heads, s.width]),
    }
}

/// Parameters of the first tokens, `[n, batch * tokens, heads or 1, width or 1]`.
fn placed<B: Backend>(table: Tensor<B, 3>, granularity: Granularity, s: Sizes) -> Tensor<B, 4> {
    let [n, _, columns] = table.dims();
    let rows = s.batch * s.tokens;
    if granularity == Granularity::Scalar {
        return table.reshape([n, 1, 1, 1]).repeat_dim(1, rows);
    }
    let x = table.narrow(1, 0, s.tokens).reshape([n, 1, s.tokens, columns]);
    let x = x.repeat_dim(1, s.batch);
    match granularity {
        Granularity::Scalar | Granularity::Token => x.reshape([n, rows, 1, 1]),
        Granularity::Head | Granularity::HeadMerged => x.reshape([n, rows, s.heads, 1]),
        Granularity::Value => x.reshape([n, rows, s.heads, s.width]),
    }
}
