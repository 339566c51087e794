//! The decode loop, from a filled cache and the logits of the last prompt position.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use c2c_kernels::KernelBackend;
use rand::Rng;

use crate::{KvCache, Lm, LmError, LogitsWanted, SamplingParams, TokenBatch};

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
/// # Errors
/// A sampling parameter out of range, or what [`Lm::forward`] refuses.
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
    sampling.validate()?;
    let rows = prompts.len();
    let mut seen: Vec<Vec<u32>> = prompts.to_vec();
    let mut out = Generated { tokens: vec![Vec::new(); rows], finish: vec![Finish::Length; rows], scores: Vec::new() };
    let mut ended = vec![false; rows];
    let mut logits = logits;
    // Where nothing but the largest logit counts, it is found on the device.
    let on_device = sampling.is_plain_greedy() && !options.keep_scores && B::has_kernels(&logits.device());
    for step in 0..options.max_new_tokens {
        let found = logits.dims()[0];
        if found != rows {
            return Err(LmError::CacheMismatch { what: "rows of logits", found, expected: rows });
        }
        let (scores, likeliest) =
            if on_device { (Vec::new(), greedy(logits)?) } else { (rows_of(logits)?, Vec::new()) };
        let mut next = Vec::with_capacity(rows);
        for row in 0..rows {
            if ended[row] {
                next.push(options.pad);
                continue;
            }
            let id = match likeliest.get(row) {
                Some(id) => *id,
                None => sampling.choose(scores[row].clone(), &seen[row], rng),
            };
            if options.eos.contains(&id) {
                ended[row] = true;
                out.finish[row] = Finish::Eos;
                next.push(options.pad);
            } else {
                out.tokens[row].push(id);
                seen[row].push(id);
                next.push(id);
            }
        }
        if options.keep_scores {
            out.scores.push(scores);
        }
        if ended.iter().all(|e| *e) || step + 1 == options.max_new_tokens {
            break;
        }
        let ids = next.iter().map(|id| vec![*id]).collect();
        let mask = ended.iter().map(|e| vec![!*e]).collect();
        let positions = next_positions.iter().map(|p| vec![p + step]).collect();
        let tokens = TokenBatch::with_mask(ids, mask, positions)?;
        logits = model.forward(&tokens, cache, LogitsWanted::Last)?;
    }
    Ok(out)
}

/// The likeliest id of every row, found on the device: a number a row is read back instead of a vocabulary.
///
/// # Shapes
/// `logits`: `[batch, 1, vocab]`.
///
/// # Errors
/// A tensor that can't be read back.
pub fn greedy<B: KernelBackend>(logits: Tensor<B, 3>) -> Result<Vec<u32>, LmError> {
    let [rows, tokens, vocab] = logits.dims();
    let likeliest = if B::has_kernels(&logits.device()) {
        B::argmax(logits.reshape([rows * tokens, vocab]))
    } else {
        logits.argmax(2).reshape([rows * tokens])
    };
    let data = likeliest.try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
    Ok(data.iter::<u32>().collect())
}

fn rows_of<B: Backend>(logits: Tensor<B, 3>) -> Result<Vec<Vec<f32>>, LmError> {
    let [_, _, vocab] = logits.dims();
    let data = logits.try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
    let flat: Vec<f32> = data.iter::<f32>().collect();
    Ok(flat.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
}
