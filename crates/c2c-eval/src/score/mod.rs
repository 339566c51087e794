//! From a reply to a score.
//!
//! [`judge`] is the one way from what a record holds to its answer and its score. The engine calls it on a fresh reply
//! and `c2c verify` on a recorded one, so that a score can't be anything but what the recorded reply gives.
//!
//! LongBench's scorers compute what its authors' tool computes (its figures are compared with theirs), quirks included;
//! those of letters and mathematics follow [`Compat`].

mod code;
mod longbench;
pub mod maths;
mod rouge;
mod words;

use c2c_data::Scorer;

pub use code::ratio;
pub use longbench::score;
pub use rouge::rouge_l;

use crate::Record;
use crate::extract::{Compat, Rule, extract_letter};

/// What a reply comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// The letter found in the reply, or the part of it that was scored.
    pub answer: Option<String>,
    /// What the answer was told by.
    pub rule: Option<Rule>,
    /// The score, from 0 to 1; 0 or 1 where an answer is just right or wrong.
    pub points: f64,
}

/// Scores a record by its reply (or its letters' probabilities) and its right answers. A failed question has no answer.
pub fn judge(record: &Record, compat: Compat) -> Judged {
    if record.error.is_some() {
        return Judged::default();
    }
    match record.scorer {
        Scorer::Letter if !record.letter_logprobs.is_empty() => likeliest(record),
        Scorer::Letter => {
            let found = extract_letter(&record.output, record.choices as usize, compat);
            let answer = found.map(|found| found.letter.to_string());
            let points = if answer.as_ref() == Some(&record.gold) { 1.0 } else { 0.0 };
            Judged { answer, rule: found.map(|found| found.rule), points }
        }
        Scorer::Number | Scorer::Maths => maths::judge(record, compat),
        scorer => longbench::judge(scorer, record),
    }
}

/// The letter of the largest probability, the first one of equals.
fn likeliest(record: &Record) -> Judged {
    let mut best = 0;
    for (index, logprob) in record.letter_logprobs.iter().enumerate() {
        if *logprob > record.letter_logprobs[best] {
            best = index;
        }
    }
    let answer = c2c_data::letter(best).to_string();
    let points = if answer == record.gold { 1.0 } else { 0.0 };
    Judged { answer: Some(answer), rule: Some(Rule::Logits), points }
}
