//! The models at work on one batch.

mod prefix;
mod rows;
mod several;
mod text;

use std::cell::OnceCell;
use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use c2c_fuser::{C2c, FuserError, Fusion, PairBatch};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, Finish, Generated, KvCache, Lm, LmError, LogitsWanted, SamplingParams, decode};
use c2c_recipe::Method;
use c2c_text::{Prompt, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use prefix::Prefix;
pub(crate) use rows::{Stopwatch, left_padded, milliseconds_since};
use several::Together;

use crate::input::Input;
use crate::put::Letters;
use crate::times::Phases;
use crate::{EvalPair, EvalSettings};

/// One row's reply with its share of the batch's time. The reply has been read back when it is taken, so the device is
/// done.
pub(crate) struct Reply {
    pub(crate) tokens: Vec<u32>,
    pub(crate) finish: Finish,
    /// Of prefill and decoding together.
    pub(crate) milliseconds: f64,
    /// The same by what was done.
    pub(crate) phases: Phases,
    /// With logits compared: the letters' log probabilities.
    pub(crate) letters: Vec<f64>,
    /// What the sharer wrote first, if it did.
    pub(crate) heard: Option<Heard>,
    /// With shut gates: whether the logits of the batch equal the receiver's.
    pub(crate) bit_equal: Option<bool>,
}

/// A text that the sharer wrote, and what the answering model read because of it.
pub(crate) struct Heard {
    pub(crate) text: String,
    /// Ids of the text.
    pub(crate) tokens: usize,
    /// What the answering model read.
    pub(crate) prompt_tokens: usize,
    /// Of that, what was fused.
    pub(crate) fused_tokens: Option<usize>,
    /// Of all that was read.
    pub(crate) prompt_sha256: String,
}

/// The replies of a batch, row by row; or why there is none, though the others went on.
pub(crate) type Answered = Vec<Result<Reply, String>>;

/// Replies that took an equal share of the time each.
fn in_shares(written: Written, milliseconds: f64, phases: Phases, bit_equal: Option<bool>) -> Answered {
    let Written { generated, mut letters } = written;
    let rows = generated.tokens.len();
    letters.resize(rows, Vec::new());
    let (milliseconds, phases) = (milliseconds / rows as f64, phases.share(rows));
    let rows = generated.tokens.into_iter().zip(generated.finish).zip(letters);
    let reply =
        |((tokens, finish), letters)| Reply { tokens, finish, milliseconds, phases, letters, heard: None, bit_equal };
    rows.map(|row| Ok(reply(row))).collect()
}

/// A method with the models it needs.
pub(crate) struct Answerer<'a, B: KernelBackend> {
    pair: &'a EvalPair<'a, B>,
    receiver: &'a Lm<B>,
    /// The receiver again where there is no sharer, which then answers nothing.
    sharer: &'a Lm<B>,
    method: Method,
    /// The pair with the fuser that the method needs.
    fused: Option<C2c<B>>,
    /// All Sharers with their fusers, if the method needs them.
    together: Option<Together<B>>,
    options: DecodeOptions,
    /// For the sharer's text.
    sharer_options: DecodeOptions,
    /// With logits compared: the letters in the tokens of the model that answers.
    letters: Option<Letters>,
    settings: &'a EvalSettings,
    /// What all prompts begin with, if it is read once for all of them.
    prefix: OnceCell<Prefix<B>>,
}

impl<'a, B: KernelBackend> Answerer<'a, B> {
    pub(crate) fn new(
        pair: &'a EvalPair<'a, B>,
        method: Method,
        settings: &'a EvalSettings,
        letters: Option<Letters>,
    ) -> Result<Self, FuserError> {
        let (receiver, c2c) = (pair.models.receiver(), pair.models.pair());
        let fused = match (method, c2c) {
            (Method::Receiver | Method::Sharer | Method::T2t | Method::FewShot | Method::Oracle, _)
            | (Method::Several | Method::SeveralMismatched, _)
            | (_, None) => None,
            // The control runs the whole formula with gates of 0.
            (Method::GatesShut, Some(c2c)) => Some((c2c, c2c.fuser.clone().with_gates_shut())),
            (Method::C2c | Method::Mismatched | Method::T2tC2c, Some(c2c)) => {
                Some((c2c, c2c.fuser.clone().for_inference(receiver.dtype())?))
            }
        };
        let fused = fused.map(|(c2c, fuser)| C2c { fuser, ..c2c.clone() });
        let together = match method.fuses_several() {
            true => Some(Together::new(receiver, pair.models.joined(pair.text), pair.models.order())?),
            false => None,
        };
        let sharer = pair.models.sharer().unwrap_or(receiver);
        let sharer_options = |longest| options(sharer, pair.text.sharer(), longest);
        let answering = match method {
            Method::Sharer => sharer_options(settings.max_new_tokens),
            _ => options(receiver, pair.text.receiver(), settings.max_new_tokens),
        };
        let sharer_options = sharer_options(settings.baselines.t2t_max_new_tokens);
        let prefix = OnceCell::new();
        let options = answering;
        Ok(Self { receiver, sharer, fused, together, options, sharer_options, letters, method, pair, settings, prefix })
    }

    /// The tokenizer of the model that answers.
    pub(crate) fn tokenizer(&self) -> &'a Tokenizer {
        match self.method {
            Method::Sharer => self.pair.text.sharer(),
            _ => self.pair.text.receiver(),
        }
    }

    /// Refuses a prompt that, with the longest reply, of `budget` tokens, goes past the context of a model.
    ///
    /// Told before anything is run and from the prompt alone, so that the verdict doesn't depend on the other questions
    /// of a batch. The last token of a reply is never read, so it needs no position. What a text of the sharer makes of
    /// the prompt isn't known then: it is checked when it is.
    pub(crate) fn check_length(&self, input: &Input, budget: usize) -> Result<(), LmError> {
        let within = |found, model: &Lm<B>| match model.config().max_position {
            limit if found > limit => Err(LmError::ContextLength { found, limit }),
            _ => Ok(()),
        };
        let (receiver, sharer) = (self.receiver, self.sharer);
        if let Input::ToBeTold(told) = input {
            return within(told.ids.len() + self.sharer_options.max_new_tokens - 1, sharer);
        }
        let answering = if self.method == Method::Sharer { sharer } else { receiver };
        within(input.slots() + budget.saturating_sub(1), answering)?;
        let sharers: Vec<&Lm<B>> = match &self.together {
            Some(together) => together.sharers().collect(),
            None => vec![sharer],
        };
        input.sharer_slots().into_iter().zip(sharers).try_for_each(|(slots, sharer)| within(slots, sharer))
    }

    /// Answers inputs of one shape, of the kind that the method reads, with at most `budget` tokens each.
    pub(crate) fn answer(&self, inputs: &[&Input], budget: usize) -> Result<Answered, FuserError> {
        let options = &DecodeOptions { max_new_tokens: budget, ..self.options.clone() };
        if let Some(together) = &self.together {
            return self.together(together, inputs, options);
        }
        match (self.method, &self.fused) {
            (Method::C2c | Method::Mismatched | Method::GatesShut, Some(c2c)) => self.fused(c2c, inputs, options),
            (Method::T2t, _) => self.told(None, inputs, options),
            (Method::T2tC2c, Some(c2c)) => self.told(Some(c2c), inputs, options),
            (Method::Sharer, _) => self.alone(self.sharer, inputs, options),
            (Method::Oracle, _) => self.enriched(inputs, options),
            (Method::FewShot, _) => match self.prefix.get() {
                Some(prefix) => self.behind(prefix, inputs, options),
                None => self.alone(self.receiver, inputs, options),
            },
            // Nobody gets here who needs a fuser; see `check_evaluation`.
            _ => self.alone(self.receiver, inputs, options),
        }
    }

    fn alone(&self, model: &Lm<B>, inputs: &[&Input], options: &DecodeOptions) -> Result<Answered, FuserError> {
        let prompts: Vec<&[u32]> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::Alone(ids) => Some(ids.as_slice()),
                _ => None,
            })
            .collect();
        let read = self.read(model, &prompts, options)?;
        let mut phases = Phases { decode: read.decode, ..Phases::default() };
        match self.method {
            Method::Sharer => phases.sharer_prefill = read.prefill,
            _ => phases.receiver_prefill = read.prefill,
        }
        Ok(in_shares(read.written, read.milliseconds, phases, None))
    }

    /// A model reads prompts from their beginning and replies.
    fn read(&self, model: &Lm<B>, prompts: &[&[u32]], options: &DecodeOptions) -> Result<Read, FuserError> {
        let start = Instant::now();
        let tokens = left_padded(prompts, 0, options.pad)?;
        let next: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        let mut watch = Stopwatch::<B>::start(model);
        let mut cache = model.new_cache(tokens.rows());
        let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last)?;
        let prefill = watch.lap();
        let written = self.decode(model, &mut cache, logits, prompts, &next, options)?;
        let decode = watch.lap();
        Ok(Read { written, prefill, decode, milliseconds: milliseconds_since(start) })
    }

    /// The greedy reply behind a cache; or, where none is to be written, what the letters' probabilities are there.
    fn decode(
        &self,
        model: &Lm<B>,
        cache: &mut KvCache<B>,
        logits: Tensor<B, 3>,
        prompts: &[&[u32]],
        next: &[usize],
        options: &DecodeOptions,
    ) -> Result<Written, LmError> {
        let letters = match &self.letters {
            Some(letters) if options.max_new_tokens == 0 => compared(letters, &logits)?,
            _ => Vec::new(),
        };
        let prompts: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        // Greedy decoding draws nothing; the generator is there because decoding takes one.
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        let generated = decode(model, cache, logits, &prompts, next, &SamplingParams::default(), options, &mut rng)?;
        Ok(Written { generated, letters })
    }

    fn fused(&self, c2c: &C2c<B>, inputs: &[&Input], options: &DecodeOptions) -> Result<Answered, FuserError> {
        let prompts: Vec<Prompt> = inputs.iter().filter_map(|input| input.prompts().first().cloned()).collect();
        let start = Instant::now();
        let batch = PairBatch::collate(&prompts, self.options.pad, self.sharer_options.pad)?;
        let mut watch = Stopwatch::<B>::start(&c2c.receiver);
        let mut phases = Phases::default();
        let prefilled = c2c.prefill_observed(&batch, Fusion::On, LogitsWanted::Last, &mut |phase| {
            *phases.of(phase) += watch.lap();
        })?;
        let (mut cache, logits) = (prefilled.cache, prefilled.logits);
        let tokens = batch.receiver_prompts();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let next = batch.next_positions();
        let written = self.decode(&c2c.receiver, &mut cache, logits.clone(), &tokens, &next, options)?;
        phases.decode = watch.lap();
        let milliseconds = milliseconds_since(start);
        let bit_equal = match self.method {
            Method::GatesShut => {
                let own = c2c.prefill(&batch, Fusion::Off, LogitsWanted::Last)?.logits;
                Some(bits(logits)? == bits(own)?)
            }
            _ => None,
        };
        Ok(in_shares(written, milliseconds, phases, bit_equal))
    }
}

/// What was got from the logits behind a batch's prompts.
struct Written {
    generated: Generated,
    /// Of each row, or nothing at all where replies are written.
    letters: Vec<Vec<f64>>,
}

/// What a model has read and replied, with the milliseconds of all of it and of its parts.
struct Read {
    written: Written,
    prefill: f64,
    decode: f64,
    milliseconds: f64,
}

/// How a model decodes: its end tokens, or its tokenizer's.
pub(crate) fn options<B: KernelBackend>(model: &Lm<B>, tokenizer: &Tokenizer, max_new_tokens: usize) -> DecodeOptions {
    let mut eos = model.config().generation.eos.clone();
    if eos.is_empty() {
        eos.extend(tokenizer.eos_id());
    }
    let pad = model.config().generation.pad.unwrap_or_else(|| tokenizer.pad_id());
    DecodeOptions { max_new_tokens, eos, pad, keep_scores: false }
}

/// The letters' log probabilities of each row, from the logits of the last position, `[batch, 1, vocab]`.
fn compared<B: KernelBackend>(letters: &Letters, logits: &Tensor<B, 3>) -> Result<Vec<Vec<f64>>, LmError> {
    let [rows, _, vocab] = logits.dims();
    let device = logits.device();
    let known = letters.next.iter().all(|id| (*id as usize) < vocab);
    if !known || !B::has_kernels(&device) {
        return Ok(host(logits.clone())?.chunks_exact(vocab).map(|row| letters.logprobs(row)).collect());
    }
    // A vocabulary of logits a row takes longer to read back than everything before it: only the letters' are.
    let logits = logits.clone().reshape([rows, vocab]);
    let ids: Vec<i32> = letters.next.iter().map(|id| *id as i32).collect();
    let count = ids.len();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [count]), &device);
    let all = B::log_sum_exp(logits.clone()).reshape([rows, 1]);
    let both = host(Tensor::cat(vec![all, logits.select(1, ids)], 1))?;
    let row = |row: &[f32]| row[1..].iter().map(|logit| f64::from(*logit) - f64::from(row[0])).collect();
    Ok(both.chunks_exact(count + 1).map(row).collect())
}

fn host<B: KernelBackend, const D: usize>(x: Tensor<B, D>) -> Result<Vec<f32>, LmError> {
    let data = x.try_into_data().map_err(|err| LmError::Readback(format!("{err:?}")))?;
    Ok(data.iter::<f32>().collect())
}

fn bits<B: KernelBackend>(logits: Tensor<B, 3>) -> Result<Vec<u32>, FuserError> {
    Ok(host(logits)?.into_iter().map(f32::to_bits).collect())
}
