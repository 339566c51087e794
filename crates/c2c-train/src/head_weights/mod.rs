//! What a trained Fuser's dynamic weights do (paper, section 3.3): how they spread over the tokens of some examples, head by
//! head, beside the Gate that decides whether they count at all.
//!
//! As in [`crate::geometry`], each model reads an example alone, and the tokens are those that fusion rewrites. What is held
//! doesn't grow with their number.

mod spread;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, HeadWeights, PairModels};
use c2c_kernels::KernelBackend;
use c2c_lm::{LmError, to_f32};

use crate::geometry::{Part, each_batch};
use crate::{TrainError, TrainExample};
pub use spread::Spread;
use spread::Tally;

/// The weights of the heads of one layer's keys or values.
#[derive(Clone, Debug, PartialEq)]
pub struct BranchWeights {
    /// The Receiver's layer.
    pub layer: usize,
    /// Keys or values.
    pub part: Part,
    /// The Gate's logit; `None` in a Fuser without Gates.
    pub gate_logit: Option<f32>,
    /// Whether the branch takes part at inference: its Gate's logit is above 0, or it has no Gate.
    pub open: bool,
    /// One of the Receiver's heads each; none if the Fuser doesn't hold the branch, since its Gate is shut.
    pub heads: Vec<Spread>,
}

/// The dynamic weights of all branches.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightFigures {
    /// Examples read.
    pub examples: usize,
    /// Their fused tokens.
    pub tokens: usize,
    /// Keys, then values, of each layer.
    pub branches: Vec<BranchWeights>,
}

/// Measures the dynamic weights that a Fuser between two models gives on some examples, `batch_size` at a time.
///
/// # Errors
/// A Fuser without such weights; no token that is fused; what the models refuse.
pub fn measure_weights<B: KernelBackend>(
    pair: &PairModels<B>,
    fuser: &Fuser<B>,
    examples: &[TrainExample],
    batch_size: usize,
) -> Result<WeightFigures, TrainError> {
    fuser.check_head_weights()?;
    let config = fuser.config();
    let (layers, heads) = (config.layers(), config.receiver_heads);
    let mut tallies: Vec<Vec<Tally>> = vec![Vec::new(); 2 * layers];
    let tokens = each_batch(pair, fuser, examples, batch_size, |_, caches| {
        let weights = fuser.head_weights(&caches.sharer, &caches.receiver)?;
        for (layer, HeadWeights { key, value }) in weights.into_iter().enumerate() {
            for (side, weights) in [key, value].into_iter().enumerate() {
                let Some(weights) = weights else { continue };
                let tallies = &mut tallies[2 * layer + side];
                tallies.resize_with(heads, Tally::default);
                let values = on_host(weights)?;
                for (tally, of_head) in tallies.iter_mut().zip(values.chunks(values.len() / heads)) {
                    tally.add(of_head);
                }
            }
        }
        Ok(())
    })?;
    let (keys, values) = fuser.gate_logits()?;
    let branch = |(branch, tallies): (usize, &Vec<Tally>)| {
        let (layer, is_value) = (branch / 2, branch % 2 == 1);
        let logit = if is_value { values[layer] } else { keys[layer] };
        BranchWeights {
            layer,
            part: if is_value { Part::Value } else { Part::Key },
            gate_logit: logit.is_finite().then_some(logit),
            open: logit > 0.0,
            heads: tallies.iter().map(Tally::spread).collect(),
        }
    };
    Ok(WeightFigures { examples: examples.len(), tokens, branches: tallies.iter().enumerate().map(branch).collect() })
}

/// The weights of one branch and row, heads one after the other.
fn on_host<B: Backend>(weights: Tensor<B, 3>) -> Result<Vec<f32>, TrainError> {
    let data = to_f32(weights).try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
    Ok(data.iter::<f32>().collect())
}
