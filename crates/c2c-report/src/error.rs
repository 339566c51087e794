//! What can go wrong around runs and reports.

use std::path::PathBuf;

/// Errors of reading runs and writing reports.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder can't be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's or the decoder's reason.
        reason: String,
    },
    /// A folder that is no run.
    #[error("{} is no run directory and holds none: expected summary.json in it; give a folder that `c2c train` or `c2c eval` made, or one that holds such folders", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run whose evaluation has a journal and no figures yet.
    #[error("{}: the evaluation isn't finished, or is one shard of several: go on with `c2c eval --resume {}`, or put the shards together with `c2c merge`", path.display(), path.display())]
    Unfinished {
        /// The run.
        path: PathBuf,
    },
    /// A run without records.
    #[error("{}: no evaluation in this run: expected {missing}; the run was interrupted, or its recipe has no [evaluation]", path.display())]
    NoEvaluation {
        /// The run.
        path: PathBuf,
        /// What isn't there.
        missing: &'static str,
    },
    /// A run that hasn't asked a method.
    #[error("{}: `{method}` hasn't answered in this run; add it to evaluation.methods, or choose others with --weak and --strong", path.display())]
    NoMethod {
        /// The run.
        path: PathBuf,
        /// The method.
        method: c2c_recipe::Method,
    },
    /// A run whose answers aren't right or wrong.
    #[error("{}: {graded} questions have graded answers (LongBench), and a router decides by which method is right; use runs whose answers are right or wrong", path.display())]
    Graded {
        /// The run.
        path: PathBuf,
        /// Questions with graded answers.
        graded: usize,
    },
    /// A router that would be judged on what it was fitted on.
    #[error("{shared} questions of {} are also in {}: a router is judged on questions that it wasn't fitted on; use runs of different splits", test.display(), train.display())]
    Leak {
        /// The run to fit on.
        train: PathBuf,
        /// The run to judge on.
        test: PathBuf,
        /// Questions of both.
        shared: usize,
    },
    /// A summary of another version.
    #[error("{}: figures of format {found}, this program knows formats up to {expected}; {fix}", path.display())]
    Format {
        /// The summary.
        path: PathBuf,
        /// The version that the file names, or `none`.
        found: String,
        /// The newest version that is known.
        expected: u32,
        /// What to do.
        fix: &'static str,
    },
    /// The records of a run.
    #[error(transparent)]
    Records(#[from] c2c_eval::EvalError),
    /// Nothing is left after the filters.
    #[error("no record of {} passes the filters; check --method, --benchmark and --subject", path.display())]
    NothingLeft {
        /// The run.
        path: PathBuf,
    },
    /// The same of every run.
    #[error("none of the {count} runs has a record that passes the filters; check --method, --benchmark and --subject")]
    AllFiltered {
        /// How many there are.
        count: usize,
    },
    /// The run that the others are to be compared with isn't among them.
    #[error("no run is called `{found}`; the runs are {known}")]
    NoBaseline {
        /// What was asked for.
        found: String,
        /// The names there are.
        known: String,
    },
    /// Every run is broken.
    #[error("none of the {count} runs can be read:\n{reasons}")]
    NothingToReport {
        /// How many there are.
        count: usize,
        /// A line a run.
        reasons: String,
    },
    /// A file of the report can't be written.
    #[error("cannot write {}: {reason}; check free space and permissions", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's or the encoder's reason.
        reason: String,
    },
    /// A table or a plot can't be put into its format.
    #[error("cannot make {what}: {reason}")]
    Encode {
        /// What was to be made.
        what: String,
        /// The encoder's reason.
        reason: String,
    },
}
