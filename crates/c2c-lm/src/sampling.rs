//! Penalties and the distribution a token is drawn from.
//!
//! Order: presence, frequency and repetition penalty over prompt and reply; then temperature, top-k, top-p.
//!
//! Better is what has the larger logit after the penalties, and of equals the lower id. Sums over the vocabulary are f64: in f32 those
//! over many like numbers are off by parts in a thousand.
//!
//! Top-p keeps the smallest set of best tokens whose probability reaches `top_p`: the token that crosses the threshold
//! stays. The reference implementation drops it; [`SamplingCompat::Reference`] does so too, for comparison with its numbers.

use std::collections::HashMap;

use rand::{Rng, RngExt};

use crate::LmError;

/// Why no token can be chosen from a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLogits {
    /// Some are NaN.
    #[error("hold a NaN")]
    Nan,
    /// No token is left to choose.
    #[error("are all minus infinity")]
    Nothing,
    /// Some are plus infinity, which is no distribution to draw from; greedily the first of them is taken.
    #[error("hold plus infinity, which can't be drawn from")]
    Infinite,
}

/// At or below this temperature the best token is taken.
const GREEDY_TEMPERATURE: f64 = 1e-5;

/// A token with a smaller share of the mass is never drawn, wherever it is drawn. A uniform f32 comes in parts of 2^-24, so that its 0
/// would draw the first token, however unlikely, once in 2^24 times.
const LEAST_SHARE: f64 = 1.0 / 4_294_967_296.0;

/// Whose top-p to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplingCompat {
    /// Keeps the token that crosses `top_p`.
    #[default]
    Standard,
    /// Drops it, unless it is the best one.
    Reference,
}

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// False takes the best token.
    pub do_sample: bool,
    /// Divides the logits.
    pub temperature: f64,
    /// Keeps this many best tokens.
    pub top_k: Option<usize>,
    /// Keeps the best tokens up to this probability.
    pub top_p: f64,
    /// Divides positive and multiplies negative logits of seen tokens.
    pub repetition_penalty: f64,
    /// Subtracted from the logits of seen tokens.
    pub presence_penalty: f64,
    /// Subtracted once for every time a token was seen.
    pub frequency_penalty: f64,
    /// Whose top-p to follow.
    pub compat: SamplingCompat,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            compat: SamplingCompat::Standard,
        }
    }
}

impl SamplingParams {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first parameter out of its range.
    pub fn validate(&self) -> Result<(), LmError> {
        let check = |ok: bool, name, value, expected| {
            if ok { Ok(()) } else { Err(LmError::Sampling { name, value, expected }) }
        };
        check(self.temperature >= 0.0 && self.temperature.is_finite(), "temperature", self.temperature, "0 or more")?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", self.top_p, "above 0 and at most 1")?;
        check(self.top_k != Some(0), "top_k", 0.0, "1 or more, or none")?;
        let repetition = self.repetition_penalty;
        check(repetition > 0.0 && repetition.is_finite(), "repetition_penalty", repetition, "a finite number above 0")?;
        check(self.presence_penalty.is_finite(), "presence_penalty", self.presence_penalty, "a finite number")?;
        check(self.frequency_penalty.is_finite(), "frequency_penalty", self.frequency_penalty, "a finite number")
    }

    /// Applies the penalties for the tokens seen so far (prompt and reply).
    pub fn adjust(&self, logits: &mut [f32], seen: &[u32]) {
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for id in seen {
            *counts.entry(*id).or_default() += 1;
        }
        for (id, count) in counts {
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            *logit -= self.presence_penalty as f32;
            *logit -= self.frequency_penalty as f32 * count as f32;
            let penalty = self.repetition_penalty as f32;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }

    /// The distribution over the vocabulary; one-hot when greedy. `logits` went through [`SamplingParams::adjust`], and hold neither
    /// NaN nor plus infinity.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        if !self.draws() {
            let mut probs = vec![0.0; logits.len()];
            if let Some(best) = argmax(logits) {
                probs[best] = 1.0;
            }
            return probs;
        }
        let weights = self.weights(logits);
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| (weight / sum) as f32).collect()
    }

    /// The distribution without a common factor.
    fn weights(&self, logits: &[f32]) -> Vec<f64> {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(top)) / self.temperature).exp();
        let mut weights: Vec<f64> = logits.iter().copied().map(weight).collect();
        if self.top_k.is_none() && self.top_p >= 1.0 {
            return weights;
        }
        let mut order: Vec<usize> = (0..weights.len()).filter(|id| weights[*id] > 0.0).collect();
        // The two zeros are equal: adding 0 makes 0 of -0.
        order.sort_unstable_by(|a, b| (logits[*b] + 0.0).total_cmp(&(logits[*a] + 0.0)).then(a.cmp(b)));
        if let Some(k) = self.top_k {
            for id in order.drain(k.max(1).min(order.len())..) {
                weights[id] = 0.0;
            }
        }
        if self.top_p < 1.0 {
            let limit = self.top_p * order.iter().map(|id| weights[*id]).sum::<f64>();
            let mut sum = 0.0;
            for (rank, id) in order.into_iter().enumerate() {
                let before = sum;
                sum += weights[id];
                let keep = match self.compat {
                    SamplingCompat::Standard => before < limit,
                    SamplingCompat::Reference => sum <= limit,
                };
                if rank > 0 && !keep {
                    weights[id] = 0.0;
                }
            }
        }
        weights
    }

    /// True if the next token is drawn, false if it is the best one.
    pub fn draws(&self) -> bool {
        self.do_sample && self.temperature > GREEDY_TEMPERATURE
    }

    /// True if seen tokens are treated differently.
    pub fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// True if the next token is the one of the largest raw logit.
    pub fn is_plain_greedy(&self) -> bool {
        !self.penalises() && !self.draws()
    }

    /// Chooses the next token; a number is taken from `rng` where one is drawn. `logits` are raw; `seen` is prompt and reply so far.
    ///
    /// # Errors
    /// Logits that are no distribution.
    pub fn choose(&self, logits: Vec<f32>, seen: &[u32], rng: &mut impl Rng) -> Result<u32, BadLogits> {
        let drawn = self.uniform(rng);
        self.choose_by(logits, seen, drawn)
    }

    /// The uniform number that a row's next token is chosen by; 0 where nothing is drawn.
    pub(crate) fn uniform(&self, rng: &mut impl Rng) -> f32 {
        if self.draws() { rng.random() } else { 0.0 }
    }

    /// As [`choose`](Self::choose), by a number of `0..1`, which falls among the tokens in the order of their ids.
    ///
    /// # Errors
    /// Logits that are no distribution.
    pub fn choose_by(&self, mut logits: Vec<f32>, seen: &[u32], drawn: f32) -> Result<u32, BadLogits> {
        if self.penalises() {
            self.adjust(&mut logits, seen);
        }
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(BadLogits::Nan);
        }
        let best = argmax(&logits).filter(|best| logits[*best] > f32::NEG_INFINITY).ok_or(BadLogits::Nothing)?;
        if !self.draws() {
            return Ok(best as u32);
        }
        if logits[best] == f32::INFINITY {
            return Err(BadLogits::Infinite);
        }
        let weights = self.weights(&logits);
        let sum: f64 = weights.iter().sum();
        let mut left = f64::from(drawn) * sum;
        let mut last = best;
        for (id, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight >= LEAST_SHARE * sum) {
            last = id;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        Ok(last as u32)
    }
}

/// The index of the largest value, the first of equals.
pub(crate) fn argmax(values: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (i, v) in values.iter().enumerate() {
        if best.is_none_or(|(_, b)| *v > b) {
            best = Some((i, *v));
        }
    }
    best.map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(p: &[f32]) -> Vec<f32> {
        p.iter().map(|x| x.ln()).collect()
    }

    #[test]
    fn top_p_keeps_the_crossing_token_unless_compat_says_otherwise() {
        let logits = logs(&[0.5, 0.3, 0.15, 0.05]);
        let mut params = SamplingParams { do_sample: true, top_p: 0.85, ..Default::default() };
        let support = |p: Vec<f32>| p.iter().map(|x| *x > 0.0).collect::<Vec<_>>();
        assert_eq!(support(params.probabilities(&logits)), [true, true, true, false]);
        params.compat = SamplingCompat::Reference;
        assert_eq!(support(params.probabilities(&logits)), [true, true, false, false]);
    }

    #[test]
    fn top_p_below_the_best_token_keeps_it() {
        for compat in [SamplingCompat::Standard, SamplingCompat::Reference] {
            let params = SamplingParams { do_sample: true, top_p: 0.1, compat, ..Default::default() };
            assert_eq!(params.probabilities(&logs(&[0.2, 0.5, 0.3])), [0.0, 1.0, 0.0]);
        }
    }

    #[test]
    fn ranges_are_checked() {
        let bad = [
            SamplingParams { top_p: 0.0, ..Default::default() },
            SamplingParams { top_k: Some(0), ..Default::default() },
            SamplingParams { temperature: -1.0, ..Default::default() },
            SamplingParams { repetition_penalty: 0.0, ..Default::default() },
            SamplingParams { repetition_penalty: f64::INFINITY, ..Default::default() },
        ];
        for params in bad {
            assert!(params.validate().is_err(), "{params:?}");
        }
        assert!(SamplingParams::default().validate().is_ok());
    }

    #[test]
    fn penalties_hit_seen_tokens_only_and_in_order() {
        let params = SamplingParams {
            presence_penalty: 1.0,
            frequency_penalty: 0.5,
            repetition_penalty: 2.0,
            ..Default::default()
        };
        let mut logits = vec![4.0, 4.0, 1.0];
        params.adjust(&mut logits, &[0, 0, 2]);
        // 4 - 1 - 2*0.5 = 2, halved; 1 - 1 - 0.5 = -0.5, doubled.
        assert_eq!(logits, [1.0, 4.0, -1.0]);
    }

    #[test]
    fn logits_that_are_no_distribution_choose_nothing() {
        let sampled = SamplingParams { do_sample: true, ..Default::default() };
        let penalised = SamplingParams { presence_penalty: 0.5, ..Default::default() };
        let infinite = f32::INFINITY;
        for params in [SamplingParams::default(), sampled.clone(), penalised.clone()] {
            let choose = |logits: &[f32]| params.choose_by(logits.to_vec(), &[0], 0.5);
            assert_eq!(choose(&[1.0, f32::NAN, infinite]), Err(BadLogits::Nan), "{params:?}");
            assert_eq!(choose(&[-f32::NAN]), Err(BadLogits::Nan), "{params:?}");
            assert_eq!(choose(&[-infinite, -infinite]), Err(BadLogits::Nothing), "{params:?}");
            assert_eq!(choose(&[-infinite, 1.0]), Ok(1), "{params:?}");
        }
        assert_eq!(sampled.choose_by(vec![0.0, infinite], &[], 0.5), Err(BadLogits::Infinite));
        assert_eq!(penalised.choose_by(vec![0.0, infinite, infinite], &[], 0.5), Ok(1));
    }

    #[test]
    fn of_equal_tokens_those_with_lower_ids_are_kept() {
        let params = SamplingParams { do_sample: true, top_k: Some(3), ..Default::default() };
        let third = 1.0 / 3.0;
        assert_eq!(params.probabilities(&[-0.0, -1.0, 0.0, 0.0, -0.0]), [third, 0.0, third, third, 0.0]);
        let params = SamplingParams { do_sample: true, top_p: 0.5, ..Default::default() };
        assert_eq!(params.probabilities(&[2.0; 4]), [0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn what_is_as_good_as_impossible_is_not_drawn() {
        let params = SamplingParams { do_sample: true, ..Default::default() };
        assert_eq!(params.choose_by(vec![-30.0, 0.0, -20.0], &[], 0.0), Ok(1));
        assert_eq!(params.choose_by(vec![-20.0, 0.0], &[], 0.0), Ok(0));
    }

    #[test]
    fn a_large_flat_vocabulary_is_drawn_from_evenly() {
        let vocab = 151_936;
        let params = SamplingParams { do_sample: true, ..Default::default() };
        for eighth in 0..8 {
            let drawn = eighth as f32 / 8.0;
            assert_eq!(params.choose_by(vec![1.5; vocab], &[], drawn), Ok((vocab / 8 * eighth) as u32));
        }
    }
}
