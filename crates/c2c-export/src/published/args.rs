//! The JSON files of the published layout.
//!
//! Keys keep the names they have in the files; an argument that isn't listed here would change the fuser, so it is
//! refused.

use std::collections::BTreeMap;
use std::path::Path;

use c2c_fuser::{FuserConfig, GateNoise};
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::files;

/// The only class that is read; ablations have other formulas under the same parameter names.
const CLASS: &str = "C2CProjector";

/// `projector_config.json`: receiver model, sharer model, receiver layer, pairs of sharer layer and projector.
pub(crate) type LayerTable = BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<(usize, usize)>>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectorFile {
    class: String,
    init_args: Args,
}

/// The dtype of a fuser's parameters in the reference implementation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dtype {
    #[serde(rename = "__type__")]
    kind: String,
    value: String,
}

/// `init_args` of `projector_{i}.json`. Only what was passed is in the file; the rest has the reference
/// implementation's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    pub source_dim: usize,
    pub target_dim: usize,
    #[serde(default = "one")]
    pub source_num_heads: usize,
    #[serde(default = "one")]
    pub target_num_heads: usize,
    #[serde(default = "width")]
    intermediate_dim: usize,
    #[serde(default = "width")]
    hidden_dim: usize,
    #[serde(default = "blocks")]
    num_layers: usize,
    #[serde(default = "dropout")]
    dropout: f64,
    #[serde(default = "initial_temperature")]
    initial_temperature: f64,
    #[serde(default = "final_temperature")]
    final_temperature: f64,
    #[serde(default = "anneal_steps")]
    anneal_steps: usize,
    dtype: Option<Dtype>,
    #[serde(default)]
    zero_init: bool,
}

fn one() -> usize {
    1
}

fn width() -> usize {
    1024
}

fn blocks() -> usize {
    3
}

fn dropout() -> f64 {
    0.1
}

fn initial_temperature() -> f64 {
    1.0
}

fn final_temperature() -> f64 {
    0.001
}

fn anneal_steps() -> usize {
    1929
}

/// Rounds values to the dtype that the reference implementation would hold them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    F32,
    Bf16,
    F16,
}

impl Rounding {
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::F32 => {}
            Self::Bf16 => values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()),
            Self::F16 => values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
        }
    }
}

impl Args {
    /// Reads `projector_{i}.json`, or says why not.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file: ProjectorFile = read_json(path)?;
        if file.class != CLASS {
            return Err(format!("  {}: class `{}`, expected `{CLASS}`", path.display(), file.class));
        }
        file.init_args.rounding().map_err(|found| {
            format!("  {}: dtype {found}, expected float32, bfloat16 or float16 of torch.dtype", path.display())
        })?;
        Ok(file.init_args)
    }

    /// How values are held; the dtype itself if it is none of a fuser's.
    pub fn rounding(&self) -> Result<Rounding, String> {
        let Some(dtype) = &self.dtype else { return Ok(Rounding::F32) };
        match (dtype.kind.as_str(), dtype.value.as_str()) {
            ("torch.dtype", "float32") => Ok(Rounding::F32),
            ("torch.dtype", "bfloat16") => Ok(Rounding::Bf16),
            ("torch.dtype", "float16") => Ok(Rounding::F16),
            (kind, value) => Err(format!("`{value}` of `{kind}`")),
        }
    }

    /// The config of a fuser with these arguments in every layer.
    pub fn config(&self, layer_map: Vec<usize>, sharer_layers: usize) -> FuserConfig {
        FuserConfig {
            sharer_heads: self.source_num_heads,
            sharer_head_dim: self.source_dim,
            sharer_layers,
            receiver_heads: self.target_num_heads,
            receiver_head_dim: self.target_dim,
            layer_map,
            hidden_dim: self.hidden_dim,
            intermediate_dim: self.intermediate_dim,
            num_layers: self.num_layers,
            dropout: self.dropout,
            initial_temperature: self.initial_temperature,
            final_temperature: self.final_temperature,
            anneal_steps: self.anneal_steps,
            gate_noise: GateNoise::Gumbel,
            initial_gate_logit: 0.0,
            zero_init: self.zero_init,
        }
    }
}

/// A JSON file, or a line that says what is wrong with it.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = files::read_text(path).map_err(|e| format!("  {e}"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("  {}: {e}", path.display()))
}
