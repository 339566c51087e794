//! Training sets and benchmarks as typed rows, with fingerprints, and the generated pocket world.
//!
//! Everything a model reads starts here as a typed row: a multiple-choice question ([`McQuestion`]) or a conversation
//! (a list of [`c2c_text::Message`]). Loading a file also yields its [`Fingerprint`], so that a run can state which
//! bytes it has read. The [`pocket`] module needs no file: it generates a closed world from a seed.
//!
//! Invariants:
//! - a row that leaves this crate is well formed: an answer is an index into its choices, a conversation ends with the
//!   assistant; a file that breaks this is refused with file, line and field;
//! - everything random takes its seed or its generator from the caller, and the same seed gives the same rows.

mod chat;
mod error;
mod jsonl;
mod mismatch;
mod multiple_choice;
pub mod pocket;
pub mod prompts;
mod training;

pub use chat::load_conversations;
pub use error::DataError;
pub use jsonl::{Fingerprint, Loaded, MAX_LINE_BYTES};
pub use mismatch::mismatched_pairs;
pub use multiple_choice::{MAX_CHOICES, McQuestion, load_multiple_choice};
pub use training::{
    ANSWER_CUE, answer_sentence, answered, choice_lines, cued_prompt, letter, plain_chat, plain_prompt, training_chat,
    training_prompt,
};
