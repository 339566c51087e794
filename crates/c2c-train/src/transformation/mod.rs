//! The paper's cache transformation oracle (section 3.2): can a Receiver use what another model understood?
//!
//! A projection learns to make the Receiver's cache of a prompt out of the Sharer's, token by token along the token
//! alignment and layer by layer along the layer map. There is no reply and no Gate: the loss is the mean squared error
//! between the mapped and the Receiver's own keys and values. What comes out is a Fuser of the level `project`, which puts
//! the mapped cache in place of the Receiver's; where it lies in the Receiver's space, [`crate::geometry`] measures.
//!
//! Both models read each example alone. Everything before its last section that is fused is learnt, whether or not the
//! models could have known it.

mod task;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use burn::module::AutodiffModule;
use c2c_fuser::{Fuser, PairModels};
use c2c_kernels::TrainBackend;
use c2c_recipe::TrainRecipe;

use crate::TrainError;
use crate::fit::{Session, fit};
use crate::material::{PairMaterial, unchanged};
use crate::run::{BestFuser, RunOptions, Trained, fuser_config};
use crate::setting::{Opening, Setting};
use crate::weights::{adam_w, begun, restored};
use task::Mapping;

/// Trains the transformation of a recipe between two loaded models. Everything is as for [`crate::train`], `--resume`
/// included, on one device.
///
/// # Errors
/// As [`crate::train`].
pub fn train_transformation<B: TrainBackend>(
    recipe: &TrainRecipe,
    recipe_sha256: &str,
    pair: &PairModels<B::InnerBackend>,
    material: &PairMaterial,
    device: &B::Device,
    run_dir: &Path,
    options: RunOptions,
) -> Result<Trained<B::InnerBackend>, TrainError> {
    let PairMaterial { material: examples, sharer, .. } = material;
    let (notes, resume) = (options.notes, options.resume);
    let opening = Opening::open(recipe, recipe_sha256, examples, Some(sharer), run_dir, notes, resume)?;
    let mut setting = Setting::new(recipe, opening, run_dir)?;
    let (start, cursor) = setting.start();
    let from = setting.from.take();
    let total = setting.plan.total_steps;

    let fresh = Fuser::<B>::init(&fuser_config(recipe, pair, total), recipe.seed, device)?;
    let (module, adam) = begun(fresh.clone(), adam_w(&recipe.optimizer), from.as_ref())?;
    let mapping = Mapping { pair, material, batch_size: recipe.training.batch_size };
    let earlier = start.seconds;
    let session =
        Session { start, cursor, log: &mut setting.log, interrupter: options.interrupter, observer: options.observer };
    let clock = Instant::now();
    let (module, last) = fit(&mapping, module, adam, &setting.plan, device, session)?;
    let train_seconds = earlier + clock.elapsed().as_secs_f64();
    unchanged((&examples.receiver, sharer), (&pair.receiver, &pair.sharer))?;
    let interrupted = last.step < total;
    let best = match setting.log.best().filter(|_| !interrupted) {
        None => None,
        Some((best, checkpoint)) => Some(BestFuser { best, fuser: restored(fresh, &checkpoint)?.valid() }),
    };
    Ok(Trained {
        fuser: module.valid(),
        steps: last.step,
        planned_steps: total,
        train_seconds,
        interrupted,
        resumed_at: from.map(|checkpoint| checkpoint.state.step),
        best,
        last,
        receiver: examples.receiver.clone(),
        sharer: sharer.clone(),
        data: examples.sources.clone(),
        counts: examples.counts.clone(),
    })
}
