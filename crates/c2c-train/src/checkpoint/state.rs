//! `state.json`: where a run stands, tensors apart.

use std::collections::BTreeMap;

use c2c_data::Fingerprint as DataFingerprint;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, FileProblem, METRICS_FILE, STATE_FILE};
use crate::StepFacts;

/// AdamW's step count of each parameter.
pub type OptimizerTimes = BTreeMap<String, usize>;

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimiser steps taken.
    pub step: usize,
    /// Optimiser steps planned.
    pub total_steps: usize,
    /// Steps that the learning rate's schedule has taken.
    pub schedule_steps: usize,
    /// Where in the data the next micro-batch begins.
    pub data: DataCursor,
    /// What random numbers come next.
    pub rng: RngStreams,
    /// AdamW's step counts; its moments are tensors.
    pub optimizer_times: OptimizerTimes,
    /// The lowest validation loss so far.
    pub best: Option<Best>,
    /// The figures of the last step.
    #[serde(with = "ExactFacts")]
    pub last: StepFacts,
    /// Seconds of training so far, over all sessions.
    pub train_seconds: f64,
}

/// Where in the data a run is, and which data it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataCursor {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Examples of the epoch's order that have been trained on.
    pub examples_done: usize,
    /// Examples in the epoch's order.
    pub examples_in_epoch: usize,
    /// Examples to train on.
    pub examples: usize,
    /// Examples held out.
    pub validation_examples: usize,
    /// SHA-256 of all examples as the models read them.
    pub examples_sha256: String,
    /// One a source.
    pub sources: Vec<DataFingerprint>,
}

/// Every random stream of a run is a function of the seed and one of these counts, so that these are its whole state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngStreams {
    /// The recipe's seed.
    pub seed: u64,
    /// Number of the ChaCha8 stream that shuffles the epoch of the cursor.
    pub order_stream: u64,
    /// Number of the next micro-batch; the device's generator (dropout, gate noise) is seeded from it.
    pub micro_batch: usize,
}

/// The step with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step.
    pub step: usize,
    /// Its validation loss.
    #[serde(with = "exact")]
    pub validation_loss: f64,
}

impl DataCursor {
    /// Where the next micro-batch begins: the epoch, from 1, and how many of its examples are done.
    pub fn next(&self) -> (usize, usize) {
        if self.examples_done < self.examples_in_epoch { (self.epoch, self.examples_done) } else { (self.epoch + 1, 0) }
    }
}

impl State {
    pub(super) fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads and checks `state.json` of a step, and that the metrics reach just as far.
    pub(super) fn read(text: &[u8], metrics: &[u8], step: usize) -> Result<Self, (String, FileProblem)> {
        let bad = |file: &str, reason: String| (file.to_owned(), FileProblem::Content(reason));
        let state: Self =
            serde_json::from_slice(text).map_err(|e| bad(STATE_FILE, format!("is no state of a run: {e}")))?;
        if state.step != step {
            return Err(bad(STATE_FILE, format!("is of step {}, expected {step}", state.step)));
        }
        let lines = metrics.iter().filter(|byte| **byte == b'\n').count();
        if lines != step {
            return Err(bad(METRICS_FILE, format!("has {lines} lines, expected {step}, one a step")));
        }
        Ok(state)
    }

    /// Compares with the data that was read now. Where a file lies is no difference.
    pub(super) fn check_data(&self, now: &DataCursor, path: &std::path::Path) -> Result<(), CheckpointError> {
        let differs = |what: String, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            Err(CheckpointError::Data { path: path.to_owned(), what, found, expected })
        };
        let count = |n: usize| n.to_string();
        differs("the number of sources".into(), count(now.sources.len()), count(self.data.sources.len()))?;
        for (found, expected) in now.sources.iter().zip(&self.data.sources) {
            let of = |what: &str| format!("the {what} of {}", found.source);
            differs(of("sha256"), found.sha256.clone(), expected.sha256.clone())?;
            differs(of("row count"), count(found.rows), count(expected.rows))?;
        }
        differs("the number of training examples".into(), count(now.examples), count(self.data.examples))?;
        let held_out = (count(now.validation_examples), count(self.data.validation_examples));
        differs("the number of validation examples".into(), held_out.0, held_out.1)?;
        let read = "the sha256 of the tokenised examples (of the same files, so by other tokenizers or chat templates)"
            .to_owned();
        differs(read, now.examples_sha256.clone(), self.data.examples_sha256.clone())
    }
}

/// Numbers as strings: JSON readers may be off in a number's last place, `str::parse` never is.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// As [`exact`], for a number that may be absent.
mod exact_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        number.map(|number| number.to_string()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// [`StepFacts`] to the last bit.
#[derive(Serialize, Deserialize)]
#[serde(remote = "StepFacts", deny_unknown_fields)]
struct ExactFacts {
    step: usize,
    epoch: usize,
    #[serde(with = "exact")]
    loss: f64,
    #[serde(with = "exact")]
    learning_rate: f64,
    #[serde(with = "exact")]
    grad_norm: f64,
    #[serde(with = "exact")]
    temperature: f64,
    #[serde(with = "exact")]
    gates_open: f64,
    tokens: usize,
    #[serde(with = "exact")]
    padding: f64,
    #[serde(with = "exact_option")]
    validation_loss: Option<f64>,
    #[serde(with = "exact")]
    seconds: f64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(loss: f64) -> State {
        State {
            step: 2,
            total_steps: 9,
            schedule_steps: 2,
            data: DataCursor {
                epoch: 1,
                examples_done: 8,
                examples_in_epoch: 50,
                examples: 50,
                validation_examples: 3,
                examples_sha256: "ab".into(),
                sources: vec![],
            },
            rng: RngStreams { seed: u64::MAX, order_stream: 0, micro_batch: 4 },
            optimizer_times: OptimizerTimes::from([("gate_logit".into(), 2)]),
            best: Some(Best { step: 1, validation_loss: loss }),
            last: StepFacts { step: 2, loss, validation_loss: Some(loss), ..StepFacts::default() },
            train_seconds: 1.5,
        }
    }

    #[test]
    fn numbers_come_back_to_the_last_bit() {
        // The first ones are read wrong by serde_json's quick way.
        for loss in [5.0e-324, 1.234_567_890_123_456_7e-17, 0.1 + 0.2, 1.0 / 3.0, -0.0, f64::MAX, f64::INFINITY] {
            let text = state(loss).text().unwrap();
            let read = State::read(&text, b"{}\n{}\n", 2).unwrap();
            let bits = |x: f64| x.to_bits();
            assert_eq!(bits(read.best.unwrap().validation_loss), bits(loss));
            assert_eq!(bits(read.last.loss), bits(loss));
            assert_eq!(bits(read.last.validation_loss.unwrap()), bits(loss));
            assert_eq!(read.rng.seed, u64::MAX);
        }
    }

    #[test]
    fn other_data_and_a_step_that_does_not_fit_are_named() {
        let text = state(1.0).text().unwrap();
        assert_eq!(State::read(&text, b"{}\n{}\n", 3).unwrap_err().0, "state.json");
        assert_eq!(State::read(&text, b"{}\n", 2).unwrap_err().0, "metrics.jsonl");
        let state = state(1.0);
        assert_eq!(state.data.next(), (1, 8));
        assert_eq!(DataCursor { examples_done: 50, ..state.data.clone() }.next(), (2, 0));
        let now = DataCursor { examples: 51, ..state.data.clone() };
        let error = state.check_data(&now, std::path::Path::new("step-000002")).unwrap_err().to_string();
        assert!(error.contains("training examples was 50, is now 51"), "{error}");
        let now = DataCursor { examples_sha256: "cd".into(), ..state.data.clone() };
        let error = state.check_data(&now, std::path::Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("tokenised examples") && error.contains("was ab, is now cd"), "{error}");
        let elsewhere = DataCursor { epoch: 5, examples_done: 0, ..state.data.clone() };
        assert!(state.check_data(&elsewhere, std::path::Path::new("x")).is_ok());
    }
}
