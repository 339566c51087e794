//! What a run will be and cost, before it: from the recipe, both configs, both tokenizers and the data. No weights.
//!
//! Counts are exact: they come from the batches of the first epoch as the run collates them. Memory is an estimate by the
//! formulas of [`Activations`]; a device needs more than that for its own buffers.

mod cost;
pub(crate) mod single;

use c2c_fuser::{FuserConfig, PairBatch};
use c2c_lm::{LmConfig, ModelDtype};
use c2c_recipe::{TrainMethod, TrainRecipe};
use c2c_text::{PairText, Prompt};
use serde::Serialize;

pub use cost::{Activations, Files, Memory, PreparedPlan};

use crate::{Examples, Order, TrainError, TrainExample, split};

/// A model as the plan needs it.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// Its config.
    pub config: LmConfig,
    /// What its weights are held in.
    pub dtype: ModelDtype,
}

/// Slots and tokens of the first epoch, on the Receiver's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EpochTokens {
    /// Batches.
    pub batches: usize,
    /// Tokens before the last section: what the Sharer reads too.
    pub prompt: usize,
    /// Tokens of the last section.
    pub reply: usize,
    /// Slots that hold none.
    pub padding: usize,
    /// Tokens that are learnt.
    pub supervised: usize,
}

impl EpochTokens {
    /// Share of the slots that is padding.
    pub fn padding_share(&self) -> f64 {
        self.padding as f64 / (self.prompt + self.reply + self.padding).max(1) as f64
    }
}

/// Everything that is known before a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunPlan {
    /// Examples read.
    pub examples_read: usize,
    /// Trained on.
    pub train: usize,
    /// Held out.
    pub validation: usize,
    /// Left out: longer than `training.max_length`.
    pub too_long: usize,
    /// Left out: refused by a template or the alignment.
    pub refused: usize,
    /// The first epoch.
    pub epoch: EpochTokens,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: usize,
    /// Optimiser steps of the run.
    pub steps: usize,
    /// Epochs that are begun.
    pub epochs: usize,
    /// Parameters of the Receiver and, of a run between two models, of the Sharer.
    pub model_parameters: Vec<usize>,
    /// Parameters that are trained.
    pub trained_parameters: usize,
    /// Bytes in memory.
    pub memory: Memory,
    /// Bytes on disk.
    pub files: Files,
    /// What preparing the caches would take; `None` if the run reads none.
    pub prepared: Option<PreparedPlan>,
}

impl RunPlan {
    /// Counts and estimates. The method `single` has no Sharer.
    ///
    /// # Errors
    /// A Fuser of sizes out of range; layers that the Receiver lacks; an example that doesn't collate.
    pub fn of(
        recipe: &TrainRecipe,
        receiver: &ModelFacts,
        sharer: Option<&ModelFacts>,
        text: &PairText,
        examples: &Examples,
    ) -> Result<Self, TrainError> {
        let Some(sharer) = sharer else { return single::plan(recipe, receiver, examples) };
        let (training, validation) = split(examples.examples.clone(), recipe.training.validation_fraction, recipe.seed);
        let t = &recipe.training;
        let order = Order::of(recipe, &training);
        let fuser = crate::run::fuser_shape(recipe, &receiver.config, &sharer.config, 1);
        fuser.validate()?;
        let pads = (text.receiver().pad_id(), text.sharer().pad_id());
        let (epoch, mut activations) = epoch_of(&training, &order, t.batch_size, pads, &fuser, receiver)?;
        if recipe.method() == TrainMethod::Transformation {
            // Nothing is learnt from a reply.
            (activations.reply, activations.logits) = (0, 0);
        }
        let parameters = fuser.num_params();
        let prompts = training.iter().chain(&validation).map(|example| &*example.prompt);
        let prepared = PreparedPlan::of(prompts, &fuser, receiver, sharer);
        Ok(Self {
            model_parameters: vec![receiver.config.num_params(), sharer.config.num_params()],
            trained_parameters: parameters,
            memory: Memory::new(receiver, sharer, parameters, t.gradient_accumulation, activations),
            files: Files::new(recipe, parameters),
            prepared: (recipe.method() != TrainMethod::Transformation).then_some(prepared),
            ..Self::counted(recipe, examples, (training.len(), validation.len()), epoch)
        })
    }

    /// What follows from the data alone; the rest is empty.
    fn counted(
        recipe: &TrainRecipe,
        examples: &Examples,
        (train, validation): (usize, usize),
        epoch: EpochTokens,
    ) -> Self {
        let t = &recipe.training;
        let steps_per_epoch = epoch.batches.div_ceil(t.gradient_accumulation);
        let steps = t.max_steps.unwrap_or(steps_per_epoch * t.epochs);
        Self {
            examples_read: examples.read,
            train,
            validation,
            too_long: examples.too_long,
            refused: examples.refused_count,
            epoch,
            steps_per_epoch,
            steps,
            epochs: steps.div_ceil(steps_per_epoch.max(1)),
            model_parameters: Vec::new(),
            trained_parameters: 0,
            memory: Memory::default(),
            files: Files::default(),
            prepared: None,
        }
    }
}

/// Collates the first epoch: its tokens, and the activations of the batch that needs most.
fn epoch_of(
    training: &[TrainExample],
    order: &Order,
    batch_size: usize,
    (receiver_pad, sharer_pad): (u32, u32),
    fuser: &FuserConfig,
    receiver: &ModelFacts,
) -> Result<(EpochTokens, Activations), TrainError> {
    let mut counted = EpochTokens::default();
    let mut most = Activations::default();
    for indexes in order.epoch(training.len(), 0).chunks(batch_size.max(1)) {
        let prompts: Vec<&Prompt> = indexes.iter().map(|index| &*training[*index].prompt).collect();
        let batch = PairBatch::collate(&prompts, receiver_pad, sharer_pad)?;
        let (tokens, slots) = batch.padding();
        let reply = batch.last().receiver.mask().iter().flatten().filter(|real| **real).count();
        counted.batches += 1;
        counted.prompt += tokens - reply;
        counted.reply += reply;
        counted.padding += slots - tokens;
        counted.supervised += batch.last().labels.iter().flatten().flatten().count();
        let activations = Activations::of(&batch, fuser, receiver);
        if activations.total() > most.total() {
            most = activations;
        }
    }
    Ok((counted, most))
}
