//! Low-rank adapters (LoRA, arXiv 2106.09685) on the matrices of a frozen model.
//!
//! A matrix `W` with an adapter computes `W x + (alpha / rank) B A dropout(x)`. `A` starts random and `B` at zero, so
//! that a new adapter changes nothing. Query, key and value are joined here, and so are gate and up, but each has an
//! adapter of its own, as in the files of PEFT.
//!
//! Invariant: adapters are f32 whatever the model's dtype is; the base is never written to.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::ops::{linear, to_dtype, to_f32};
use crate::{Lm, LmConfig};

/// A matrix of a layer that can have an adapter, by its name in a Hugging Face file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the matrix of its name")]
pub enum LoraTarget {
    #[serde(rename = "q_proj")]
    Query,
    #[serde(rename = "k_proj")]
    Key,
    #[serde(rename = "v_proj")]
    Value,
    #[serde(rename = "o_proj")]
    Output,
    #[serde(rename = "gate_proj")]
    Gate,
    #[serde(rename = "up_proj")]
    Up,
    #[serde(rename = "down_proj")]
    Down,
}

impl LoraTarget {
    /// All of them, in the order of a layer.
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Its name in files and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The module that it is in.
    pub(crate) fn block(self) -> &'static str {
        match self {
            Self::Query | Self::Key | Self::Value | Self::Output => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }

    /// Rows and columns, `[out, in]`.
    fn shape(self, c: &LmConfig) -> [usize; 2] {
        let attended = c.num_heads * c.head_dim;
        match self {
            Self::Query => [attended, c.hidden_size],
            Self::Key | Self::Value => [c.kv_width(), c.hidden_size],
            Self::Output => [c.hidden_size, attended],
            Self::Gate | Self::Up => [c.intermediate_size, c.hidden_size],
            Self::Down => [c.hidden_size, c.intermediate_size],
        }
    }
}

/// Sizes and targets of the adapters of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Inner width.
    pub rank: usize,
    /// The product is scaled by `alpha / rank`.
    pub alpha: f64,
    /// On the adapter's input, in training only.
    pub dropout: f64,
    /// Which matrices have one, in every layer.
    pub targets: Vec<LoraTarget>,
}

/// The two factors of one matrix's adapter.
#[derive(Module, Debug)]
pub(crate) struct Adapter<B: Backend> {
    /// `[rank, in]`.
    pub(crate) a: Param<Tensor<B, 2>>,
    /// `[out, rank]`.
    pub(crate) b: Param<Tensor<B, 2>>,
}

/// The adapters of one layer.
#[derive(Module, Debug)]
pub(crate) struct LayerLora<B: Backend> {
    pub(crate) q_proj: Option<Adapter<B>>,
    pub(crate) k_proj: Option<Adapter<B>>,
    pub(crate) v_proj: Option<Adapter<B>>,
    pub(crate) o_proj: Option<Adapter<B>>,
    pub(crate) gate_proj: Option<Adapter<B>>,
    pub(crate) up_proj: Option<Adapter<B>>,
    pub(crate) down_proj: Option<Adapter<B>>,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
}

impl<B: Backend> LayerLora<B> {
    fn new(layer: &LmConfig, config: &LoraConfig, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        let mut adapter = |target: LoraTarget| {
            config.targets.contains(&target).then(|| {
                let [out, input] = target.shape(layer);
                // Kaiming's uniform of slope sqrt 5, as linear layers usually start.
                let bound = 1.0 / (input as f64).sqrt();
                let draw = |_| (rng.random_range(-bound..bound)) as f32;
                let a: Vec<f32> = (0..config.rank * input).map(draw).collect();
                Adapter {
                    a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [config.rank, input]), device)),
                    b: Param::from_tensor(Tensor::zeros([out, config.rank], device)),
                }
            })
        };
        Self {
            q_proj: adapter(LoraTarget::Query),
            k_proj: adapter(LoraTarget::Key),
            v_proj: adapter(LoraTarget::Value),
            o_proj: adapter(LoraTarget::Output),
            gate_proj: adapter(LoraTarget::Gate),
            up_proj: adapter(LoraTarget::Up),
            down_proj: adapter(LoraTarget::Down),
            scale: config.alpha / config.rank as f64,
            dropout: config.dropout,
        }
    }

    /// The adapter of a matrix.
    pub(crate) fn adapter(&self, target: LoraTarget) -> Option<&Adapter<B>> {
        match target {
            LoraTarget::Query => &self.q_proj,
            LoraTarget::Key => &self.k_proj,
            LoraTarget::Value => &self.v_proj,
            LoraTarget::Output => &self.o_proj,
            LoraTarget::Gate => &self.gate_proj,
            LoraTarget::Up => &self.up_proj,
            LoraTarget::Down => &self.down_proj,
        }
        .as_ref()
    }

    /// `W + (alpha / rank) B A` of some matrices under one another, in f32; `[rows, in]`.
    fn merged(&self, weight: Tensor<B, 2>, targets: &[LoraTarget], config: &LmConfig) -> Tensor<B, 2> {
        let mut weight = to_f32(weight);
        let mut start = 0;
        for target in targets {
            let [rows, columns] = target.shape(config);
            if let Some(adapter) = self.adapter(*target) {
                let delta = adapter.b.val().matmul(adapter.a.val()).mul_scalar(self.scale);
                let own = weight.clone().narrow(0, start, rows);
                weight = weight.slice_assign([start..start + rows, 0..columns], own + delta);
            }
            start += rows;
        }
        weight
    }
}

impl<B: KernelBackend> LayerLora<B> {
    /// What the adapter of a matrix adds to `W x`; `None` without one.
    fn delta(&self, target: LoraTarget, x: &Tensor<B, 2>) -> Option<Tensor<B, 2>> {
        let adapter = self.adapter(target)?;
        let mut x = x.clone();
        if self.dropout > 0.0 && B::ad_enabled(&x.device()) {
            let keep = 1.0 - self.dropout;
            let mask = Tensor::random(x.shape(), Distribution::Bernoulli(keep), &x.device()).div_scalar(keep);
            let dtype = x.dtype();
            x = x * to_dtype(mask, dtype);
        }
        Some(linear(linear(x, adapter.a.val(), None), adapter.b.val(), None).mul_scalar(self.scale))
    }

    /// `y`, the product of `x` with matrices under one another, with what their adapters add.
    ///
    /// # Shapes
    /// `x`: `[rows, in]`; `y`: `[rows, out of all]`.
    pub(crate) fn add(
        &self,
        x: &Tensor<B, 2>,
        y: Tensor<B, 2>,
        targets: &[LoraTarget],
        config: &LmConfig,
    ) -> Tensor<B, 2> {
        if targets.iter().all(|target| self.adapter(*target).is_none()) {
            return y;
        }
        let mut start = 0;
        let parts = targets.iter().map(|target| {
            let width = target.shape(config)[0];
            let own = y.clone().narrow(1, start, width);
            start += width;
            match self.delta(*target, x) {
                Some(delta) => own + delta,
                None => own,
            }
        });
        Tensor::cat(parts.collect(), 1)
    }
}

const QKV: [LoraTarget; 3] = [LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
const GATE_UP: [LoraTarget; 2] = [LoraTarget::Gate, LoraTarget::Up];

impl<B: KernelBackend> LayerLora<B> {
    /// With the adapters of query, key and value.
    pub(crate) fn qkv(&self, x: &Tensor<B, 2>, y: Tensor<B, 2>, config: &LmConfig) -> Tensor<B, 2> {
        self.add(x, y, &QKV, config)
    }

    /// With those of gate and up; `y`: `[2, rows, intermediate]`.
    pub(crate) fn gate_up(&self, x: &Tensor<B, 2>, y: Tensor<B, 3>) -> Tensor<B, 3> {
        if GATE_UP.iter().all(|target| self.adapter(*target).is_none()) {
            return y;
        }
        let parts = GATE_UP.iter().enumerate().map(|(at, target)| {
            let own = y.clone().narrow(0, at, 1);
            match self.delta(*target, x) {
                Some(delta) => own + delta.unsqueeze(),
                None => own,
            }
        });
        Tensor::cat(parts.collect(), 0)
    }
}

impl<B: Backend> Lm<B> {
    /// The model with new adapters in every layer; everything else is frozen. The same seed gives the same adapters on
    /// every backend.
    pub fn with_lora(self, lora: &LoraConfig, seed: u64) -> Self {
        let mut model = self.no_grad();
        let (device, config) = (model.device(), model.config.clone());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for layer in &mut model.layers {
            layer.lora = Some(LayerLora::new(&config, lora, &mut rng, &device));
        }
        model
    }

    /// True if a layer has adapters.
    pub(crate) fn has_lora(&self) -> bool {
        self.layers.iter().any(|layer| layer.lora.is_some())
    }

    /// The model with its adapters added into its matrices, which become f32 on the way so that nothing is rounded
    /// away; it computes in the dtype it had.
    pub fn merged(mut self) -> Self {
        let dtype = self.dtype();
        let config = self.config.clone();
        for layer in &mut self.layers {
            let Some(lora) = layer.lora.take() else { continue };
            let frozen = |tensor: Tensor<B, 2>| Param::from_tensor(tensor.detach()).set_require_grad(false);
            layer.qkv = frozen(lora.merged(layer.qkv.val(), &QKV, &config));
            layer.o = frozen(lora.merged(layer.o.val(), &[LoraTarget::Output], &config));
            layer.down = frozen(lora.merged(layer.down.val(), &[LoraTarget::Down], &config));
            let (inner, hidden) = (config.intermediate_size, config.hidden_size);
            let stacked = layer.gate_up.val().reshape([2 * inner, hidden]);
            let merged = lora.merged(stacked, &GATE_UP, &config).reshape([2, inner, hidden]);
            layer.gate_up = Param::from_tensor(merged.detach()).set_require_grad(false);
        }
        self.computing_in(dtype)
    }
}
