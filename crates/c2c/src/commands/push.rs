//! `c2c push`: a fuser that is whole goes to the hub, after a list of what would be sent.

use std::path::{Path, PathBuf};

use c2c_export::artefact::{self, CARD_FILE, CONFIG_FILE, WEIGHTS_FILE};
use c2c_hub::{HubRef, PushOptions, Repo, RepoKind, UploadFile};
use serde_json::Value;

use crate::exit::{Failure, Outcome, environment, usage};
use crate::hub;

/// Arguments of `c2c push`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder of a fuser, or a run directory
    dir: PathBuf,
    /// The repository, org/name; it is made if it isn't there
    #[arg(long, value_name = "ORG/NAME")]
    to: HubRef,
    /// Make the repository private; refuse one that is there and public
    #[arg(long)]
    private: bool,
    /// First line of the commit
    #[arg(long, value_name = "TEXT", default_value = "Upload a Cache-to-Cache fuser")]
    message: String,
    /// Check and list, and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let repo = target(&args.to)?;
    let inside = args.dir.join("fuser");
    let dir = [&inside, &args.dir].into_iter().find(|dir| dir.join(CONFIG_FILE).is_file()).ok_or_else(|| {
        usage(anyhow::anyhow!(
            "{} holds no fuser: expected {CONFIG_FILE} in it, or in its folder `fuser`; `c2c export RUN --out DIR` writes one, `c2c import` makes one of the published layout",
            args.dir.display()
        ))
    })?;
    let (config, card) = artefact::check(dir).map_err(environment)?;
    let wrong: Vec<&str> =
        card.base_model.iter().filter(|id| Repo::new(RepoKind::Model, id).is_err()).map(String::as_str).collect();
    if !wrong.is_empty() {
        return Err(environment(anyhow::anyhow!(
            "{}: base_model = {}, expected hub ids (org/name); put the ids of the two models there, or take the key out",
            dir.join(CARD_FILE).display(),
            wrong.join(", ")
        )));
    }
    let files = [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE]
        .into_iter()
        .map(|name| UploadFile::new(dir, name))
        .collect::<Result<Vec<_>, _>>()
        .map_err(environment)?;
    // The check and the hashes are two readings; what is sent is what was checked.
    if files.iter().any(|file| file.name == WEIGHTS_FILE && file.sha256 != config.weights_sha256) {
        return Err(environment(anyhow::anyhow!("{} changes while it is read; push again", dir.display())));
    }
    let list = list(dir, &repo, &files);
    eprintln!(
        "checked: the weights have the hash and the tensors that {CONFIG_FILE} says, and {CARD_FILE} is a card for hubs"
    );
    for note in notes(dir, &card)? {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        crate::print(&list);
        eprintln!("dry run: nothing was sent");
        return Ok(());
    }
    eprint!("{list}");
    let options = PushOptions { private: args.private, message: args.message.clone() };
    let pushed = hub::open()?.push(&repo, &files, &options, &mut |line| eprintln!("{line}")).map_err(environment)?;
    eprintln!("committed {}; use it with `c2c eval RECIPE --fuser {repo}@{}`", pushed.commit, pushed.commit);
    crate::print(&format!("{}\n", if pushed.url.is_empty() { repo.to_string() } else { pushed.url }));
    Ok(())
}

fn target(to: &HubRef) -> Result<Repo, Failure> {
    if to.repo.kind() == RepoKind::Model && to.inner.is_none() && to.revision.is_none() {
        return Ok(to.repo.clone());
    }
    Err(usage(anyhow::anyhow!(
        "--to {to}: a fuser is pushed to the main branch of a repository of its own; expected org/name"
    )))
}

fn list(dir: &Path, repo: &Repo, files: &[UploadFile]) -> String {
    let total: u64 = files.iter().map(|file| file.size).sum();
    let mut out = format!("{} -> {repo}: {} files, {}\n", dir.display(), files.len(), hub::size(total));
    for file in files {
        out.push_str(&format!("  {:<18}  {:>9}  sha256 {}\n", file.name, hub::size(file.size), file.sha256));
    }
    out
}

/// What one may want to know before others can read it.
fn notes(dir: &Path, card: &artefact::FrontMatter) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    if card.license.is_none() {
        notes.push(format!(
            "{CARD_FILE} names no license; add `license: ID` to its front matter, one that the two models and the training data allow"
        ));
    }
    if card.base_model.is_empty() {
        notes
            .push(format!("{CARD_FILE} names no base_model, so that the hub can't show which models the fuser is for"));
    }
    let text = std::fs::read(dir.join(CONFIG_FILE)).map_err(environment)?;
    let mut paths = Vec::new();
    local_paths(&serde_json::from_slice(&text).map_err(environment)?, &mut paths);
    if !paths.is_empty() {
        notes.push(format!("{CONFIG_FILE} names paths of this machine, which others will read: {}", paths.join(", ")));
    }
    let entries = std::fs::read_dir(dir).map_err(environment)?.flatten();
    let mut others: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    others.retain(|name| ![CONFIG_FILE, WEIGHTS_FILE, CARD_FILE].contains(&name.as_str()));
    others.sort();
    if !others.is_empty() {
        notes.push(format!("no part of a fuser, so left out: {}", others.join(", ")));
    }
    Ok(notes)
}

fn local_paths(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let is_path = text.starts_with(['/', '~', '.']) && text.contains('/');
            if is_path && !found.contains(text) {
                found.push(text.clone());
            }
        }
        Value::Array(values) => values.iter().for_each(|value| local_paths(value, found)),
        Value::Object(object) => object.values().for_each(|value| local_paths(value, found)),
        _ => {}
    }
}
