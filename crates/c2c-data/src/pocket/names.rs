//! Pronounceable invented names.
//!
//! A name is a capital and five to eight lower-case letters, made of two or three syllables. It holds none of the
//! pocket world's common words.

use super::pick;
use super::words::holds_common_word;
use rand::{Rng, RngExt};

const ONSETS: [&str; 30] = [
    "b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "br", "ch", "dr", "fr", "gl",
    "gr", "kr", "pr", "sh", "sk", "st", "th", "tr",
];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
const CODAS: [&str; 12] = ["d", "k", "l", "m", "n", "r", "s", "t", "nd", "lk", "rn", "st"];

/// The shortest and longest name, in letters.
const LENGTHS: std::ops::RangeInclusive<usize> = 6..=9;
/// How often a syllable inside a name ends in a consonant; the last syllable always does.
const INNER_CODA_PROBABILITY: f64 = 0.4;

/// Draws a name.
pub(super) fn invent(rng: &mut impl Rng) -> String {
    loop {
        let syllables = rng.random_range(2..=3);
        let mut name = String::new();
        for syllable in 1..=syllables {
            name.push_str(pick::<&str>(rng, &ONSETS));
            name.push_str(pick::<&str>(rng, &VOWELS));
            if syllable == syllables || rng.random_bool(INNER_CODA_PROBABILITY) {
                name.push_str(pick::<&str>(rng, &CODAS));
            }
        }
        if LENGTHS.contains(&name.len()) && !holds_common_word(&name) {
            name[..1].make_ascii_uppercase();
            return name;
        }
    }
}

/// Draws a name that neither holds nor is held by one of those taken, which are given in lower case.
pub(super) fn invent_unlike(rng: &mut impl Rng, taken: &[String]) -> String {
    loop {
        let name = invent(rng);
        let lower = name.to_ascii_lowercase();
        if !taken.iter().any(|other| lower.contains(other.as_str()) || other.contains(&lower)) {
            return name;
        }
    }
}
