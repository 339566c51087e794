//! Finding a model that a recipe names: a folder, or a hub id that is already in the local cache.

use std::path::{Path, PathBuf};

use crate::LmError;

/// The folder of a model given as a path or as a hub id such as `Qwen/Qwen3-0.6B`.
///
/// A folder with a `config.json` wins. Else the Hugging Face cache is searched (`HF_HUB_CACHE`, else `HF_HOME/hub`, else
/// `huggingface/hub` in `XDG_CACHE_HOME` or `~/.cache`): the snapshot that `refs/main` names, or the only one there is. Nothing is downloaded.
///
/// # Errors
/// Neither is there; the message says how to fetch it.
pub fn locate_model(name: &str, folder: &Path) -> Result<PathBuf, LmError> {
    if folder.join("config.json").is_file() {
        return Ok(folder.to_owned());
    }
    hub_snapshot(name, Path::new("config.json")).ok_or_else(|| LmError::ModelNotFound {
        name: name.to_owned(),
        folder: folder.to_owned(),
        cache: hub_cache(),
    })
}

/// The snapshot of a hub repository in the local cache that holds a file or folder: the one that `refs/main` names, or the
/// only one there is.
pub fn hub_snapshot(repo: &str, wanted: &Path) -> Option<PathBuf> {
    let repo = hub_cache().join(format!("models--{}", repo.replace('/', "--")));
    let snapshots = repo.join("snapshots");
    if let Ok(revision) = std::fs::read_to_string(repo.join("refs/main")) {
        let snapshot = snapshots.join(revision.trim());
        if snapshot.join(wanted).exists() {
            return Some(snapshot);
        }
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(&snapshots)
        .map(|entries| entries.flatten().map(|e| e.path()).filter(|p| p.join(wanted).exists()).collect())
        .unwrap_or_default();
    found.pop().filter(|_| found.is_empty())
}

/// Where the hub's clients keep what they fetched.
pub fn hub_cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|caches| caches.join("huggingface/hub")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub"))
}
