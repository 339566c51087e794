//! What can go wrong around an evaluation. What goes wrong with one question is told in its record instead.

use std::path::PathBuf;

/// Errors of an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A setting is out of range.
    #[error("evaluation settings: {key} = {found}: expected {expected}")]
    Settings {
        /// The field of [`EvalSettings`](crate::EvalSettings).
        key: &'static str,
        /// Its value.
        found: String,
        /// The range.
        expected: &'static str,
    },
    /// There is nothing to ask.
    #[error("expected at least one question to evaluate on, found none; add a source or raise the limit")]
    NoQuestions,
    /// A source that doesn't hold multiple-choice questions, or lacks what its kind needs.
    #[error("questions of kind `{kind}`: {reason}")]
    Source {
        /// The kind, as a recipe writes it.
        kind: String,
        /// What is missing, and what to write instead.
        reason: String,
    },
    /// A tokenizer in which the letters of the choices can't be told apart by their first token.
    #[error(
        "{owner}: the first {count} letters behind {text:?} don't begin with different tokens; \
         ask with `evaluation.mode = \"generate\"`, or with another `evaluation.response_text`"
    )]
    Letters {
        /// The tokenizer.
        owner: String,
        /// The start of the reply.
        text: String,
        /// How many letters there are.
        count: usize,
    },
    /// A file of questions can't be read.
    #[error(transparent)]
    Data(#[from] c2c_data::DataError),
    /// Models, tokenizers and fuser that don't belong together.
    #[error(transparent)]
    Fuser(#[from] c2c_fuser::FuserError),
    /// A comparison that can't be made.
    #[error(transparent)]
    Stats(#[from] crate::stats::StatsError),
    /// Too few examples.
    #[error(
        "expected {wanted} examples that aren't asked, found {found}; add to evaluation.few_shot_sources or lower \
         evaluation.few_shot_examples"
    )]
    Examples {
        /// Questions that could be examples.
        found: usize,
        /// Examples that are wanted.
        wanted: usize,
    },
    /// Units that don't make an evaluation: a question is missing, or there twice.
    #[error("{method}: question {question} {reason}; the units of all shards hold each question once")]
    Units {
        /// Who should have answered it.
        method: c2c_recipe::Method,
        /// Its number, from 0.
        question: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A unit of an earlier sitting isn't the one that would be done now.
    #[error(
        "unit {number} of the journal holds other questions than it would now, though recipe, data and models are the \
         same; evaluate again"
    )]
    UnitChanged {
        /// The unit's number.
        number: usize,
    },
    /// Records or questions that can't be turned into bytes.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// What was to be encoded.
        what: &'static str,
        /// What the encoder reports.
        reason: String,
    },
    /// The records can't be written.
    #[error("cannot write {}: {reason}; check that the folder exists and has room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system or the encoder reports.
        reason: String,
    },
    /// Two processes at one journal.
    #[error("{}: another process is writing this journal; let it finish, or stop it first", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// The records can't be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system or the decoder reports.
        reason: String,
    },
    /// Records of another version.
    #[error("{}: records of format {found}, this program knows format {expected}; {fix}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The version that the file names, or `none`.
        found: String,
        /// The version that is known.
        expected: u32,
        /// What to do.
        fix: &'static str,
    },
    /// A column of the records is missing or of another type, or holds what it can't hold.
    #[error("{}: column `{column}`{}: expected {expected}, found {found}", path.display(), at(*.row))]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// The row, from 0, if it is one row's fault.
        row: Option<usize>,
        /// What is there.
        found: String,
        /// What belongs there.
        expected: String,
    },
}

fn at(row: Option<usize>) -> String {
    row.map_or_else(String::new, |row| format!(", row {row}"))
}
