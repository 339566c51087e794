//! What the commands need from the hub: found in the cache, or fetched with a word about it.
//!
//! What the cache has is used as it is, without a connection: a run doesn't change because a branch has moved.
//! `c2c download` asks the hub anew.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use c2c_data::{Input, Place};
use c2c_hub::{Hub, HubError, HubRef, Listing, Need, Progress, RemoteFile, Repo, RepoKind, Snapshot};
use c2c_recipe::{DataKind, DataSource, EvaluationSettings, ModelRef};

use crate::exit::{Failure, environment, usage};

/// The hub by the environment, which says on stderr when it waits.
pub fn open() -> Result<Hub, Failure> {
    Ok(Hub::from_env().map_err(environment)?.on_pause(|note| eprintln!("  {note}")))
}

/// The folder of a model: `hint` if that is one, else the hub id `name`, fetched if the cache lacks what is needed.
pub fn model(name: &str, hint: &Path, need: Need) -> Result<PathBuf, Failure> {
    if hint.join("config.json").is_file() {
        return Ok(hint.to_owned());
    }
    let no_model = |why: &str| {
        environment(anyhow!(
            "model `{name}` not found: {} is no folder with a config.json, and `{name}` is no hub id{why}; give a folder, org/name or org/name@revision",
            hint.display()
        ))
    };
    if hint.is_dir() {
        return Err(no_model(", since there is such a folder"));
    }
    let reference: HubRef = name.parse().map_err(|_| no_model(""))?;
    if reference.inner.is_some() || reference.repo.kind() != RepoKind::Model {
        return Err(no_model(" of a model"));
    }
    let hub = open()?;
    let snapshot = match hub.cached(&reference.repo, reference.revision()) {
        Some(snapshot) if need.is_met(&snapshot.folder) => snapshot,
        _ => {
            let listing = list(&hub, &reference, &format!("model `{name}`"))?;
            let files = need.files(&listing).map_err(environment)?;
            fetch(&hub, &listing, &files, false)?
        }
    };
    Ok(snapshot.folder)
}

/// The commit of a model that has been found before; `None` for a folder.
pub fn commit(model: &ModelRef) -> Option<String> {
    if model.path_hint.join("config.json").is_file() {
        return None;
    }
    let reference: HubRef = model.model.parse().ok()?;
    Hub::from_env().ok()?.cached(&reference.repo, reference.revision()).map(|snapshot| snapshot.commit)
}

/// The folder of a fuser: `path` if there is something, else the hub id `written`.
pub fn fuser(written: &str, path: &Path) -> Result<PathBuf, Failure> {
    let Some(reference) = Some(written).filter(|_| !path.exists()).and_then(|text| text.parse::<HubRef>().ok()) else {
        return Ok(path.to_owned());
    };
    let hub = open()?;
    let whole =
        |folder: &Path| ["fuser_config.json", "fuser.safetensors"].iter().all(|name| folder.join(name).is_file());
    if let Some(snapshot) = hub.cached(&reference.repo, reference.revision()).filter(|s| whole(&s.folder)) {
        return Ok(snapshot.folder);
    }
    let what = format!("fuser `{written}` ({} isn't there either)", path.display());
    let listing = list(&hub, &reference, &what)?;
    let files = c2c_hub::fuser_files(&listing).ok_or_else(|| {
        let fix =
            format!("of a fuser in the published PyTorch layout, make one with `c2c import {}/FOLDER`", reference.repo);
        environment(anyhow!("{}; {fix}", listing.lacks("fuser_config.json")))
    })?;
    Ok(fetch(&hub, &listing, &files, false)?.folder)
}

/// Sees to it that the data sets that a recipe trains on are in the cache: of each the files that will be read.
pub fn data(sources: &[DataSource]) -> Result<(), Failure> {
    places(sources.iter().filter(|source| source.kind != DataKind::Pocket).map(c2c_train::place))
}

/// The same of what it asks and of what its examples come from.
pub fn questions(settings: &EvaluationSettings) -> Result<(), Failure> {
    let examples = settings.baselines.iter().flat_map(|baselines| &baselines.few_shot_sources);
    places(settings.sources.iter().chain(examples).filter_map(c2c_eval::place))
}

fn places<'a>(places: impl Iterator<Item = Place<'a>>) -> Result<(), Failure> {
    for place in places {
        let Some(id) = place.hub_id() else { continue };
        // What is wrong with a set that is there is told when it is read.
        let hub = open()?;
        if Input::locate(&place).is_ok() || (hub.settings().offline && snapshot_of(&hub, id, place.revision)) {
            continue;
        }
        let reference: HubRef = format!("datasets/{id}").parse().map_err(usage)?;
        let reference = match place.revision {
            Some(revision) => reference.at(revision).map_err(usage)?,
            None => reference,
        };
        let listing = list(&hub, &reference, &format!("data set `{id}`"))?;
        let whole = PathBuf::from(format!("hub:{id}@{}", listing.commit));
        let chosen =
            place.choose(&whole, listing.files.iter().map(|file| PathBuf::from(&file.name))).map_err(environment)?;
        let files: Vec<&RemoteFile> =
            listing.files.iter().filter(|file| chosen.iter().any(|name| name == Path::new(&file.name))).collect();
        fetch(&hub, &listing, &files, false)?;
    }
    Ok(())
}

fn snapshot_of(hub: &Hub, id: &str, revision: Option<&str>) -> bool {
    let repo = Repo::new(RepoKind::Dataset, id);
    repo.is_ok_and(|repo| hub.cached(&repo, revision.unwrap_or("main")).is_some())
}

/// What the hub holds, with an error that says what can be done offline.
pub fn list(hub: &Hub, reference: &HubRef, what: &str) -> Result<Listing, Failure> {
    if hub.settings().offline {
        let fix = format!("fetch it where there is a connection, with `c2c download {reference}`");
        return Err(environment(hub.offline(what, &fix)));
    }
    hub.list(&reference.repo, reference.revision()).map_err(|error| match error {
        error @ HubError::Unreachable { .. } => environment(anyhow!("{what} isn't in the hub cache: {error}")),
        error => environment(error),
    })
}

/// Fetches files and says so on stderr.
pub fn fetch(hub: &Hub, listing: &Listing, files: &[&RemoteFile], verify: bool) -> Result<Snapshot, Failure> {
    // A listing may name any sizes.
    let total = files.iter().fold(0_u64, |total, file| total.saturating_add(file.size));
    let count = if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
    eprintln!("{}@{}: {count}, {}", listing.repo, &listing.commit[..12], size(total));
    let mut line = Line { terminal: std::io::stderr().is_terminal(), last: None };
    let snapshot = hub.fetch(listing, files, verify, &mut |progress| line.show(progress));
    snapshot.map_err(|error| {
        line.clear();
        environment(error)
    })
}

/// One rewritten line on a terminal, a line a fetched file elsewhere.
struct Line {
    terminal: bool,
    last: Option<Instant>,
}

impl Line {
    fn show(&mut self, progress: Progress<'_>) {
        const EVERY: Duration = Duration::from_millis(200);
        match progress {
            Progress::Waiting { name } => eprintln!("  {name}: another process fetches it; waiting"),
            Progress::Part { name, done, size: of } => {
                if self.terminal && self.last.is_none_or(|last| last.elapsed() >= EVERY) {
                    let percent = done as f64 / of.max(1) as f64 * 100.0;
                    eprint!("\r\x1b[2K  {name}  {} of {}  {percent:.0} %", size(done), size(of));
                    let _ = std::io::stderr().flush();
                    self.last = Some(Instant::now());
                }
            }
            Progress::Done { name, size: of, cached } => {
                self.clear();
                if !cached {
                    eprintln!("  {name}  {}", size(of));
                }
            }
        }
    }

    fn clear(&mut self) {
        if self.last.take().is_some() {
            eprint!("\r\x1b[2K");
        }
    }
}

/// Bytes for people, in powers of 1000 as the hub shows them.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000.0 is 1.0 of the next unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        let shown = [0, 999, 1000, 999_949, 999_950, 5_277_680, 3_000_000_000].map(size);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "5.3 MB", "3.0 GB"]);
    }
}
