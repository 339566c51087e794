//! `c2c export` with another format, number format, or without the branches that do nothing.

use std::path::Path;

use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn_store::{BurnpackStore, ModuleSnapshot};
use c2c_fuser::Fuser;
use c2c_kernels::KernelBackend;

use crate::artefact::staging::{Known, Staging};
use crate::artefact::{
    self, ArtefactConfig, CARD_FILE, CONFIG_FILE, CardOf, CardSections, WeightsDtype, WeightsFormat,
};
use crate::measure::fused_loss;
use crate::onnx::{EXTERNAL_FROM, write_onnx};
use crate::{ExportError, files, layout, published};

/// The weights of a burnpack export.
pub const BURNPACK_FILE: &str = "fuser.bpk";

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportFormat {
    /// The artefact of this project.
    #[default]
    Safetensors,
    /// Burn's own file, for programs that use Burn and `c2c-fuser`.
    Burnpack,
    /// The layout of the reference implementation.
    Pytorch,
    /// One ONNX graph, in f32.
    Onnx,
}

/// How an artefact is converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// What is written.
    pub format: ExportFormat,
    /// The number format; `None` keeps that of the artefact.
    pub dtype: Option<WeightsDtype>,
    /// Leaves out the branches whose gate is shut.
    pub prune: bool,
}

/// Writes the artefact `from` to `to` in another form and returns the config of what was written.
///
/// What a narrower number format costs is measured, see [`fused_loss`], and noted in config and card. What was measured with
/// the source stays in the card, with the hash of the weights that it was measured with.
///
/// # Errors
/// What [`artefact::load`] refuses; options that don't go together, or not with this artefact; an existing target.
pub fn convert<B: KernelBackend>(
    from: &Path,
    to: &Path,
    options: ExportOptions,
    overwrite: bool,
    device: &B::Device,
) -> Result<ArtefactConfig, ExportError> {
    let source = artefact::read_config(from)?;
    check(from, &source, options)?;
    // Of an ONNX graph, all values are f32.
    let kept = if options.format == ExportFormat::Onnx { WeightsDtype::F32 } else { source.weights.dtype };
    let dtype = options.dtype.unwrap_or(kept);
    if options.format == ExportFormat::Safetensors && dtype == source.weights.dtype && !options.prune {
        artefact::copy(from, to, overwrite)?;
        return artefact::read_config(to);
    }
    let loaded = artefact::load::<B>(from, device)?;
    let mut config = loaded.config;
    let narrowed = dtype != config.weights.dtype && dtype != WeightsDtype::F32;
    config.weights.dtype = dtype;
    if options.prune && config.weights.shut.is_empty() && config.fuser.parts.gates {
        config.weights.shut = shut(from, &loaded.fuser)?;
    }
    // Of the other forms, two have one number format for all values, gates and tables among them.
    let all = matches!(options.format, ExportFormat::Burnpack | ExportFormat::Pytorch);
    let narrow = matches!(dtype, WeightsDtype::Bf16 | WeightsDtype::F16);
    // What will be read from the file that is written.
    let written = match narrowed || (all && narrow) {
        true => Some(rounded(&loaded.fuser, &config.weights, all, device)?),
        false => None,
    };
    if let (Some(written), false) = (&written, narrowed) {
        // The rest was rounded before: this must change nothing, or the figure in the config would be another one's.
        let loss = fused_loss(&loaded.fuser, written, device)?;
        if [loss.key_max, loss.value_max] != [0.0; 2] {
            return Err(ExportError::Option {
                path: from.to_owned(),
                what: dtype.as_str().to_owned(),
                why: format!(
                    "the rest of its weights was rounded to {} before, its tables would be now",
                    dtype.as_str()
                ),
                fix: "export from the fuser in f32, or choose --dtype f32".to_owned(),
            });
        }
    }
    if let (Some(written), true) = (&written, narrowed) {
        let loss = fused_loss(&loaded.fuser, written, device)?;
        if ![loss.key_max, loss.value_max].iter().all(|max| max.is_finite()) {
            return Err(ExportError::Option {
                path: from.to_owned(),
                what: dtype.as_str().to_owned(),
                why: "some of its values don't fit, the fused cache is no longer finite".to_owned(),
                fix: "choose --dtype bf16 or f32".to_owned(),
            });
        }
        config.weights.loss = Some(loss);
    }
    let sections = CardSections::of_artefact(from, &source, narrowed.then_some(dtype))?;
    match options.format {
        ExportFormat::Safetensors => {
            artefact::save_carrying(&loaded.fuser, config, &sections, to, overwrite)?;
            artefact::read_config(to)
        }
        ExportFormat::Burnpack => {
            burnpack(written.as_ref().unwrap_or(&loaded.fuser), &config, &sections, to, overwrite)?;
            Ok(config)
        }
        ExportFormat::Onnx => {
            write_onnx(&loaded.fuser, &config, &sections, to, EXTERNAL_FROM, overwrite)?;
            Ok(config)
        }
        ExportFormat::Pytorch => {
            published::write(&loaded.fuser, &config, &sections, to, overwrite)?;
            Ok(config)
        }
    }
}

/// Refuses what can't be written, or would lose more than it says.
fn check(from: &Path, source: &ArtefactConfig, options: ExportOptions) -> Result<(), ExportError> {
    let refuse = |what: &str, why: &str, fix: &str| {
        Err(ExportError::Option {
            path: from.to_owned(),
            what: what.to_owned(),
            why: why.to_owned(),
            fix: fix.to_owned(),
        })
    };
    let ours = options.format == ExportFormat::Safetensors;
    let dtype = options.dtype.unwrap_or(source.weights.dtype);
    if options.prune && !ours {
        return refuse("--prune-closed-gates", "only the safetensors format can leave branches out", "leave it out");
    }
    let other = source.fuser.all_in_one.is_some();
    if options.prune && other {
        let why = "the gates of an all-in-one network don't shut whole branches";
        return refuse("--prune-closed-gates", why, "leave it out");
    }
    if options.format == ExportFormat::Onnx && other {
        let why = "graphs are written of the paper's network; this is an all-in-one network";
        return refuse("--format onnx", why, "choose safetensors, burnpack or pytorch");
    }
    if options.format == ExportFormat::Onnx && options.dtype.is_some_and(|dtype| dtype != WeightsDtype::F32) {
        return refuse("another number format", "ONNX graphs are written in f32", "leave --dtype and --int8 out");
    }
    if dtype == WeightsDtype::Int8 && !ours && options.format != ExportFormat::Onnx {
        return refuse("int8", "only the safetensors format has int8 weights", "choose --dtype f32, bf16 or f16");
    }
    if !source.weights.shut.is_empty() && !ours {
        return refuse("a pruned fuser", "other formats need all of its layers", "export from the whole fuser");
    }
    let lossy = source.weights.loss.is_some();
    if lossy && dtype != source.weights.dtype && dtype != WeightsDtype::F32 {
        let why =
            format!("its weights were rounded to {} before, and would be rounded twice", source.weights.dtype.as_str());
        return refuse(dtype.as_str(), &why, "export from the fuser in f32");
    }
    Ok(())
}

/// The branches whose gate is shut.
fn shut<B: Backend>(from: &Path, fuser: &Fuser<B>) -> Result<Vec<usize>, ExportError> {
    let (keys, values) = fuser.gate_logits()?;
    let logits = [keys, values].concat();
    let shut: Vec<usize> =
        (0..logits.len()).filter(|branch| logits[*branch] <= 0.0 || logits[*branch].is_nan()).collect();
    if shut.len() == logits.len() {
        return Err(ExportError::Option {
            path: from.to_owned(),
            what: "--prune-closed-gates".to_owned(),
            why: "every gate is shut, so nothing would be left".to_owned(),
            fix: "train on until gates open, or leave the option out".to_owned(),
        });
    }
    Ok(shut)
}

/// The fuser as it will be read back from a file of this number format; all its branches. With `all`, gates and tables
/// are rounded, too.
fn rounded<B: KernelBackend>(
    fuser: &Fuser<B>,
    format: &WeightsFormat,
    all: bool,
    device: &B::Device,
) -> Result<Fuser<B>, ExportError> {
    let slots = layout::slots(fuser.config()).map_err(|e| ExportError::Parameter {
        name: e.key.to_owned(),
        found: e.found,
        expected: e.expected,
    })?;
    let whole = WeightsFormat { dtype: format.dtype, ..WeightsFormat::default() };
    let mut params: std::collections::BTreeMap<_, _> = fuser.named_params().into_iter().collect();
    let mut failed = None;
    let read = |name: &str, [branches, _, _]: [usize; 3]| {
        let param = params.remove(name).ok_or_else(|| format!("  {name}: missing"))?;
        let slot = layout::find(&slots, name).ok_or_else(|| format!("  {name}: no such parameter"))?;
        let mut held = slot.clone();
        held.shape[0] = branches;
        let stored = whole.stored(&held);
        match artefact::values(name, param) {
            Ok(mut values) if all && slot.stays_wide() => {
                format.dtype.round_wide(&mut values);
                Ok(values)
            }
            Ok(values) => Ok(artefact::decode(&stored, &artefact::encode(&stored, &values))),
            Err(error) => {
                let line = format!("  {name}: {error}");
                failed = Some(error);
                Err(line)
            }
        }
    };
    let loaded = match fuser.open_branches() {
        None => Fuser::load(fuser.config(), device, read),
        Some(open) => {
            let (keys, values) = fuser.gate_logits()?;
            Fuser::load_open(fuser.config(), open.to_vec(), [keys, values].concat(), device, read)
        }
    };
    match (loaded, failed) {
        (_, Some(error)) => Err(error),
        (loaded, None) => Ok(loaded?),
    }
}

/// Burn's file of the module, with the config and the card of the artefact.
fn burnpack<B: KernelBackend>(
    fuser: &Fuser<B>,
    config: &ArtefactConfig,
    sections: &CardSections,
    to: &Path,
    overwrite: bool,
) -> Result<(), ExportError> {
    let file = |path: &Path| [CONFIG_FILE, CARD_FILE, BURNPACK_FILE].iter().any(|file| path == Path::new(file));
    let known = Known { marker: CONFIG_FILE, file };
    let dtype = match config.weights.dtype {
        WeightsDtype::Bf16 => DType::BF16,
        WeightsDtype::F16 => DType::F16,
        WeightsDtype::F32 | WeightsDtype::Int8 => DType::F32,
    };
    let folder = Staging::new(to, overwrite, known)?;
    let path = folder.path().join(BURNPACK_FILE);
    let mut store = BurnpackStore::from_file(&path).metadata("format", "c2c-fuser");
    let cast = fuser.clone().cast(dtype);
    cast.save_into(&mut store).map_err(|e| ExportError::Burnpack { path: path.clone(), reason: e.to_string() })?;
    let mut config = config.clone();
    config.weights_sha256 = files::hash_file(&path)?;
    artefact::write_description(CardOf::Burnpack, fuser, &config, folder.path(), (&[], sections))?;
    folder.publish()
}
