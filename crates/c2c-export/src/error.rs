//! What can go wrong between a fuser and its files.

use std::path::PathBuf;

/// Errors of saving, loading and copying fusers.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file or folder can't be read.
    #[error("cannot read {}: {source}; check that the path names the folder of a fuser, and its permissions", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file or folder can't be written or renamed.
    #[error("cannot write {}: {source}; check free space and permissions, then try again", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("{}: {found} bytes are more than the {limit} that such a file may have; is it the right file?", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The target has no name of its own.
    #[error("cannot write a fuser to {}: the path doesn't end in a name; give the folder to create", .path.display())]
    Target {
        /// The target.
        path: PathBuf,
    },
    /// The target is there already.
    #[error("{} exists already; choose another folder, or ask to overwrite it", .path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target holds something else than a fuser, so it is not replaced.
    #[error("{} is not replaced: {found}; choose another folder, or move away what is there", .path.display())]
    NotAnArtefact {
        /// The target.
        path: PathBuf,
        /// What it holds that is no part of a fuser, or lacks.
        found: String,
    },
    /// A JSON file can't be understood.
    #[error("{} is not valid: {reason}; export the fuser again, or copy the file again", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A file of another version than this program reads.
    #[error("{}: schema_version = {found}, expected {expected}: use the version of this program that wrote it, or export the fuser again", .path.display())]
    SchemaVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The version that is read.
        expected: u32,
    },
    /// A value is out of its range or disagrees with another one.
    #[error("{}: {key} = {found}, expected {expected}; export the fuser again from its run", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// Its value.
        found: String,
        /// What it has to be.
        expected: String,
    },
    /// The weights are not those the config was written with.
    #[error("{}: sha256 is {found}, expected {expected} (weights_sha256 of fuser_config.json); copy both files again from one fuser", .path.display())]
    Hash {
        /// The weights.
        path: PathBuf,
        /// Their hash.
        found: String,
        /// The hash in the config.
        expected: String,
    },
    /// A safetensors file is damaged.
    #[error("{} is not a whole safetensors file: {reason}; copy it again", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// Tensors are missing, unused, misshapen or of another dtype. All of them are listed.
    #[error("{}: the tensors don't fit {config}:\n{}\nuse the weights and the config of one fuser", .path.display(), .problems.join("\n"))]
    Tensors {
        /// The file or folder.
        path: PathBuf,
        /// The file that says what was expected.
        config: &'static str,
        /// One line a tensor: name, found, expected.
        problems: Vec<String>,
    },
    /// A folder in the published layout is incomplete or contradicts itself or the models. All problems are listed.
    #[error("{} is not a usable published fuser:\n{}\nfetch the folder again, and check that it was made for these two models", .path.display(), .problems.join("\n"))]
    Published {
        /// The folder.
        path: PathBuf,
        /// One line a problem: file, found, expected.
        problems: Vec<String>,
    },
    /// An option of the export that doesn't go with the others or with this fuser.
    #[error("{}: cannot export with {what}: {why}; {fix}", .path.display())]
    Option {
        /// The fuser.
        path: PathBuf,
        /// The option.
        what: String,
        /// Why it isn't possible.
        why: String,
        /// What to do instead.
        fix: String,
    },
    /// Burn could not write its own file.
    #[error("cannot write {}: {reason}; check free space and permissions, then try again", .path.display())]
    Burnpack {
        /// The file.
        path: PathBuf,
        /// Burn's reason.
        reason: String,
    },
    /// A parameter that a fuser of this config doesn't have, or with another number of values.
    #[error("fuser parameter `{name}`: found {found}, expected {expected}")]
    Parameter {
        /// The name.
        name: String,
        /// What was given.
        found: String,
        /// What a fuser of this config has.
        expected: String,
    },
    /// A tensor could not be read back from the device.
    #[error(
        "reading fuser parameter `{name}` back from the device failed: {reason}; check the device's state and memory"
    )]
    Readback {
        /// The parameter.
        name: String,
        /// The backend's reason.
        reason: String,
    },
    /// The fuser refused its config.
    #[error(transparent)]
    Fuser(#[from] c2c_fuser::FuserError),
}
