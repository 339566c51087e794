//! The file layer: a folder that appears complete or not at all, and its check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{FileEntry, Manifest};
use super::{CheckpointError, FileProblem, Identity, MANIFEST_FILE, hex};

/// Ending of a folder that is being written.
pub(super) const PARTIAL: &str = "partial";
/// Ending of a folder that is being deleted.
pub(super) const DELETED: &str = "deleted";
/// Bytes gathered before they go to the operating system.
const BUFFER: usize = 1 << 20;
/// A manifest has about 1 KB; what is larger is something else.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

pub(super) fn write_error(path: &Path) -> impl Fn(std::io::Error) -> CheckpointError + use<> {
    let path = path.to_owned();
    move |source| CheckpointError::Write { path: path.clone(), source }
}

/// `step-000050` and an ending: `step-000050.partial`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Waits until the names in a folder are on disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    // Elsewhere folders can't be opened like files; there the file system keeps its own order.
    if cfg!(unix) { File::open(path).and_then(|folder| folder.sync_all()).map_err(write_error(path)) } else { Ok(()) }
}

/// A folder being written; deleted unless it is published.
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    path: PathBuf,
    files: BTreeMap<String, FileEntry>,
    published: bool,
}

impl Staging {
    pub fn create(target: &Path) -> Result<Self, CheckpointError> {
        let path = beside(target, PARTIAL);
        fs::create_dir(&path).map_err(write_error(&path))?;
        Ok(Self { target: target.to_owned(), path, files: BTreeMap::new(), published: false })
    }

    /// Writes one file, which is on disk when this returns.
    pub fn file(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut HashedFile) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut file = HashedFile::create(&self.path.join(name))?;
        fill(&mut file)?;
        self.files.insert(name.to_owned(), file.finish()?);
        Ok(())
    }

    /// Writes the manifest and puts the folder in its place.
    pub fn publish(mut self, step: usize, identity: &Identity) -> Result<(), CheckpointError> {
        let path = self.path.join(MANIFEST_FILE);
        let manifest = Manifest::new(step, identity, std::mem::take(&mut self.files));
        let text = manifest.text().map_err(|e| write_error(&path)(e.into()))?;
        let mut file = HashedFile::create(&path)?;
        file.put(&text)?;
        file.finish()?;
        sync_folder(&self.path)?;
        fs::rename(&self.path, &self.target).map_err(write_error(&self.target))?;
        self.published = true;
        sync_folder(self.target.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // The error that led here is being reported; the next start tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A new file that is hashed as it is written.
#[derive(Debug)]
pub(super) struct HashedFile {
    path: PathBuf,
    file: BufWriter<File>,
    sha: Sha256,
    bytes: u64,
}

impl HashedFile {
    fn create(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::create_new(path).map_err(write_error(path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(BUFFER, file), sha: Sha256::new(), bytes: 0 })
    }

    pub fn put(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.sha.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(write_error(&self.path))
    }

    fn finish(self) -> Result<FileEntry, CheckpointError> {
        let failed = write_error(&self.path);
        let file = self.file.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(&failed)?;
        Ok(FileEntry { bytes: self.bytes, sha256: hex(&self.sha.finalize()) })
    }
}

/// A folder whose every file is as it was written.
#[derive(Debug)]
pub(super) struct Verified {
    pub manifest: Manifest,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Reads a folder whole and checks it.
///
/// # Errors
/// [`CheckpointError::Damaged`] with every bad file.
pub(super) fn read(path: &Path, step: usize) -> Result<Verified, CheckpointError> {
    let damaged = |problems| CheckpointError::Damaged { path: path.to_owned(), problems };
    let in_manifest = |problem| damaged(vec![(MANIFEST_FILE.to_owned(), problem)]);
    let bytes = read_file(&path.join(MANIFEST_FILE), |found| {
        let expected = MAX_MANIFEST_BYTES;
        if found > expected { Err(FileProblem::Content(format!("has {found} bytes, too many"))) } else { Ok(()) }
    });
    let manifest = bytes.and_then(|bytes| Manifest::read(&bytes)).map_err(in_manifest)?;
    if manifest.step != step {
        return Err(in_manifest(FileProblem::Content(format!("is of step {}, not of this folder", manifest.step))));
    }
    let mut problems = Vec::new();
    let mut files = BTreeMap::new();
    for (name, entry) in &manifest.files {
        match read_listed(&path.join(name), entry) {
            Ok(bytes) => {
                files.insert(name.clone(), bytes);
            }
            Err(problem) => problems.push((name.clone(), problem)),
        }
    }
    for name in names(path)? {
        if name != MANIFEST_FILE && !manifest.files.contains_key(&name) {
            problems.push((name, FileProblem::Unexpected));
        }
    }
    if problems.is_empty() { Ok(Verified { manifest, files }) } else { Err(damaged(problems)) }
}

fn read_listed(path: &Path, entry: &FileEntry) -> Result<Vec<u8>, FileProblem> {
    let bytes = read_file(path, |found| {
        if found == entry.bytes { Ok(()) } else { Err(FileProblem::Size { found, expected: entry.bytes }) }
    })?;
    let found = hex(&Sha256::digest(&bytes));
    if found == entry.sha256 { Ok(bytes) } else { Err(FileProblem::Hash { found, expected: entry.sha256.clone() }) }
}

/// A plain file, whole; its size is looked at before anything is read.
fn read_file(path: &Path, fits: impl FnOnce(u64) -> Result<(), FileProblem>) -> Result<Vec<u8>, FileProblem> {
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => FileProblem::Missing,
        _ => FileProblem::Unreadable(e.to_string()),
    };
    let facts = fs::symlink_metadata(path).map_err(unreadable)?;
    if !facts.is_file() {
        return Err(FileProblem::NotAFile);
    }
    fits(facts.len())?;
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0));
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

/// The names in a folder, sorted.
pub(super) fn names(path: &Path) -> Result<BTreeSet<String>, CheckpointError> {
    let failed = |source| CheckpointError::Read { path: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}
