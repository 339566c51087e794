//! What a run begins with: its order, its length, and where it goes on.

use std::path::Path;

use c2c_lm::Fingerprint;
use c2c_recipe::TrainRecipe;

use crate::checkpoint::{Checkpoint, CheckpointError, DataCursor, Identity, Notes, Store};
use crate::data::digest;
use crate::fit::FitPlan;
use crate::material::Material;
use crate::recorder::{RunFacts, RunLog, Start, checkpoints_dir};
use crate::run::schedule;
use crate::{Order, TrainError};

/// What every run has before its first step, whatever it trains.
pub(crate) struct Opening {
    pub(crate) order: Order,
    pub(crate) updates_per_epoch: usize,
    pub(crate) facts: RunFacts,
    pub(crate) store: Store,
    /// The checkpoint that the run goes on from.
    pub(crate) from: Option<Checkpoint>,
}

impl Opening {
    /// Opens the run's folder.
    ///
    /// # Errors
    /// With `resume` a checkpoint that doesn't fit, without it any checkpoint.
    pub(crate) fn open(
        recipe: &TrainRecipe,
        recipe_sha256: &str,
        material: &Material,
        sharer: Option<&Fingerprint>,
        run_dir: &Path,
        notes: Notes,
        resume: bool,
    ) -> Result<Self, TrainError> {
        let mut store = Store::open(run_dir, &recipe.checkpoint, notes)?;
        if !resume && !store.steps()?.is_empty() {
            return Err(CheckpointError::NotEmpty { path: checkpoints_dir(run_dir) }.into());
        }
        let identity = Identity {
            recipe_sha256: recipe_sha256.to_owned(),
            receiver_sha256: material.receiver.to_string(),
            // A manifest has the line also where there is no sharer.
            sharer_sha256: sharer.map_or_else(String::new, ToString::to_string),
        };
        let (training, validation) = (&material.training, &material.validation);
        let t = &recipe.training;
        let order = Order::of(recipe, training);
        let in_epoch = order.epoch_len(training.len());
        let updates_per_epoch = in_epoch.div_ceil(t.batch_size).div_ceil(t.gradient_accumulation);
        let facts = RunFacts {
            identity,
            data: DataCursor {
                epoch: 1,
                examples_done: 0,
                examples_in_epoch: in_epoch,
                examples: training.len(),
                validation_examples: validation.len(),
                examples_sha256: digest(training.iter().chain(validation).map(|example| &*example.prompt)),
                sources: material.sources.clone(),
            },
            seed: recipe.seed,
            total_steps: t.max_steps.unwrap_or(updates_per_epoch * t.epochs),
            settings: recipe.checkpoint.clone(),
        };
        let from = if resume { store.newest(&facts.identity, &facts.data)? } else { None };
        match &from {
            Some(checkpoint) => {
                store.note(&format!("resuming at step {} of {}", checkpoint.state.step, facts.total_steps));
            }
            None if resume => store.note("no checkpoint was saved yet; starting at the first step"),
            None => {}
        }
        Ok(Self { order, updates_per_epoch, facts, store, from })
    }
}

/// A run of [`crate::fit`] about to begin or to go on.
pub(crate) struct Setting {
    pub(crate) plan: FitPlan,
    pub(crate) log: RunLog,
    /// The checkpoint that the run goes on from.
    pub(crate) from: Option<Checkpoint>,
}

impl Setting {
    /// # Errors
    /// As [`Opening::open`]; files of the run that can't be written.
    pub(crate) fn new(recipe: &TrainRecipe, opening: Opening, run_dir: &Path) -> Result<Self, TrainError> {
        let Opening { order, facts, store, from, .. } = opening;
        let (examples, total) = (facts.data.examples, facts.total_steps);
        let plan = FitPlan {
            total_steps: total,
            batch_size: recipe.training.batch_size,
            accumulation: recipe.training.gradient_accumulation,
            max_grad_norm: recipe.optimizer.max_grad_norm,
            evaluate_every: recipe.training.evaluate_every,
            seed: recipe.seed,
            order,
            examples,
            schedule: schedule(recipe, total),
        };
        let log = RunLog::new(run_dir, facts, store, from.as_ref())?;
        Ok(Self { plan, log, from })
    }

    /// Where the loop begins, and in which epoch, behind how many examples.
    pub(crate) fn start(&self) -> (Start, (usize, usize)) {
        match &self.from {
            None => (Start::default(), (1, 0)),
            Some(checkpoint) => (Start::at(&checkpoint.state), checkpoint.state.data.next()),
        }
    }
}
