//! A folder that appears whole or not at all.
//!
//! Files are written to `<dir>.tmp-<pid>-<n>`, which is renamed to `<dir>` when all of them are on disk. A folder that
//! is replaced is renamed to `<dir>.old-<pid>-<n>` first and deleted last: if the program is killed between the two
//! renames, the old fuser is found there.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ExportError;
use crate::files::{read_error, write_error};

/// Names within this process.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A folder being written; deleted unless it is published.
#[derive(Debug)]
pub(crate) struct Staging {
    target: PathBuf,
    path: PathBuf,
    overwrite: bool,
    known: Known,
    published: bool,
}

/// Which folders may be replaced: those that hold one kind of export and nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The file that every such folder has. Without it, the others could be anybody's: a `README.md` alone is no fuser.
    pub marker: &'static str,
    /// True for the files, by path inside the folder, that are written.
    pub file: fn(&Path) -> bool,
}

impl Staging {
    /// Creates the folder beside the target, after checking that the target may be written.
    pub fn new(target: &Path, overwrite: bool, known: Known) -> Result<Self, ExportError> {
        check_target(target, overwrite, known)?;
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(write_error(parent))?;
        loop {
            let path = beside(target, "tmp")?;
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { target: target.to_owned(), path, overwrite, known, published: false }),
                // Left behind by a killed process of the same id.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(write_error(&path)(e)),
            }
        }
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the folder in its place.
    pub fn publish(mut self) -> Result<(), ExportError> {
        sync_folder(&self.path);
        check_target(&self.target, self.overwrite, self.known)?;
        let failed = write_error(&self.target);
        if fs::symlink_metadata(&self.target).is_err() {
            fs::rename(&self.path, &self.target).map_err(failed)?;
            self.published = true;
        } else {
            let aside = beside(&self.target, "old")?;
            fs::rename(&self.target, &aside).map_err(&failed)?;
            if let Err(error) = fs::rename(&self.path, &self.target) {
                // The first error is the one to report; if this fails too, the old fuser is still beside the target.
                let _ = fs::rename(&aside, &self.target);
                return Err(failed(error));
            }
            self.published = true;
            fs::remove_dir_all(&aside).map_err(write_error(&aside))?;
        }
        sync_folder(parent(&self.target));
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // The error that led here is being reported.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// An absent or empty folder may be written; with `overwrite` also one that holds a fuser and nothing else.
fn check_target(target: &Path, overwrite: bool, known: Known) -> Result<(), ExportError> {
    match fs::symlink_metadata(target) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(read_error(target)(e)),
        Ok(_) => {}
    }
    let not_ours = |found: String| ExportError::NotAnArtefact { path: target.to_owned(), found };
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotADirectory => return Err(not_ours("it is a file".into())),
        Err(e) => return Err(read_error(target)(e)),
    };
    let mut empty = true;
    for entry in entries {
        let entry = entry.map_err(read_error(target))?;
        if !overwrite {
            return Err(ExportError::Exists { path: target.to_owned() });
        }
        empty = false;
        if let Some(foreign) = foreign(&entry, Path::new(""), known).map_err(read_error(target))? {
            return Err(not_ours(format!("it holds `{}`, which is no part of a fuser", foreign.display())));
        }
    }
    if empty || target.join(known.marker).is_file() {
        return Ok(());
    }
    Err(not_ours(format!("it has no {}, as every such folder has", known.marker)))
}

/// What isn't written by this program at or below an entry of the folder `above`: anything but plain files of the known
/// names, and the folder that the marker lies in.
fn foreign(entry: &fs::DirEntry, above: &Path, known: Known) -> std::io::Result<Option<PathBuf>> {
    let path = above.join(entry.file_name());
    let kind = entry.file_type()?;
    if kind.is_file() {
        return Ok((!(known.file)(&path)).then_some(path));
    }
    let is_above = Path::new(known.marker).parent().is_some_and(|inner| inner == path);
    if !kind.is_dir() || !is_above {
        return Ok(Some(path));
    }
    for inner in fs::read_dir(entry.path())? {
        if let Some(found) = foreign(&inner?, &path, known)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name beside the target that nobody else uses.
pub(crate) fn beside(target: &Path, what: &str) -> Result<PathBuf, ExportError> {
    let name = target.file_name().ok_or_else(|| ExportError::Target { path: target.to_owned() })?;
    let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut out = OsString::from(name);
    out.push(format!(".{what}-{pid}-{n}"));
    Ok(parent(target).join(out))
}

/// Waits until the names in a folder are on disk, where the system can do that.
fn sync_folder(path: &Path) {
    if let Ok(folder) = fs::File::open(path) {
        let _ = folder.sync_all();
    }
}
