//! `init_args` of an `AllInOneProjector`.

use c2c_fuser::{Activation, AllInOneConfig, Features, FuserConfig, GateNoise, Granularity, ReceiverTerm, Scaling};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::args::Dtype;

/// The class's name.
pub(crate) const ALL_IN_ONE_CLASS: &str = "AllInOneProjector";

/// The names of inputs there.
const FEATURES: [(&str, Features); 6] = [
    ("target_key", Features::ReceiverKey),
    ("target_value", Features::ReceiverValue),
    ("both", Features::ReceiverBoth),
    ("target_projected_key", Features::ProjectedKey),
    ("target_projected_value", Features::ProjectedValue),
    ("target_projected_both", Features::ProjectedBoth),
];

/// The arguments. Only what was passed is in the file; the rest has the reference implementation's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AllInOneArgs {
    pub source_dim: usize,
    pub target_dim: usize,
    pub source_num_heads: usize,
    pub target_num_heads: usize,
    hidden_dim: usize,
    num_layers: usize,
    dropout: f64,
    activation: String,
    use_layer_norm: bool,
    use_residual: bool,
    use_swiglu: bool,
    gate_granularity: Granularity,
    gate_depends_on_input: bool,
    gate_input_features: Option<String>,
    /// Not used there.
    gate_init_value: f64,
    weight_granularity: Granularity,
    weight_depends_on_input: bool,
    weight_input_features: Option<String>,
    weight_init_value: f64,
    preserve_target_weight: bool,
    add_self: bool,
    use_concat: bool,
    weight_hidden_dim: usize,
    /// Of training alone.
    use_gumbel: bool,
    initial_temperature: f64,
    final_temperature: f64,
    anneal_steps: usize,
    scalar_temperature: f64,
    max_sequence_length: usize,
    /// Not used there.
    pos_emb: bool,
    pub dtype: Option<Dtype>,
}

impl Default for AllInOneArgs {
    fn default() -> Self {
        Self {
            source_dim: 0,
            target_dim: 0,
            source_num_heads: 1,
            target_num_heads: 1,
            hidden_dim: 512,
            num_layers: 2,
            dropout: 0.1,
            activation: "gelu".to_owned(),
            use_layer_norm: true,
            use_residual: true,
            use_swiglu: false,
            gate_granularity: Granularity::Scalar,
            gate_depends_on_input: false,
            gate_input_features: None,
            gate_init_value: 0.0,
            weight_granularity: Granularity::Scalar,
            weight_depends_on_input: false,
            weight_input_features: None,
            weight_init_value: 0.0,
            preserve_target_weight: true,
            add_self: true,
            use_concat: false,
            weight_hidden_dim: 1024,
            use_gumbel: true,
            initial_temperature: 1.0,
            final_temperature: 0.01,
            anneal_steps: 1360,
            scalar_temperature: 0.005,
            max_sequence_length: 8192,
            pos_emb: false,
            dtype: None,
        }
    }
}

impl AllInOneArgs {
    /// Refuses what the class itself can't run or this program doesn't know; a line each.
    pub fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        if self.activation().is_none() {
            problems.push(format!("activation = {:?}, expected gelu, relu or silu", self.activation));
        }
        for (what, depends, granularity, features) in [
            ("gate", self.gate_depends_on_input, self.gate_granularity, &self.gate_input_features),
            ("weight", self.weight_depends_on_input, self.weight_granularity, &self.weight_input_features),
        ] {
            if depends && scaling(granularity, depends, features).features.is_none() {
                let words: Vec<&str> = FEATURES.iter().map(|(word, _)| *word).collect();
                problems.push(format!("{what}_input_features = {features:?}, expected one of {}", words.join(", ")));
            }
            if !depends && granularity == Granularity::HeadMerged {
                problems
                    .push(format!("{what}_granularity = head_merged without input: the class has no such parameter"));
            }
        }
        if self.gate_depends_on_input && self.gate_granularity == Granularity::Token {
            problems.push("gate_granularity = token with input: the class fails on it when it runs".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    fn activation(&self) -> Option<Activation> {
        match self.activation.to_lowercase().as_str() {
            "gelu" => Some(Activation::Gelu),
            "relu" => Some(Activation::Relu),
            "silu" => Some(Activation::Silu),
            _ => None,
        }
    }

    /// The config of a fuser with these arguments in every layer.
    pub fn config(&self, layer_map: Vec<usize>, sharer_layers: usize) -> FuserConfig {
        let receiver = match (self.add_self, self.preserve_target_weight) {
            (true, true) => ReceiverTerm::Blended,
            (true, false) => ReceiverTerm::Added,
            (false, _) => ReceiverTerm::Replaced,
        };
        let choices = AllInOneConfig {
            activation: self.activation().unwrap_or_default(),
            layer_norm: self.use_layer_norm,
            residual: self.use_residual,
            swiglu: self.use_swiglu,
            combine: self.use_concat,
            receiver,
            gate: scaling(self.gate_granularity, self.gate_depends_on_input, &self.gate_input_features),
            weight: scaling(self.weight_granularity, self.weight_depends_on_input, &self.weight_input_features),
            weight_temperature: self.scalar_temperature,
            initial_weight: self.weight_init_value,
            max_tokens: self.max_sequence_length,
        };
        FuserConfig {
            sharer_heads: self.source_num_heads,
            sharer_head_dim: self.source_dim,
            sharer_layers,
            receiver_heads: self.target_num_heads,
            receiver_head_dim: self.target_dim,
            layer_map,
            hidden_dim: self.hidden_dim,
            intermediate_dim: self.weight_hidden_dim,
            num_layers: self.num_layers,
            dropout: self.dropout,
            initial_temperature: self.initial_temperature,
            final_temperature: self.final_temperature,
            anneal_steps: self.anneal_steps,
            gate_noise: GateNoise::Gumbel,
            initial_gate_logit: 0.0,
            zero_init: false,
            parts: c2c_fuser::FuserParts::default(),
            all_in_one: Some(choices),
        }
    }
}

/// Without a word for the input it is that of the class's own default.
fn scaling(granularity: Granularity, depends: bool, features: &Option<String>) -> Scaling {
    let word = features.as_deref().unwrap_or("target_key");
    let known = FEATURES.iter().find(|(name, _)| *name == word).map(|(_, features)| *features);
    Scaling { granularity, features: known.filter(|_| depends) }
}

/// The arguments that only this class has, for `projector_{i}.json`.
pub(super) fn init_args(config: &FuserConfig, choices: &AllInOneConfig, args: &mut Map<String, Value>) {
    let word = |features: Option<Features>| {
        features.and_then(|features| FEATURES.iter().find(|(_, known)| *known == features).map(|(word, _)| *word))
    };
    let Value::Object(own) = json!({
        "activation": choices.activation,
        "use_layer_norm": choices.layer_norm,
        "use_residual": choices.residual,
        "use_swiglu": choices.swiglu,
        "gate_granularity": choices.gate.granularity,
        "gate_depends_on_input": choices.gate.features.is_some(),
        "weight_granularity": choices.weight.granularity,
        "weight_depends_on_input": choices.weight.features.is_some(),
        "weight_init_value": choices.initial_weight,
        "preserve_target_weight": choices.receiver == ReceiverTerm::Blended,
        "add_self": choices.receiver != ReceiverTerm::Replaced,
        "use_concat": choices.combine,
        "weight_hidden_dim": config.intermediate_dim,
        "scalar_temperature": choices.weight_temperature,
        "max_sequence_length": choices.max_tokens,
    }) else {
        return;
    };
    args.remove("intermediate_dim");
    args.extend(own);
    for (key, scaling) in [("gate_input_features", choices.gate), ("weight_input_features", choices.weight)] {
        if let Some(word) = word(scaling.features) {
            args.insert(key.to_owned(), json!(word));
        }
    }
}
