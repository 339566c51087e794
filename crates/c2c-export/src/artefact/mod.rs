//! The folder of a trained fuser: `fuser_config.json`, `fuser.safetensors` and `README.md`.
//!
//! `docs/artefact.md` is the format's reference. Invariants: a folder appears whole or not at all; the same fuser and
//! info give the same bytes; what is loaded is bit for bit what was saved, or an error.

mod card;
mod carried;
mod config;
mod format;
mod section;
pub(crate) mod staging;
mod weights;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig, FuserError};

pub(crate) use card::CardOf;
pub use card::{Asked, FrontMatter, ResultRow};
pub use carried::{CardSections, DEVICES_HEADING};
pub use config::{AlignmentInfo, ArtefactConfig, ArtefactInfo, KIND, ModelId, Origin, SCHEMA_VERSION, TrainingInfo};
pub use format::{FusedLoss, WeightsDtype, WeightsFormat};
pub(crate) use format::{decode, encode};
pub use section::put_section;
pub(crate) use weights::{tensor_values, values};

use crate::{ExportError, files, layout};
use staging::{Known, Staging, beside};
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
    save_as(fuser, ArtefactConfig::new(fuser.config(), info), results, dir, overwrite)
}

/// [`save`] with a config that is there already, say that of an imported fuser or of another number format.
///
/// `config.fuser` must be that of the fuser. A fuser that holds only its open branches is written with
/// `config.weights.shut` naming all others.
///
/// # Errors
/// As [`save`].
pub fn save_as<B: Backend>(
    fuser: &Fuser<B>,
    config: ArtefactConfig,
    results: &[ResultRow],
    dir: &Path,
    overwrite: bool,
) -> Result<(), ExportError> {
    save_card(fuser, config, (results, &CardSections::default()), dir, overwrite)
}

/// [`save_as`] for another form of a Fuser with whom something was measured: its card keeps these sections.
///
/// # Errors
/// As [`save`].
pub fn save_carrying<B: Backend>(
    fuser: &Fuser<B>,
    config: ArtefactConfig,
    sections: &CardSections,
    dir: &Path,
    overwrite: bool,
) -> Result<(), ExportError> {
    save_card(fuser, config, (&[], sections), dir, overwrite)
}

fn save_card<B: Backend>(
    fuser: &Fuser<B>,
    mut config: ArtefactConfig,
    measured: (&[ResultRow], &CardSections),
    dir: &Path,
    overwrite: bool,
) -> Result<(), ExportError> {
    config.check(&dir.join(CONFIG_FILE))?;
    let slots = config_slots(&config, &dir.join(CONFIG_FILE))?;
    let folder = Staging::new(dir, overwrite, ARTEFACT)?;
    config.weights_sha256 = weights::write(fuser, &slots, &config.weights, &folder.path().join(WEIGHTS_FILE))?;
    write_description(CardOf::Artefact, fuser, &config, folder.path(), measured)?;
    folder.publish()
}

/// Writes the config and the card.
pub(crate) fn write_description<B: Backend>(
    of: CardOf,
    fuser: &Fuser<B>,
    config: &ArtefactConfig,
    folder: &Path,
    measured: (&[ResultRow], &CardSections),
) -> Result<(), ExportError> {
    let path = folder.join(CONFIG_FILE);
    files::write_new(&path, &config.to_text(&path)?)?;
    write_card(of, fuser, config, folder, measured)
}

/// Writes the card.
pub(crate) fn write_card<B: Backend>(
    of: CardOf,
    fuser: &Fuser<B>,
    config: &ArtefactConfig,
    folder: &Path,
    (results, sections): (&[ResultRow], &CardSections),
) -> Result<(), ExportError> {
    let (keys, values) = fuser.gate_logits()?;
    let card = sections.put_into(card::render(of, config, (&keys, &values), (results, &Asked::default())));
    files::write_new(&folder.join(CARD_FILE), card.as_bytes())
}

/// A folder with an artefact and nothing else.
const ARTEFACT: Known = Known { marker: CONFIG_FILE, file: |path| FILES.iter().any(|file| path == Path::new(file)) };

fn config_slots(config: &ArtefactConfig, path: &Path) -> Result<Vec<layout::Slot>, ExportError> {
    layout::slots(&config.fuser).map_err(|e| ExportError::Value {
        path: path.to_owned(),
        key: format!("fuser.{}", e.key),
        found: e.found,
        expected: e.expected,
    })
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
    let (config, slots, mut weights) = open(dir)?;
    let refuse = |problems| ExportError::Tensors { path: dir.join(WEIGHTS_FILE), config: CONFIG_FILE, problems };
    let mut read = |name: &str, _: [usize; 3]| match layout::find(&slots, name) {
        Some(slot) => weights.read(slot, &config.weights),
        None => Err(format!("  {name}: no such parameter")),
    };
    let loaded = match config.weights.open(config.fuser.branches()) {
        None => Fuser::load(&config.fuser, device, read),
        Some(open) => {
            let logits = read("gate_logit", [0; 3]).map_err(|problem| refuse(vec![problem]))?;
            if let Some(branch) = config.weights.shut.iter().find(|b| logits.get(**b).is_some_and(|l| *l > 0.0)) {
                let problem = format!("  gate_logit: branch {branch} is open, but weights.shut leaves it out");
                return Err(refuse(vec![problem]));
            }
            Fuser::load_open(&config.fuser, open, logits, device, read)
        }
    };
    let fuser = loaded.map_err(|e| match e {
        FuserError::Weights(problems) => refuse(problems),
        other => other.into(),
    })?;
    Ok(Artefact { fuser, config })
}

/// Writes the card anew with these results, and what was asked for them.
///
/// # Errors
/// What [`load`] refuses; a card that can't be written.
pub fn update_card(dir: &Path, results: &[ResultRow], asked: &Asked) -> Result<(), ExportError> {
    let (config, slots, mut weights) = open(dir)?;
    let card = render_card(dir, &config, &slots, &mut weights, (results, asked))?;
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
    let (config, slots, mut weights) = open(from)?;
    let folder = Staging::new(to, overwrite, ARTEFACT)?;
    let path = folder.path().join(WEIGHTS_FILE);
    let found = files::copy_hashed(&from.join(WEIGHTS_FILE), &path)?;
    if found != config.weights_sha256 {
        return Err(ExportError::Hash { path, found, expected: config.weights_sha256 });
    }
    files::write_new(&folder.path().join(CONFIG_FILE), &files::read_config(&from.join(CONFIG_FILE))?)?;
    let card = match files::read_text(&from.join(CARD_FILE)) {
        Err(ExportError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            render_card(from, &config, &slots, &mut weights, (&[], &Asked::default()))?.into_bytes()
        }
        read => read?,
    };
    files::write_new(&folder.path().join(CARD_FILE), &card)?;
    folder.publish()
}

/// Checks all of a folder that is to be given away: config, hash of the weights, every tensor, and the card. Returns the
/// config and what the card tells hubs.
///
/// # Errors
/// What [`load`] refuses; a card that is missing, or doesn't begin with front matter of this program.
pub fn check(dir: &Path) -> Result<(ArtefactConfig, FrontMatter), ExportError> {
    let (config, _, _) = open(dir)?;
    let path = dir.join(CARD_FILE);
    let card = FrontMatter::read(&files::read_text(&path)?).map_err(|(key, found, expected)| ExportError::Value {
        path,
        key: key.to_owned(),
        found,
        expected: expected.to_owned(),
    })?;
    Ok((config, card))
}

/// Opens and checks a folder; after this, only the values are unread.
fn open(dir: &Path) -> Result<(ArtefactConfig, Vec<layout::Slot>, Weights), ExportError> {
    let config = read_config(dir)?;
    let weights = Weights::open(&dir.join(WEIGHTS_FILE))?;
    weights.check_hash(&config.weights_sha256)?;
    let slots = config_slots(&config, &dir.join(CONFIG_FILE))?;
    weights.check_tensors(&slots, &config.weights)?;
    Ok((config, slots, weights))
}

fn render_card(
    dir: &Path,
    config: &ArtefactConfig,
    slots: &[layout::Slot],
    weights: &mut Weights,
    results: (&[ResultRow], &Asked),
) -> Result<String, ExportError> {
    let gates = match layout::find(slots, "gate_logit") {
        None => vec![f32::INFINITY; config.fuser.branches()],
        Some(slot) => {
            let logits = weights.read(slot, &config.weights).map_err(|problem| ExportError::Tensors {
                path: dir.join(WEIGHTS_FILE),
                config: CONFIG_FILE,
                problems: vec![problem],
            })?;
            by_branch(&config.fuser, logits)
        }
    };
    Ok(card::render(CardOf::Artefact, config, gates.split_at(config.fuser.layers()), results))
}

/// The gate logits of keys and of values, as `Fuser::gate_logits` has them.
fn by_branch(config: &FuserConfig, logits: Vec<f32>) -> Vec<f32> {
    if config.all_in_one.is_none() {
        return logits;
    }
    let layers = logits.chunks((logits.len() / config.layers()).max(1));
    let highest: Vec<f32> = layers.map(|layer| layer.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
    [highest.clone(), highest].concat()
}
