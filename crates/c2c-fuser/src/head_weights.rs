//! What a Fuser gives each head: its dynamic weights, by themselves.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use c2c_kernels::KernelBackend;
use c2c_lm::LayerKv;

use crate::{Fuser, FuserError};

/// The dynamic weights of one layer, from 0 to 1 (paper, section 3.3): what a head's projection is multiplied by, token by
/// token, before the Gate opens or shuts the whole branch.
///
/// # Shapes
/// `[batch, receiver_heads, tokens]` each, f32.
#[derive(Clone, Debug)]
pub struct HeadWeights<B: Backend> {
    /// Of keys; `None` where the fuser doesn't hold the branch any more, since its Gate is shut.
    pub key: Option<Tensor<B, 3>>,
    /// Of values; `None` likewise.
    pub value: Option<Tensor<B, 3>>,
}

impl<B: Backend> Fuser<B> {
    /// Checks that the fuser gives weights to heads.
    ///
    /// # Errors
    /// An all-in-one network, or an ablation without weights.
    pub fn check_head_weights(&self) -> Result<(), FuserError> {
        match self.paper() {
            Some(_) if self.config().parts.weights => Ok(()),
            Some(_) => Err(FuserError::NoHeadWeights { found: "an ablation without them" }),
            None => Err(FuserError::NoHeadWeights { found: "an all-in-one network" }),
        }
    }
}

impl<B: KernelBackend> Fuser<B> {
    /// The dynamic weights that [`Fuser::fuse`] gives these caches at inference, a layer each; whether a Gate is open is of
    /// no matter to them.
    ///
    /// # Shapes
    /// `sharer` and `receiver` as in [`Fuser::fuse`]; the result as in [`HeadWeights`].
    ///
    /// # Errors
    /// A fuser without weights ([`Fuser::check_head_weights`]); else as [`Fuser::fuse`].
    pub fn head_weights(
        &self,
        sharer: &[LayerKv<B>],
        receiver: &[LayerKv<B>],
    ) -> Result<Vec<HeadWeights<B>>, FuserError> {
        self.check_head_weights()?;
        self.check_alike(sharer, receiver)?;
        let layers = self.config().layers();
        let held = self.held_branches();
        let [batch, heads, tokens, _] = receiver[0].key.dims();
        let weights = self.paper().filter(|_| !held.is_empty()).and_then(|network| {
            let [x, own] = self.stacked(sharer, receiver, &held);
            network.weights(self.joined(x, &own))
        });
        let branch = |branch: usize| {
            let (weights, place) = (weights.as_ref()?, held.binary_search(&branch).ok()?);
            Some(weights.clone().narrow(0, place, 1).reshape([batch, tokens, heads]).swap_dims(1, 2))
        };
        Ok((0..layers).map(|layer| HeadWeights { key: branch(layer), value: branch(layers + layer) }).collect())
    }
}
