//! The layout that Hugging Face's clients share: `blobs/HASH`, `refs/REVISION`, `snapshots/COMMIT/NAME` as links.
//!
//! Invariant: a name appears below `snapshots` only when its bytes are whole and right. All names of one request appear
//! after all of its bytes are there, so that an interrupted download leaves no half of a model or of a data set.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::io;
use crate::reference::is_commit;
use crate::{HubError, Repo};

/// A repository at a commit, as far as its files have been fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder.
    pub folder: PathBuf,
    /// The commit.
    pub commit: String,
}

/// The folder of one repository in the cache.
pub(crate) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub fn new(cache: &Path, repo: &Repo) -> Self {
        let folder = repo.folder();
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    pub fn blob(&self, digits: &str) -> PathBuf {
        self.root.join("blobs").join(digits)
    }

    /// Where other clients lock too.
    pub fn lock(&self, digits: &str) -> PathBuf {
        self.locks.join(format!("{digits}.lock"))
    }

    pub fn snapshot(&self, commit: &str) -> Snapshot {
        Snapshot { folder: self.root.join("snapshots").join(commit), commit: commit.to_owned() }
    }

    /// The snapshot of a revision, if there is one: the commit that `refs` has for it, or the commit itself.
    pub fn find(&self, revision: &str) -> Option<Snapshot> {
        let named = fs::read_to_string(self.root.join("refs").join(revision)).ok();
        let commit = named.map_or_else(|| revision.to_owned(), |commit| commit.trim().to_owned());
        // What stands in a file is no path until it is looked at.
        let plain = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let snapshot = self.snapshot(&commit);
        (plain && !commit.starts_with('.') && snapshot.folder.is_dir()).then_some(snapshot)
    }

    /// The only snapshot there is, if there is one: a folder that was copied may have no `refs`.
    pub fn only(&self) -> Option<Snapshot> {
        let mut found = fs::read_dir(self.root.join("snapshots")).ok()?.flatten();
        let first = found.next()?;
        let commit = first.file_name().into_string().ok()?;
        (found.next().is_none() && first.path().is_dir()).then(|| self.snapshot(&commit))
    }

    /// Writes down which commit a branch or tag is.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|was| was.trim() == commit) {
            return Ok(());
        }
        let folder = make_parent(&path)?;
        let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(io("write", &path))?;
        std::io::Write::write_all(&mut beside, commit.as_bytes()).map_err(io("write", &path))?;
        beside.persist(&path).map_err(|e| io("write", &path)(e.error))?;
        Ok(())
    }

    /// Gives a blob its name in a snapshot.
    pub fn link(&self, snapshot: &Snapshot, name: &str, digits: &str) -> Result<(), HubError> {
        let path = snapshot.folder.join(name);
        let folder = make_parent(&path)?.to_owned();
        let up = "../".repeat(2 + name.matches('/').count());
        let target = format!("{up}blobs/{digits}");
        if fs::read_link(&path).is_ok_and(|was| was == Path::new(&target)) {
            return Ok(());
        }
        // A link is made beside and renamed, since the name may be there with other bytes.
        let beside = tempfile::Builder::new().prefix(".link-").tempdir_in(&folder).map_err(io("write", &folder))?;
        let made = beside.path().join("link");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&target, &made).map_err(io("link", &path))?;
        // Links need a privilege elsewhere; the other clients copy there too.
        #[cfg(not(unix))]
        fs::copy(self.blob(digits), &made).map_err(io("copy", &path))?;
        fs::rename(&made, &path).map_err(io("link", &path))
    }
}

/// Makes the folder that a file goes to.
pub(crate) fn make_parent(path: &Path) -> Result<&Path, HubError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io("make", parent))?;
    Ok(parent)
}
