//! What a run begins with: examples, their order, the run's length, and where it goes on.

use std::path::Path;

use c2c_data::Fingerprint as DataFingerprint;
use c2c_recipe::TrainRecipe;
use c2c_text::PairText;

use crate::checkpoint::{Checkpoint, CheckpointError, DataCursor, Identity, Notes, Store};
use crate::data::{Examples, TrainExample, digest, load_examples, split};
use crate::fit::FitPlan;
use crate::recorder::{RunFacts, RunLog, Start, checkpoints_dir};
use crate::run::schedule;
use crate::{ExampleCounts, Order, TrainError};

/// What every run has before its first step, whatever it trains.
pub(crate) struct Opening {
    pub(crate) training: Vec<TrainExample>,
    pub(crate) validation: Vec<TrainExample>,
    pub(crate) counts: ExampleCounts,
    pub(crate) order: Order,
    pub(crate) updates_per_epoch: usize,
    pub(crate) facts: RunFacts,
    pub(crate) store: Store,
    /// The checkpoint that the run goes on from.
    pub(crate) from: Option<Checkpoint>,
}

impl Opening {
    /// Reads the data of a recipe and opens the run's folder.
    ///
    /// # Errors
    /// Data that can't be read; with `resume` a checkpoint that doesn't fit, without it any checkpoint.
    pub(crate) fn open(
        recipe: &TrainRecipe,
        identity: Identity,
        text: &PairText,
        run_dir: &Path,
        notes: Notes,
        resume: bool,
    ) -> Result<Self, TrainError> {
        let mut store = Store::open(run_dir, &recipe.checkpoint, notes)?;
        if !resume && !store.steps()?.is_empty() {
            return Err(CheckpointError::NotEmpty { path: checkpoints_dir(run_dir) }.into());
        }
        let Examples { examples, fingerprints, too_long, refused, refused_count, .. } = load_examples(recipe, text)?;
        let (training, validation) = split(examples, recipe.training.validation_fraction, recipe.seed);
        let counts = ExampleCounts {
            train: training.len(),
            validation: validation.len(),
            too_long,
            refused: refused_count,
            refusals: refused,
        };
        let t = &recipe.training;
        let order = Order::of(recipe, &training);
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
                examples_sha256: digest(training.iter().chain(&validation).map(|example| &example.prompt)),
                sources: fingerprints,
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
        Ok(Self { training, validation, counts, order, updates_per_epoch, facts, store, from })
    }
}

/// A run of [`crate::fit`] about to begin or to go on.
pub(crate) struct Setting {
    pub(crate) training: Vec<TrainExample>,
    pub(crate) validation: Vec<TrainExample>,
    pub(crate) counts: ExampleCounts,
    pub(crate) data: Vec<DataFingerprint>,
    pub(crate) plan: FitPlan,
    pub(crate) log: RunLog,
    /// The checkpoint that the run goes on from.
    pub(crate) from: Option<Checkpoint>,
}

impl Setting {
    /// # Errors
    /// As [`Opening::open`]; files of the run that can't be written.
    pub(crate) fn new(recipe: &TrainRecipe, opening: Opening, run_dir: &Path) -> Result<Self, TrainError> {
        let Opening { training, validation, counts, order, facts, store, from, .. } = opening;
        let (data, total) = (facts.data.sources.clone(), facts.total_steps);
        let plan = FitPlan {
            total_steps: total,
            batch_size: recipe.training.batch_size,
            accumulation: recipe.training.gradient_accumulation,
            max_grad_norm: recipe.optimizer.max_grad_norm,
            evaluate_every: recipe.training.evaluate_every,
            seed: recipe.seed,
            order,
            examples: training.len(),
            schedule: schedule(recipe, total),
        };
        let log = RunLog::new(run_dir, facts, store, from.as_ref())?;
        Ok(Self { training, validation, counts, data, plan, log, from })
    }

    /// Where the loop begins, and in which epoch, behind how many examples.
    pub(crate) fn start(&self) -> (Start, (usize, usize)) {
        match &self.from {
            None => (Start::default(), (1, 0)),
            Some(checkpoint) => (Start::at(&checkpoint.state), checkpoint.state.data.next()),
        }
    }
}
