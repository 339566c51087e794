//! Writes the layout of the reference implementation, which loads what is written and computes the same numbers.
//!
//! One layer is in memory at a time. Arguments that only say how training started are written too, as far as the
//! reference implementation has them.

use std::io::BufWriter;
use std::path::Path;

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig};
use serde_json::{Map, Value, json};

use super::all_in_one::{self, ALL_IN_ONE_CLASS};
use super::args::{ABLATION_CLASS, CLASS};
use super::import::hash_files;
use super::recipe::RECIPE_FILE;
use super::torch::TEMPERATURE;
use super::{SUBFOLDER, TABLE_FILE};
use crate::artefact::staging::{Known, Staging};
use crate::artefact::{ArtefactConfig, CARD_FILE, CardOf, CardSections, WeightsDtype};
use crate::files::{write_error, write_new};
use crate::layout;
use crate::torch::{StorageType, TensorFile, write_state_dict};
use crate::{ExportError, artefact};

/// Writes the fuser of an artefact; the number format is that of `config.weights`.
pub(crate) fn write<B: Backend>(
    fuser: &Fuser<B>,
    config: &ArtefactConfig,
    sections: &CardSections,
    to: &Path,
    overwrite: bool,
) -> Result<(), ExportError> {
    let folder = Staging::new(to, overwrite, PUBLISHED)?;
    let inner = folder.path().join(SUBFOLDER);
    std::fs::create_dir(&inner).map_err(write_error(&inner))?;
    let kind = match config.weights.dtype {
        WeightsDtype::Bf16 => StorageType::Bf16,
        WeightsDtype::F16 => StorageType::F16,
        WeightsDtype::F32 | WeightsDtype::Int8 => StorageType::F32,
    };
    let args = pretty(&init_args(&config.fuser, kind));
    let mut table = Map::new();
    for (layer, source) in config.fuser.layer_map.iter().enumerate() {
        let path = inner.join(format!("projector_{layer}.pt"));
        let file = std::fs::File::create_new(&path).map_err(write_error(&path))?;
        let mut out = BufWriter::new(file);
        let tensors = tensors(fuser, config, layer, kind)?;
        write_state_dict(&mut out, &format!("projector_{layer}"), kind, &tensors)
            .and_then(|()| out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all())
            .map_err(write_error(&path))?;
        write_new(&inner.join(format!("projector_{layer}.json")), &args)?;
        table.insert(layer.to_string(), json!([[source, layer]]));
    }
    write_new(&inner.join(TABLE_FILE), &pretty(&json!({ "0": { "1": table } })))?;
    write_new(&folder.path().join(RECIPE_FILE), &pretty(&recipe(config)))?;
    let sections = sections.for_files(&hash_files(&inner)?);
    artefact::write_card(CardOf::Published, fuser, config, folder.path(), (&[], &sections))?;
    folder.publish()
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// A folder with a fuser in this layout and nothing else.
const PUBLISHED: Known = Known { marker: "final/projector_config.json", file: is_published_file };

fn is_published_file(path: &Path) -> bool {
    let inside = path.strip_prefix(SUBFOLDER).ok().and_then(|p| p.to_str());
    // Only as a number is written: `projector_01.pt` is no file of ours.
    let of_layer = |name: &str| {
        let rest = name.strip_prefix("projector_")?;
        let layer = rest.strip_suffix(".pt").or_else(|| rest.strip_suffix(".json"))?;
        layer.parse::<usize>().ok().filter(|number| number.to_string() == layer)
    };
    [RECIPE_FILE, CARD_FILE].iter().any(|file| path == Path::new(file))
        || inside.is_some_and(|name| name == TABLE_FILE || of_layer(name).is_some())
}

/// The state dict of a layer, in the order of the reference implementation's modules.
fn tensors<B: Backend>(
    fuser: &Fuser<B>,
    config: &ArtefactConfig,
    layer: usize,
    kind: StorageType,
) -> Result<Vec<TensorFile>, ExportError> {
    let slots = layout::slots(&config.fuser).map_err(|e| ExportError::Parameter {
        name: e.key.to_owned(),
        found: e.found,
        expected: e.expected,
    })?;
    let temperature = match (&config.origin, &config.training) {
        (Some(origin), _) if origin.gate_temperature.len() > layer => origin.gate_temperature[layer],
        (_, Some(training)) => training.final_temperature as f32,
        _ => config.fuser.final_temperature as f32,
    };
    let mut temperature = config.fuser.parts.gates.then(|| TensorFile::new(TEMPERATURE, &[], &[temperature], kind));
    // By module: all of the key branch, then all of the value branch. A buffer stands between the parameters of the fuser
    // itself and its modules.
    let mut modules: Vec<(String, [Vec<TensorFile>; 2])> = Vec::new();
    for (name, param) in fuser.named_params() {
        let slot = layout::find(&slots, &name).ok_or_else(|| ExportError::Parameter {
            name: name.clone(),
            found: "no such parameter".into(),
            expected: "one of the fuser's".into(),
        })?;
        let (module, inner) = slot.published.split_once('.').unwrap_or((slot.published.as_str(), ""));
        if let Some(buffer) = temperature.take_if(|_| !inner.is_empty()) {
            modules.push((TEMPERATURE.to_owned(), [vec![buffer], Vec::new()]));
        }
        if modules.last().is_none_or(|(last, _)| last != module) {
            modules.push((module.to_owned(), Default::default()));
        }
        let Some((_, sides)) = modules.last_mut() else { continue };
        for (side, first) in slot.sides().into_iter().enumerate() {
            let branch = first + layer;
            let values = artefact::tensor_values(&name, param.val().narrow(0, branch, 1))?;
            let mut values = slot.publish_branch(&values);
            if slot.stays_wide() {
                config.weights.dtype.round_wide(&mut values);
            }
            sides[side].push(TensorFile::new(&slot.published_name(branch), &slot.published_shape(), &values, kind));
        }
    }
    Ok(modules.into_iter().flat_map(|(_, sides)| sides).flatten().collect())
}

fn init_args(fuser: &FuserConfig, kind: StorageType) -> Value {
    let dtype = match kind {
        StorageType::Bf16 => "bfloat16",
        StorageType::F16 => "float16",
        StorageType::F32 | StorageType::Other(_) => "float32",
    };
    let mut args = json!({
        "source_dim": fuser.sharer_head_dim,
        "target_dim": fuser.receiver_head_dim,
        "source_num_heads": fuser.sharer_heads,
        "target_num_heads": fuser.receiver_heads,
        "hidden_dim": fuser.hidden_dim,
        "intermediate_dim": fuser.intermediate_dim,
        "num_layers": fuser.num_layers,
        "dropout": fuser.dropout,
        "initial_temperature": fuser.initial_temperature,
        "final_temperature": fuser.final_temperature,
        "anneal_steps": fuser.anneal_steps,
        "dtype": { "__type__": "torch.dtype", "value": dtype },
    });
    if let (Some(choices), Some(args)) = (&fuser.all_in_one, args.as_object_mut()) {
        all_in_one::init_args(fuser, choices, args);
        return json!({ "class": ALL_IN_ONE_CLASS, "init_args": args });
    }
    let level = match (fuser.parts.weights, fuser.parts.gates, fuser.parts.receiver) {
        (true, true, _) => None,
        (false, true, _) => Some(1),
        (false, false, true) => Some(2),
        (false, false, false) => Some(3),
        (true, false, _) => Some(4),
    };
    // The first published version of the class doesn't know zero_init; it says nothing about a trained fuser.
    if let (true, Some(args)) = (fuser.zero_init && level.is_none(), args.as_object_mut()) {
        args.insert("zero_init".into(), json!(true));
    }
    if let (Some(level), Some(args)) = (level, args.as_object_mut()) {
        args.insert("ablation_level".into(), json!(level));
    }
    json!({ "class": if level.is_some() { ABLATION_CLASS } else { CLASS }, "init_args": args })
}

/// What the training recipe would say of the pair.
fn recipe(config: &ArtefactConfig) -> Value {
    let mapping = config.layer_mapping.and_then(|mapping| serde_json::to_value(mapping).ok());
    let mut out = json!({
        "model": {
            "base_model": config.receiver.name,
            "teacher_model": config.sharer.name,
            "is_do_alignment": config.alignment.mode != "shared",
            "alignment_strategy": config.alignment.strategy,
            "mapping": mapping,
        },
    });
    if let (Some(loss), Some(out)) = (&config.weights.loss, out.as_object_mut()) {
        out.insert("c2c_export".into(), json!({ "dtype": config.weights.dtype, "loss": loss }));
    }
    out
}
