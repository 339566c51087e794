//! From a published folder to an artefact of this project.

use std::path::Path;

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig, LayerMapping};
use c2c_lm::LmConfig;
use sha2::{Digest, Sha256};

use super::{LAYOUT, Published, folder, load};
use crate::ExportError;
use crate::artefact::{
    AlignmentInfo, ArtefactConfig, CardSections, KIND, ModelId, Origin, SCHEMA_VERSION, WeightsFormat,
};
use crate::files::{hash_file, hex, read_error};

/// A model of the pair, by what is known of it: its name and its `config.json`.
#[derive(Clone, Debug)]
pub struct ImportedModel {
    /// The hub id or folder.
    pub name: String,
    /// Its config.
    pub config: LmConfig,
}

/// Loads a published fuser with the config of the artefact that it becomes.
///
/// `name` is the folder or hub id as the user gave it. What the published layout doesn't hold stays unknown: the weights
/// of the two models, and how the fuser was trained. The artefact keeps the number format of the files.
///
/// # Errors
/// As [`load`].
pub fn import<B: Backend>(
    dir: &Path,
    name: &str,
    receiver: &ImportedModel,
    sharer: &ImportedModel,
    alignment: AlignmentInfo,
    device: &B::Device,
) -> Result<(Fuser<B>, ArtefactConfig), ExportError> {
    let Published { fuser, gate_temperature, class, dtype } = load::<B>(dir, &receiver.config, &sharer.config, device)?;
    let origin = Origin {
        layout: LAYOUT.to_owned(),
        name: name.to_owned(),
        class: class.to_owned(),
        dtype: dtype.as_str().to_owned(),
        gate_temperature,
        files_sha256: hash_files(&folder(dir)?)?,
    };
    let config = ArtefactConfig {
        schema_version: SCHEMA_VERSION,
        kind: KIND.to_owned(),
        fuser: fuser.config().clone(),
        layer_mapping: mapping(fuser.config()),
        receiver: ModelId::of_config(&receiver.name, &receiver.config),
        sharer: ModelId::of_config(&sharer.name, &sharer.config),
        alignment,
        training: None,
        origin: Some(origin),
        weights: WeightsFormat { dtype, ..WeightsFormat::default() },
        weights_sha256: String::new(),
    };
    Ok((fuser, config))
}

/// What the card of a published folder says of measurements with this imported Fuser, for [`save_carrying`](crate::artefact::save_carrying):
/// what [`convert`](crate::convert) wrote there of these very files, nothing else.
///
/// # Errors
/// A card that can't be read.
pub fn measurements(dir: &Path, config: &ArtefactConfig) -> Result<CardSections, ExportError> {
    match &config.origin {
        Some(origin) => CardSections::of_published(dir, &origin.files_sha256),
        None => Ok(CardSections::default()),
    }
}

/// The layer alignment that gives the fuser's layer map, if one does.
fn mapping(config: &FuserConfig) -> Option<LayerMapping> {
    let known = [LayerMapping::LastAligned, LayerMapping::KNearest];
    known.into_iter().find(|mapping| mapping.map(config.layers(), config.sharer_layers) == config.layer_map)
}

/// SHA-256 over the lines that `sha256sum projector_*` prints.
pub(super) fn hash_files(dir: &Path) -> Result<String, ExportError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read_error(dir))? {
        let name = entry.map_err(read_error(dir))?.file_name().to_string_lossy().into_owned();
        if name.starts_with("projector_") {
            names.push(name);
        }
    }
    names.sort();
    let mut sha = Sha256::new();
    for name in names {
        sha.update(format!("{}  {name}\n", hash_file(&dir.join(&name))?));
    }
    Ok(hex(sha))
}
