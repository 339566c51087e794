//! Training sets and benchmarks as typed rows, with fingerprints, and the generated pocket world.
//!
//! Everything a model reads starts here as a typed row: a multiple-choice question ([`McQuestion`]) or a conversation
//! (a list of [`c2c_text::Message`]). Loading also yields a [`Fingerprint`], so that a run can state which bytes it has
//! read and which rows of them it used. The [`pocket`] module needs no file: it generates a closed world from a seed.
//!
//! Invariants:
//! - a row that leaves this crate is well formed: an answer is an index into its choices, a conversation ends with the
//!   assistant; [`load_chats`] counts and lists rows that break this with file, line and field, the loaders for
//!   evaluations refuse the file;
//! - no row is lost without a count: read = used + left out by a filter + bad;
//! - everything random takes its seed or its generator from the caller, and the same seed gives the same rows.

mod benchmark;
mod chat;
mod error;
mod fingerprint;
mod home;
mod ids;
mod input;
mod load;
mod longbench;
mod mismatch;
mod multiple_choice;
pub mod pocket;
pub mod prompts;
mod read;
mod row;
mod select;
mod training;

pub use benchmark::{
    Benchmark, Cut, Framing, Free, Question, Scorer, Task, Wanted, categories, category, load_benchmark, subject_count,
};
pub use chat::load_conversations;
pub use error::DataError;
pub use fingerprint::{BadRows, FileFingerprint, Fingerprint, LISTED_BAD_ROWS, Loaded};
pub use home::{Home, Said};
pub use input::{Input, Place};
pub use load::{Example, Shape, load_chats};
pub use longbench::{LongBench, Part, cut_middle};
pub use mismatch::mismatched_pairs;
pub use multiple_choice::{MAX_CHOICES, McQuestion, load_multiple_choice};
pub use read::MAX_LINE_BYTES;
pub use select::Selection;
pub use training::{
    ANSWER_CUE, answer_sentence, answered, choice_lines, cued_prompt, letter, plain_chat, plain_prompt, training_chat,
    training_prompt,
};
