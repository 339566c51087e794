//! `c2c import`: a fuser in the published PyTorch layout becomes an artefact.

use std::path::{Path, PathBuf};

use burn::Dispatch;
use c2c_export::artefact::{self, AlignmentInfo};
use c2c_export::published::{self, ImportedModel, PublishedRecipe};
use c2c_lm::{LmConfig, hub_cache, hub_snapshot, locate_model};

use crate::device::DeviceArg;
use crate::exit::{Failure, Outcome, environment, usage};

/// The file that marks a published folder.
const TABLE_FILE: &str = "projector_config.json";

/// Arguments of `c2c import`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A folder in the layout of nics-efc/C2C_Fuser, or hub id and folder: nics-efc/C2C_Fuser/FOLDER, if it is in the
    /// local hub cache
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
    artefact::save_as(&fuser, config, &[], &args.out, args.overwrite).map_err(environment)?;
    let config = artefact::read_config(&args.out).map_err(environment)?;
    let (keys, values) = fuser.gate_logits().map_err(environment)?;
    let open = |logits: &[f32]| logits.iter().filter(|l| **l > 0.0).count();
    let layers = config.fuser.layers();
    eprintln!(
        "{} <- {}: {} layers, {} parameters in {}; open gates: {} of {layers} for keys, {} of {layers} for values",
        config.receiver.name,
        config.sharer.name,
        layers,
        config.fuser.num_params(),
        config.weights.dtype.as_str(),
        open(&keys),
        open(&values),
    );
    eprintln!(
        "unknown, since the published layout doesn't hold it: the weights of both models, and how the fuser was trained"
    );
    crate::print(&format!("{}\n", args.out.display()));
    Ok(())
}

/// The folder that is meant: one on disk, or one in the hub cache. Nothing is downloaded.
fn locate(source: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(source);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let parts: Vec<&str> = source.split('/').collect();
    let plain = parts.iter().all(|part| !part.is_empty() && *part != "." && *part != "..");
    let [owner, repo, inner @ ..] = parts.as_slice() else {
        return Err(usage(anyhow::anyhow!("{source}: no such folder, and no hub id (owner/repository/folder)")));
    };
    if !plain {
        return Err(usage(anyhow::anyhow!("{source}: no such folder, and no hub id (owner/repository/folder)")));
    }
    let (id, inner) = (format!("{owner}/{repo}"), inner.join("/"));
    let fetch = if inner.is_empty() {
        format!("hf download {id} --include 'FOLDER/*'")
    } else {
        format!("hf download {id} --include '{inner}/*'")
    };
    let Some(snapshot) = hub_snapshot(&id, Path::new(&inner)) else {
        return Err(environment(anyhow::anyhow!(
            "{source} is neither a folder nor in the hub cache {}; nothing is downloaded here, get it with\n  {fetch}",
            hub_cache().display()
        )));
    };
    let dir = snapshot.join(&inner);
    if inner.is_empty() && !is_published(&dir) {
        let mut folders: Vec<String> = std::fs::read_dir(&dir)
            .map(|entries| entries.flatten().filter(|e| is_published(&e.path())).map(|e| e.file_name()).collect())
            .unwrap_or_else(|_| Vec::new())
            .into_iter()
            .map(|name: std::ffi::OsString| format!("  {id}/{}", name.to_string_lossy()))
            .collect();
        folders.sort();
        let here = if folders.is_empty() {
            format!("none is in the cache, get one with\n  {fetch}")
        } else {
            folders.join("\n")
        };
        return Err(usage(anyhow::anyhow!("{id} holds one fuser a folder; name one of them:\n{here}")));
    }
    Ok(dir)
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
    let folder = locate_model(name, &beside).map_err(|_| {
        // A hub id has one slash and no points before it.
        let id = name.matches('/').count() == 1 && !name.starts_with(['.', '/']);
        let fetch = if id { format!(", or get its config with\n  hf download {name} config.json") } else { String::new() };
        environment(anyhow::anyhow!(
            "the {role}'s config.json is needed for its layers, but `{name}` is neither a folder nor in the hub cache {}; name its \
             folder or hub id with --{role} MODEL{fetch}",
            hub_cache().display()
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
