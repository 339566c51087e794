//! The texts that the two models of the pocket pair are pretrained on.
//!
//! Both streams are endless. The sharer's texts state the facts of the world, the receiver's texts never do: they invent
//! places, so that the receiver learns to look answers up rather than to remember them.

use super::{
    ATTRIBUTE_COUNT, ATTRIBUTES, Place, VALUE_COUNT, World, draw_choices, draw_values, names, pick, question, statement,
};
use crate::training::{ANSWER_CUE, answered, choice_lines, letter, plain_prompt};
use c2c_text::Message;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

/// One pretraining text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A text that is read as it is.
    Text(String),
    /// A conversation that is read through the model's chat template.
    Chat(Vec<Message>),
}

impl Document {
    /// The document's words: the text, or the contents of the messages, a line break between them.
    pub fn words(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Chat(messages) => {
                let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                contents.join("\n")
            }
        }
    }
}

/// How many facts a sharer's text of statements or short questions holds.
const FACTS_A_TEXT: std::ops::RangeInclusive<usize> = 2..=4;
/// The share of short-question texts that come as a chat message.
const SHORT_QUESTION_CHAT_PROBABILITY: f64 = 0.8;

/// The share of a sharer's multiple-choice questions that tell the answer.
const TOLD_PROBABILITY: f64 = 0.5;

/// What a text is, in percent. Exercises in reading a list of choices come first: without them models this small don't find
/// out how letters and values belong together.
const SHARER_EXERCISES: u32 = 15;
const SHARER_STATEMENTS: u32 = 5;
const SHARER_SHORT_QUESTIONS: u32 = 40;
// The rest: multiple choice.

const RECEIVER_EXERCISES: u32 = 40;
const RECEIVER_HINT: u32 = 20;
const RECEIVER_ONE_FACT: u32 = 20;
const RECEIVER_ONE_PLACE: u32 = 10;
const RECEIVER_TWO_PLACES: u32 = 5;
// The rest: no context.

/// How many facts of one place, and of each of two places, stand in front of a question.
const FACTS_OF_ONE_PLACE: usize = 3;
const FACTS_OF_EACH_OF_TWO: usize = 2;

impl World {
    /// Draws a text for the sharer: an exercise in reading choices, or facts of the world as statements, as short
    /// questions with their answers, or as multiple-choice questions.
    pub fn sharer_document(&self, rng: &mut impl Rng) -> Document {
        sharer_document(rng, self.places())
    }

    /// Draws `n` texts for the sharer.
    pub fn sharer_documents(&self, rng: &mut impl Rng, n: usize) -> Vec<Document> {
        (0..n).map(|_| self.sharer_document(rng)).collect()
    }

    /// Draws a text for the receiver: an exercise in reading choices, or a multiple-choice question about an invented
    /// place that is not of this world, mostly with the answer somewhere in front of the choices, sometimes to be guessed.
    pub fn receiver_document(&self, rng: &mut impl Rng) -> Document {
        let first = names::invent_unlike(rng, &self.lower_names);
        let second = loop {
            let name = names::invent_unlike(rng, &self.lower_names);
            if name != first {
                break name;
            }
        };
        receiver_document(rng, [first, second])
    }

    /// Draws `n` texts for the receiver.
    pub fn receiver_documents(&self, rng: &mut impl Rng, n: usize) -> Vec<Document> {
        (0..n).map(|_| self.receiver_document(rng)).collect()
    }
}

/// A sharer's text about the given places.
fn sharer_document(rng: &mut impl Rng, places: &[Place]) -> Document {
    let kind = rng.random_range(0..100);
    if kind < SHARER_EXERCISES {
        return exercise(rng);
    }
    let kind = kind - SHARER_EXERCISES;
    if kind < SHARER_STATEMENTS {
        return Document::Text(facts(rng, places, |place, attribute| {
            statement(&place.name, ATTRIBUTES[attribute].name, place.value(attribute))
        }));
    }
    if kind < SHARER_STATEMENTS + SHARER_SHORT_QUESTIONS {
        let short = |place: &Place, attribute: usize, gap: &str| {
            format!("{}{gap}{}", question(&place.name, ATTRIBUTES[attribute].name), place.value(attribute))
        };
        if rng.random_bool(SHORT_QUESTION_CHAT_PROBABILITY) {
            // As in a multiple-choice prompt a blank line follows the question, so that a model has to know the answer
            // right behind the question, in a part of the prompt that is shared.
            let text = short(pick(rng, places), rng.random_range(0..ATTRIBUTE_COUNT), "\n\n");
            return Document::Chat(vec![Message::user(text), Message::assistant("Yes.")]);
        }
        return Document::Text(facts(rng, places, |place, attribute| short(place, attribute, " ")));
    }
    let place = pick(rng, places);
    let attribute = rng.random_range(0..ATTRIBUTE_COUNT);
    cued(multiple_choice(rng, place, attribute, |question| question), rng.random_bool(TOLD_PROBABILITY))
}

/// The question with the cue behind its choices. Told, the user says the answer behind it, so that a model has to know the
/// letter in a part of the prompt that is shared; else the assistant does.
fn cued(chat: Document, told: bool) -> Document {
    let Document::Chat(mut messages) = chat else { return chat };
    if let [user, reply] = messages.as_mut_slice() {
        user.content = format!("{}\n\n{ANSWER_CUE}", user.content);
        if told {
            user.content.push_str(reply.content.strip_prefix(ANSWER_CUE).unwrap_or_default());
            "Yes.".clone_into(&mut reply.content);
        }
    }
    Document::Chat(messages)
}

/// An exercise in reading choices: a value's letter is asked for, or all letters are told.
fn exercise(rng: &mut impl Rng) -> Document {
    let attribute = rng.random_range(0..ATTRIBUTE_COUNT);
    let index = rng.random_range(0..VALUE_COUNT);
    let value = ATTRIBUTES[attribute].values[index];
    let (choices, answer) = draw_choices(rng, attribute, index);
    let list = format!("Choices:\n{}", choice_lines(&choices));
    if rng.random_bool(0.5) {
        return Document::Chat(answered(format!("{list}\nWhich choice is {value}?"), answer));
    }
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.shuffle(rng);
    let pairs: Vec<String> = order.iter().map(|i| format!("{} {}", choices[*i], letter(*i))).collect();
    let told = Message::assistant(format!("{}.", pairs.join(", ")));
    Document::Chat(vec![Message::user(format!("{list}\nIn short?")), told])
}

/// Two to four random facts about the places, a line each.
fn facts(rng: &mut impl Rng, places: &[Place], line: impl Fn(&Place, usize) -> String) -> String {
    let count = rng.random_range(FACTS_A_TEXT);
    let lines: Vec<String> = (0..count)
        .map(|_| {
            let place = pick(rng, places);
            line(place, rng.random_range(0..ATTRIBUTE_COUNT))
        })
        .collect();
    lines.join("\n")
}

/// A receiver's text about one place, or two, with the given names and random values.
pub(super) fn receiver_document(rng: &mut impl Rng, names: [String; 2]) -> Document {
    let [place, other] = names.map(|name| Place { name, values: draw_values(rng) });
    let mut attributes: [usize; ATTRIBUTE_COUNT] = std::array::from_fn(|index| index);
    attributes.shuffle(rng);
    // The shuffle is uniform, so the first attribute is a random one to ask for, and the next are random others.
    let asked = attributes[0];
    let kind = rng.random_range(0..100);
    if kind < RECEIVER_EXERCISES {
        return exercise(rng);
    }
    let kind = kind - RECEIVER_EXERCISES;

    if kind < RECEIVER_HINT {
        let chat = multiple_choice(rng, &place, asked, |question| format!("{question} {}", place.value(asked)));
        return sometimes_cued(rng, chat);
    }
    let mut known: Vec<(&Place, usize)> = Vec::new();
    if kind < RECEIVER_HINT + RECEIVER_ONE_FACT {
        known.push((&place, asked));
    } else if kind < RECEIVER_HINT + RECEIVER_ONE_FACT + RECEIVER_ONE_PLACE {
        known.extend(attributes[..FACTS_OF_ONE_PLACE].iter().map(|attribute| (&place, *attribute)));
    } else if kind < RECEIVER_HINT + RECEIVER_ONE_FACT + RECEIVER_ONE_PLACE + RECEIVER_TWO_PLACES {
        // Both places with the same attributes: only the name tells which line answers the question.
        for attribute in &attributes[..FACTS_OF_EACH_OF_TWO] {
            known.extend([(&place, *attribute), (&other, *attribute)]);
        }
    }
    known.shuffle(rng);
    let mut context = String::new();
    for (place, attribute) in known {
        context.push_str(&statement(&place.name, ATTRIBUTES[attribute].name, place.value(attribute)));
        context.push('\n');
    }
    let chat = multiple_choice(rng, &place, asked, |question| context + &question);
    sometimes_cued(rng, chat)
}

/// Half of the receiver's questions end in the cue, which the assistant's reply then repeats.
fn sometimes_cued(rng: &mut impl Rng, chat: Document) -> Document {
    if rng.random_bool(0.5) { cued(chat, false) } else { chat }
}

/// A plain multiple-choice conversation about a fact; `around` may add a context to the question.
fn multiple_choice(
    rng: &mut impl Rng,
    place: &Place,
    attribute: usize,
    around: impl FnOnce(String) -> String,
) -> Document {
    let (choices, answer) = draw_choices(rng, attribute, place.values[attribute]);
    let question = around(question(&place.name, ATTRIBUTES[attribute].name));
    Document::Chat(answered(plain_prompt(&question, &choices), answer))
}
