//! `fuser_config.json`, typed.

use std::path::Path;

use c2c_fuser::{FuserConfig, LayerMapping};
use c2c_lm::{Lm, LmConfig, LmError};
use serde::{Deserialize, Serialize};

use super::format::WeightsFormat;
use crate::files::{reason, shown};
use crate::json::{Shown, bounded_list};
use crate::{ExportError, files, layout};

/// The version of both files that this program writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// What `kind` says in `fuser_config.json`, and `format` in the metadata of `fuser.safetensors`.
pub const KIND: &str = "c2c-fuser";

/// Which model one side of the fuser was trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelId {
    /// The folder or hub id, as the recipe names it.
    pub name: String,
    /// As in the model's own config: `qwen3`, `llama`, ..
    pub model_type: String,
    /// Decoder layers.
    pub layers: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The number format it was held in, `f32` or `bf16`; unknown in an imported fuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// [`c2c_lm::Fingerprint`] of the weights in that format; unknown in an imported fuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
}

impl ModelId {
    /// The identity of a loaded model; `name` as the recipe names it, `dtype` as it was loaded.
    ///
    /// # Errors
    /// Weights that can't be read back from the device.
    pub fn of<B: burn::tensor::backend::Backend>(name: &str, dtype: &str, model: &Lm<B>) -> Result<Self, LmError> {
        Ok(Self::new(name, dtype, model.config(), model.fingerprint()?.0))
    }

    /// The identity of a model whose fingerprint is known.
    pub fn new(name: &str, dtype: &str, config: &LmConfig, weights_sha256: String) -> Self {
        Self::described(name, config, Some((dtype.to_owned(), weights_sha256)))
    }

    /// The identity of a model whose weights are unknown.
    pub fn of_config(name: &str, config: &LmConfig) -> Self {
        Self::described(name, config, None)
    }

    fn described(name: &str, config: &LmConfig, weights: Option<(String, String)>) -> Self {
        let (dtype, weights_sha256) = weights.unzip();
        let model_type = match config.family {
            c2c_lm::Family::Llama => "llama",
            c2c_lm::Family::Qwen2 => "qwen2",
            c2c_lm::Family::Qwen3 => "qwen3",
            c2c_lm::Family::Gemma3 => "gemma3_text",
        };
        Self {
            name: name.to_owned(),
            model_type: model_type.to_owned(),
            layers: config.num_layers,
            kv_heads: config.num_kv_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            dtype,
            weights_sha256,
        }
    }
}

/// What the Sharer read in training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlignmentInfo {
    /// How the Sharer's prompt was made, as in the recipe's `alignment.mode`.
    pub mode: String,
    /// Which of several tokens was taken, as in the recipe's `alignment.strategy`.
    pub strategy: String,
    /// How finely messages were cut, as in the recipe's `alignment.sections`.
    pub sections: String,
}

/// How the fuser came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingInfo {
    /// The recipe's name.
    pub recipe_name: String,
    /// SHA-256 of the resolved recipe.
    pub recipe_hash: String,
    /// Optimiser steps that were taken.
    pub steps: usize,
    /// The seed of the run.
    pub seed: u64,
    /// The gate temperature that was reached; written with 9 significant digits.
    pub final_temperature: f64,
    /// What it was trained on: one object a source, with its fingerprint.
    #[serde(deserialize_with = "bounded_list")]
    pub data: Vec<serde_json::Value>,
}

/// Where an imported fuser comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The layout it was read from.
    pub layout: String,
    /// The folder or hub id, as it was given.
    pub name: String,
    /// The class in `projector_{i}.json`.
    pub class: String,
    /// The number format in `projector_{i}.json`.
    pub dtype: String,
    /// The gate temperature of each receiver layer, as the files have it. Empty without gates.
    pub gate_temperature: Vec<f32>,
    /// SHA-256 over what `sha256sum projector_*` prints in the folder of those files, in the order of their bytes.
    pub files_sha256: String,
}

/// What [`save`](super::save) needs to know besides the fuser.
#[derive(Clone, Debug, PartialEq)]
pub struct ArtefactInfo {
    /// How the layer map was made.
    pub layer_mapping: LayerMapping,
    /// The model that answers.
    pub receiver: ModelId,
    /// The model that is listened to.
    pub sharer: ModelId,
    /// What the Sharer read.
    pub alignment: AlignmentInfo,
    /// How the fuser came about.
    pub training: TrainingInfo,
}

/// `fuser_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtefactConfig {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// [`KIND`].
    pub kind: String,
    /// Shape and training behaviour of the fuser.
    pub fuser: FuserConfig,
    /// How `fuser.layer_map` was made; unknown in an imported fuser with a map of another making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_mapping: Option<LayerMapping>,
    /// The model that answers.
    pub receiver: ModelId,
    /// The model that is listened to.
    pub sharer: ModelId,
    /// What the Sharer read.
    pub alignment: AlignmentInfo,
    /// How the fuser came about; unknown in an imported fuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingInfo>,
    /// Where an imported fuser comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// How the weights are stored; not written for all branches in f32.
    #[serde(default, skip_serializing_if = "WeightsFormat::is_plain")]
    pub weights: WeightsFormat,
    /// SHA-256 of `fuser.safetensors`.
    pub weights_sha256: String,
}

impl ArtefactConfig {
    pub(crate) fn new(fuser: &FuserConfig, info: &ArtefactInfo) -> Self {
        let mut training = info.training.clone();
        training.final_temperature = nine_digits(training.final_temperature);
        Self {
            schema_version: SCHEMA_VERSION,
            kind: KIND.to_owned(),
            fuser: fuser.clone(),
            layer_mapping: Some(info.layer_mapping),
            receiver: info.receiver.clone(),
            sharer: info.sharer.clone(),
            alignment: info.alignment.clone(),
            training: Some(training),
            origin: None,
            weights: WeightsFormat::default(),
            weights_sha256: String::new(),
        }
    }

    pub(crate) fn to_text(&self, path: &Path) -> Result<Vec<u8>, ExportError> {
        let json = |e: serde_json::Error| ExportError::Json { path: path.to_owned(), reason: reason(e) };
        let mut text = serde_json::to_vec_pretty(self).map_err(json)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads and checks the file.
    pub(crate) fn read(path: &Path) -> Result<Self, ExportError> {
        /// Read first: another version may have other fields.
        #[derive(Deserialize)]
        struct Head {
            schema_version: Shown,
            kind: Shown,
        }
        let bytes = files::read_config(path)?;
        let json = |e: serde_json::Error| ExportError::Json { path: path.to_owned(), reason: reason(e) };
        let head: Head = serde_json::from_slice(&bytes).map_err(json)?;
        let kind = format!("\"{KIND}\"");
        if head.kind.0 != kind {
            return Err(value_error(path, "kind", head.kind.0, kind));
        }
        if head.schema_version.0 != SCHEMA_VERSION.to_string() {
            let found = head.schema_version.0;
            return Err(ExportError::SchemaVersion { path: path.to_owned(), found, expected: SCHEMA_VERSION });
        }
        let config: Self = serde_json::from_slice(&bytes).map_err(json)?;
        config.check(path)?;
        Ok(config)
    }

    /// Checks every value, and the models against the fuser.
    pub(crate) fn check(&self, path: &Path) -> Result<(), ExportError> {
        let f = &self.fuser;
        layout::slots(f).map_err(|e| value_error(path, &format!("fuser.{}", e.key), e.found, e.expected))?;
        f.validate()?;
        for (key, found, fuser_key, expected) in [
            ("receiver.layers", self.receiver.layers, "entries of layer_map", f.layers()),
            ("receiver.kv_heads", self.receiver.kv_heads, "receiver_heads", f.receiver_heads),
            ("receiver.head_dim", self.receiver.head_dim, "receiver_head_dim", f.receiver_head_dim),
            ("sharer.layers", self.sharer.layers, "sharer_layers", f.sharer_layers),
            ("sharer.kv_heads", self.sharer.kv_heads, "sharer_heads", f.sharer_heads),
            ("sharer.head_dim", self.sharer.head_dim, "sharer_head_dim", f.sharer_head_dim),
        ] {
            if found != expected {
                return Err(value_error(path, key, found.to_string(), format!("{expected}, the fuser's {fuser_key}")));
            }
        }
        let shut = &self.weights.shut;
        let inside = shut.is_sorted_by(|a, b| a < b) && shut.last().is_none_or(|b| *b < f.branches());
        if !inside || shut.len() == f.branches() || !(shut.is_empty() || f.parts.gates && f.all_in_one.is_none()) {
            let expected = format!("some of the {} branches, ascending, in a fuser with gates", f.branches());
            return Err(value_error(path, "weights.shut", format!("{shut:?}"), expected));
        }
        if self.training.is_none() && self.origin.is_none() {
            let expected = "one of the two: a fuser is either trained here or imported".to_owned();
            return Err(value_error(path, "training and origin", "neither".to_owned(), expected));
        }
        Ok(())
    }
}

fn value_error(path: &Path, key: &str, found: String, expected: String) -> ExportError {
    ExportError::Value { path: path.to_owned(), key: key.to_owned(), found: shown(&found), expected }
}

/// Numbers of at most 9 digits are read back from JSON exactly, longer ones may be off in the last place.
fn nine_digits(x: f64) -> f64 {
    format!("{x:.8e}").parse().unwrap_or(x)
}
