//! The JSON files of the published layout.
//!
//! Keys keep the names they have in the files; an argument that isn't listed here would change the fuser, so it is
//! refused.

use std::path::Path;

use c2c_fuser::{FuserConfig, FuserParts, GateNoise};
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::all_in_one::{ALL_IN_ONE_CLASS, AllInOneArgs};
use crate::files;
use crate::json::{Table, bounded};

/// The paper's fuser.
pub(crate) const CLASS: &str = "C2CProjector";
/// The paper's fuser without some of its parts.
pub(crate) const ABLATION_CLASS: &str = "AblationProjector";
/// Other classes of the reference implementation, by name: their networks are different ones.
const OTHER_CLASSES: [&str; 4] = ["TrivialProjector", "ReplaceProjector", "AdditiveProjector", "MLPProjector"];

/// `projector_config.json`: receiver model, sharer model, receiver layer, pairs of sharer layer and projector.
pub(crate) type LayerTable = Table<Table<Table<Vec<(usize, usize)>>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectorFile {
    class: String,
    #[serde(deserialize_with = "bounded")]
    init_args: serde_json::Value,
}

/// The dtype of a fuser's parameters in the reference implementation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dtype {
    #[serde(rename = "__type__")]
    kind: String,
    value: String,
}

/// `init_args` of `projector_{i}.json`, by class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Args {
    /// Of the paper's fuser and its ablations.
    Paper(Box<PaperArgs>),
    /// Of the older network.
    AllInOne(Box<AllInOneArgs>),
}

/// Only what was passed is in the file; the rest has the reference implementation's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaperArgs {
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
    /// Of the ablation alone, like the three that follow. Stands in for the class: `None` is the paper's fuser.
    ablation_level: Option<u8>,
    use_scalar_weights: Option<bool>,
    use_gates: Option<bool>,
    use_target: Option<bool>,
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
        let refuse = |problem: String| format!("  {}: {problem}", path.display());
        // The registry of the reference implementation knows both spellings.
        let args = if file.class == ALL_IN_ONE_CLASS || file.class == ALL_IN_ONE_CLASS.to_lowercase() {
            let args: AllInOneArgs = serde_json::from_value(file.init_args).map_err(|e| refuse(files::reason(e)))?;
            args.check().map_err(refuse)?;
            Self::AllInOne(Box::new(args))
        } else {
            check_name(&file.class).map_err(refuse)?;
            let mut args: PaperArgs = serde_json::from_value(file.init_args).map_err(|e| refuse(files::reason(e)))?;
            args.check_class(&file.class).map_err(refuse)?;
            Self::Paper(Box::new(args))
        };
        args.rounding()
            .map_err(|found| refuse(format!("dtype {found}, expected float32, bfloat16 or float16 of torch.dtype")))?;
        Ok(args)
    }

    /// The class that the arguments belong to.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Paper(args) if args.ablation_level.is_some() => ABLATION_CLASS,
            Self::Paper(_) => CLASS,
            Self::AllInOne(_) => ALL_IN_ONE_CLASS,
        }
    }

    /// Heads and their width by their names in the files: the Sharer's, then the Receiver's.
    pub fn shape(&self) -> [(&'static str, usize); 4] {
        let [sharer_heads, sharer, receiver_heads, receiver] = match self {
            Self::Paper(a) => [a.source_num_heads, a.source_dim, a.target_num_heads, a.target_dim],
            Self::AllInOne(a) => [a.source_num_heads, a.source_dim, a.target_num_heads, a.target_dim],
        };
        [
            ("source_num_heads", sharer_heads),
            ("source_dim", sharer),
            ("target_num_heads", receiver_heads),
            ("target_dim", receiver),
        ]
    }

    /// How values are held; the dtype itself if it is none of a fuser's.
    pub fn rounding(&self) -> Result<Rounding, String> {
        let dtype = match self {
            Self::Paper(args) => &args.dtype,
            Self::AllInOne(args) => &args.dtype,
        };
        let Some(dtype) = dtype else { return Ok(Rounding::F32) };
        match (dtype.kind.as_str(), dtype.value.as_str()) {
            ("torch.dtype", "float32") => Ok(Rounding::F32),
            ("torch.dtype", "bfloat16") => Ok(Rounding::Bf16),
            ("torch.dtype", "float16") => Ok(Rounding::F16),
            (kind, value) => Err(format!("`{value}` of `{kind}`")),
        }
    }

    /// The config of a fuser with these arguments in every layer.
    pub fn config(&self, layer_map: Vec<usize>, sharer_layers: usize) -> FuserConfig {
        match self {
            Self::Paper(args) => args.config(layer_map, sharer_layers),
            Self::AllInOne(args) => args.config(layer_map, sharer_layers),
        }
    }
}

/// Refuses classes that this program doesn't have, by name.
fn check_name(class: &str) -> Result<(), String> {
    let is = |name: &&str| class == *name || class == name.to_lowercase();
    if [CLASS, ABLATION_CLASS].iter().any(is) {
        return Ok(());
    }
    let why = if OTHER_CLASSES.iter().any(is) { ": another network, which this program doesn't have" } else { "" };
    Err(format!("class `{class}`{why}; expected `{CLASS}`, `{ABLATION_CLASS}` or `{ALL_IN_ONE_CLASS}`"))
}

impl PaperArgs {
    /// Refuses what can't be run exactly, by name. Afterwards `ablation_level` is there exactly in an ablation.
    fn check_class(&mut self, class: &str) -> Result<(), String> {
        let own = [
            ("use_scalar_weights", self.use_scalar_weights),
            ("use_gates", self.use_gates),
            ("use_target", self.use_target),
        ];
        if class == CLASS || class == CLASS.to_lowercase() {
            let level = self.ablation_level.map(|_| "ablation_level");
            let found = level.or_else(|| own.iter().find(|(_, value)| value.is_some()).map(|(key, _)| *key));
            return found.map_or(Ok(()), |key| Err(format!("{key}: a {CLASS} has no such argument")));
        }
        let level = *self.ablation_level.get_or_insert(0);
        if level > 4 {
            return Err(format!("ablation_level = {level}, expected 0 to 4"));
        }
        let parts = self.parts();
        for ((key, value), there) in own.into_iter().zip([parts.weights, parts.gates, parts.receiver]) {
            if value == Some(false) && there {
                return Err(format!(
                    "{key} = false at ablation_level {level}, which has that part: only levels are read"
                ));
            }
        }
        Ok(())
    }

    /// The parts that the level leaves.
    fn parts(&self) -> FuserParts {
        match self.ablation_level.unwrap_or(0) {
            0 => FuserParts::default(),
            1 => FuserParts { weights: false, ..FuserParts::default() },
            2 => FuserParts { weights: false, gates: false, receiver: true },
            3 => FuserParts { weights: false, gates: false, receiver: false },
            _ => FuserParts { gates: false, ..FuserParts::default() },
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
            parts: self.parts(),
            all_in_one: None,
        }
    }
}

/// A JSON file, or a line that says what is wrong with it.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = files::read_config(path).map_err(|e| format!("  {e}"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("  {}: {}", path.display(), files::reason(e)))
}
