//! The shape and the hyper-parameters of a fuser.

use c2c_lm::LmConfig;
use serde::{Deserialize, Serialize};

use crate::{AllInOneConfig, FuserError, LayerMapping};

/// Sizes above these are mistakes: the paper's are 1024 and 3. Below them products of sizes can be counted.
const MAX_WIDTH: usize = 1 << 20;
const MAX_DEPTH: usize = 1 << 10;
const MAX_TOKENS: usize = 1 << 24;

/// The noise of the training gate (paper section 3.3; both are called Gumbel-sigmoid).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateNoise {
    /// One Gumbel variate, as the reference implementation trains: at logit 0 the gate is open 63 % of the time.
    #[default]
    Gumbel,
    /// The difference of two, a logistic variate: open half of the time at logit 0.
    Logistic,
}

/// Which parts of the fuser there are. Without all of them it is one of the paper's ablations (table 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuserParts {
    /// The dynamic weight of each token and head; else 1.
    pub weights: bool,
    /// The gate of each layer; else always open.
    pub gates: bool,
    /// The receiver's cache, beside the sharer's at the input and below the projection at the end. Without it the
    /// projection replaces the receiver's cache.
    pub receiver: bool,
}

impl Default for FuserParts {
    fn default() -> Self {
        Self { weights: true, gates: true, receiver: true }
    }
}

impl FuserParts {
    /// True for the whole fuser.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that decides the shape and the training behaviour of a fuser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuserConfig {
    /// Key and value heads of the sharer.
    pub sharer_heads: usize,
    /// Head width of the sharer.
    pub sharer_head_dim: usize,
    /// Layers of the sharer.
    pub sharer_layers: usize,
    /// Key and value heads of the receiver.
    pub receiver_heads: usize,
    /// Head width of the receiver.
    pub receiver_head_dim: usize,
    /// The sharer layer that each receiver layer reads.
    pub layer_map: Vec<usize>,
    /// Width of the fuser's residual stream.
    pub hidden_dim: usize,
    /// Inner width of the trunk and projection blocks; in an all-in-one network, width of the weights' network.
    pub intermediate_dim: usize,
    /// 3 or more: one trunk block, one weight block, `num_layers - 2` projection blocks. In an all-in-one network 1 or more:
    /// linear maps of a projection.
    pub num_layers: usize,
    /// Inside each block, in training only.
    pub dropout: f64,
    /// Gate temperature at the first step.
    pub initial_temperature: f64,
    /// Gate temperature from `anneal_steps` on.
    pub final_temperature: f64,
    /// Optimiser steps of the geometric descent between the two.
    pub anneal_steps: usize,
    /// The noise of the training gate.
    pub gate_noise: GateNoise,
    /// Where gate logits start; a gate opens above 0.
    pub initial_gate_logit: f64,
    /// Starts the output projection at zero, so that training starts at the receiver's own cache.
    pub zero_init: bool,
    /// The parts that there are; not written if there are all.
    #[serde(default, skip_serializing_if = "FuserParts::is_whole")]
    pub parts: FuserParts,
    /// The reference implementation's older network in place of the paper's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_in_one: Option<AllInOneConfig>,
}

impl FuserConfig {
    /// A fuser between two models: the paper's widths and layers, gates at 0, everything else as the recipes' defaults.
    pub fn between(receiver: &LmConfig, sharer: &LmConfig, mapping: LayerMapping) -> Self {
        Self {
            sharer_heads: sharer.num_kv_heads,
            sharer_head_dim: sharer.head_dim,
            sharer_layers: sharer.num_layers,
            receiver_heads: receiver.num_kv_heads,
            receiver_head_dim: receiver.head_dim,
            layer_map: mapping.map(receiver.num_layers, sharer.num_layers),
            hidden_dim: 1024,
            intermediate_dim: 1024,
            num_layers: 3,
            dropout: 0.1,
            initial_temperature: 1.0,
            final_temperature: 0.001,
            anneal_steps: 1,
            gate_noise: GateNoise::default(),
            initial_gate_logit: 0.0,
            zero_init: false,
            parts: FuserParts::default(),
            all_in_one: None,
        }
    }

    /// Receiver layers, so fusers.
    pub fn layers(&self) -> usize {
        self.layer_map.len()
    }

    /// Key and value branches of all layers.
    pub fn branches(&self) -> usize {
        2 * self.layers()
    }

    /// Width of a sharer token, heads joined.
    pub fn sharer_width(&self) -> usize {
        self.sharer_heads * self.sharer_head_dim
    }

    /// Width of a receiver token, heads joined.
    pub fn receiver_width(&self) -> usize {
        self.receiver_heads * self.receiver_head_dim
    }

    /// Width of the fuser's input: the sharer's token, then the receiver's if it takes part.
    pub fn input_width(&self) -> usize {
        self.sharer_width() + if self.parts.receiver { self.receiver_width() } else { 0 }
    }

    /// The highest sharer layer that is read, plus one: how much of the sharer has to run.
    pub fn sharer_depth(&self) -> usize {
        self.layer_map.iter().max().map_or(0, |l| l + 1)
    }

    /// Whether there is a gate a layer, for keys and for values or for both: some of an all-in-one network are finer.
    pub fn has_layer_gates(&self) -> bool {
        self.parts.gates && self.all_in_one.as_ref().is_none_or(|choices| choices.has_layer_gates())
    }

    /// Parameters of the whole fuser.
    pub fn num_params(&self) -> usize {
        if let Some(choices) = &self.all_in_one {
            return choices.num_params(self);
        }
        let (h, i, n) = (self.hidden_dim, self.intermediate_dim, self.num_layers);
        let (t, heads) = (self.receiver_width(), self.receiver_heads);
        let input = self.input_width() * h + h;
        let blocks = (2 * h * i + h) * (n - 1);
        let weight = if self.parts.weights { 2 * h * h + h + h * heads + heads } else { 0 };
        let output = h * t + t;
        self.branches() * (input + blocks + weight + output + usize::from(self.parts.gates))
    }

    /// Refuses sections that are longer than the parameters of their places.
    pub(crate) fn check_tokens(&self, tokens: usize) -> Result<(), FuserError> {
        let limit = self.all_in_one.as_ref().filter(|choices| choices.has_places()).map(|choices| choices.max_tokens);
        match limit {
            Some(limit) if tokens > limit => Err(FuserError::Shape {
                what: "sections of at most the tokens that this fuser has gates or weights for,",
                expected: limit.to_string(),
                found: tokens.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<(), FuserError> {
        let check = |ok: bool, key, found: String, expected: &str| {
            if ok { Ok(()) } else { Err(FuserError::Config { key, found, expected: expected.to_owned() }) }
        };
        for (key, n) in [
            ("sharer_heads", self.sharer_heads),
            ("sharer_head_dim", self.sharer_head_dim),
            ("sharer_layers", self.sharer_layers),
            ("receiver_heads", self.receiver_heads),
            ("receiver_head_dim", self.receiver_head_dim),
            ("hidden_dim", self.hidden_dim),
            ("intermediate_dim", self.intermediate_dim),
            ("anneal_steps", self.anneal_steps),
            ("layer_map", self.layer_map.len()),
        ] {
            check(n > 0, key, n.to_string(), "1 or more")?;
        }
        for (key, n, most) in [
            ("hidden_dim", self.hidden_dim, MAX_WIDTH),
            ("intermediate_dim", self.intermediate_dim, MAX_WIDTH),
            ("num_layers", self.num_layers, MAX_DEPTH),
            ("all_in_one.max_tokens", self.all_in_one.as_ref().map_or(1, |choices| choices.max_tokens), MAX_TOKENS),
        ] {
            check(n <= most, key, n.to_string(), &format!("at most {most}"))?;
        }
        if let Some(choices) = &self.all_in_one {
            check(self.num_layers > 0, "num_layers", self.num_layers.to_string(), "1 or more")?;
            check(self.parts.is_whole(), "parts", format!("{:?}", self.parts), "all in an all-in-one network")?;
            check(!self.zero_init, "zero_init", "true".into(), "false in an all-in-one network")?;
            choices.validate()?;
        } else {
            check(self.num_layers >= 3, "num_layers", self.num_layers.to_string(), "3 or more")?;
        }
        check((0.0..1.0).contains(&self.dropout), "dropout", self.dropout.to_string(), "0 or more, below 1")?;
        let (first, last) = (self.initial_temperature, self.final_temperature);
        check(first.is_finite() && first > 0.0, "initial_temperature", first.to_string(), "above 0")?;
        check(last > 0.0 && last <= first, "final_temperature", last.to_string(), "above 0, at most the initial one")?;
        let parts = self.parts;
        let alone = parts.receiver || !(parts.weights || parts.gates);
        check(alone, "parts", format!("{parts:?}"), "neither weights nor gates where the receiver takes no part")?;
        let inside = self.layer_map.iter().all(|l| *l < self.sharer_layers);
        check(inside, "layer_map", format!("{:?}", self.layer_map), "layers that the sharer has")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn config() -> FuserConfig {
        FuserConfig {
            sharer_heads: 2,
            sharer_head_dim: 64,
            sharer_layers: 24,
            receiver_heads: 8,
            receiver_head_dim: 128,
            layer_map: LayerMapping::LastAligned.map(28, 24),
            hidden_dim: 1024,
            intermediate_dim: 1024,
            num_layers: 3,
            dropout: 0.1,
            initial_temperature: 1.0,
            final_temperature: 0.001,
            anneal_steps: 1929,
            gate_noise: GateNoise::Gumbel,
            initial_gate_logit: 0.0,
            zero_init: false,
            parts: FuserParts::default(),
            all_in_one: None,
        }
    }

    #[test]
    fn the_papers_pair_has_478_million_parameters() {
        assert_eq!(config().num_params(), 477_848_056);
    }

    /// The pair and the choices of the recipe that the reference implementation has for its class.
    #[test]
    fn the_all_in_one_recipe_has_412_million_parameters() {
        use crate::{Features, Granularity, ReceiverTerm, Scaling};
        let choices = AllInOneConfig {
            activation: crate::Activation::Gelu,
            layer_norm: true,
            residual: true,
            swiglu: true,
            combine: true,
            receiver: ReceiverTerm::Added,
            gate: Scaling::default(),
            weight: Scaling { granularity: Granularity::HeadMerged, features: Some(Features::ProjectedKey) },
            weight_temperature: 1.0,
            initial_weight: 0.0,
            max_tokens: 8192,
        };
        let mut config = FuserConfig { sharer_head_dim: 128, sharer_layers: 28, all_in_one: Some(choices), ..config() };
        config.layer_map = LayerMapping::LastAligned.map(28, 28);
        assert!(config.validate().is_ok());
        assert_eq!((config.num_params(), config.num_params() / 28), (412_189_148, 14_721_041));
        if let Some(choices) = &mut config.all_in_one {
            choices.max_tokens = usize::MAX;
        }
        assert!(config.validate().unwrap_err().to_string().contains("all_in_one.max_tokens"));
        if let Some(choices) = &mut config.all_in_one {
            choices.max_tokens = 8192;
        }
        config.zero_init = true;
        assert!(config.validate().unwrap_err().to_string().contains("zero_init"));
    }

    #[test]
    fn every_bad_value_is_named() {
        let bad = |change: fn(&mut FuserConfig)| {
            let mut config = config();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(config().validate().is_ok());
        assert!(bad(|c| c.num_layers = 2).contains("num_layers = 2"));
        assert!(bad(|c| c.layer_map[3] = 24).contains("layer_map"));
        assert!(bad(|c| c.layer_map[3] = usize::MAX).contains("layer_map"));
        assert!(bad(|c| c.dropout = 1.0).contains("dropout"));
        assert!(bad(|c| c.final_temperature = 2.0).contains("final_temperature"));
        assert!(bad(|c| c.parts.receiver = false).contains("parts"));
        assert!(bad(|c| c.hidden_dim = 0).contains("hidden_dim"));
        assert!(bad(|c| c.hidden_dim = usize::MAX).contains("at most 1048576"));
        assert!(bad(|c| c.intermediate_dim = MAX_WIDTH + 1).contains("intermediate_dim = 1048577"));
        assert!(bad(|c| c.num_layers = usize::MAX).contains("at most 1024"));
    }
}
