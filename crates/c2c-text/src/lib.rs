//! Tokenizers, chat templates, and token alignment between two tokenizers.
//!
//! The way of a prompt through this crate: chat messages -> rendered chat template -> token ids -> (token alignment)
//! -> [`Prompt`], a list of [`Section`]s that the Receiver and the Sharer read in step. A section is a run of
//! positions that is as long for the Receiver as for the Sharer, because the Fuser combines their KV caches position
//! by position; it says which positions are padding, whether its cache is fused, and which ids are supervised.
//!
//! | type | what it does |
//! |---|---|
//! | [`Tokenizer`] | a Hugging Face tokenizer folder: ids, byte offsets, raw token bytes, chat template |
//! | [`TokenAligner`] | the Sharer's token for each of the Receiver's tokens (paper, "Model Alignment") |
//! | [`PairText`] | prompts and training examples for a Receiver and a Sharer, aligned or with shared ids |
//! | [`TextStream`] | the text of ids that come one after the other, in whole characters |
//! | [`train_bpe`] | trains a small byte-level BPE tokenizer in the style of a published family |
//!
//! Nothing here touches tensors, devices or the network.

mod align;
mod bytes;
mod config;
mod dropout;
mod error;
mod message;
mod pair;
mod section;
mod share;
mod slots;
mod span;
mod stream;
mod template;
mod tokenizer;
mod train;

pub use align::{AlignStrategy, TokenAligner};
pub use error::TextError;
pub use message::Message;
pub use pair::{PairText, SectionCut, TokenMode};
pub use section::{Prompt, Section, SectionKind};
pub use share::{End, FusedShare};
pub use stream::TextStream;
pub use tokenizer::{Encoding, Tokenizer};
pub use train::{PreTok, train_bpe};
