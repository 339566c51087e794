//! Sample texts to train the two tokenizers of the pocket pair on.
//!
//! The two vocabularies are meant to differ where it matters: the sharer's corpus is full of the world's place names, so
//! its merges make long pieces of them; the receiver's corpus has no invented name at all (it says "it"), so names
//! fall into short pieces. Both hold every common word, the letters of the choices and the words of the format often.

use super::documents::receiver_document;
use super::{ATTRIBUTE_COUNT, ATTRIBUTES, Stream, VALUE_COUNT, World, question, statement};

/// Which of the two models a tokenizer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The model that knows the facts.
    Sharer,
    /// The model that asks.
    Receiver,
}

/// How many sampled documents a corpus holds.
const SAMPLED_DOCUMENTS: usize = 9000;
/// What the receiver's corpus says in place of a name.
const NO_NAME: &str = "it";

/// Texts to train the tokenizer of one model on, for the world of a seed.
///
/// Every common word is in the corpus whatever the seed: beside sampled documents it holds a statement and a question
/// for each value.
pub fn corpus_for_tokenizer(role: Role, seed: u64) -> Vec<String> {
    let mut rng = Stream::Corpus.of(seed);
    let mut corpus = Vec::with_capacity(SAMPLED_DOCUMENTS + 2 * ATTRIBUTE_COUNT * VALUE_COUNT);
    for attribute in &ATTRIBUTES {
        for value in attribute.values {
            corpus.push(statement(NO_NAME, attribute.name, value));
            corpus.push(format!("{} {value}", question(NO_NAME, attribute.name)));
        }
    }
    match role {
        Role::Sharer => {
            let world = World::new(seed);
            corpus.extend(world.sharer_documents(&mut rng, SAMPLED_DOCUMENTS).iter().map(|text| text.words()));
        }
        Role::Receiver => corpus.extend(
            (0..SAMPLED_DOCUMENTS)
                .map(|_| receiver_document(&mut rng, [NO_NAME.to_owned(), NO_NAME.to_owned()]).words()),
        ),
    }
    corpus
}
