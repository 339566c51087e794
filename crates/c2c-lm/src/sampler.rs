//! Choosing the next token of every row of a batch, where its logits are.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use c2c_kernels::{Draw, FAULT_INFINITE, FAULT_NAN, KernelBackend, Sampling};

use crate::{BadLogits, LmError, SamplingCompat, SamplingParams};

/// In how many parts a uniform number is told: as many as an f32 of `0..1` has.
const DRAW_PARTS: f32 = 16_777_216.0;

/// Chooses the next token of every row of a batch and remembers what penalties count.
///
/// On devices with kernels of our own it works there, and reads back an id a row; elsewhere logits are read and
/// [`SamplingParams::choose_by`] chooses. Both mean the same. Masses are rounded to `2^-31` of a row's on the device, so that a number
/// that falls between two tokens to within about a millionth may choose the one here and the other there.
#[derive(Debug)]
pub struct Sampler<'a, B: KernelBackend> {
    params: &'a SamplingParams,
    seen: Seen<B>,
}

/// The tokens so far, where there are penalties for them.
#[derive(Debug)]
enum Seen<B: Backend> {
    /// Ids a row, on the host.
    Ids(Option<Vec<Vec<u32>>>),
    /// How often each id was seen, `[rows, vocab]`, on the device.
    Counts(Option<Tensor<B, 2, Int>>),
}

impl<'a, B: KernelBackend> Sampler<'a, B> {
    /// For rows that begin with these prompts, over so many tokens. The parameters are in range.
    pub fn new(params: &'a SamplingParams, prompts: &[Vec<u32>], vocab: usize, device: &B::Device) -> Self {
        if !B::has_kernels(device) {
            return Self::on_host(params, prompts);
        }
        let counts = params.penalises().then(|| {
            let mut counts = vec![0_i32; prompts.len() * vocab];
            for (counts, prompt) in counts.chunks_exact_mut(vocab).zip(prompts) {
                for id in prompt.iter().filter(|id| (**id as usize) < vocab) {
                    counts[*id as usize] += 1;
                }
            }
            Tensor::from_data(TensorData::new(counts, [prompts.len(), vocab]), device)
        });
        Self { params, seen: Seen::Counts(counts) }
    }

    /// As [`new`](Self::new), and works on the host.
    pub fn on_host(params: &'a SamplingParams, prompts: &[Vec<u32>]) -> Self {
        Self { params, seen: Seen::Ids(params.penalises().then(|| prompts.to_vec())) }
    }

    /// The next token of the rows that go on: for each of them its place among the rows, and the number of `0..1` that it is drawn by.
    /// What is chosen counts as seen.
    ///
    /// # Shapes
    /// `logits`: `[rows, 1, vocab]`.
    ///
    /// # Errors
    /// A tensor that can't be read back; for each row by itself, logits that are no distribution.
    pub fn choose(
        &mut self,
        logits: Tensor<B, 3>,
        going: &[(usize, f32)],
    ) -> Result<Vec<Result<u32, BadLogits>>, LmError> {
        let Seen::Counts(counts) = &mut self.seen else {
            return Ok(self.choose_from(&rows_of(logits)?, going));
        };
        let [rows, _, vocab] = logits.dims();
        let device = logits.device();
        let logits = logits.reshape([rows, vocab]);
        let ids = if self.params.is_plain_greedy() {
            B::argmax(logits)
        } else {
            let mut drawn = vec![0_i32; rows];
            going.iter().for_each(|(place, number)| drawn[*place] = (number * DRAW_PARTS) as i32);
            let drawn = Tensor::from_data(TensorData::new(drawn, [rows]), &device);
            let (ids, after) = B::sample(logits, counts.take(), drawn, kernel_sampling(self.params));
            *counts = after;
            ids
        };
        let ids = ids_of(ids)?;
        Ok(going.iter().map(|(place, _)| ids[*place]).collect())
    }

    /// As [`choose`](Self::choose) from logits that were read back, on the host.
    pub(crate) fn choose_from(&mut self, logits: &[Vec<f32>], going: &[(usize, f32)]) -> Vec<Result<u32, BadLogits>> {
        let mut seen = match &mut self.seen {
            Seen::Ids(seen) => seen.as_mut(),
            Seen::Counts(_) => None,
        };
        let choose = |(place, number): &(usize, f32)| {
            let before = seen.as_ref().map_or(&[][..], |seen| &seen[*place]);
            let chosen = self.params.choose_by(logits[*place].clone(), before, *number);
            if let (Some(seen), Ok(id)) = (&mut seen, chosen) {
                seen[*place].push(id);
            }
            chosen
        };
        going.iter().map(choose).collect()
    }

    /// Goes on with these rows alone, in this order.
    pub fn select_rows(&mut self, rows: &[usize]) {
        match &mut self.seen {
            Seen::Ids(Some(seen)) => *seen = rows.iter().map(|row| seen[*row].clone()).collect(),
            Seen::Counts(Some(counts)) => {
                let places: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
                let places = Tensor::from_data(TensorData::new(places, [rows.len()]), &counts.device());
                *counts = counts.clone().select(0, places);
            }
            Seen::Ids(None) | Seen::Counts(None) => {}
        }
    }
}

/// The likeliest id of every row, found where the logits are.
///
/// # Shapes
/// `logits`: `[batch, 1, vocab]`.
///
/// # Errors
/// A tensor that can't be read back, and logits that are no distribution, as those of step 0.
pub fn greedy<B: KernelBackend>(logits: Tensor<B, 3>) -> Result<Vec<u32>, LmError> {
    let params = SamplingParams::default();
    let [rows, _, vocab] = logits.dims();
    let going: Vec<(usize, f32)> = (0..rows).map(|row| (row, 0.0)).collect();
    let chosen = Sampler::new(&params, &[], vocab, &logits.device()).choose(logits, &going)?;
    let checked = chosen.into_iter().enumerate();
    checked.map(|(row, id)| id.map_err(|found| LmError::Logits { row, step: 0, found })).collect()
}

fn kernel_sampling(params: &SamplingParams) -> Sampling {
    Sampling {
        presence: params.presence_penalty,
        frequency: params.frequency_penalty,
        repetition: params.repetition_penalty,
        draw: params.draws().then(|| Draw {
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            drops_crossing: params.compat == SamplingCompat::Reference,
        }),
    }
}

/// What a kernel chose, read back.
fn ids_of<B: Backend>(ids: Tensor<B, 1, Int>) -> Result<Vec<Result<u32, BadLogits>>, LmError> {
    let data = ids.try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
    let read = data.iter::<i32>().map(|id| match id {
        FAULT_NAN => Err(BadLogits::Nan),
        FAULT_INFINITE => Err(BadLogits::Infinite),
        id => u32::try_from(id).map_err(|_| BadLogits::Nothing),
    });
    Ok(read.collect())
}

/// The logits of each row, read back.
pub(crate) fn rows_of<B: Backend>(logits: Tensor<B, 3>) -> Result<Vec<Vec<f32>>, LmError> {
    let [_, _, vocab] = logits.dims();
    let data = logits.try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
    let flat: Vec<f32> = data.iter::<f32>().collect();
    Ok(flat.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
}
