//! What can be wrong with a checkpoint.

use std::path::PathBuf;

/// What is wrong with one file of a checkpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// The manifest lists it.
    #[error("is missing")]
    Missing,
    /// The manifest doesn't list it.
    #[error("does not belong here")]
    Unexpected,
    /// A folder, a link or something else.
    #[error("is no plain file")]
    NotAFile,
    /// Cut or grown.
    #[error("has {found} bytes, expected {expected}")]
    Size {
        /// Bytes on disk.
        found: u64,
        /// Bytes in the manifest.
        expected: u64,
    },
    /// Changed.
    #[error("has sha256 {found}, expected {expected}")]
    Hash {
        /// Of the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// Written by another version of this program.
    #[error("has format version {found}, this program reads version {expected}")]
    Version {
        /// In the file.
        found: String,
        /// Of this program.
        expected: u32,
    },
    /// Whole, but not what it should be.
    #[error("{0}")]
    Content(String),
    /// The operating system's reason.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// Errors of checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or folder can't be written.
    #[error("cannot write {path}: {source}; older checkpoints are as they were")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A folder can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A checkpoint is not what was written: every file that is bad.
    #[error("{}: {}", path.display(), listed(problems))]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// File and problem.
        problems: Vec<(String, FileProblem)>,
    },
    /// There are checkpoints, and all of them are bad.
    #[error(
        "no checkpoint of {path} can be used:\n{}\nstart the run anew, without --resume",
        problems.join("\n")
    )]
    NoneGood {
        /// The folder of all checkpoints.
        path: PathBuf,
        /// A line a checkpoint, the newest first.
        problems: Vec<String>,
    },
    /// Of another recipe.
    #[error(
        "{path} was written under another recipe: its recipe has sha256 {expected}, this one {found}; resume with the recipe of the run directory as it was written"
    )]
    Recipe {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Of the recipe that is to go on.
        found: String,
        /// In the checkpoint.
        expected: String,
    },
    /// A frozen model is another one now.
    #[error(
        "{path} was trained with another {model}: its weights had sha256 {expected}, those loaded now {found}; put the model back, or start the run anew"
    )]
    Model {
        /// The checkpoint's folder.
        path: PathBuf,
        /// "receiver" or "sharer".
        model: &'static str,
        /// Of the model loaded now.
        found: String,
        /// In the checkpoint.
        expected: String,
    },
    /// The training data is another one now.
    #[error(
        "{path} was trained on other data: {what} was {expected}, is now {found}; put the data back, or start the run anew"
    )]
    Data {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What differs.
        what: String,
        /// Of the data read now.
        found: String,
        /// In the checkpoint.
        expected: String,
    },
    /// Tensors that don't fit the fuser.
    #[error("{path} doesn't fit the fuser of the recipe:\n{}", problems.join("\n"))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// A line a tensor.
        problems: Vec<String>,
    },
    /// A tensor can't be read back from the device.
    #[error("cannot read {name} back from the device: {reason}")]
    Readback {
        /// The tensor.
        name: String,
        /// Burn's reason.
        reason: String,
    },
    /// Another process is at work in this run.
    #[error("{path} is locked: another process trains in this run directory; wait for it or stop it")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A new run in the folder of an old one.
    #[error("{path} holds checkpoints of an earlier run: resume it, or choose another folder")]
    NotEmpty {
        /// The folder of all checkpoints.
        path: PathBuf,
    },
}

impl CheckpointError {
    /// Whether an older checkpoint may do instead.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

fn listed(problems: &[(String, FileProblem)]) -> String {
    problems.iter().map(|(file, problem)| format!("{file} {problem}")).collect::<Vec<_>>().join("; ")
}
