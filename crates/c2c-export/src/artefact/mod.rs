//! The folder of a trained fuser: `fuser_config.json`, `fuser.safetensors` and `README.md`.
//!
//! `docs/artefact.md` is the format's reference. Invariants: a folder appears whole or not at all; the same fuser and
//! info give the same bytes; what is loaded is bit for bit what was saved, or an error.

mod card;
mod config;
mod section;
mod staging;
mod weights;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserError};

pub use card::ResultRow;
pub use config::{AlignmentInfo, ArtefactConfig, ArtefactInfo, KIND, ModelId, SCHEMA_VERSION, TrainingInfo};
pub use section::put_section;
pub(crate) use weights::values;

use crate::{ExportError, files, layout};
use staging::{Staging, beside};
use weights::Weights;

/// The config's file name.
pub const CONFIG_FILE: &str = "fuser_config.json";
/// The weights' file name.
pub const WEIGHTS_FILE: &str = "fuser.safetensors";
/// The card's file name.
pub const CARD_FILE: &str = "README.md";

/// All files of an artefact.
const FILES: [&str; 3] = [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE];

/// A loaded artefact.
#[derive(Debug)]
pub struct Artefact<B: Backend> {
    /// The fuser.
    pub fuser: Fuser<B>,
    /// What its folder says about it.
    pub config: ArtefactConfig,
}

/// Writes a fuser to `dir`, whole or not at all. Missing parents of `dir` are created.
///
/// With `overwrite`, a folder that holds a fuser and nothing else is replaced.
///
/// # Errors
/// An existing target, info that doesn't fit the fuser, a file that can't be written, a tensor that can't be read back.
pub fn save<B: Backend>(
    fuser: &Fuser<B>,
    info: &ArtefactInfo,
    results: &[ResultRow],
    dir: &Path,
    overwrite: bool,
) -> Result<(), ExportError> {
    let mut config = ArtefactConfig::new(fuser.config(), info);
    config.check(&dir.join(CONFIG_FILE))?;
    let (keys, values) = fuser.gate_logits()?;
    let folder = Staging::new(dir, overwrite)?;
    config.weights_sha256 = weights::write(fuser, &folder.path().join(WEIGHTS_FILE))?;
    let path = folder.path().join(CONFIG_FILE);
    files::write_new(&path, &config.to_text(&path)?)?;
    let text = card::render(&config, (&keys, &values), results);
    files::write_new(&folder.path().join(CARD_FILE), text.as_bytes())?;
    folder.publish()
}

/// Reads and checks `fuser_config.json` alone.
///
/// # Errors
/// An unreadable file, another schema version or kind, an unknown or missing key, a value out of range.
pub fn read_config(dir: &Path) -> Result<ArtefactConfig, ExportError> {
    ArtefactConfig::read(&dir.join(CONFIG_FILE))
}

/// Loads a fuser.
///
/// # Errors
/// What [`read_config`] refuses; damaged weights, or others than the config was written with; all missing, unused and
/// misshapen tensors and those of another dtype at once.
pub fn load<B: Backend>(dir: &Path, device: &B::Device) -> Result<Artefact<B>, ExportError> {
    let (config, mut weights) = open(dir)?;
    let fuser = Fuser::load(&config.fuser, device, |name, _| weights.read(name)).map_err(|e| match e {
        FuserError::Weights(problems) => {
            ExportError::Tensors { path: dir.join(WEIGHTS_FILE), config: CONFIG_FILE, problems }
        }
        other => other.into(),
    })?;
    Ok(Artefact { fuser, config })
}

/// Writes the card anew with these results.
///
/// # Errors
/// What [`load`] refuses; a card that can't be written.
pub fn update_card(dir: &Path, results: &[ResultRow]) -> Result<(), ExportError> {
    let (config, mut weights) = open(dir)?;
    let card = render_card(dir, &config, &mut weights, results)?;
    let path = dir.join(CARD_FILE);
    let staged = beside(&path, "tmp")?;
    let written = files::write_new(&staged, card.as_bytes())
        .and_then(|()| fs::rename(&staged, &path).map_err(files::write_error(&path)));
    if written.is_err() {
        // The error is being reported; the card is still the old one.
        let _ = fs::remove_file(&staged);
    }
    written
}

/// Copies an artefact after checking all of it; other files in `from` stay behind.
///
/// # Errors
/// What [`load`] refuses; an existing target (see [`save`]); a file that can't be written.
pub fn copy(from: &Path, to: &Path, overwrite: bool) -> Result<(), ExportError> {
    let (config, mut weights) = open(from)?;
    let folder = Staging::new(to, overwrite)?;
    let path = folder.path().join(WEIGHTS_FILE);
    let found = files::copy_hashed(&from.join(WEIGHTS_FILE), &path)?;
    if found != config.weights_sha256 {
        return Err(ExportError::Hash { path, found, expected: config.weights_sha256 });
    }
    files::write_new(&folder.path().join(CONFIG_FILE), &files::read_text(&from.join(CONFIG_FILE))?)?;
    let card = match files::read_text(&from.join(CARD_FILE)) {
        Err(ExportError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            render_card(from, &config, &mut weights, &[])?.into_bytes()
        }
        read => read?,
    };
    files::write_new(&folder.path().join(CARD_FILE), &card)?;
    folder.publish()
}

/// Opens and checks a folder; after this, only the values are unread.
fn open(dir: &Path) -> Result<(ArtefactConfig, Weights), ExportError> {
    let config = read_config(dir)?;
    let weights = Weights::open(&dir.join(WEIGHTS_FILE))?;
    weights.check_hash(&config.weights_sha256)?;
    let slots = layout::slots(&config.fuser).map_err(|e| ExportError::Value {
        path: dir.join(CONFIG_FILE),
        key: format!("fuser.{}", e.key),
        found: e.found,
        expected: e.expected,
    })?;
    weights.check_tensors(&slots)?;
    Ok((config, weights))
}

fn render_card(
    dir: &Path,
    config: &ArtefactConfig,
    weights: &mut Weights,
    results: &[ResultRow],
) -> Result<String, ExportError> {
    let gates = weights.read("gate_logit").map_err(|problem| ExportError::Tensors {
        path: dir.join(WEIGHTS_FILE),
        config: CONFIG_FILE,
        problems: vec![problem],
    })?;
    Ok(card::render(config, gates.split_at(config.fuser.layers()), results))
}
