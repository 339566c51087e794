//! The pocket world: a small closed world of invented places, generated from a seed.
//!
//! It exists to show that one model can tell another something through the cache, with models small enough to be
//! committed and trained in minutes. 192 places with invented names each have one value for each of six attributes
//! (fruit, animal, metal, colour, craft, stone); a value is one of eight common words, drawn uniformly, so nothing about
//! a place follows from its name or from its other values. 144 places are for training a fuser, 48 are held out.
//!
//! Two models read texts of this world, each its own kind:
//! - the **sharer** has read the facts: statements, short questions with their answers, and multiple-choice questions
//!   about all places ([`World::sharer_document`]);
//! - the **receiver** knows the language and the format of the questions and can look up an answer in what it is given,
//!   but has never met a place of the world: every text that it reads invents its own places
//!   ([`World::receiver_document`]).
//!
//! So a receiver alone is at chance (one in four) on [`World::questions`], and can only do better with the sharer's
//! help. A question about a held-out place was never seen by the fuser.
//!
//! All texts are plain ASCII. The same seed gives the same world; questions and texts take their own seed or generator
//! and don't change the world.

mod corpus;
mod documents;
mod names;
mod source;
mod words;

#[cfg(test)]
mod tests;

pub use corpus::{Role, corpus_for_tokenizer};
pub use documents::Document;
pub use source::{WORLD_SEED, world_questions};
pub use words::{ATTRIBUTE_COUNT, ATTRIBUTES, Attribute, VALUE_COUNT};

use crate::McQuestion;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};

/// How many places the world has.
pub const PLACE_COUNT: usize = 192;
/// How many of them are for training; the others are held out.
pub const TRAIN_PLACE_COUNT: usize = 144;
/// How many choices a question offers.
pub const CHOICE_COUNT: usize = 4;

/// A named place and its values, one for each of [`ATTRIBUTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The invented name.
    pub name: String,
    /// For each attribute the index of its value.
    pub values: [usize; ATTRIBUTE_COUNT],
}

impl Place {
    /// The word for this place's value of the attribute with the given index.
    pub fn value(&self, attribute: usize) -> &'static str {
        ATTRIBUTES[attribute].values[self.values[attribute]]
    }
}

/// Which places questions are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The places that a fuser is trained on.
    Train,
    /// The held-out places.
    Test,
}

/// The world of one seed. Immutable: everything drawn from it later takes its own seed or generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// The places: [`TRAIN_PLACE_COUNT`] for training, then the held-out ones.
    places: Vec<Place>,
    /// The places' names in lower case, which invented names must not resemble.
    lower_names: Vec<String>,
}

/// Independent streams of a seed.
#[derive(Clone, Copy)]
enum Stream {
    Names,
    Values,
    Split,
    Corpus,
    /// The question of the given number.
    Question(u64),
}

impl Stream {
    /// Question streams start here, clear of all others.
    const QUESTIONS: u64 = 1 << 32;

    fn of(self, seed: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match self {
            Self::Names => 1,
            Self::Values => 2,
            Self::Split => 3,
            Self::Corpus => 4,
            Self::Question(number) => Self::QUESTIONS.wrapping_add(number),
        });
        rng
    }
}

impl World {
    /// Generates the world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Stream::Names.of(seed);
        let mut names = Vec::with_capacity(PLACE_COUNT);
        let mut lower_names = Vec::with_capacity(PLACE_COUNT);
        while names.len() < PLACE_COUNT {
            let name = names::invent_unlike(&mut rng, &lower_names);
            lower_names.push(name.to_ascii_lowercase());
            names.push(name);
        }
        let mut rng = Stream::Values.of(seed);
        let mut places: Vec<Place> =
            names.into_iter().map(|name| Place { name, values: draw_values(&mut rng) }).collect();
        places.shuffle(&mut Stream::Split.of(seed));
        Self { places, lower_names }
    }

    /// All places, those for training first.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The places of one split.
    pub fn split(&self, split: Split) -> &[Place] {
        let (train, test) = self.places.split_at(TRAIN_PLACE_COUNT);
        match split {
            Split::Train => train,
            Split::Test => test,
        }
    }

    /// Multiple-choice questions about every attribute of every place of a split, `rounds` times with new choices.
    ///
    /// The wrong choices are other values of the same attribute; the order of the choices is random. Each question has
    /// its own random stream, so asking for more rounds adds questions and leaves the others as they are. The subject
    /// is the attribute.
    pub fn questions(&self, split: Split, rounds: usize, seed: u64) -> Vec<McQuestion> {
        let places = self.split(split);
        // Places are numbered through both splits, so that train and test draw from different streams.
        let first = match split {
            Split::Train => 0,
            Split::Test => TRAIN_PLACE_COUNT,
        };
        let mut questions = Vec::with_capacity(places.len() * ATTRIBUTE_COUNT * rounds);
        for (number, place) in places.iter().enumerate() {
            for (index, attribute) in ATTRIBUTES.iter().enumerate() {
                for round in 0..rounds {
                    let cell = (first + number) * ATTRIBUTE_COUNT + index;
                    let mut rng = Stream::Question((cell as u64) << 32 | round as u64).of(seed);
                    let (choices, answer) = draw_choices(&mut rng, index, place.values[index]);
                    questions.push(McQuestion {
                        id: format!("pocket-{}-{}-{round}", place.name, attribute.name),
                        question: question(&place.name, attribute.name),
                        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
                        answer,
                        subject: Some(attribute.name.to_owned()),
                    });
                }
            }
        }
        questions
    }
}

/// The question for an attribute of a place.
fn question(place: &str, attribute: &str) -> String {
    format!("What is the {attribute} of {place}?")
}

/// The statement of a fact.
fn statement(place: &str, attribute: &str, value: &str) -> String {
    format!("The {attribute} of {place} is {value}.")
}

fn draw_values(rng: &mut impl Rng) -> [usize; ATTRIBUTE_COUNT] {
    std::array::from_fn(|_| rng.random_range(0..VALUE_COUNT))
}

/// Draws choices for an attribute: the right value and other values of the attribute, in random order. Also returns the
/// index of the right one.
fn draw_choices(rng: &mut impl Rng, attribute: usize, value: usize) -> ([&'static str; CHOICE_COUNT], usize) {
    let mut others: Vec<usize> = (0..VALUE_COUNT).filter(|other| *other != value).collect();
    others.shuffle(rng);
    let answer = rng.random_range(0..CHOICE_COUNT);
    others.insert(answer, value);
    let choices = std::array::from_fn(|index| ATTRIBUTES[attribute].values[others[index]]);
    (choices, answer)
}

/// Draws an element of a slice that is not empty.
fn pick<'a, T>(rng: &mut impl Rng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}
