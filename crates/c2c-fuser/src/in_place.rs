//! Fusion from cache to cache.
//!
//! On devices with kernels of our own it is the arithmetic of [`Fuser::fuse`] in fewer launches: one kernel a branch brings
//! the caches together, one takes the result back into the receiver's cache.

use std::ops::Range;

use burn::tensor::Tensor;
use c2c_kernels::{FusedLayer, FusedResult, KernelBackend};
use c2c_lm::{KvCache, LayerKv};

use crate::fuser::work_dtype;
use crate::stacked::Dropout;
use crate::{Fuser, FuserConfig, FuserError, FuserMode, FuserParts};

impl<B: KernelBackend> Fuser<B> {
    /// Fuses these slots of the receiver's cache with the same slots of the sharer's.
    ///
    /// # Errors
    /// Another number of layers, heads, rows or slots than the fuser was made for.
    pub fn fuse_cache(
        &self,
        sharer: &KvCache<B>,
        receiver: &mut KvCache<B>,
        slots: Range<usize>,
        mode: FuserMode,
    ) -> Result<(), FuserError> {
        self.check_slots(sharer, receiver, slots.end)?;
        if slots.is_empty() {
            return Ok(());
        }
        // The ablations go the composed way: they have no weights, no gates, or nothing of the receiver. So do other networks.
        let whole = self.config().parts == FuserParts::default() && self.paper().is_some();
        let kernels = receiver.whole(0).is_some_and(|kv| B::has_kernels(&kv.key.device()));
        if whole && kernels && mode == FuserMode::Infer {
            self.fuse_in_place(sharer, receiver, slots);
            return Ok(());
        }
        let slices = |cache: &KvCache<B>| -> Vec<LayerKv<B>> {
            (0..cache.num_layers()).map_while(|layer| cache.slice(layer, slots.start, slots.end)).collect()
        };
        let fused = self.fuse(&slices(sharer), &slices(receiver), mode)?;
        for (layer, fused) in fused.into_iter().enumerate() {
            receiver.replace(layer, slots.start, fused)?;
        }
        Ok(())
    }

    /// With hard gates and no dropout. Caches whose gates are shut aren't touched.
    fn fuse_in_place(&self, sharer: &KvCache<B>, cache: &mut KvCache<B>, slots: Range<usize>) {
        let c = self.config();
        let open = self.held_branches();
        if open.is_empty() {
            return;
        }
        let layers = c.layers();
        let place = |branch: usize| open.binary_search(&branch).ok();
        let branches = |layer: usize| [place(layer), place(layers + layer)];
        let (begin, tokens) = (slots.start, slots.len());
        let input = joined_caches(c, &open, sharer, cache, &slots);
        let Some(input) = input else { return };
        let Some(network) = self.paper() else { return };
        let (projected, weight) = network.project(input, Dropout::NONE);
        let (Some(weight), Some(gate)) = (weight, network.gates()) else { return };
        for layer in 0..layers {
            let result = FusedResult {
                projected: &projected,
                weight: &weight,
                gate: &gate,
                begin,
                tokens,
                branches: branches(layer),
            };
            cache.rewrite(layer, |kv| {
                let [key, value] = B::scatter_layer(kv.key, kv.value, result);
                LayerKv { key, value }
            });
        }
    }

    pub(crate) fn check_slots<C: KernelBackend>(
        &self,
        sharer: &KvCache<C>,
        cache: &KvCache<C>,
        end: usize,
    ) -> Result<(), FuserError> {
        // A sharer that nothing reads wasn't run.
        let wanted = if self.sharer_depth() == 0 { 0 } else { end };
        for (what, found, end) in
            [("slots of a sharer", sharer.len(), wanted), ("slots of a receiver", cache.len(), end)]
        {
            if found < end {
                return Err(FuserError::Shape { what, expected: format!("{end} or more"), found: found.to_string() });
            }
        }
        let whole = |cache: &KvCache<C>| -> Vec<LayerKv<C>> {
            (0..cache.num_layers()).map_while(|layer| cache.whole(layer).cloned()).collect()
        };
        let (sharer, own) = (whole(sharer), whole(cache));
        let room = |layers: &[LayerKv<C>]| layers.first().map_or(0, |kv| kv.key.dims()[2]);
        self.check_caches(&sharer, &own, [room(&sharer), room(&own)])
    }
}

/// The caches of both models side by side for every branch in `open`, by kernels: `[branches, batch * tokens, input width]` in
/// what fusion computes in. `None` without a layer.
pub(crate) fn joined_caches<B: KernelBackend>(
    config: &FuserConfig,
    open: &[usize],
    sharer: &KvCache<B>,
    cache: &KvCache<B>,
    slots: &Range<usize>,
) -> Option<Tensor<B, 3>> {
    let mut input = None;
    for (layer, from) in config.layer_map.iter().enumerate() {
        let branches = [layer, config.layers() + layer].map(|branch| open.binary_search(&branch).ok());
        // What no open branch reads may not be there.
        if branches == [None; 2] {
            continue;
        }
        let (Some(own), Some(other)) = (cache.whole(layer), sharer.whole(*from)) else { continue };
        let input = input.get_or_insert_with(|| {
            let shape = [open.len(), cache.rows() * slots.len(), config.sharer_width() + config.receiver_width()];
            let device = own.key.device();
            let dtype = work_dtype::<B>(own.key.dtype(), &device);
            // Made flat: CUDA pads the rows of tensors of more axes, and the kernels want none of that.
            Tensor::<B, 1>::empty([shape.iter().product::<usize>()], (&device, dtype)).reshape(shape)
        });
        let part = FusedLayer {
            sharer: (&other.key, &other.value),
            own: (&own.key, &own.value),
            begin: slots.start,
            tokens: slots.len(),
            branches,
        };
        B::gather_layer(input, part);
    }
    input
}
