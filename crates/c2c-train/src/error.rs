//! What can go wrong in a training run.

use std::path::PathBuf;

/// Errors of training runs.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A model refused.
    #[error(transparent)]
    Lm(#[from] c2c_lm::LmError),
    /// A tokenizer, template or alignment refused.
    #[error(transparent)]
    Text(#[from] c2c_text::TextError),
    /// The fuser refused.
    #[error(transparent)]
    Fuser(#[from] c2c_fuser::FuserError),
    /// Data could not be read.
    #[error(transparent)]
    Data(#[from] c2c_data::DataError),
    /// A checkpoint can't be written, or there is none to go on from.
    #[error(transparent)]
    Checkpoint(#[from] crate::CheckpointError),
    /// Prepared caches can't be used or made.
    #[error(transparent)]
    Prepared(#[from] crate::prepared::PreparedError),
    /// A file can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file of the run can't be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// No example is left to train on.
    #[error(
        "no training example: {read} were read, {too_long} were longer than max_length = {max_length} tokens; raise training.max_length or check data.sources"
    )]
    NoExamples {
        /// Examples read.
        read: usize,
        /// Examples left out for their length.
        too_long: usize,
        /// The limit.
        max_length: usize,
    },
    /// The loss is no number any more.
    #[error("the loss became {loss} at step {step}: lower optimizer.learning_rate, or check the data of that step")]
    Diverged {
        /// The step.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// A frozen model changed: a defect of this program.
    #[error(
        "the {model}'s weights changed during training (sha256 {before} before, {after} after), though they are frozen"
    )]
    NotFrozen {
        /// "receiver" or "sharer".
        model: &'static str,
        /// Before training.
        before: String,
        /// After training.
        after: String,
    },
    /// The thread that makes batches panicked, or there is none.
    #[error("making a batch failed: {0}; `-o data.prefetch=0` makes batches where they are used, which may say more")]
    Batches(String),
    /// The learner ended without handing back what was trained.
    #[error("training stopped early: {0}")]
    Stopped(String),
}
