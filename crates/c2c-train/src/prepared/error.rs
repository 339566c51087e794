//! What can be wrong with prepared caches.

use std::path::PathBuf;

/// Errors of prepared caches.
#[derive(Debug, thiserror::Error)]
pub enum PreparedError {
    /// The folder isn't complete.
    #[error(
        "{path} holds no finished caches (no index.json); run `c2c data prepare RECIPE --out {path}`, which goes on where it stopped"
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is of other models, layers or another layout.
    #[error("{path} was prepared for something else:\n  {}\nprepare into another folder", differences.join("\n  "))]
    Mismatch {
        /// The folder.
        path: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
    /// Examples of the run are not in the folder.
    #[error(
        "{missing} of {of} examples of this run are not in {path}, the first being {first}: the data, a tokenizer, a chat template or [alignment] differ from what was prepared; \
         `c2c data prepare RECIPE --out {path}` adds what is missing"
    )]
    Missing {
        /// The folder.
        path: PathBuf,
        /// How many are missing.
        missing: usize,
        /// Of how many.
        of: usize,
        /// Place of the first.
        first: String,
    },
    /// A file of the folder is not as it was written.
    #[error(
        "damaged file {path}: {problem}; delete it and index.json beside it, and run `c2c data prepare` again, which makes only what is missing"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process writes there.
    #[error("{path} is locked: another process is preparing into this folder")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A file can't be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}
