//! `c2c download`: files of the hub into the local cache, verified.

use c2c_hub::{HubRef, RemoteFile, RepoKind, fuser_files, matching, model_files};

use crate::exit::{Outcome, environment, usage};
use crate::hub;

/// Arguments of `c2c download`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// org/name, org/name/folder or datasets/org/name, each with @revision behind it if it isn't `main`
    #[arg(value_name = "REF")]
    reference: HubRef,
    /// Commit, branch or tag; the same as @R behind the reference
    #[arg(long, value_name = "R")]
    revision: Option<String>,
    /// Only files whose names fit, e.g. 'data/*.parquet'; may be given several times [default: of a model config, tokenizer
    /// and safetensors, of a fuser its three files, of a data set or a folder all]
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Hash files that are in the cache already, and fetch damaged ones anew
    #[arg(long)]
    verify: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let mut reference = args.reference.clone();
    if let Some(revision) = &args.revision {
        if reference.revision.as_ref().is_some_and(|named| named != revision) {
            return Err(usage(anyhow::anyhow!(
                "--revision {revision}: {reference} names another one; leave one of them out"
            )));
        }
        reference = reference.at(revision).map_err(usage)?;
    }
    let hub = hub::open()?;
    let inner = reference.inner.as_deref();
    if let Some(snapshot) = hub.cached(&reference.repo, reference.revision()).filter(|_| hub.settings().offline) {
        eprintln!("HF_HUB_OFFLINE is set: this is what the cache has, which may not be all");
        let folder = inner.map_or_else(|| snapshot.folder.clone(), |inner| snapshot.folder.join(inner));
        crate::print(&format!("{}\n", folder.display()));
        return Ok(());
    }
    let listing = match hub.settings().offline {
        true => hub::list(&hub, &reference, &reference.to_string())?,
        false => hub.list(&reference.repo, reference.revision()).map_err(environment)?,
    };
    let chosen: Vec<&RemoteFile> = if inner.is_some() || !args.include.is_empty() {
        matching(&listing, inner, &args.include)
    } else if reference.repo.kind() == RepoKind::Dataset {
        let hidden = |file: &RemoteFile| file.name.split('/').any(|part| part.starts_with('.'));
        listing.files.iter().filter(|file| !hidden(file)).collect()
    } else if let Some(fuser) = fuser_files(&listing) {
        fuser
    } else {
        model_files(&listing).map_err(environment)?
    };
    if chosen.is_empty() {
        let patterns = args.include.join(", ");
        let what = match inner {
            Some(inner) if patterns.is_empty() => format!("folder `{inner}`"),
            Some(inner) => format!("file in `{inner}` that fits {patterns}"),
            None => format!("file that fits {patterns}"),
        };
        return Err(environment(listing.lacks(&what)));
    }
    let snapshot = hub::fetch(&hub, &listing, &chosen, args.verify)?;
    let folder = inner.map_or_else(|| snapshot.folder.clone(), |inner| snapshot.folder.join(inner));
    crate::print(&format!("{}\n", folder.display()));
    Ok(())
}
