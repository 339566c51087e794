//! `c2c import`: a fuser in the published PyTorch layout becomes an artefact.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::Dispatch;
use c2c_export::artefact::{self, AlignmentInfo};
use c2c_export::published::{self, ImportedModel, PublishedRecipe};
use c2c_hub::{HubRef, Need};
use c2c_lm::LmConfig;

use crate::device::DeviceArg;
use crate::exit::{Failure, Outcome, environment, usage};
use crate::hub;

/// The file that marks a published folder.
const TABLE_FILE: &str = "projector_config.json";

/// Arguments of `c2c import`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A folder in the layout of nics-efc/C2C_Fuser, or hub id and folder: nics-efc/C2C_Fuser/FOLDER, with @revision behind
    /// it if it isn't `main`
    source: String,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The Receiver, a folder or hub id; only its config.json is read [default: what the folder's config.json names]
    #[arg(long, value_name = "MODEL")]
    receiver: Option<String>,
    /// The Sharer, likewise
    #[arg(long, value_name = "MODEL")]
    sharer: Option<String>,
    /// What the Sharer read in training: the Receiver's tokens (shared), or its own, aligned [default: what the folder's
    /// config.json says]
    #[arg(long, value_enum)]
    alignment: Option<Alignment>,
    /// Replace a fuser that is already there
    #[arg(long)]
    overwrite: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Alignment {
    /// The Receiver's tokens
    Shared,
    /// Aligned; of several tokens the first
    First,
    /// Aligned; of several tokens the longest
    Longest,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let dir = locate(&args.source)?;
    let recipe = PublishedRecipe::read(&dir).map_err(environment)?;
    let receiver = model("receiver", args.receiver.as_deref(), recipe.receiver.as_deref(), &dir)?;
    let sharer = model("sharer", args.sharer.as_deref(), recipe.sharer.as_deref(), &dir)?;
    let alignment = alignment(args.alignment, recipe.alignment)?;
    let device = DeviceArg::Cpu.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let (fuser, config) = published::import::<Dispatch>(&dir, &args.source, &receiver, &sharer, alignment, &device)
        .map_err(environment)?;
    let measured = published::measurements(&dir, &config).map_err(environment)?;
    artefact::save_carrying(&fuser, config, &measured, &args.out, args.overwrite).map_err(environment)?;
    let config = artefact::read_config(&args.out).map_err(environment)?;
    let (keys, values) = fuser.gate_logits().map_err(environment)?;
    let open = |logits: &[f32]| logits.iter().filter(|l| **l > 0.0).count();
    let layers = config.fuser.layers();
    let gates = if config.fuser.has_layer_gates() {
        format!("open gates: {} of {layers} for keys, {} of {layers} for values", open(&keys), open(&values))
    } else if config.fuser.parts.gates {
        "gates finer than a layer".to_owned()
    } else {
        "no gates".to_owned()
    };
    eprintln!(
        "{} <- {}: {} layers, {} parameters in {}; {gates}",
        config.receiver.name,
        config.sharer.name,
        layers,
        config.fuser.num_params(),
        config.weights.dtype.as_str(),
    );
    eprintln!(
        "unknown, since the published layout doesn't hold it: the weights of both models, and how the fuser was trained"
    );
    crate::print(&format!("{}\n", args.out.display()));
    Ok(())
}

/// The folder that is meant: one on disk, or one of a hub repository, fetched if the cache lacks it.
fn locate(source: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(source);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let reference: HubRef = source.parse().map_err(|_| {
        usage(anyhow::anyhow!(
            "{source}: no such folder, and no hub id (owner/repository/folder, maybe with @revision)"
        ))
    })?;
    let hub = hub::open()?;
    let inner = reference.inner.as_deref();
    let cached = hub.cached(&reference.repo, reference.revision());
    let within = |snapshot: &Path| inner.map_or_else(|| snapshot.to_owned(), |inner| snapshot.join(inner));
    if let Some(dir) = cached.as_ref().map(|snapshot| within(&snapshot.folder)).filter(|dir| is_published(dir)) {
        return Ok(dir);
    }
    if inner.is_none()
        && hub.settings().offline
        && let Some(snapshot) = cached
    {
        let entries = std::fs::read_dir(&snapshot.folder).map_err(environment)?.flatten();
        let folders = entries.filter(|e| is_published(&e.path())).map(|e| e.file_name().to_string_lossy().into_owned());
        return Err(name_one(&reference, folders.collect()));
    }
    let listing = hub::list(&hub, &reference, &format!("fuser `{source}`"))?;
    let folders: BTreeSet<String> = listing
        .files
        .iter()
        .filter_map(|file| file.name.strip_suffix(TABLE_FILE)?.strip_suffix('/'))
        .map(|folder| folder.strip_suffix("/final").unwrap_or(folder).to_owned())
        .collect();
    let Some(inner) = inner else { return Err(name_one(&reference, folders.into_iter().collect())) };
    if !folders.contains(inner) {
        return Err(environment(anyhow::anyhow!(
            "{}; it has fusers in: {}",
            listing.lacks(&format!("{TABLE_FILE} in `{inner}` or `{inner}/final`")),
            folders.into_iter().collect::<Vec<_>>().join(", ")
        )));
    }
    // Checkpoints of its training may lie beside it.
    let own = |name: &str| {
        let rest = name.strip_prefix(inner).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| !rest.strip_prefix("final/").unwrap_or(rest).contains('/'))
    };
    let files: Vec<_> = listing.files.iter().filter(|file| own(&file.name)).collect();
    Ok(within(&hub::fetch(&hub, &listing, &files, false)?.folder))
}

/// A repository of many fusers was named, and not which of them.
fn name_one(reference: &HubRef, mut folders: Vec<String>) -> Failure {
    folders.sort();
    let at = reference.revision.as_ref().map(|revision| format!("@{revision}")).unwrap_or_default();
    let id = &reference.repo;
    let here = match folders.is_empty() {
        true => "none is there".to_owned(),
        false => folders.iter().map(|folder| format!("  {id}/{folder}{at}")).collect::<Vec<_>>().join("\n"),
    };
    usage(anyhow::anyhow!("{id} holds one fuser a folder; name one of them:\n{here}"))
}

fn is_published(dir: &Path) -> bool {
    dir.join(TABLE_FILE).is_file() || dir.join("final").join(TABLE_FILE).is_file()
}

/// The model as given, else the one that the published folder names; of it, only `config.json`.
fn model(role: &str, given: Option<&str>, named: Option<&str>, dir: &Path) -> Result<ImportedModel, Failure> {
    let Some(name) = given.or(named) else {
        return Err(usage(anyhow::anyhow!(
            "{}: no config.json with the name of the {role}; give it with --{role} MODEL",
            dir.display()
        )));
    };
    // A name in the published folder may be relative to it, or to where that was trained.
    let beside = if given.is_some() { PathBuf::from(name) } else { dir.join(name) };
    let folder = hub::model(name, &beside, Need::Config).map_err(|failure| {
        environment(anyhow::anyhow!(
            "the {role}'s config.json is needed for its layers: {failure}\nor name another folder or hub id with --{role} MODEL"
        ))
    })?;
    let config = LmConfig::from_dir(&folder).map_err(environment)?;
    let name = if given.is_none() && beside.is_dir() { beside.display().to_string() } else { name.to_owned() };
    Ok(ImportedModel { name, config })
}

/// What the Sharer read, as the published folder says; the option where it doesn't.
fn alignment(given: Option<Alignment>, found: Option<AlignmentInfo>) -> Result<AlignmentInfo, Failure> {
    let given = given.map(|given| match given {
        Alignment::Shared => ("shared", "first"),
        Alignment::First => ("aligned", "first"),
        Alignment::Longest => ("aligned", "longest"),
    });
    match (given, found) {
        (None, Some(found)) => Ok(found),
        (Some((mode, strategy)), None) => {
            let sections = "message".to_owned();
            Ok(AlignmentInfo { mode: mode.to_owned(), strategy: strategy.to_owned(), sections })
        }
        (Some((mode, strategy)), Some(found)) => {
            if found.mode != mode || (mode != "shared" && found.strategy != strategy) {
                return Err(usage(anyhow::anyhow!(
                    "--alignment {}: the published config.json says {}, {}",
                    if mode == "shared" { mode } else { strategy },
                    found.mode,
                    found.strategy
                )));
            }
            Ok(found)
        }
        (None, None) => Err(usage(anyhow::anyhow!(
            "no config.json says what the sharer read in training; say it with --alignment shared, first or longest (the published recipes are all shared)"
        ))),
    }
}
