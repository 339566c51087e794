//! Cross entropy on supervised positions only.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData, activation};

/// Mean cross entropy of the labels of a section, each predicted from the slot before it; `None` if there is none.
///
/// # Shapes
/// `logits`: `[batch, tokens, vocab]`, f32; `labels`: `batch` rows of `tokens`; returns `[1]`.
pub fn supervised_loss<B: Backend>(logits: Tensor<B, 3>, labels: &[Vec<Option<u32>>]) -> Option<Tensor<B, 1>> {
    let ones: Vec<Vec<f32>> = labels.iter().map(|row| vec![1.0; row.len()]).collect();
    weighted_loss(logits, labels, &ones)
}

/// As [`supervised_loss`], each label weighted; the mean is over the weights.
pub fn weighted_loss<B: Backend>(
    logits: Tensor<B, 3>,
    labels: &[Vec<Option<u32>>],
    weights: &[Vec<f32>],
) -> Option<Tensor<B, 1>> {
    let [batch, tokens, vocab] = logits.dims();
    let device = logits.device();
    let (mut slots, mut targets, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for (row, labels) in labels.iter().enumerate() {
        for (slot, label) in labels.iter().enumerate().skip(1) {
            if let Some(label) = label {
                slots.push((row * tokens + slot - 1) as i32);
                targets.push(*label as i32);
                shares.push(weights[row][slot]);
            }
        }
    }
    let count = slots.len();
    let sum: f32 = shares.iter().sum();
    if count == 0 || sum <= 0.0 {
        return None;
    }
    shares.iter_mut().for_each(|s| *s /= sum);
    let slots = Tensor::<B, 1, Int>::from_data(TensorData::new(slots, [count]), &device);
    let targets = Tensor::<B, 2, Int>::from_data(TensorData::new(targets, [count, 1]), &device);
    let shares = Tensor::<B, 2>::from_data(TensorData::new(shares, [count, 1]), &device);
    let picked = logits.reshape([batch * tokens, vocab]).select(0, slots);
    let log_probs = activation::log_softmax(picked, 1).gather(1, targets);
    Some((log_probs * shares).sum().neg())
}

/// A one-element tensor on the host; NaN if it can't be read back, which ends a run as a diverged one.
pub(crate) fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.try_into_data().ok().and_then(|data| data.iter::<f64>().next()).unwrap_or(f64::NAN)
}
