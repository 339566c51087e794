//! Finding the answer's letter in a model's reply.
//!
//! The rules are those of the reference implementation (thu-nics/C2C), tried in this order; the first that yields a
//! letter decides:
//! 1. an empty reply has no answer;
//! 2. after a phrase such as "The correct answer is" or "Answer:", the first capital A-D of the rest of that line;
//! 3. a letter in a telling place: at the end of the text, or in front of a punctuation mark;
//! 4. the last letter that stands alone;
//! 5. the last capital A-D anywhere.
//!
//! Rules 3 and 4 give way when the text looks like mathematics and holds no word such as "answer", because a letter is
//! a variable there: rule 3 is passed over, and after rule 4 there is no answer.
//!
//! [`Compat::Reference`] does exactly that, so that figures can be compared with published ones. [`Compat::Fixed`]
//! mends two defects: it knows as many letters as the question has choices (the reference can never answer E), and
//! it takes no word of the language for a choice: not the article "a", the pronoun "I", "e.g." or the end of "we'd". E
//! to Z are only answers when they stand alone, since so many sentences begin with one of them.

use regex::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The most choices that can be told apart: a letter each, as many as questions can have.
pub const MAX_OPTIONS: usize = c2c_data::MAX_CHOICES;

/// Whether to extract as the reference implementation does, or with its defects mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// As the reference implementation: the letters A to D, whatever the question.
    Reference,
    /// As many letters as choices; articles and pronouns are no letters.
    Fixed,
}

impl From<Option<c2c_recipe::Compat>> for Compat {
    /// The rules of a recipe's word; none is [`Compat::Fixed`].
    fn from(word: Option<c2c_recipe::Compat>) -> Self {
        match word.unwrap_or_default() {
            c2c_recipe::Compat::Reference => Self::Reference,
            c2c_recipe::Compat::Fixed => Self::Fixed,
        }
    }
}

/// What an answer was told by. The first five are those of letters in replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A phrase that announces the answer.
    Phrase,
    /// A letter at the end of the text, perhaps with a mark behind it.
    Final,
    /// A letter with a mark and white space behind it.
    Marked,
    /// A letter that stands alone.
    Word,
    /// A capital anywhere.
    Capital,
    /// The likeliest letter behind the start of a reply.
    Logits,
    /// The last `\\boxed{}`.
    Boxed,
    /// What stands behind "Answer:" or the like.
    AnswerLine,
    /// The last formula between marks.
    Formula,
    /// The last number.
    LastNumber,
    /// The whole reply.
    Whole,
    /// The reply's first line.
    FirstLine,
    /// The reply's first line that is no comment and no fence.
    CodeLine,
}

impl Rule {
    /// The rule's name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phrase => "phrase",
            Self::Final => "final",
            Self::Marked => "marked",
            Self::Word => "word",
            Self::Capital => "capital",
            Self::Logits => "logits",
            Self::Boxed => "boxed",
            Self::AnswerLine => "answer-line",
            Self::Formula => "formula",
            Self::LastNumber => "last-number",
            Self::Whole => "whole",
            Self::FirstLine => "first-line",
            Self::CodeLine => "code-line",
        }
    }
}

/// The letter found in a reply, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extracted {
    /// The letter, upper case.
    pub letter: char,
    /// What it was told by.
    pub rule: Rule,
}

/// The phrases of rule 2, in the order in which they are tried. "jibu" is Swahili for "answer".
const PHRASES: [&str; 12] = [
    "Answer:",
    "Your answer:",
    "The answer is",
    "Correct answer is",
    "Correct answer is:",
    "Correct answer:",
    "Jibu lako:",
    "Jibu:",
    "Jibu sahihi:",
    "Response:",
    "Choice:",
    "Option:",
];

/// A text with one of these looks like mathematics (compared as written).
const MATHS: [&str; 11] = ["+", "-", "*", "/", "=", "^", "mod", "sqrt", "sin", "cos", "tan"];

/// A text with one of these speaks of an answer, however mathematical it looks (compared in lower case).
const ANSWER_WORDS: [&str; 7] = ["jibu", "answer", "choice", "option", "response", "correct", "sahihi"];

/// Words behind which a stand-alone "A" or "I" is the name of a choice: "A is wrong", "I because".
const AFTER_ANY_LETTER: [&str; 7] = ["and", "as", "because", "is", "nor", "or", "since"];
/// Further such words for "A" only: behind the pronoun they make a sentence ("I would").
const AFTER_LETTER_A: [&str; 14] =
    ["but", "can", "could", "does", "has", "looks", "makes", "may", "must", "seems", "should", "was", "will", "would"];

/// The last capital that may be an answer inside a word, as with the reference implementation.
const LAST_JOINED: char = 'D';

static PHRASE_PATTERNS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| PHRASES.iter().map(|phrase| pattern(&format!(r"{phrase}\s*(.*)"))).collect());

// The classes hold all letters that any question can have; those beyond a question's choices are sorted out afterwards.
// That is the same as a narrower class, because a match holds one letter and no match can hide another one's letter.
// The reference implementation has a third pattern, for a letter between white space and the end; the first covers it.
static TELLING_PATTERNS: LazyLock<[(Rule, Regex); 2]> =
    LazyLock::new(|| [(Rule::Final, letter_with(r"\s*[.,!?:)]?\s*$")), (Rule::Marked, letter_with(r"\s*[.,!?:)]\s"))]);

static WORD_PATTERN: LazyLock<Regex> = LazyLock::new(|| letter_with(r"\b"));

/// A letter at a word's beginning and what follows it. Both cases are spelled out: folding them would let the Kelvin sign
/// pass for a K and the long s for an S.
fn letter_with(rest: &str) -> Regex {
    pattern(&format!(r"\b((?-i:[A-Za-z])){rest}"))
}

/// Compiles a pattern that takes no notice of case.
// Only called with the constants above, each of which the tests compile, so it cannot fail.
#[allow(clippy::expect_used)]
fn pattern(constant: &str) -> Regex {
    Regex::new(&format!("(?i){constant}")).expect("a constant pattern")
}

/// The letter that a reply answers with, if one can be told.
///
/// `options` is the number of choices, at most [`MAX_OPTIONS`]; [`Compat::Reference`] takes no notice of it.
pub fn extract_letter(text: &str, options: usize, compat: Compat) -> Option<Extracted> {
    let text = text.trim();
    let count = match compat {
        Compat::Reference => 4,
        Compat::Fixed => options.clamp(1, MAX_OPTIONS),
    };
    let reply = Reply { text, count, compat };
    if text.is_empty() {
        return None;
    }
    if let Some(letter) = reply.after_phrase() {
        return Some(Extracted { letter, rule: Rule::Phrase });
    }
    let is_maths = reply.is_maths();
    for (rule, pattern) in TELLING_PATTERNS.iter() {
        if let Some(letter) = reply.last_match(pattern)
            && !is_maths
        {
            return Some(Extracted { letter, rule: *rule });
        }
    }
    if let Some(letter) = reply.last_match(&WORD_PATTERN) {
        return (!is_maths).then_some(Extracted { letter, rule: Rule::Word });
    }
    let letter = reply.capitals(0..text.len()).last()?;
    Some(Extracted { letter, rule: Rule::Capital })
}

/// A reply that is being read.
struct Reply<'a> {
    text: &'a str,
    /// How many letters are answers.
    count: usize,
    compat: Compat,
}

impl Reply<'_> {
    /// Rule 2: the first capital behind the first phrase that has one in its line.
    fn after_phrase(&self) -> Option<char> {
        PHRASE_PATTERNS.iter().find_map(|pattern| {
            let rest = pattern.captures(self.text)?.get(1)?.range();
            self.capitals(rest).next()
        })
    }

    /// The capitals within a range that are answers.
    fn capitals(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = char> {
        let start = range.start;
        self.text[range]
            .char_indices()
            .filter(move |(offset, letter)| letter.is_ascii_uppercase() && self.is_answer(start + offset))
            .map(|(_, letter)| letter)
    }

    /// The letter of a pattern's last match, upper case.
    fn last_match(&self, pattern: &Regex) -> Option<char> {
        pattern
            .captures_iter(self.text)
            .filter_map(|captures| captures.get(1))
            .filter(|letter| self.is_answer(letter.start()))
            .filter_map(|letter| letter.as_str().chars().next())
            .last()
            .map(|letter| letter.to_ascii_uppercase())
    }

    fn is_maths(&self) -> bool {
        let lower = self.text.to_lowercase();
        MATHS.iter().any(|sign| self.text.contains(sign)) && !ANSWER_WORDS.iter().any(|word| lower.contains(word))
    }

    /// Whether the letter at a byte offset is one of the question's letters, and not a word of the language.
    fn is_answer(&self, at: usize) -> bool {
        let letter = self.text.as_bytes()[at].to_ascii_uppercase();
        let known = usize::from(letter.wrapping_sub(b'A')) < self.count;
        known && (self.compat == Compat::Reference || !self.is_word(at))
    }

    /// Whether the letter at a byte offset is an article, a pronoun, or part of a contraction or abbreviation ("I'd",
    /// "e.g.").
    fn is_word(&self, at: usize) -> bool {
        let (before, rest) = self.text.split_at(at);
        let mut rest = rest.chars();
        let letter = rest.next().unwrap_or_default();
        let after = rest.as_str();

        let is_joined = before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric);
        if is_glued(before.chars().rev()) || is_glued(after.chars()) || (is_joined && letter > LAST_JOINED) {
            return true;
        }
        if is_joined || !after.starts_with(char::is_whitespace) {
            return false;
        }
        let next: String = after.trim_start().chars().take_while(|letter| letter.is_alphabetic()).collect();
        let is_lower = next.starts_with(char::is_lowercase);
        match letter {
            'a' => !next.is_empty() && !follows_letter_a(&next),
            'A' => is_lower && !follows_letter_a(&next) && starts_sentence(before),
            'I' | 'i' => is_lower && !AFTER_ANY_LETTER.contains(&next.as_str()),
            _ => false,
        }
    }
}

/// Whether the characters next to a letter make it part of a contraction ("'d" of "we'd") or an abbreviation ("e.g.").
fn is_glued(mut neighbours: impl Iterator<Item = char>) -> bool {
    let mark = neighbours.next();
    if !neighbours.next().is_some_and(char::is_alphabetic) {
        return false;
    }
    match mark {
        Some('\'' | '\u{2019}') => true,
        Some('.') => !neighbours.next().is_some_and(char::is_alphanumeric),
        _ => false,
    }
}

fn follows_letter_a(word: &str) -> bool {
    AFTER_ANY_LETTER.contains(&word) || AFTER_LETTER_A.contains(&word)
}

/// Whether a sentence starts behind the given text.
fn starts_sentence(before: &str) -> bool {
    let before = before.trim_end_matches(['"', '\u{201c}', '(', ' ']);
    before.is_empty() || before.ends_with(['.', '!', '?', '\n'])
}
