//! The sections that read the same as written and as resolved: plain settings without paths.
//!
//! Their defaults, ranges and meanings stand in the key table ([`crate::schema`]); what a field does is told there and
//! in `docs/recipes.md`, once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::words::*;

/// How a source of examples or questions is narrowed and weighed. Each field is a key of `data.sources`; what is unset
/// changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct SourceOptions {
    pub revision: Option<String>,
    pub config: Option<String>,
    /// Column to the values that it may have: one, or a list.
    pub equal: Option<BTreeMap<String, toml::Value>>,
    /// Column to texts of which it must contain one.
    pub contain: Option<BTreeMap<String, toml::Value>>,
    pub min_turns: Option<usize>,
    pub max_turns: Option<usize>,
    pub max_tokens: Option<usize>,
    pub max_prompt_tokens: Option<usize>,
    pub cut_middle: Option<usize>,
    /// Of an evaluation's source.
    pub subjects: Option<Vec<String>>,
    pub sample_interval: Option<usize>,
    pub limit_per_subject: Option<usize>,
    pub max_new_tokens: Option<usize>,
    pub ratio: Option<f64>,
    pub take: Option<usize>,
    pub seed: Option<u64>,
    pub weight: Option<f64>,
}

/// `[alignment]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct AlignmentSettings {
    pub mode: AlignmentMode,
    pub strategy: AlignmentStrategy,
    pub sections: SectionCut,
}

/// `[fuser]`: layer alignment, the Fuser's sizes, and its Gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct FuserSettings {
    pub layer_mapping: LayerMapping,
    /// `None`: the paper's.
    pub network: Option<FuserNetwork>,
    /// `None`: the whole Fuser.
    pub level: Option<FuserLevel>,
    pub hidden_dim: usize,
    pub intermediate_dim: usize,
    pub num_layers: usize,
    pub dropout: f64,
    pub initial_temperature: f64,
    pub final_temperature: f64,
    /// `None`: as many as the run has optimiser steps.
    pub anneal_steps: Option<usize>,
    pub gate_noise: GateNoise,
    pub initial_gate_logit: f64,
    pub zero_init: bool,
}

/// `[all_in_one]`: the choices of a Fuser whose network is that. Widths, depth, dropout and temperatures are those of
/// [`FuserSettings`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct AllInOneSettings {
    pub activation: Activation,
    pub layer_norm: bool,
    pub residual: bool,
    pub swiglu: bool,
    pub combine: bool,
    pub receiver: ReceiverTerm,
    pub gate_granularity: Granularity,
    /// `None`: the gates are parameters.
    pub gate_features: Option<Features>,
    pub weight_granularity: Granularity,
    /// `None`: the weights are parameters.
    pub weight_features: Option<Features>,
    pub weight_temperature: f64,
    pub initial_weight: f64,
    pub max_tokens: usize,
}

impl Default for AllInOneSettings {
    /// As the key table has it.
    fn default() -> Self {
        Self {
            activation: Activation::Gelu,
            layer_norm: true,
            residual: true,
            swiglu: false,
            combine: false,
            receiver: ReceiverTerm::Blended,
            gate_granularity: Granularity::Scalar,
            gate_features: None,
            weight_granularity: Granularity::Scalar,
            weight_features: None,
            weight_temperature: 0.005,
            initial_weight: 0.0,
            max_tokens: 8192,
        }
    }
}

/// `[single]`: what of the Receiver is trained by the method `single`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct SingleSettings {
    pub trainable: Trainable,
    pub lora_rank: usize,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    pub lora_targets: Vec<LoraTarget>,
    pub first_layer: usize,
    /// `None`: the model's last one.
    pub last_layer: Option<usize>,
    /// Decides instead of the two if it is there.
    pub last_share: Option<f64>,
    pub parts: Vec<ModelPart>,
}

impl Default for SingleSettings {
    /// Everything is trained; the rest as the key table has it.
    fn default() -> Self {
        Self {
            trainable: Trainable::Full,
            lora_rank: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.1,
            lora_targets: vec![
                LoraTarget::Query,
                LoraTarget::Key,
                LoraTarget::Value,
                LoraTarget::Output,
                LoraTarget::Gate,
                LoraTarget::Up,
                LoraTarget::Down,
            ],
            first_layer: 0,
            last_layer: None,
            last_share: None,
            parts: vec![
                ModelPart::Qkv,
                ModelPart::OProj,
                ModelPart::GateUp,
                ModelPart::DownProj,
                ModelPart::Norms,
                ModelPart::FinalNorm,
                ModelPart::Head,
            ],
        }
    }
}

/// `[optimizer]`: AdamW with global-norm clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct OptimizerSettings {
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub max_grad_norm: f64,
}

/// `[schedule]`: the learning rate over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct ScheduleSettings {
    pub kind: ScheduleKind,
    pub warmup_ratio: f64,
}

/// `[training]` of a train recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct TrainingSettings {
    pub batch_size: usize,
    pub gradient_accumulation: usize,
    pub epochs: usize,
    /// `None`: as many as `epochs` come to.
    pub max_steps: Option<usize>,
    pub max_length: usize,
    /// `None`: only at the end of each epoch.
    pub evaluate_every: Option<usize>,
    pub validation_fraction: f64,
}

/// `[training]` of a pretrain recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct PretrainingSettings {
    pub steps: usize,
    pub evaluate_every: usize,
}

/// `[model]` of a pretrain recipe: the shape of the model to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct ModelShape {
    pub family: ModelFamily,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub rope_theta: f64,
    pub max_position: usize,
    pub tie_embeddings: bool,
}

/// `[corpus]` of a pretrain recipe: what the model reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct CorpusSettings {
    pub role: CorpusRole,
    pub segmentation_dropout: f64,
    pub batch_size: usize,
    pub sequence_length: usize,
}

/// `[checkpoint]` of a train recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct CheckpointSettings {
    pub every: usize,
    pub keep_last: usize,
    pub keep_best: bool,
}

/// `[output]`. The folder is relative to the current directory, not to the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a key of the key table, which says what it means")]
pub struct OutputSettings {
    pub dir: std::path::PathBuf,
}
