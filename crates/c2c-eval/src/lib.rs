//! Evaluation: questions of benchmarks put to a Receiver, a Sharer and the fused pair.
//!
//! The way of a question through this crate: it becomes a prompt ([`c2c_data::prompts`]), the prompt becomes ids of one
//! model or of both ([`evaluate`]), the models' reply becomes a letter ([`extract`]) or another answer and a score
//! ([`score`]), and the scores become an accuracy with its interval and a paired difference ([`stats`]).
//!
//! | method | who reads | what it shows |
//! |---|---|---|
//! | `receiver` | the Receiver its own prompt | what it knows alone |
//! | `sharer` | the Sharer its own prompt | what there is to share |
//! | `c2c` | both, aligned; the Receiver answers on the fused cache | what was communicated |
//! | `several` | as `c2c` with several Sharers, each through a Fuser of its own | what they communicate together |
//! | `mismatched` | as `c2c`, but the Sharer another question | that a gain comes from what the Sharer read |
//! | `gates_shut` | as `c2c` with every Gate shut | that nothing but the Fuser changes the Receiver, to the bit |
//! | `t2t` | the Sharer a request for a text, the Receiver text and question | what text communicates |
//! | `t2t_c2c` | as `t2t`, and the Sharer's cache is fused | what both together do |
//! | `few_shot` | the Receiver examples and the question | what examples are worth |
//! | `oracle` | as `few_shot`; then the examples' slots are dropped | what a richer cache of the question alone is worth |
//!
//! [`load_questions`] gets the questions of a recipe's source, [`Evaluation`] holds a record a question and method
//! ([`Evaluation::write_parquet`], [`read_records`]) and the figures ([`Evaluation::table`], [`summary`](fn@summary)).
//! [`Chat`] puts to the same models what somebody types, turn after turn.
//!
//! Invariants:
//! - no question is dropped: one that can't be put or answered is a record with an error, and counts as wrong;
//! - decoding is greedy, and all of a record but its milliseconds is a function of models, questions and settings;
//! - records stand in the order of the questions, whatever order they were answered in, in how many sittings ([`journal`])
//!   and in how many places ([`Shard`]).

mod answer;
mod averages;
mod breakdown;
mod chat;
mod engine;
mod error;
mod examples;
pub mod extract;
mod input;
mod jobs;
pub mod journal;
mod mismatch;
pub mod parity;
mod parquet;
mod partial;
mod put;
mod questions;
mod record;
mod run;
pub mod score;
mod settings;
mod several;
mod shard;
pub mod stats;
mod summary;
mod table;
mod times;
mod unit;

pub use averages::{Average, Averages, CategoryAverage};
pub use chat::{Chat, ChatError, ChatReply, ChatSettings, Conversation, End, FusedSlots, Speaker, Watch};
pub use engine::{EvalModels, EvalPair, check_evaluation, evaluate, evaluate_in};
pub use error::EvalError;
pub use examples::{Examples, load_examples};
pub use parquet::{FORMAT_KEY, RECORDS_FORMAT, check_records_format, read_records};
pub use partial::partial_because;
pub use put::letters_compared;
pub use questions::{BenchmarkQuestion, benchmark_names, load_questions, place, select_questions};
pub use record::{Evaluation, FREE_ANSWER, MethodResult, NO_ANSWER, Record};
pub use settings::{Baselines, EvalSettings, prompt_format};
pub use several::{FurtherSharer, SeveralSharers};
pub use shard::Shard;
pub use summary::{Asked, AskedBaselines, OLDEST_SUMMARY_FORMAT, SUMMARY_FORMAT, summary};
pub use times::Phases;
pub use unit::{Course, EvalProgress, Save, Session, Unit};

/// Bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
