//! Reader of fusers in the layout of the reference implementation (thu-nics/C2C).
//!
//! A folder holds, itself or in its subfolder `final`, one `projector_{i}.pt` with its `projector_{i}.json` a receiver
//! layer, and `projector_config.json`, which says for each receiver layer which sharer layer it reads and which
//! projector it uses. "Source" there is the Sharer, "target" the Receiver.
//!
//! The reference implementation skips keys that are missing or extra; here they are errors, all at once.

mod all_in_one;
mod args;
mod import;
mod params;
mod recipe;
mod torch;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig, FuserError};
use c2c_lm::LmConfig;

pub use import::{ImportedModel, import, measurements};
pub use params::{LayerParam, join_params, named_layer_params, split_param};
pub use recipe::PublishedRecipe;
pub(crate) use write::write;

use crate::artefact::WeightsDtype;
use crate::files::read_error;
use crate::{ExportError, layout};
use args::{Args, LayerTable, Rounding, read_json};
use torch::{TEMPERATURE, TorchFile};

/// The file that marks a published folder.
const TABLE_FILE: &str = "projector_config.json";

/// Where training leaves the folder.
const SUBFOLDER: &str = "final";

/// More receiver layers than any model has; bounds the work that a damaged file can ask for.
const MAX_LAYERS: usize = 512;

/// What the layout is called in the artefact's origin.
pub const LAYOUT: &str = "thu-nics/C2C";

/// A fuser in the published layout, loaded.
#[derive(Debug)]
pub struct Published<B: Backend> {
    /// The fuser, in f32.
    pub fuser: Fuser<B>,
    /// The gate temperature of each layer when it was saved; empty in a fuser without gates.
    pub gate_temperature: Vec<f32>,
    /// The class in `projector_{i}.json`.
    pub class: &'static str,
    /// The number format in `projector_{i}.json`, to which all values are rounded: `f32`, `bf16` or `f16`.
    pub dtype: WeightsDtype,
}

/// Loads a fuser that was trained for these two models.
///
/// # Errors
/// A file that is missing, unused, damaged or contradicts another or the models; all missing, unused and misshapen
/// tensors. They are listed together.
pub fn load<B: Backend>(
    dir: &Path,
    receiver: &LmConfig,
    sharer: &LmConfig,
    device: &B::Device,
) -> Result<Published<B>, ExportError> {
    let dir = folder(dir)?;
    let refuse = |problems| ExportError::Published { path: dir.clone(), problems };
    let table: LayerTable = read_json(&dir.join(TABLE_FILE)).map_err(|p| refuse(vec![p]))?;
    let layers = layers(&table, receiver.num_layers, sharer.num_layers).map_err(refuse)?;
    let projectors: Vec<usize> = layers.iter().map(|l| l.1).collect();
    let mut problems = unused_projectors(&dir, &projectors)?;
    let args = match same_args(&dir, &projectors) {
        Ok(args) => args,
        Err(more) => {
            problems.extend(more);
            return Err(refuse(problems));
        }
    };
    problems.extend(other_models(&args, receiver, sharer));
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let config = args.config(layers.iter().map(|l| l.0).collect(), sharer.num_layers);
    let files: Vec<PathBuf> = projectors.iter().map(|p| dir.join(format!("projector_{p}.pt"))).collect();
    read_files(&dir, &config, &args, &files, device)
}

/// Loads the fuser of a single layer from its two files: one receiver layer that reads one sharer layer.
///
/// # Errors
/// As [`load`].
pub fn load_single<B: Backend>(pt: &Path, json: &Path, device: &B::Device) -> Result<Fuser<B>, ExportError> {
    let refuse = |problem| ExportError::Published { path: pt.to_owned(), problems: vec![problem] };
    let args = Args::read(json).map_err(refuse)?;
    let config = args.config(vec![0], 1);
    Ok(read_files(pt, &config, &args, &[pt.to_owned()], device)?.fuser)
}

/// Reads one file a receiver layer into one stacked fuser.
fn read_files<B: Backend>(
    shown: &Path,
    config: &FuserConfig,
    args: &Args,
    files: &[PathBuf],
    device: &B::Device,
) -> Result<Published<B>, ExportError> {
    let refuse = |problems| ExportError::Published { path: shown.to_owned(), problems };
    let slots = layout::slots(config)
        .map_err(|e| refuse(vec![format!("  init_args: {} = {}, expected {}", e.key, e.found, e.expected)]))?;
    config.validate()?;
    let rounding = args.rounding().map_err(|found| refuse(vec![format!("  init_args: dtype {found}")]))?;
    let (mut opened, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        match TorchFile::open(path, &slots, config.parts.gates, rounding) {
            Ok(file) => opened.push(file),
            Err(more) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let read = |name: &str, shape: [usize; 3]| {
        let slot = layout::find(&slots, name).ok_or_else(|| format!("  {name}: no such parameter"))?;
        let mut stacked = Vec::with_capacity(shape.iter().product());
        for branch in 0..shape[0] {
            let layer = branch % opened.len();
            let file = &mut opened[layer];
            stacked.extend(slot.stack_branch(file.read(&slot.published_name(branch))?));
        }
        Ok(stacked)
    };
    let fuser = Fuser::load(config, device, read).map_err(|e| match e {
        FuserError::Weights(problems) => refuse(problems),
        other => other.into(),
    })?;
    let mut gate_temperature = Vec::new();
    for file in opened.iter_mut().filter(|_| config.parts.gates) {
        gate_temperature.extend(file.read(TEMPERATURE).map_err(|problem| refuse(vec![problem]))?);
    }
    let dtype = match rounding {
        Rounding::F32 => WeightsDtype::F32,
        Rounding::Bf16 => WeightsDtype::Bf16,
        Rounding::F16 => WeightsDtype::F16,
    };
    Ok(Published { fuser, gate_temperature, class: args.class(), dtype })
}

/// The folder itself, or its subfolder.
fn folder(dir: &Path) -> Result<PathBuf, ExportError> {
    let found = [dir.to_owned(), dir.join(SUBFOLDER)].into_iter().find(|d| d.join(TABLE_FILE).is_file());
    found.ok_or_else(|| ExportError::Published {
        path: dir.to_owned(),
        problems: vec![format!("  {TABLE_FILE}: missing, expected in the folder or in its subfolder {SUBFOLDER}")],
    })
}

/// For each receiver layer the sharer layer it reads and its projector.
fn layers(table: &LayerTable, depth: usize, sharer_depth: usize) -> Result<Vec<(usize, usize)>, Vec<String>> {
    // The sharer's own number is its place in the run that saved the folder, and means nothing here.
    let by_layer = match table.0.get("0").filter(|_| table.0.len() == 1).map(|s| (s.0.len(), s.0.values().next())) {
        Some((1, Some(by_layer))) => &by_layer.0,
        _ => return Err(vec![format!("  {TABLE_FILE}: expected one receiver, `0`, with one sharer")]),
    };
    if depth > MAX_LAYERS || by_layer.len() > MAX_LAYERS {
        let found = depth.max(by_layer.len());
        return Err(vec![format!("  {TABLE_FILE}: {found} receiver layers, at most {MAX_LAYERS} are read")]);
    }
    let mut problems = Vec::new();
    let mut wanted: BTreeMap<String, usize> = (0..depth).map(|l| (l.to_string(), l)).collect();
    let mut found = vec![(0, 0); depth];
    for (key, pairs) in by_layer {
        match (wanted.remove(key), pairs.first()) {
            (None, _) => {
                problems.push(format!("  {TABLE_FILE}: layer `{key}`, expected 0 to {}", depth.saturating_sub(1)))
            }
            (Some(layer), None) => problems.push(format!("  {TABLE_FILE}: layer {layer}: no pair, expected one")),
            (Some(layer), Some((sharer, _))) if *sharer >= sharer_depth => problems.push(format!(
                "  {TABLE_FILE}: layer {layer}: sharer layer {sharer}, expected one of the sharer's {sharer_depth}"
            )),
            // Only the first pair takes part in the fusion.
            (Some(layer), Some(pair)) => found[layer] = *pair,
        }
    }
    problems.extend(wanted.values().map(|layer| format!("  {TABLE_FILE}: layer {layer}: missing")));
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// A line for each `projector_{i}.pt` that no layer uses. Missing ones show when they are read.
fn unused_projectors(dir: &Path, used: &[usize]) -> Result<Vec<String>, ExportError> {
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read_error(dir))? {
        let name = entry.map_err(read_error(dir))?.file_name();
        let name = name.to_string_lossy();
        let index = name.strip_prefix("projector_").and_then(|rest| rest.strip_suffix(".pt"));
        if let Some(index) = index.and_then(|i| i.parse::<usize>().ok()).filter(|i| !used.contains(i)) {
            problems.push(format!("  projector_{index}.pt: used by no layer of {TABLE_FILE}"));
        }
    }
    problems.sort();
    Ok(problems)
}

/// The arguments that all projectors share.
fn same_args(dir: &Path, projectors: &[usize]) -> Result<Args, Vec<String>> {
    let mut first: Option<(usize, Args)> = None;
    let mut problems = Vec::new();
    for projector in projectors {
        match (Args::read(&dir.join(format!("projector_{projector}.json"))), &first) {
            (Err(problem), _) => problems.push(problem),
            (Ok(args), None) => first = Some((*projector, args)),
            (Ok(args), Some((other, expected))) if args != *expected => problems.push(format!(
                "  projector_{projector}.json: other init_args than projector_{other}.json, expected the same in all layers"
            )),
            (Ok(_), Some(_)) => {}
        }
    }
    match first {
        Some((_, args)) if problems.is_empty() => Ok(args),
        None if problems.is_empty() => Err(vec![format!("  {TABLE_FILE}: no layer, expected one or more")]),
        _ => Err(problems),
    }
}

/// A line for each number in which the models differ from those the fuser was made for.
fn other_models(args: &Args, receiver: &LmConfig, sharer: &LmConfig) -> Vec<String> {
    let models = [
        ("sharer's key and value heads", sharer.num_kv_heads),
        ("sharer's head width", sharer.head_dim),
        ("receiver's key and value heads", receiver.num_kv_heads),
        ("receiver's head width", receiver.head_dim),
    ];
    let compared = args.shape().into_iter().zip(models);
    compared
        .filter(|((_, found), (_, expected))| found != expected)
        .map(|((key, found), (what, expected))| {
            format!("  init_args: {key} = {found}, expected the {what}, {expected}")
        })
        .collect()
}
