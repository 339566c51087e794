//! The network of the paper: trunk, projection and head weights.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use c2c_kernels::KernelBackend;
use c2c_lm::{to_dtype, to_f32};

use crate::gate::{hard_gate, soft_gate};
use crate::stacked::{Dropout, Params, StackedFfn, StackedLinear, Values, param};
use crate::{FuserConfig, FuserMode};

/// The parameters of all branches.
#[derive(Module, Debug)]
pub(crate) struct PaperNetwork<B: Backend> {
    /// `[branches, 1, 1]`. This and the weight are absent in ablations.
    pub(crate) gate_logit: Option<Param<Tensor<B, 3>>>,
    input: StackedLinear<B>,
    trunk: StackedFfn<B>,
    weight_mlp: Option<StackedFfn<B>>,
    weight_head: Option<StackedLinear<B>>,
    projection: Vec<StackedFfn<B>>,
    output: StackedLinear<B>,
}

impl<B: Backend> PaperNetwork<B> {
    /// `m` branches, which may be fewer than the config's.
    pub(crate) fn new(config: &FuserConfig, m: usize, device: &B::Device, values: &mut Values<'_>) -> Self {
        let (h, i) = (config.hidden_dim, config.intermediate_dim);
        let (input, t, parts) = (config.input_width(), config.receiver_width(), config.parts);
        Self {
            gate_logit: parts.gates.then(|| param(values, "gate_logit", [m, 1, 1], device)),
            input: StackedLinear::new(values, "input", [m, input, h], device),
            trunk: StackedFfn::new(values, "trunk", [m, h, i], device),
            weight_mlp: parts.weights.then(|| StackedFfn::new(values, "weight_mlp", [m, h, h], device)),
            weight_head: parts
                .weights
                .then(|| StackedLinear::new(values, "weight_head", [m, h, config.receiver_heads], device)),
            projection: (0..config.num_layers - 2)
                .map(|b| StackedFfn::new(values, &format!("projection.{b}"), [m, h, i], device))
                .collect(),
            output: StackedLinear::new(values, "output", [m, h, t], device),
        }
    }

    pub(crate) fn named<'a>(&'a self, out: &mut Params<'a, B>) {
        if let Some(logit) = &self.gate_logit {
            out.push(("gate_logit".to_owned(), logit));
        }
        self.input.named("input", out);
        self.trunk.named("trunk", out);
        if let (Some(mlp), Some(head)) = (&self.weight_mlp, &self.weight_head) {
            mlp.named("weight_mlp", out);
            head.named("weight_head", out);
        }
        for (b, block) in self.projection.iter().enumerate() {
            block.named(&format!("projection.{b}"), out);
        }
        self.output.named("output", out);
    }

    /// The same network with the norms' weights inside the products that follow them.
    pub(crate) fn folded(mut self) -> Self {
        self.trunk = self.trunk.folded();
        self.weight_mlp = self.weight_mlp.map(StackedFfn::folded);
        self.projection = self.projection.into_iter().map(StackedFfn::folded).collect();
        self
    }

    /// The gates' logits on the device, `[branches]` of those that the parameters hold, f32; where there are any.
    pub(crate) fn gates(&self) -> Option<Tensor<B, 1>> {
        self.gate_logit.as_ref().map(|logit| to_f32(logit.val().flatten(0, 2)))
    }
}

impl<B: KernelBackend> PaperNetwork<B> {
    /// From the joined caches `[branches, rows, input width]` to the projection `[branches, rows, receiver width]` and the
    /// logits of the heads' weights `[branches, rows, heads]`, where the fuser has any.
    pub(crate) fn project(&self, x: Tensor<B, 3>, dropout: Dropout) -> (Tensor<B, 3>, Option<Tensor<B, 3>>) {
        let u = self.trunk.forward(self.input.forward(x), dropout.of_block(0));
        let mut p = u.clone();
        for (index, block) in (2..).zip(&self.projection) {
            p = block.forward(p, dropout.of_block(index));
        }
        let weights = self.weight_logits(u, dropout);
        (self.output.forward(p), weights)
    }

    /// From what the trunk gives, `[branches, rows, hidden]`, to the logits of the heads' weights `[branches, rows, heads]`.
    fn weight_logits(&self, u: Tensor<B, 3>, dropout: Dropout) -> Option<Tensor<B, 3>> {
        let (mlp, head) = self.weight_mlp.as_ref().zip(self.weight_head.as_ref())?;
        Some(head.forward(mlp.forward(u, dropout.of_block(1))))
    }

    /// The heads' weights alone, at inference: from the joined caches `[branches, rows, input width]` to `[branches, rows,
    /// heads]`, f32; where the fuser has any.
    pub(crate) fn weights(&self, x: Tensor<B, 3>) -> Option<Tensor<B, 3>> {
        let u = self.trunk.forward(self.input.forward(x), Dropout::NONE);
        self.weight_logits(u, Dropout::NONE).map(weights_of)
    }

    /// What is added to the receiver's cache, from the joined caches.
    ///
    /// # Shapes
    /// `x`: `[branches, rows, input width]`; returns `[branches, rows, heads * head_dim]`, in the same dtype.
    pub(crate) fn scaled(&self, c: &FuserConfig, x: Tensor<B, 3>, mode: FuserMode) -> Tensor<B, 3> {
        let [branches, rows, _] = x.dims();
        let (heads, head_dim, work) = (c.receiver_heads, c.receiver_head_dim, x.dtype());
        let dropout = match mode {
            FuserMode::Train { draw, .. } => Dropout { share: c.dropout, seed: draw.seed() },
            FuserMode::Infer => Dropout::NONE,
        };
        let (p, w) = self.project(x, dropout);
        let p = p.reshape([branches, rows, heads, head_dim]);
        let weight = w.map(|w| weights_of(w).reshape([branches, rows, heads, 1]));
        let gate = self.gates().map(|logit| {
            let logit = logit.reshape([branches, 1, 1, 1]);
            match mode {
                FuserMode::Infer => hard_gate(logit),
                FuserMode::Train { temperature, draw } => {
                    soft_gate(logit, c.gate_noise, draw, temperature, [branches, rows, heads, 1])
                }
            }
        });
        let scale = match (weight, gate) {
            (Some(weight), Some(gate)) => Some(weight * gate),
            (weight, gate) => weight.or(gate),
        };
        let scaled = match scale {
            Some(scale) => p * to_dtype(scale, work),
            None => p,
        };
        scaled.reshape([branches, rows, heads * head_dim])
    }
}

/// The paper's scalar of each head, from its logit.
fn weights_of<B: Backend>(logits: Tensor<B, 3>) -> Tensor<B, 3> {
    activation::sigmoid(to_f32(logits))
}
