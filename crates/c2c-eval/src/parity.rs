//! The same pair on two devices: how far apart their fused caches, logits and choices are.
//!
//! Every prompt is traced on both: the fused cache, the logits behind the prompt and behind each token of the oracle's
//! reply (the other device reads the oracle's tokens, so that one different choice doesn't end the comparison), and the
//! reply that each gives by itself.

use burn::tensor::Tensor;
use c2c_data::prompts::{PromptFormat, multiple_choice};
use c2c_data::{Question, Task};
use c2c_fuser::{C2c, FuserError, Fusion, PairBatch, Prefilled};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, LmError, LogitsWanted, SamplingParams, TokenBatch, decode};
use c2c_text::{Message, PairText, Prompt};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde::Serialize;

use crate::EvalError;

/// What one prompt gave on one device, in f32 on the host.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Keys and values of every layer after fusion, `[kv_heads, tokens, head_dim]` each, without padding: nobody reads
    /// that, and what stands there depends on how a device does nothing.
    pub cache: Vec<[Vec<f32>; 2]>,
    /// Logits behind the prompt and behind every token of the reply but the last.
    pub logits: Vec<Vec<f32>>,
    /// The greedy reply; it doesn't end early.
    pub reply: Vec<u32>,
}

/// A distance between numbers that should be equal. Equal infinities are; everything else that is no finite number on
/// either side is infinitely far away, which JSON, having no such number, writes as `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distance {
    /// Places without a finite difference: no number, an infinity on one side alone, nothing at all.
    pub not_finite: usize,
    /// The largest difference.
    pub max: f64,
    /// The mean difference.
    pub mean: f64,
    /// The largest difference over the oracle's largest magnitude.
    pub relative: f64,
    #[serde(skip)]
    sum: f64,
    #[serde(skip)]
    count: usize,
    #[serde(skip)]
    largest: f64,
}

impl Distance {
    fn add(&mut self, oracle: &[f32], other: &[f32]) {
        // Another length would be another shape: as far apart as can be.
        if oracle.len() != other.len() {
            self.max = f64::INFINITY;
            self.not_finite += oracle.len().abs_diff(other.len());
        }
        for (a, b) in oracle.iter().zip(other) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            let difference = if a == b { 0.0 } else { (a - b).abs() };
            let difference = if difference.is_finite() { difference } else { f64::INFINITY };
            self.not_finite += usize::from(difference.is_infinite());
            self.max = self.max.max(difference);
            self.sum += difference;
            if a.is_finite() {
                self.largest = self.largest.max(a.abs());
            }
        }
        self.count += oracle.len();
        self.mean = self.sum / self.count.max(1) as f64;
        self.relative = if self.max == 0.0 { 0.0 } else { self.max / self.largest };
    }
}

/// How far one device is from the oracle.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Parity {
    /// Prompts compared.
    pub prompts: usize,
    /// Positions whose logits were compared.
    pub positions: usize,
    /// Values of caches and logits without a finite difference, all together.
    pub not_finite: usize,
    /// Fused keys, by layer.
    pub keys: Vec<Distance>,
    /// Fused values, by layer.
    pub values: Vec<Distance>,
    /// Logits.
    pub logits: Distance,
    /// The mean Kullback-Leibler divergence of the next token's distribution from the oracle's, in nats.
    pub kl_mean: f64,
    /// The largest.
    pub kl_max: f64,
    /// The share of positions where the same token is the likeliest.
    pub argmax_agreement: f64,
    /// The share of prompts whose greedy replies are equal.
    pub greedy_agreement: f64,
}

impl Parity {
    /// Compares the traces of the same prompts.
    pub fn of(oracle: &[Trace], other: &[Trace]) -> Self {
        let mut parity = Self { prompts: oracle.len().min(other.len()), ..Self::default() };
        let (mut kl, mut same_argmax, mut same_reply) = (0.0, 0, 0);
        for (a, b) in oracle.iter().zip(other) {
            parity.keys.resize(a.cache.len(), Distance::default());
            parity.values.resize(a.cache.len(), Distance::default());
            for (layer, (x, y)) in a.cache.iter().zip(&b.cache).enumerate() {
                parity.keys[layer].add(&x[0], &y[0]);
                parity.values[layer].add(&x[1], &y[1]);
            }
            for (x, y) in a.logits.iter().zip(&b.logits) {
                parity.positions += 1;
                parity.logits.add(x, y);
                let divergence = divergence(x, y);
                kl += divergence;
                parity.kl_max = parity.kl_max.max(divergence);
                same_argmax += usize::from(argmax(x) == argmax(y));
            }
            same_reply += usize::from(a.reply == b.reply);
        }
        let compared = parity.keys.iter().chain(&parity.values).chain([&parity.logits]);
        parity.not_finite = compared.map(|distance| distance.not_finite).sum();
        let share = |part: f64, all: usize| part / all.max(1) as f64;
        parity.kl_mean = share(kl, parity.positions);
        parity.argmax_agreement = share(same_argmax as f64, parity.positions);
        parity.greedy_agreement = share(same_reply as f64, parity.prompts);
        parity
    }

    /// The layer whose fused keys or values are the farthest apart, and how far, relative to its largest magnitude.
    pub fn worst_layer(&self) -> (usize, f64) {
        let worst = |(layer, (k, v)): (usize, (&Distance, &Distance))| (layer, k.relative.max(v.relative));
        let layers = self.keys.iter().zip(&self.values).enumerate().map(worst);
        layers.fold((0, 0.0), |best, layer| if layer.1 > best.1 { layer } else { best })
    }
}

/// The prompts of questions, aligned for both models.
///
/// # Errors
/// The first question that makes no prompt.
pub fn prompts(text: &PairText, questions: &[Question], format: PromptFormat) -> Result<Vec<Prompt>, EvalError> {
    let prompt = |question: &Question| {
        let message = Message::user(match &question.task {
            Task::Choice { choices, .. } => multiple_choice(format, &question.question, choices),
            Task::Free(free) => free.prompt.clone(),
        });
        Ok(text.prompt(&[message]).map_err(FuserError::from)?)
    };
    questions.iter().map(prompt).collect()
}

/// Traces a prompt on the device of a pair, whose fuser is best [ready](c2c_fuser::Fuser::for_inference). `forced` is
/// the oracle's reply; without it this is the oracle. `new_tokens` is at least 1.
///
/// # Errors
/// What the models refuse; tensors that can't be read back.
pub fn trace<B: KernelBackend>(
    c2c: &C2c<B>,
    prompt: &Prompt,
    forced: Option<&[u32]>,
    new_tokens: usize,
) -> Result<Trace, EvalError> {
    let batch = PairBatch::collate(std::slice::from_ref(prompt), 0, 0)?;
    let Prefilled { mut cache, logits } = c2c.prefill(&batch, Fusion::On, LogitsWanted::Last)?;
    let real = cache.mask()[0].clone();
    let tokens = |x: Tensor<B, 4>| -> Result<Vec<f32>, EvalError> {
        let width = x.dims()[3];
        let slots = host(x)?;
        let kept = slots.chunks_exact(width).zip(real.iter().cycle()).filter(|(_, real)| **real);
        Ok(kept.flat_map(|(slot, _)| slot.iter().copied()).collect())
    };
    let fused = (0..cache.num_layers()).map_while(|layer| cache.layer(layer));
    let fused = fused.map(|kv| Ok([tokens(kv.key)?, tokens(kv.value)?])).collect::<Result<Vec<_>, EvalError>>()?;
    let options = DecodeOptions { max_new_tokens: new_tokens, eos: Vec::new(), pad: 0, keep_scores: forced.is_none() };
    let first = logits.clone();
    let mut generated = decode(
        &c2c.receiver,
        &mut cache,
        logits,
        &batch.receiver_prompts(),
        &batch.next_positions(),
        &SamplingParams::default(),
        &options,
        // Greedy decoding draws nothing.
        &mut ChaCha8Rng::seed_from_u64(0),
    )
    .map_err(FuserError::from)?;
    let reply = generated.tokens.swap_remove(0);
    let logits = match forced {
        None => generated.scores.into_iter().map(|mut rows| rows.swap_remove(0)).collect(),
        Some(forced) => forced_logits(c2c, &batch, first, forced)?,
    };
    Ok(Trace { cache: fused, logits, reply })
}

/// The logits behind the prompt and behind every given token but the last.
fn forced_logits<B: KernelBackend>(
    c2c: &C2c<B>,
    batch: &PairBatch,
    first: Tensor<B, 3>,
    forced: &[u32],
) -> Result<Vec<Vec<f32>>, EvalError> {
    let mut cache = c2c.prefill(batch, Fusion::On, LogitsWanted::Last)?.cache;
    let mut out = vec![host(first)?];
    let start = batch.next_positions()[0];
    for (step, id) in forced.iter().take(forced.len().saturating_sub(1)).enumerate() {
        let token = TokenBatch::new(vec![vec![*id]], start + step).map_err(FuserError::from)?;
        let logits = c2c.receiver.forward(&token, &mut cache, LogitsWanted::Last).map_err(FuserError::from)?;
        out.push(host(logits)?);
    }
    Ok(out)
}

fn host<B: KernelBackend, const D: usize>(x: Tensor<B, D>) -> Result<Vec<f32>, EvalError> {
    let data = x.try_into_data().map_err(|e| FuserError::from(LmError::Readback(format!("{e:?}"))))?;
    Ok(data.iter::<f32>().collect())
}

fn argmax(x: &[f32]) -> usize {
    (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

/// `sum p log(p / q)` of the distributions that the logits stand for, in nats; infinite where they stand for none.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_softmax = |x: &[f32]| {
        let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = x.iter().map(|v| f64::from(v - top).exp()).sum();
        x.iter().map(|v| f64::from(v - top) - sum.ln()).collect::<Vec<f64>>()
    };
    let terms = log_softmax(p).into_iter().zip(log_softmax(q));
    let sum: f64 = terms.map(|(p, q)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }).sum();
    // Rounding may leave a sum of equals a little below 0.
    if sum.is_nan() { f64::INFINITY } else { sum.max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(shift: f32, reply: &[u32]) -> Trace {
        let logits = vec![vec![1.0, 2.0 + shift, 0.5], vec![0.0, 0.0, 3.0]];
        Trace { cache: vec![[vec![1.0, -4.0 + shift], vec![2.0]]], logits, reply: reply.to_vec() }
    }

    #[test]
    fn equal_traces_are_at_distance_zero() {
        let parity = Parity::of(&[trace(0.0, &[1, 2])], &[trace(0.0, &[1, 2])]);
        assert_eq!((parity.keys[0].max, parity.logits.max, parity.kl_max), (0.0, 0.0, 0.0));
        assert_eq!((parity.argmax_agreement, parity.greedy_agreement), (1.0, 1.0));
        assert_eq!((parity.prompts, parity.positions), (1, 2));
    }

    #[test]
    fn a_shift_shows_where_it_is() {
        let parity = Parity::of(&[trace(0.0, &[1, 2])], &[trace(-1.5, &[0, 2])]);
        assert_eq!((parity.keys[0].max, parity.keys[0].mean, parity.keys[0].relative), (1.5, 0.75, 0.375));
        assert_eq!(parity.values[0].max, 0.0);
        assert_eq!(parity.worst_layer(), (0, 0.375));
        assert_eq!((parity.argmax_agreement, parity.greedy_agreement), (0.5, 0.0));
        // Of logits 1, 2, 1/2 and 1, 1/2, 1/2, by hand.
        let p = [1.0_f64, 2.0, 0.5].map(f64::exp);
        let q = [1.0_f64, 0.5, 0.5].map(f64::exp);
        let (sp, sq) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
        let expected: f64 = p.iter().zip(q).map(|(p, q)| p / sp * ((p / sp) / (q / sq)).ln()).sum();
        assert!((parity.kl_max - expected).abs() < 1e-12 && expected > 0.1);
    }

    #[test]
    fn nothing_that_is_not_a_number_passes_for_close() {
        let mut broken = trace(0.0, &[1]);
        broken.cache[0][1][0] = f32::NAN;
        let parity = Parity::of(&[trace(0.0, &[1])], &[broken]);
        assert_eq!((parity.worst_layer(), parity.not_finite), ((0, f64::INFINITY), 1));

        // In the oracle, in the other, in both; and infinities that aren't the same.
        let far = f32::INFINITY;
        for (x, y) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::NAN), (far, -far), (far, 1.0), (1.0, -far)] {
            let with = |value: f32| {
                let mut trace = trace(0.0, &[1]);
                trace.cache[0][0][0] = value;
                trace.logits[0][0] = value;
                trace
            };
            let parity = Parity::of(&[with(x)], &[with(y)]);
            assert_eq!((parity.keys[0].relative, parity.logits.relative), (f64::INFINITY, f64::INFINITY), "{x} {y}");
            assert_eq!((parity.worst_layer().1, parity.kl_max, parity.not_finite), (f64::INFINITY, f64::INFINITY, 2));
            let json = serde_json::to_value(&parity).unwrap_or_default();
            assert!(json["kl_max"].is_null() && json["logits"]["max"].is_null(), "{json}");
            assert_eq!((json["not_finite"].as_u64(), json["keys"][0]["not_finite"].as_u64()), (Some(2), Some(1)));
        }
    }

    #[test]
    fn a_token_that_neither_may_choose_is_no_difference() {
        let never = || {
            let mut trace = trace(0.0, &[1]);
            trace.logits[0][2] = f32::NEG_INFINITY;
            trace
        };
        let parity = Parity::of(&[never()], &[never()]);
        assert_eq!((parity.logits.max, parity.logits.relative, parity.kl_max, parity.not_finite), (0.0, 0.0, 0.0, 0));
    }
}
