//! What an evaluation leaves behind: a record a question and method, and the figures made of them.

use std::collections::BTreeMap;

use c2c_data::Scorer;
use c2c_lm::Finish;
use c2c_recipe::Method;
use serde::{Deserialize, Deserializer, Serialize};

use crate::EvalError;
use crate::SUMMARY_FORMAT;
use crate::extract::Rule;
use crate::stats::{Accuracy, Interval, PairedDifference};
use crate::times::Phases;

/// What C2C is compared with, as far as it was asked.
const COMPARED_WITH_C2C: [Method; 7] = [
    Method::Receiver,
    Method::Sharer,
    Method::T2t,
    Method::T2tC2c,
    Method::FewShot,
    Method::Oracle,
    Method::Mismatched,
];

/// What several Sharers together are compared with, as far as it was asked.
const COMPARED_WITH_SEVERAL: [Method; 5] =
    [Method::C2c, Method::Receiver, Method::Sharer, Method::Mismatched, Method::SeveralMismatched];

/// The key of [`MethodResult::answers`] that counts replies without an answer.
pub const NO_ANSWER: &str = "none";
/// The key that counts answers that are no letters.
pub const FREE_ANSWER: &str = "free";

/// What one method made of one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Who answered.
    pub method: Method,
    /// The benchmark that the question is part of.
    pub benchmark: String,
    /// The question's identifier, unique within the benchmark.
    pub question_id: String,
    /// Its subject, where the source names one.
    pub subject: Option<String>,
    /// The right letter, or the first right answer.
    pub gold: String,
    /// How many choices the question has; 0 if its answer is free.
    pub choices: u32,
    /// The letter found in the reply, or the part of it that was scored, if any.
    pub answer: Option<String>,
    /// What it was told by.
    pub rule: Option<Rule>,
    /// Whether it is right: of graded answers, whether it has the full score.
    pub correct: bool,
    /// The reply without special tokens and without line breaks at its ends.
    pub output: String,
    /// Why the reply ended; none if there was no reply.
    pub finish: Option<Finish>,
    /// SHA-256 of the ids that the models read, without padding: for each model that read any (the receiver first, the
    /// sharers for their caches, the sharer for its text) their number as eight bytes, then each id as four, lowest byte
    /// first. Empty if there was no prompt.
    pub prompt_sha256: String,
    /// Ids that the answering model read, without padding.
    pub prompt_tokens: u32,
    /// Ids of the reply, without the end token.
    pub output_tokens: u32,
    /// This question's share of the time that its batch took, prefill and decoding; 0 if there was no reply.
    pub milliseconds: f64,
    /// The same time by what was done.
    pub phases: Phases,
    /// For [`Method::Mismatched`] and [`Method::SeveralMismatched`], the identifier of the question that the sharers read.
    pub partner: Option<String>,
    /// For [`Method::T2t`] and [`Method::T2tC2c`], the text that the sharer wrote for the receiver.
    pub message: Option<String>,
    /// Ids of that text, without the end token.
    pub message_tokens: u32,
    /// Why there was no reply. The question then counts as answered wrongly.
    pub error: Option<String>,
    /// Who scores the answer. What follows is not hashed where it says nothing, so that hashes of records from before
    /// there were other scorers stay as they were.
    #[serde(default = "letter", skip_serializing_if = "Scorer::is_letter")]
    pub scorer: Scorer,
    /// The score, from 0 to 1, of answers that aren't just right or wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Further right answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// All classes, where the answer is one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// With `logits`: the logarithm of each letter's probability as the next token, from A on.
    #[serde(default, deserialize_with = "logprobs", skip_serializing_if = "Vec::is_empty")]
    pub letter_logprobs: Vec<f64>,
    /// Of [`Method::GatesShut`]: whether the logits behind the prompts of its batch equalled the receiver's over the same
    /// slots, bit for bit. Nothing in records before format 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_equal: Option<bool>,
    /// Where a share of prompts was asked to be fused, and the method fuses: how many of the Receiver's tokens were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_tokens: Option<u32>,
}

fn letter() -> Scorer {
    Scorer::Letter
}

/// JSON has no infinity and writes `null` for the logarithm of 0.
fn logprobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let written: Vec<Option<f64>> = Deserialize::deserialize(deserializer)?;
    Ok(written.into_iter().map(|logprob| logprob.unwrap_or(f64::NEG_INFINITY)).collect())
}

impl Record {
    /// What the answer counts, from 0 to 1.
    pub fn points(&self) -> f64 {
        self.score.unwrap_or(if self.correct { 1.0 } else { 0.0 })
    }

    /// All right answers.
    pub fn right_answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.gold.as_str()).chain(self.alternatives.iter().map(String::as_str))
    }
}

/// The figures of one method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodResult {
    /// Who answered.
    pub method: Method,
    /// Right answers of all questions, failed ones included; with graded answers, their mean score.
    pub accuracy: Accuracy,
    /// Questions whose answers are graded, not just right or wrong.
    pub graded: usize,
    /// Milliseconds of all batches divided by the questions in them; 0 if there was none.
    pub ms_per_question: f64,
    /// The same by what was done.
    pub phases: Phases,
    /// How often each letter was answered, [`FREE_ANSWER`] and [`NO_ANSWER`]. A failed question has no answer.
    pub answers: BTreeMap<String, usize>,
    /// Questions that failed. They count as answered wrongly.
    pub skipped: usize,
}

/// The outcome of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Method by method in the order of the settings, each in the order of the questions.
    pub records: Vec<Record>,
    /// In the order of the settings.
    pub results: Vec<MethodResult>,
    /// [`Method::C2c`] less each of receiver, sharer, the baselines and mismatched, then [`Method::Several`] less each of
    /// C2C, receiver, sharer and both mismatched, as far as they were asked.
    pub differences: Vec<(Method, Method, PairedDifference)>,
    /// With [`Method::GatesShut`]: whether its logits behind the prompt equalled those of the receiver over the same
    /// slots, bit for bit, in every batch.
    pub gates_shut_bit_equal: Option<bool>,
    /// How intervals of graded scores were made.
    pub interval: Interval,
}

impl Evaluation {
    /// The figures of a method, if it was asked.
    pub fn result(&self, method: Method) -> Option<&MethodResult> {
        self.results.iter().find(|result| result.method == method)
    }

    /// Makes the figures of records, which hold the same questions in the same order for every method. `unrecorded` is what
    /// is known of shut gates where the records don't say it, as those before format 4.
    ///
    /// # Errors
    ///
    /// Fails when two methods that are compared have not answered the same number of questions, or none.
    pub fn of(records: Vec<Record>, methods: &[Method], unrecorded: Option<bool>) -> Result<Self, EvalError> {
        Self::of_format(records, methods, unrecorded, SUMMARY_FORMAT)
    }

    /// The same as an earlier version of the figures had it, so that they can be made again: see [`Interval::of_format`].
    ///
    /// # Errors
    ///
    /// As [`Evaluation::of`].
    pub fn of_format(
        records: Vec<Record>,
        methods: &[Method],
        unrecorded: Option<bool>,
        format: u32,
    ) -> Result<Self, EvalError> {
        let interval = Interval::of_format(format);
        let letters = records.iter().map(|record| record.choices as usize).max().unwrap_or(0);
        let of = |method| records.iter().filter(move |record: &&Record| record.method == method);
        let points = |method| of(method).map(Record::points).collect::<Vec<f64>>();
        let results = methods
            .iter()
            .map(|method| {
                let records: Vec<&Record> = of(*method).collect();
                figures(*method, &records, letters, interval)
            })
            .collect();
        let mut differences = Vec::new();
        let compared: [(Method, &[Method]); 2] =
            [(Method::C2c, &COMPARED_WITH_C2C), (Method::Several, &COMPARED_WITH_SEVERAL)];
        for (first, others) in compared.into_iter().filter(|(first, _)| methods.contains(first)) {
            for other in others.iter().filter(|other| methods.contains(other)) {
                let difference = PairedDifference::of_scores_by(interval, &points(first), &points(*other))?;
                differences.push((first, *other, difference));
            }
        }
        let gates_shut_bit_equal = recorded_bit_equal(&records).or(unrecorded);
        Ok(Self { results, differences, gates_shut_bit_equal, records, interval })
    }
}

/// What the records say of shut gates: nothing if none does.
fn recorded_bit_equal(records: &[Record]) -> Option<bool> {
    let mut said = records.iter().filter_map(|record| record.bit_equal).peekable();
    said.peek()?;
    Some(said.all(|equal| equal))
}

fn figures(method: Method, records: &[&Record], letters: usize, interval: Interval) -> MethodResult {
    let mut answers: BTreeMap<String, usize> =
        (0..letters).map(|index| (c2c_data::letter(index).to_string(), 0)).collect();
    answers.insert(NO_ANSWER.to_owned(), 0);
    for record in records {
        let key = match &record.answer {
            None => NO_ANSWER,
            Some(letter) if record.scorer.is_letter() => letter,
            Some(_) => FREE_ANSWER,
        };
        *answers.entry(key.to_owned()).or_default() += 1;
    }
    let skipped = records.iter().filter(|record| record.error.is_some()).count();
    let milliseconds: f64 = records.iter().map(|record| record.milliseconds).sum();
    let phases: Phases = records.iter().map(|record| record.phases).sum();
    let answered = records.len() - skipped;
    MethodResult {
        method,
        accuracy: Accuracy::of_scores_by(interval, &records.iter().map(|record| record.points()).collect::<Vec<_>>()),
        graded: records.iter().filter(|record| record.scorer.is_graded()).count(),
        ms_per_question: if answered == 0 { 0.0 } else { milliseconds / answered as f64 },
        phases: if answered == 0 { Phases::default() } else { phases.share(answered) },
        answers,
        skipped,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A record of a question whose right answer is B.
    pub(crate) fn record(method: Method, question: usize, answer: Option<char>) -> Record {
        Record {
            method,
            benchmark: "stones".to_owned(),
            question_id: format!("q{question}"),
            subject: question.is_multiple_of(2).then(|| "stone".to_owned()),
            gold: "B".to_owned(),
            choices: 4,
            answer: answer.map(String::from),
            rule: answer.map(|_| Rule::Phrase),
            correct: answer == Some('B'),
            output: answer.map_or_else(String::new, |letter| format!("The correct answer is {letter}.")),
            finish: answer.map(|_| Finish::Eos),
            prompt_sha256: "00ff".to_owned(),
            prompt_tokens: 12,
            output_tokens: 6,
            milliseconds: 2.5,
            phases: Phases { receiver_prefill: 1.0, decode: 1.25, ..Phases::default() },
            partner: (method == Method::Mismatched).then(|| format!("q{}", question + 1)),
            message: None,
            message_tokens: 0,
            error: None,
            scorer: Scorer::Letter,
            score: None,
            alternatives: Vec::new(),
            classes: Vec::new(),
            letter_logprobs: Vec::new(),
            bit_equal: None,
            fused_tokens: None,
        }
    }

    pub(crate) fn failed(method: Method, question: usize) -> Record {
        Record {
            milliseconds: 0.0,
            phases: Phases::default(),
            prompt_tokens: 0,
            output_tokens: 0,
            prompt_sha256: String::new(),
            error: Some("the prompt is too long".to_owned()),
            ..record(method, question, None)
        }
    }

    /// C2C right on four of four, the receiver on one, with one failure; the mismatched control on two.
    pub(crate) fn evaluation() -> Evaluation {
        let methods = [Method::Receiver, Method::C2c, Method::Mismatched];
        let mut records: Vec<Record> = [Some('A'), Some('B'), None]
            .into_iter()
            .enumerate()
            .map(|(question, answer)| record(Method::Receiver, question, answer))
            .collect();
        records.push(failed(Method::Receiver, 3));
        records.extend((0..4).map(|question| record(Method::C2c, question, Some('B'))));
        records.extend(
            (0..4).map(|question| record(Method::Mismatched, question, Some(if question < 2 { 'B' } else { 'D' }))),
        );
        Evaluation::of(records, &methods, Some(true)).unwrap()
    }

    #[test]
    fn failed_questions_count_as_wrong_and_take_no_time() {
        let evaluation = evaluation();
        let receiver = evaluation.result(Method::Receiver).unwrap();
        assert_eq!((receiver.accuracy.correct, receiver.accuracy.total, receiver.skipped), (1, 4, 1));
        assert_eq!((receiver.ms_per_question, receiver.phases.decode), (2.5, 1.25));
        let answers: Vec<(&str, usize)> = receiver.answers.iter().map(|(key, count)| (key.as_str(), *count)).collect();
        assert_eq!(answers, [("A", 1), ("B", 1), ("C", 0), ("D", 0), ("none", 2)]);
        assert_eq!(evaluation.result(Method::Sharer), None);
    }

    #[test]
    fn shut_gates_are_equal_if_every_record_says_so() {
        let of = |said: [Option<bool>; 3], unrecorded| {
            let record = |(question, bit_equal)| Record { bit_equal, ..record(Method::GatesShut, question, Some('B')) };
            let records = said.into_iter().enumerate().map(record).collect();
            Evaluation::of(records, &[Method::GatesShut], unrecorded).unwrap().gates_shut_bit_equal
        };
        assert_eq!(of([Some(true), None, Some(true)], None), Some(true));
        assert_eq!(of([Some(true), None, Some(false)], Some(true)), Some(false));
        assert_eq!((of([None; 3], None), of([None; 3], Some(true))), (None, Some(true)));
    }

    #[test]
    fn c2c_is_compared_with_whoever_was_asked() {
        let evaluation = evaluation();
        let pairs: Vec<(Method, Method)> = evaluation.differences.iter().map(|(a, b, _)| (*a, *b)).collect();
        assert_eq!(pairs, [(Method::C2c, Method::Receiver), (Method::C2c, Method::Mismatched)]);
        assert_eq!((evaluation.differences[0].2.only_first, evaluation.differences[0].2.only_second), (3, 0));
        assert_eq!(evaluation.differences[1].2.difference, 0.5);
    }
}
