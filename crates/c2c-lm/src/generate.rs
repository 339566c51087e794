//! The decode loop, from a filled cache and the logits of the last prompt position.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use c2c_kernels::KernelBackend;
use rand::Rng;

use crate::sampler::rows_of;
use crate::{KvCache, Lm, LmError, LogitsWanted, Sampler, SamplingParams, TokenBatch};

/// When to stop and what to keep.
#[derive(Clone, Debug, Default)]
pub struct DecodeOptions {
    /// At most this many tokens a row.
    pub max_new_tokens: usize,
    /// Ids that end a row. The end token is not part of the reply.
    pub eos: Vec<u32>,
    /// Fed to rows that have ended while others go on.
    pub pad: u32,
    /// Keeps the raw logits every token was chosen from.
    pub keep_scores: bool,
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It produced an end token.
    Eos,
    /// It reached `max_new_tokens`.
    Length,
    /// Whoever watched it made an end ([`decode_observed`]).
    Stopped,
}

/// The replies of a batch.
#[derive(Clone, Debug)]
pub struct Generated {
    /// New tokens a row, without the end token.
    pub tokens: Vec<Vec<u32>>,
    /// Why each row ended.
    pub finish: Vec<Finish>,
    /// With `keep_scores`: per step, per row, the raw logits.
    pub scores: Vec<Vec<Vec<f32>>>,
}

/// Decodes until every row has ended.
///
/// `logits` are those of the last prompt position, `[batch, 1, vocab]`; `prompts` are the ids that penalties count;
/// `next_positions` is the position of each row's first new token. No forward pass is spent on the last token.
///
/// Once half of the rows in the cache have ended they are taken out of it and cost nothing from then on, unless scores are
/// kept; afterwards the cache is of no further use.
///
/// Tokens are chosen where the logits are ([`Sampler`]), unless scores are kept. A row takes a number from `rng` for each token that
/// is drawn, the rows of a step in order: a seed means the same on every device.
///
/// # Errors
/// A sampling parameter out of range, logits that no token can be chosen from ([`LmError::Logits`]), or what [`Lm::forward`] refuses.
pub fn decode<B: KernelBackend>(
    model: &Lm<B>,
    cache: &mut KvCache<B>,
    logits: Tensor<B, 3>,
    prompts: &[Vec<u32>],
    next_positions: &[usize],
    sampling: &SamplingParams,
    options: &DecodeOptions,
    rng: &mut impl Rng,
) -> Result<Generated, LmError> {
    decode_observed(model, cache, logits, prompts, next_positions, sampling, options, rng, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

/// As [`decode`], and calls `each` with row and id of every token as soon as it is chosen, end tokens apart. `Break` ends all
/// rows that are still going behind this token.
///
/// # Errors
/// As [`decode`].
pub fn decode_observed<B: KernelBackend>(
    model: &Lm<B>,
    cache: &mut KvCache<B>,
    logits: Tensor<B, 3>,
    prompts: &[Vec<u32>],
    next_positions: &[usize],
    sampling: &SamplingParams,
    options: &DecodeOptions,
    rng: &mut impl Rng,
    each: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Generated, LmError> {
    sampling.validate()?;
    let rows = prompts.len();
    if next_positions.len() != rows {
        return Err(LmError::Ragged { row: 0, what: "position rows", found: next_positions.len(), expected: rows });
    }
    let [_, _, vocab] = logits.dims();
    let mut sampler = match options.keep_scores {
        true => Sampler::on_host(sampling, prompts),
        false => Sampler::new(sampling, prompts, vocab, &logits.device()),
    };
    let mut out = Generated { tokens: vec![Vec::new(); rows], finish: vec![Finish::Length; rows], scores: Vec::new() };
    let mut ended = vec![false; rows];
    let mut logits = logits;
    // The rows that the cache still holds.
    let mut held: Vec<usize> = (0..rows).collect();
    let mut stopped = false;
    for step in 0..options.max_new_tokens {
        let found = logits.dims()[0];
        if found != held.len() {
            return Err(LmError::CacheMismatch { what: "rows of logits", found, expected: held.len() });
        }
        let going = (0..held.len()).filter(|place| !ended[held[*place]]);
        let going: Vec<(usize, f32)> = going.map(|place| (place, sampling.uniform(rng))).collect();
        let (scores, chosen) = if options.keep_scores {
            let scores = rows_of(logits)?;
            let chosen = sampler.choose_from(&scores, &going);
            (scores, chosen)
        } else {
            (Vec::new(), sampler.choose(logits, &going)?)
        };
        for ((place, _), chosen) in going.into_iter().zip(chosen) {
            let row = held[place];
            let id = chosen.map_err(|found| LmError::Logits { row, step, found })?;
            if options.eos.contains(&id) {
                ended[row] = true;
                out.finish[row] = Finish::Eos;
            } else {
                out.tokens[row].push(id);
                stopped |= each(row, id).is_break();
            }
            if stopped {
                break;
            }
        }
        if stopped {
            let going = (out.finish.iter_mut().zip(&ended)).filter(|(_, ended)| !**ended);
            going.for_each(|(finish, _)| *finish = Finish::Stopped);
            break;
        }
        if options.keep_scores {
            out.scores.push(scores);
        }
        if ended.iter().all(|e| *e) || step + 1 == options.max_new_tokens {
            break;
        }
        let going: Vec<usize> = (0..held.len()).filter(|place| !ended[held[*place]]).collect();
        if !options.keep_scores && 2 * going.len() <= held.len() {
            *cache = cache.select_rows(&going)?;
            sampler.select_rows(&going);
            held = going.into_iter().map(|place| held[place]).collect();
        }
        // A row that has ended reads padding; one that goes on, its newest token.
        let newest = |row: &usize| out.tokens[*row].last().filter(|_| !ended[*row]).copied().unwrap_or(options.pad);
        let ids = held.iter().map(|row| vec![newest(row)]).collect();
        let mask = held.iter().map(|row| vec![!ended[*row]]).collect();
        let positions = held.iter().map(|row| vec![next_positions[*row] + step]).collect();
        let tokens = TokenBatch::with_mask(ids, mask, positions)?;
        logits = model.forward(&tokens, cache, LogitsWanted::Last)?;
    }
    Ok(out)
}
