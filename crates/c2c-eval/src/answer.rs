//! The models at work on one batch.

use std::time::Instant;

use burn::tensor::Tensor;
use c2c_fuser::{C2c, FuserError, Fusion, PairBatch, Phase};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, Generated, Lm, LmError, LogitsWanted, SamplingParams, TokenBatch, decode};
use c2c_recipe::Method;
use c2c_text::{Prompt, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::input::Input;
use crate::put::Letters;
use crate::times::Phases;
use crate::{EvalPair, EvalSettings};

/// The replies of a batch.
pub(crate) struct Answered {
    pub(crate) generated: Generated,
    /// Of prefill and decoding together. The replies have been read back by then, so the device is done.
    pub(crate) milliseconds: f64,
    /// The same by what was done.
    pub(crate) phases: Phases,
    /// With logits compared: the letters' log probabilities of each row.
    pub(crate) letters: Vec<Vec<f64>>,
    /// With shut gates: whether the logits equal the receiver's.
    pub(crate) bit_equal: Option<bool>,
}

/// A method with the models it needs.
pub(crate) struct Answerer<'a, B: KernelBackend> {
    pair: &'a EvalPair<'a, B>,
    method: Method,
    /// The pair with the fuser that the method needs.
    fused: Option<C2c<B>>,
    options: DecodeOptions,
    sharer_pad: u32,
    seed: u64,
    /// With logits compared: the letters in the tokens of the model that answers.
    letters: Option<Letters>,
}

impl<'a, B: KernelBackend> Answerer<'a, B> {
    pub(crate) fn new(pair: &'a EvalPair<'a, B>, method: Method, settings: &EvalSettings) -> Result<Self, FuserError> {
        let fuser = || pair.c2c.fuser.clone();
        let fuser = match method {
            Method::Receiver | Method::Sharer => None,
            // The control runs the whole formula with gates of 0.
            Method::GatesShut => Some(fuser().with_gates_shut()),
            Method::C2c | Method::Mismatched => Some(fuser().for_inference(pair.c2c.receiver.dtype())?),
        };
        let fused = fuser.map(|fuser| C2c { fuser, ..pair.c2c.clone() });
        let (model, tokenizer) = match method {
            Method::Sharer => (&pair.c2c.sharer, pair.text.sharer()),
            _ => (&pair.c2c.receiver, pair.text.receiver()),
        };
        let mut eos = model.config().generation.eos.clone();
        if eos.is_empty() {
            eos.extend(tokenizer.eos_id());
        }
        let options = DecodeOptions {
            max_new_tokens: settings.max_new_tokens,
            eos,
            pad: pad(model, tokenizer),
            keep_scores: false,
        };
        let sharer_pad = pad(&pair.c2c.sharer, pair.text.sharer());
        Ok(Self { fused, options, method, sharer_pad, pair, seed: settings.seed, letters: None })
    }

    /// The same, comparing the probabilities of letters instead of writing replies.
    pub(crate) fn with_letters(self, letters: Option<Letters>) -> Self {
        Self { letters, ..self }
    }

    /// The tokenizer of the model that answers.
    pub(crate) fn tokenizer(&self) -> &'a Tokenizer {
        match self.method {
            Method::Sharer => self.pair.text.sharer(),
            _ => self.pair.text.receiver(),
        }
    }

    /// Refuses a prompt that, with the longest reply, goes past the context of a model.
    ///
    /// Told before anything is run and from the prompt alone, so that the verdict doesn't depend on the other questions
    /// of a batch. The last token of a reply is never read, so it needs no position.
    pub(crate) fn check_length(&self, input: &Input, budget: usize) -> Result<(), LmError> {
        let within = |found, model: &Lm<B>| match model.config().max_position {
            limit if found > limit => Err(LmError::ContextLength { found, limit }),
            _ => Ok(()),
        };
        let answering = if self.method == Method::Sharer { &self.pair.c2c.sharer } else { &self.pair.c2c.receiver };
        within(input.slots() + budget.saturating_sub(1), answering)?;
        within(input.sharer_slots(), &self.pair.c2c.sharer)
    }

    /// Answers inputs of one shape, of the kind that the method reads, with at most `budget` tokens each.
    pub(crate) fn answer(&self, inputs: &[&Input], budget: usize) -> Result<Answered, FuserError> {
        let c2c = self.fused.as_ref().unwrap_or(self.pair.c2c);
        match self.method {
            Method::Receiver => self.alone(&c2c.receiver, inputs, budget),
            Method::Sharer => self.alone(&c2c.sharer, inputs, budget),
            Method::C2c | Method::Mismatched | Method::GatesShut => self.fused(c2c, inputs, budget),
        }
    }

    /// The letters' log probabilities from the logits of the last position, `[batch, 1, vocab]`; nothing where replies
    /// are written.
    fn letters(&self, logits: &Tensor<B, 3>) -> Result<Vec<Vec<f64>>, FuserError> {
        let Some(letters) = &self.letters else { return Ok(Vec::new()) };
        let vocab = logits.dims()[2];
        let data = logits.clone().try_into_data().map_err(|err| LmError::Readback(format!("{err:?}")))?;
        let all: Vec<f32> = data.iter::<f32>().collect();
        Ok(all.chunks_exact(vocab).map(|row| letters.logprobs(row)).collect())
    }

    fn options(&self, budget: usize) -> DecodeOptions {
        DecodeOptions { max_new_tokens: budget, ..self.options.clone() }
    }

    fn alone(&self, model: &Lm<B>, inputs: &[&Input], budget: usize) -> Result<Answered, FuserError> {
        let prompts: Vec<Vec<u32>> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::Alone(ids) => Some(ids.clone()),
                Input::Pair(_) => None,
            })
            .collect();
        let start = Instant::now();
        let tokens = left_padded(&prompts, self.options.pad)?;
        let next: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let mut watch = Stopwatch::<B>::start(model);
        let mut phases = Phases::default();
        let mut cache = model.new_cache(tokens.rows());
        let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last)?;
        let prefill = watch.lap();
        match self.method {
            Method::Sharer => phases.sharer_prefill = prefill,
            _ => phases.receiver_prefill = prefill,
        }
        let (sampling, mut rng) = (SamplingParams::default(), self.rng());
        let letters = self.letters(&logits)?;
        let options = self.options(budget);
        let generated = decode(model, &mut cache, logits, &prompts, &next, &sampling, &options, &mut rng)?;
        phases.decode = watch.lap();
        Ok(Answered { generated, letters, milliseconds: milliseconds_since(start), phases, bit_equal: None })
    }

    fn fused(&self, c2c: &C2c<B>, inputs: &[&Input], budget: usize) -> Result<Answered, FuserError> {
        let prompts: Vec<Prompt> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::Pair(prompt) => Some(prompt.clone()),
                Input::Alone(_) => None,
            })
            .collect();
        let start = Instant::now();
        let batch = PairBatch::collate(&prompts, self.options.pad, self.sharer_pad)?;
        let mut watch = Stopwatch::<B>::start(&c2c.receiver);
        let mut phases = Phases::default();
        let prefilled = c2c.prefill_observed(&batch, Fusion::On, LogitsWanted::Last, &mut |phase| {
            *match phase {
                Phase::Sharer => &mut phases.sharer_prefill,
                Phase::Receiver => &mut phases.receiver_prefill,
                Phase::Fusion => &mut phases.fusion,
            } += watch.lap();
        })?;
        let (mut cache, logits) = (prefilled.cache, prefilled.logits);
        let letters = self.letters(&logits)?;
        let generated = decode(
            &c2c.receiver,
            &mut cache,
            logits.clone(),
            &batch.receiver_prompts(),
            &batch.next_positions(),
            &SamplingParams::default(),
            &self.options(budget),
            &mut self.rng(),
        )?;
        phases.decode = watch.lap();
        let milliseconds = milliseconds_since(start);
        let bit_equal = match self.method {
            Method::GatesShut => {
                let own = c2c.prefill(&batch, Fusion::Off, LogitsWanted::Last)?.logits;
                Some(bits(logits)? == bits(own)?)
            }
            _ => None,
        };
        Ok(Answered { generated, letters, milliseconds, phases, bit_equal })
    }

    /// Greedy decoding draws nothing; the generator is there because decoding takes one.
    fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }
}

fn pad<B: KernelBackend>(model: &Lm<B>, tokenizer: &Tokenizer) -> u32 {
    model.config().generation.pad.unwrap_or_else(|| tokenizer.pad_id())
}

/// Takes the time of one part of the work after another.
struct Stopwatch<B: KernelBackend> {
    device: B::Device,
    last: Instant,
}

impl<B: KernelBackend> Stopwatch<B> {
    fn start(model: &Lm<B>) -> Self {
        Self { device: model.device(), last: Instant::now() }
    }

    /// Milliseconds since the last call. A GPU works behind the program's back, so it is waited for; that happens once
    /// a part of a batch, a handful of times beside the thousands of kernels between them.
    fn lap(&mut self) -> f64 {
        // A device that has failed says so again where the reply is read back, and there the error is kept.
        let _ = B::sync(&self.device);
        let milliseconds = milliseconds_since(self.last);
        self.last = Instant::now();
        milliseconds
    }
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Rows of one length, padded on the left; positions count a row's own tokens.
fn left_padded(rows: &[Vec<u32>], pad: u32) -> Result<TokenBatch, LmError> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (mut ids, mut mask, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let missing = width - row.len();
        ids.push([vec![pad; missing], row.clone()].concat());
        mask.push([vec![false; missing], vec![true; row.len()]].concat());
        positions.push(std::iter::repeat_n(0, missing).chain(0..row.len()).collect());
    }
    TokenBatch::with_mask(ids, mask, positions)
}

fn bits<B: KernelBackend>(logits: Tensor<B, 3>) -> Result<Vec<u32>, FuserError> {
    let data = logits.try_into_data().map_err(|err| LmError::Readback(format!("{err:?}")))?;
    Ok(data.iter::<f32>().map(f32::to_bits).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rows_are_padded_on_the_left_and_count_their_own_tokens() {
        let tokens = left_padded(&[vec![5, 6, 7], vec![8]], 9).unwrap();
        assert_eq!(tokens.ids(), [[5, 6, 7], [9, 9, 8]]);
        assert_eq!(tokens.mask(), [[true; 3], [false, false, true]]);
        assert_eq!(tokens.positions(), [[0, 1, 2], [0, 0, 0]]);
        assert!(left_padded(&[], 9).is_err());
    }
}
