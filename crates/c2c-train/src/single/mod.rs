//! The paper's baseline "Single": the Receiver alone, tuned on the same examples as a Fuser would be.
//!
//! The loss is that of the Fuser's training, the mean cross entropy of the reply's tokens. The Receiver reads each
//! example in its own chat template and tokens; there is no Sharer. What is trained is everything, low-rank adapters, or
//! some parts ([`SingleSettings`]). Trained weights are f32; arithmetic is in the dtype of the recipe.

mod batch;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::Backend;
use c2c_data::Fingerprint as DataFingerprint;
use c2c_kernels::TrainBackend;
use c2c_lm::{Fingerprint, Lm, LmPart, LoraConfig, LoraTarget, ModelDtype};
use c2c_recipe::{SingleSettings, TrainRecipe, Trainable};

use crate::checkpoint::Best;
use crate::fit::{Session, fit};
use crate::material::Material;
use crate::run::RunOptions;
use crate::setting::{Opening, Setting};
use crate::weights::{adam_w, begun, count, restored};
use crate::{ExampleCounts, StepFacts, TrainError};
use batch::Reading;
pub(crate) use batch::Row;

/// What a run leaves.
#[derive(Debug)]
pub struct SingleTrained<B: Backend> {
    /// The model with what it learnt: trained weights in place, adapters beside the weights; on the plain device.
    pub model: Lm<B>,
    /// The adapters' shape, if there are adapters.
    pub lora: Option<LoraConfig>,
    /// Parameters that were trained.
    pub trained_parameters: usize,
    /// Optimiser steps taken.
    pub steps: usize,
    /// Optimiser steps planned.
    pub planned_steps: usize,
    /// Seconds in the training loop over all sessions.
    pub train_seconds: f64,
    /// The figures of the last step.
    pub last: StepFacts,
    /// True if the run was stopped before its end.
    pub interrupted: bool,
    /// The model of lowest validation loss, if its checkpoint is kept; not of an interrupted run.
    pub best: Option<(Best, Lm<B>)>,
    /// The Receiver's weights before training.
    pub receiver: Fingerprint,
    /// One a data source.
    pub data: Vec<DataFingerprint>,
    /// Examples trained on, held out for validation, and left out.
    pub counts: ExampleCounts,
}

/// The dtype to load the Receiver in: what is trained is held in f32.
pub fn loaded_dtype(settings: &SingleSettings, computed: ModelDtype) -> ModelDtype {
    match settings.trainable {
        Trainable::Lora => computed,
        Trainable::Full | Trainable::Partial => ModelDtype::F32,
    }
}

/// The adapters that a recipe wants.
pub fn lora_config(settings: &SingleSettings) -> LoraConfig {
    let target = |word: &c2c_recipe::LoraTarget| match word {
        c2c_recipe::LoraTarget::Query => LoraTarget::Query,
        c2c_recipe::LoraTarget::Key => LoraTarget::Key,
        c2c_recipe::LoraTarget::Value => LoraTarget::Value,
        c2c_recipe::LoraTarget::Output => LoraTarget::Output,
        c2c_recipe::LoraTarget::Gate => LoraTarget::Gate,
        c2c_recipe::LoraTarget::Up => LoraTarget::Up,
        c2c_recipe::LoraTarget::Down => LoraTarget::Down,
    };
    LoraConfig {
        rank: settings.lora_rank,
        alpha: settings.lora_alpha,
        dropout: settings.lora_dropout,
        targets: settings.lora_targets.iter().map(target).collect(),
    }
}

/// The model on the autodiff device with what is to be trained requiring gradients.
///
/// # Errors
/// Layers that the model doesn't have.
pub fn trainable<B: TrainBackend>(
    model: Lm<B::InnerBackend>,
    settings: &SingleSettings,
    seed: u64,
) -> Result<Lm<B>, TrainError> {
    let model = <Lm<B> as AutodiffModule<B>>::from_inner(model.no_grad()).no_grad();
    let layers = model.config().num_layers;
    Ok(match settings.trainable {
        Trainable::Full => model.thaw(),
        Trainable::Lora => model.with_lora(&lora_config(settings), seed),
        Trainable::Partial => {
            let layers = trained_layers(settings, layers)?;
            model.trained_in(&settings.parts.iter().map(part).collect::<Vec<_>>(), layers)
        }
    })
}

/// The layers that are trained in a model of so many.
///
/// # Errors
/// Layers that the model doesn't have.
pub(crate) fn trained_layers(settings: &SingleSettings, layers: usize) -> Result<Range<usize>, TrainError> {
    if settings.trainable != Trainable::Partial {
        return Ok(0..layers);
    }
    if let Some(share) = settings.last_share {
        // As the reference implementation rounds.
        let count = (share * layers as f64) as usize;
        if count == 0 {
            return Err(TrainError::Stopped(format!(
                "single.last_share = {share}: that is no whole layer of the receiver's {layers}; choose a larger share"
            )));
        }
        return Ok(layers - count..layers);
    }
    let end = settings.last_layer.map_or(layers, |last| last + 1);
    if end > layers || settings.first_layer >= end {
        let (first, last) = (settings.first_layer, end - 1);
        return Err(TrainError::Stopped(format!(
            "single.first_layer = {first}, last layer {last}: the receiver's layers are 0 to {}; choose some of them",
            layers - 1
        )));
    }
    Ok(settings.first_layer..end)
}

fn part(word: &c2c_recipe::ModelPart) -> LmPart {
    match word {
        c2c_recipe::ModelPart::Embedding => LmPart::Embedding,
        c2c_recipe::ModelPart::Qkv => LmPart::Qkv,
        c2c_recipe::ModelPart::OProj => LmPart::OProj,
        c2c_recipe::ModelPart::GateUp => LmPart::GateUp,
        c2c_recipe::ModelPart::DownProj => LmPart::DownProj,
        c2c_recipe::ModelPart::Norms => LmPart::Norms,
        c2c_recipe::ModelPart::FinalNorm => LmPart::FinalNorm,
        c2c_recipe::ModelPart::Head => LmPart::Head,
    }
}

/// Trains the Receiver of a recipe alone. `model` is loaded in [`loaded_dtype`], `computed` is the dtype of the
/// arithmetic. The rest is as for [`crate::train`], `--resume` included.
///
/// # Errors
/// A step that fails or diverges, a checkpoint that can't be written or doesn't fit.
#[allow(clippy::too_many_arguments, reason = "a run has this many sides")]
pub fn train_single<B: TrainBackend>(
    recipe: &TrainRecipe,
    recipe_sha256: &str,
    model: Lm<B::InnerBackend>,
    computed: ModelDtype,
    material: &Material,
    device: &B::Device,
    run_dir: &Path,
    options: RunOptions,
) -> Result<SingleTrained<B::InnerBackend>, TrainError> {
    let settings = recipe.single_settings();
    let (notes, resume) = (options.notes, options.resume);
    let opening = Opening::open(recipe, recipe_sha256, material, None, run_dir, notes, resume)?;
    let mut setting = Setting::new(recipe, opening, run_dir)?;
    let (start, cursor) = setting.start();
    let from = setting.from.take();

    let fresh = trainable::<B>(model, &settings, recipe.seed)?.computing_in(computed.dtype());
    let trained_parameters = count(&fresh);
    let (module, adam) = begun(fresh.clone(), adam_w(&recipe.optimizer), from.as_ref())?;
    let reading = Reading::new(material, recipe.training.batch_size);
    let earlier = start.seconds;
    let session =
        Session { start, cursor, log: &mut setting.log, interrupter: options.interrupter, observer: options.observer };
    let clock = Instant::now();
    let (module, last) = fit(&reading, module, adam, &setting.plan, device, session)?;
    let train_seconds = earlier + clock.elapsed().as_secs_f64();
    let interrupted = last.step < setting.plan.total_steps;
    let best = match setting.log.best().filter(|_| !interrupted) {
        None => None,
        Some((best, checkpoint)) => Some((best, restored(fresh, &checkpoint)?.valid())),
    };
    let lora = (settings.trainable == Trainable::Lora).then(|| lora_config(&settings));
    Ok(SingleTrained {
        model: module.valid(),
        lora,
        trained_parameters,
        steps: last.step,
        planned_steps: setting.plan.total_steps,
        train_seconds,
        last,
        interrupted,
        best,
        receiver: material.receiver.clone(),
        data: material.sources.clone(),
        counts: material.counts.clone(),
    })
}
