//! Cross entropy on supervised positions only.

use burn::tensor::backend::Backend;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, activation};
use c2c_fuser::LossGradient;
use c2c_kernels::KernelBackend;
use c2c_lm::Lm;

/// Mean cross entropy of the labels of a section, each predicted from the slot before it; `None` if there is none.
///
/// # Shapes
/// `logits`: `[batch, tokens, vocab]`, f32; `labels`: `batch` rows of `tokens`; returns `[1]`.
pub fn supervised_loss<B: Backend>(logits: Tensor<B, 3>, labels: &[Vec<Option<u32>>]) -> Option<Tensor<B, 1>> {
    weighted_loss(logits, labels, &even(labels))
}

/// As [`supervised_loss`], each label weighted; the mean is over the weights.
pub fn weighted_loss<B: Backend>(
    logits: Tensor<B, 3>,
    labels: &[Vec<Option<u32>>],
    weights: &[Vec<f32>],
) -> Option<Tensor<B, 1>> {
    let [batch, tokens, vocab] = logits.dims();
    let labelled = Labelled::new(labels, weights, &logits.device())?;
    let picked = logits.reshape([batch * tokens, vocab]).select(0, labelled.slots.clone());
    Some(labelled.loss(activation::log_softmax(picked, 1)))
}

/// As [`supervised_loss`] of the logits of hidden states, with its gradient in those, on devices with kernels; logits without
/// a label aren't computed.
///
/// # Shapes
/// `hidden`: `[batch, tokens, hidden]`.
pub(crate) fn loss_gradient<B: KernelBackend>(
    model: &Lm<B>,
    hidden: Tensor<B, 3>,
    labels: &[Vec<Option<u32>>],
) -> Option<LossGradient<B>> {
    let [batch, tokens, width] = hidden.dims();
    let device = hidden.device();
    let Labelled { slots, targets, shares } = Labelled::new(labels, &even(labels), &device)?;
    let picked = hidden.reshape([batch * tokens, width]).select(0, slots.clone());
    // In f32 they would take twice the memory and tell no more; the sums over them are f32.
    let logits = model.row_logits(picked);
    let (losses, wrong) = B::cross_entropy(logits, targets.squeeze_dim(1), shares.squeeze_dim(1));
    let gradient = model.logits_gradient(wrong);
    let hidden = Tensor::zeros([batch * tokens, width], (&device, gradient.dtype()));
    let hidden = hidden.select_assign(0, slots, gradient, IndexingUpdateOp::Add);
    Some(LossGradient { loss: losses.sum(), hidden: hidden.reshape([batch, tokens, width]) })
}

/// Weights that are all the same.
fn even(labels: &[Vec<Option<u32>>]) -> Vec<Vec<f32>> {
    labels.iter().map(|row| vec![1.0; row.len()]).collect()
}

/// Where logits are that predict a label, which label, and its share of the loss.
struct Labelled<B: Backend> {
    /// Of `batch * tokens`, `[count]`.
    slots: Tensor<B, 1, Int>,
    /// `[count, 1]`.
    targets: Tensor<B, 2, Int>,
    /// `[count, 1]`; their sum is 1.
    shares: Tensor<B, 2>,
}

impl<B: Backend> Labelled<B> {
    /// `None` without a label, or without weight.
    fn new(labels: &[Vec<Option<u32>>], weights: &[Vec<f32>], device: &B::Device) -> Option<Self> {
        let (mut slots, mut targets, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for (row, labels) in labels.iter().enumerate() {
            for (slot, label) in labels.iter().enumerate().skip(1) {
                if let Some(label) = label {
                    slots.push((row * labels.len() + slot - 1) as i32);
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
        Some(Self {
            slots: Tensor::from_data(TensorData::new(slots, [count]), device),
            targets: Tensor::from_data(TensorData::new(targets, [count, 1]), device),
            shares: Tensor::from_data(TensorData::new(shares, [count, 1]), device),
        })
    }

    /// The loss from log probabilities, `[count, vocab]`.
    fn loss(&self, log_probs: Tensor<B, 2>) -> Tensor<B, 1> {
        (log_probs.gather(1, self.targets.clone()) * self.shares.clone()).sum().neg()
    }
}

/// A one-element tensor on the host; NaN if it can't be read back, which ends a run as a diverged one.
pub(crate) fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.try_into_data().ok().and_then(|data| data.iter::<f64>().next()).unwrap_or(f64::NAN)
}
