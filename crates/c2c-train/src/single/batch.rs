//! Examples as the Receiver alone reads them, and their loss.

use burn::tensor::{Int, Tensor, TensorData};
use c2c_kernels::{KernelBackend, TrainBackend};
use c2c_lm::{Lm, TokenBatch};
use c2c_text::Prompt;

use crate::TrainError;
use crate::data::TrainExample;
use crate::fit::{Micro, Task};
use crate::loss::{scalar, supervised_loss};
use crate::material::Material;

/// An example: the tokens of the chat, and which of them are learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) ids: Vec<u32>,
    pub(crate) labels: Vec<Option<u32>>,
}

impl Row {
    /// The Receiver's side of a prompt, its sections joined. Only the last section's labels count, as for a Fuser.
    pub(crate) fn of(prompt: &Prompt) -> Self {
        let mut row = Self { ids: Vec::new(), labels: Vec::new() };
        let last = prompt.sections.len().saturating_sub(1);
        for (index, section) in prompt.sections.iter().enumerate() {
            for slot in (0..section.receiver.len()).filter(|slot| section.receiver_mask[*slot]) {
                row.ids.push(section.receiver[slot]);
                row.labels.push(section.labels[slot].filter(|_| index == last));
            }
        }
        row
    }
}

/// The examples of a run, and how they are read.
pub(crate) struct Reading {
    pub(crate) training: Vec<Row>,
    pub(crate) validation: Vec<Row>,
    pub(crate) batch_size: usize,
    pub(crate) pad: u32,
}

impl Reading {
    pub(crate) fn new(material: &Material, batch_size: usize) -> Self {
        let rows = |examples: &[TrainExample]| examples.iter().map(|example| Row::of(&example.prompt)).collect();
        let (training, validation) = (rows(&material.training), rows(&material.validation));
        Self { training, validation, batch_size, pad: material.pad }
    }
}

impl<B: TrainBackend> Task<B> for Reading {
    type Module = Lm<B>;

    fn loss(&self, module: &Lm<B>, examples: &[usize]) -> Result<Micro<B>, TrainError> {
        let rows: Vec<&Row> = examples.iter().map(|index| &self.training[*index]).collect();
        let (real, width) = extent(&rows);
        Ok(Micro { loss: loss(module, &rows, self.pad)?, slots: (real, width * rows.len()) })
    }

    fn validation(&self, module: &Lm<B::InnerBackend>) -> Result<Option<f64>, TrainError> {
        let (mut sum, mut labels) = (0.0, 0);
        let rows: Vec<&Row> = self.validation.iter().collect();
        for rows in rows.chunks(self.batch_size) {
            let count = rows.iter().flat_map(|row| row.labels.iter().skip(1)).flatten().count();
            sum += scalar(loss(module, rows, self.pad)?) * count as f64;
            labels += count;
        }
        Ok((labels > 0).then(|| sum / labels as f64))
    }
}

/// Tokens in all, and of the longest row.
fn extent(rows: &[&Row]) -> (usize, usize) {
    let lengths = rows.iter().map(|row| row.ids.len());
    (lengths.clone().sum(), lengths.max().unwrap_or(0))
}

/// Mean cross entropy of all labels of some rows, `[1]`. The head is computed for the slots before a label alone: over a
/// large vocabulary the logits of whole prompts would take more memory than everything else.
pub(crate) fn loss<B: KernelBackend>(model: &Lm<B>, rows: &[&Row], pad: u32) -> Result<Tensor<B, 1>, TrainError> {
    let (_, width) = extent(rows);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    let (mut slots, mut targets) = (Vec::new(), vec![None]);
    for (index, row) in rows.iter().enumerate() {
        let fill = width - row.ids.len();
        ids.push([row.ids.as_slice(), &vec![pad; fill]].concat());
        mask.push([vec![true; row.ids.len()], vec![false; fill]].concat());
        for (slot, label) in row.labels.iter().enumerate().skip(1).filter(|(_, label)| label.is_some()) {
            slots.push((index * width + slot - 1) as i32);
            targets.push(*label);
        }
    }
    let count = slots.len();
    if count == 0 {
        return Err(TrainError::Stopped("a batch without a single label".into()));
    }
    let tokens = TokenBatch::with_mask(ids, mask, vec![(0..width).collect(); rows.len()])?;
    let mut cache = model.new_cache(rows.len());
    let hidden = model.hidden(&tokens, &mut cache)?;
    let [batch, _, hidden_size] = hidden.dims();
    let slots = Tensor::<B, 1, Int>::from_data(TensorData::new(slots, [count]), &hidden.device());
    let picked = hidden.reshape([batch * width, hidden_size]).select(0, slots);
    // `targets` begins with an empty place, so that each label stands behind the slot that predicts it.
    let logits = model.logits(picked.reshape([1, count, hidden_size]), c2c_lm::LogitsWanted::All);
    supervised_loss(logits, &[targets]).ok_or_else(|| TrainError::Stopped("a batch without a single label".into()))
}
