//! Checkpoints: folders from which a killed run goes on as if it had not been killed.
//!
//! `checkpoints/step-000050/` holds `fuser.safetensors` (`weights.safetensors` where no fuser is trained), `optimizer.safetensors`, `state.json`, `metrics.jsonl` and
//! `manifest.json`. `docs/checkpoints.md` is the format's reference.
//!
//! Invariants:
//! * A folder named `step-N` is complete: it is written as `step-N.partial`, every file and the folder are on disk, and
//!   only then is it renamed. What is deleted is renamed first. A process killed anywhere leaves no broken `step-N`.
//! * Nothing of a checkpoint is used before all of it is checked: the manifest seals itself, and it holds the size and
//!   SHA-256 of every other file; the folder holds these files and nothing else.
//! * A save that fails deletes what it began and touches no older checkpoint.
//! * One process at a time works in a run: the lock dies with the process.

mod error;
mod folder;
mod kept;
mod manifest;
mod state;
mod store;
mod tensors;

pub use error::{CheckpointError, FileProblem};
pub use kept::{Kept, KeptTensor};
pub use manifest::{FORMAT, Identity, VERSION};
pub use state::{Best, DataCursor, OptimizerTimes, RngStreams, State};
pub use store::{Checkpoint, Notes, Snapshot, Store};

/// The folder of all checkpoints in a run directory.
pub const CHECKPOINTS: &str = "checkpoints";

/// The fuser's parameters, under the names of the artefact.
pub const FUSER_FILE: &str = "fuser.safetensors";
/// The trained parameters of what is no fuser, under their paths in the module.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// AdamW's moments: `<parameter>.moment_1` and `.moment_2`.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// [`State`].
pub const STATE_FILE: &str = "state.json";
/// `metrics.jsonl` of the run up to this step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// What the other files must be.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The files that a manifest lists.
const LISTED: [&str; 4] = [FUSER_FILE, OPTIMIZER_FILE, STATE_FILE, METRICS_FILE];
/// Those of a run that trains no fuser.
const LISTED_OTHERWISE: [&str; 4] = [WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE, METRICS_FILE];

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
