//! Penalties and the distribution a token is drawn from.
//!
//! Order: presence, frequency and repetition penalty over prompt and reply; then temperature, top-k, top-p.
//!
//! Top-p keeps the smallest set of best tokens whose probability reaches `top_p`: the token that crosses the threshold
//! stays. The reference implementation drops it; [`SamplingCompat::Reference`] does so too, for comparison with its numbers.

use std::collections::HashMap;

use rand::{Rng, RngExt};

use crate::LmError;

/// At or below this temperature the best token is taken.
const GREEDY_TEMPERATURE: f64 = 1e-5;

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
        check(self.repetition_penalty > 0.0, "repetition_penalty", self.repetition_penalty, "above 0")?;
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

    /// The distribution over the vocabulary; one-hot when greedy. `logits` went through [`SamplingParams::adjust`].
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        if !self.do_sample || self.temperature <= GREEDY_TEMPERATURE {
            let mut probs = vec![0.0; logits.len()];
            if let Some(best) = argmax(logits) {
                probs[best] = 1.0;
            }
            return probs;
        }
        let temperature = self.temperature as f32;
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut probs: Vec<f32> = logits.iter().map(|l| ((l - top) / temperature).exp()).collect();
        normalise(&mut probs);
        let mut order: Vec<usize> = (0..probs.len()).collect();
        order.sort_by(|a, b| probs[*b].total_cmp(&probs[*a]).then(a.cmp(b)));
        if let Some(k) = self.top_k {
            for id in order.iter().skip(k.max(1)) {
                probs[*id] = 0.0;
            }
            normalise(&mut probs);
        }
        if self.top_p < 1.0 {
            let top_p = self.top_p as f32;
            let mut sum = 0.0;
            for (rank, id) in order.iter().enumerate() {
                let before = sum;
                sum += probs[*id];
                let keep = match self.compat {
                    SamplingCompat::Standard => before < top_p,
                    SamplingCompat::Reference => sum <= top_p,
                };
                if rank > 0 && !keep {
                    probs[*id] = 0.0;
                }
            }
            normalise(&mut probs);
        }
        probs
    }

    /// True if the next token is the one of the largest raw logit.
    pub fn is_plain_greedy(&self) -> bool {
        let adjusted = self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0;
        !adjusted && (!self.do_sample || self.temperature <= GREEDY_TEMPERATURE)
    }

    /// Draws the next token. `logits` are raw; `seen` is prompt and reply so far.
    pub fn choose(&self, mut logits: Vec<f32>, seen: &[u32], rng: &mut impl Rng) -> u32 {
        self.adjust(&mut logits, seen);
        if !self.do_sample || self.temperature <= GREEDY_TEMPERATURE {
            return argmax(&logits).unwrap_or(0) as u32;
        }
        let probs = self.probabilities(&logits);
        let mut left: f32 = rng.random();
        let mut last = 0;
        for (id, p) in probs.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            last = id;
            left -= p;
            if left < 0.0 {
                break;
            }
        }
        last as u32
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

fn normalise(probs: &mut [f32]) {
    let sum: f32 = probs.iter().sum();
    for p in probs {
        *p /= sum;
    }
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
}
