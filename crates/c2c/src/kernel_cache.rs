//! Where compiled GPU kernels are kept between runs: a folder for each build of this program.
//!
//! A kernel is found again by its name and parameters, not by its code, so builds must not share a folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders of builds that weren't used for this long are removed.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Turns the cache on, before the first use of a GPU. Without a home folder, kernels are compiled anew each time.
pub fn prepare() {
    let Some(all) = root() else { return };
    let Ok(build) = build() else { return };
    remove_unused(&all, SystemTime::now());
    let folder = all.join(build);
    // Its time of change says when it was last used.
    let marked = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("last-used"), ""));
    if let Err(error) = marked {
        eprintln!("note: {}: {error}; kernels are compiled anew each time", folder.display());
        return;
    }
    c2c_kernels::keep_compiled(&folder);
}

fn root() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("c2c/kernels"))
}

/// What tells this build from others: version, and size and time of the program's file.
fn build() -> std::io::Result<String> {
    let file = std::env::current_exe()?.metadata()?;
    let changed = file.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{}-{:x}-{:x}", env!("CARGO_PKG_VERSION"), file.len(), changed.as_nanos()))
}

fn remove_unused(all: &Path, now: SystemTime) {
    for folder in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let used = folder.path().join("last-used").metadata().and_then(|file| file.modified());
        let unused = used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > KEPT));
        // Only folders that carry the mark are ours to remove; one that can't be removed does no harm.
        if unused {
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn folders_of_old_builds_go_and_others_stay() {
        let all = tempfile::tempdir().unwrap();
        for name in ["ours", "foreign"] {
            std::fs::create_dir(all.path().join(name)).unwrap();
        }
        std::fs::write(all.path().join("ours/last-used"), "").unwrap();
        remove_unused(all.path(), SystemTime::now());
        assert!(all.path().join("ours").exists(), "it was just used");
        remove_unused(all.path(), SystemTime::now() + KEPT + Duration::from_secs(1));
        assert!(!all.path().join("ours").exists());
        assert!(all.path().join("foreign").exists(), "without the mark it isn't ours");
    }
}
