//! What a run writes while it trains: `metrics.jsonl`, `timings.jsonl` and checkpoints.
//!
//! `metrics.jsonl` has a line a step and holds nothing that depends on the clock, so that a resumed run's file equals an
//! uninterrupted run's byte for byte. The clock has `timings.jsonl`, which nothing depends on.
//!
//! Invariant: `metrics.jsonl` holds exactly the steps since the beginning of the run. A checkpoint has its own copy,
//! from which the file is written anew on a resume.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use c2c_fuser::Fuser;
use c2c_kernels::TrainBackend;
use c2c_recipe::CheckpointSettings;
use serde_json::json;

use crate::checkpoint::{
    Best, CHECKPOINTS, Checkpoint, DataCursor, Identity, METRICS_FILE, RngStreams, Snapshot, State, Store,
};
use crate::{FuserOptimizer, StepFacts, TrainError};

/// Seconds since training began, a line a step.
pub const TIMINGS_FILE: &str = "timings.jsonl";

/// Where a run begins: at its beginning, or where a checkpoint stands.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Optimiser steps taken.
    pub step: usize,
    /// Micro-batches taken.
    pub micro_batch: usize,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The figures of the last step.
    pub last: StepFacts,
    /// The lowest validation loss so far.
    pub best: Option<Best>,
}

impl Start {
    /// Where a checkpoint stands.
    pub fn at(state: &State) -> Self {
        Self {
            step: state.step,
            micro_batch: state.rng.micro_batch,
            seconds: state.train_seconds,
            last: state.last.clone(),
            best: state.best,
        }
    }
}

/// A run's identity and settings, which every checkpoint holds.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// What the run is.
    pub identity: Identity,
    /// Which data it reads; the cursor in it is not looked at.
    pub data: DataCursor,
    /// The recipe's seed.
    pub seed: u64,
    /// Optimiser steps planned.
    pub total_steps: usize,
    /// When to save.
    pub settings: CheckpointSettings,
}

/// Where in the data a run stands after a step.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Examples of the epoch's order that have been trained on.
    pub examples_done: usize,
    /// Micro-batches taken.
    pub micro_batch: usize,
}

/// Writes a run down.
pub struct Recorder<B: TrainBackend> {
    facts: RunFacts,
    store: Store,
    optimizer: FuserOptimizer<B>,
    /// All of `metrics.jsonl`: about 200 bytes a step.
    metrics: Vec<u8>,
    metrics_file: Lines,
    timings_file: Lines,
    best: Option<Best>,
    saved: Option<usize>,
}

impl<B: TrainBackend> Recorder<B> {
    /// Begins to write into a run directory, or goes on from a checkpoint: what was written after it is cut off.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn new(
        run_dir: &Path,
        facts: RunFacts,
        store: Store,
        optimizer: FuserOptimizer<B>,
        from: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let metrics = from.map(|checkpoint| checkpoint.metrics.clone()).unwrap_or_default();
        let (step, best) = from.map_or((0, None), |checkpoint| (checkpoint.state.step, checkpoint.state.best));
        let timings = run_dir.join(TIMINGS_FILE);
        let kept = match std::fs::read(&timings) {
            // Lost timings are lost; they decide nothing.
            Err(_) => Vec::new(),
            Ok(text) => text.split_inclusive(|byte| *byte == b'\n').take(step).flatten().copied().collect(),
        };
        Ok(Self {
            facts,
            store,
            optimizer,
            metrics_file: Lines::open(run_dir.join(METRICS_FILE), &metrics)?,
            timings_file: Lines::open(timings, &kept)?,
            metrics,
            best,
            saved: from.map(|_| step),
        })
    }

    /// Writes the figures of a step.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn step(&mut self, facts: &StepFacts) -> Result<(), TrainError> {
        let line = format!("{}\n", json!(facts));
        self.metrics_file.append(line.as_bytes())?;
        self.metrics.extend_from_slice(line.as_bytes());
        let timing = format!("{}\n", json!({ "step": facts.step, "seconds": facts.seconds }));
        self.timings_file.append(timing.as_bytes())
    }

    /// Saves a checkpoint if one is due: every so many steps, at the lowest validation loss so far, and when the run
    /// ends or is interrupted.
    ///
    /// # Errors
    /// A checkpoint that can't be saved; older ones are as they were.
    pub fn save_if_due(
        &mut self,
        fuser: &Fuser<B>,
        facts: &StepFacts,
        cursor: Cursor,
        ends: bool,
    ) -> Result<(), TrainError> {
        let best = facts
            .validation_loss
            .filter(|loss| loss.is_finite() && self.best.is_none_or(|best| *loss < best.validation_loss));
        if let Some(validation_loss) = best {
            self.best = Some(Best { step: facts.step, validation_loss });
        }
        let best = best.is_some() && self.facts.settings.keep_best;
        if !(ends || best || facts.step.is_multiple_of(self.facts.settings.every)) {
            return Ok(());
        }
        let state = State {
            step: facts.step,
            total_steps: self.facts.total_steps,
            // The schedule moves once a step.
            schedule_steps: facts.step,
            data: DataCursor { epoch: cursor.epoch, examples_done: cursor.examples_done, ..self.facts.data.clone() },
            rng: RngStreams {
                seed: self.facts.seed,
                order_stream: cursor.epoch.saturating_sub(1) as u64,
                micro_batch: cursor.micro_batch,
            },
            optimizer_times: Default::default(),
            best: self.best,
            last: facts.clone(),
            train_seconds: facts.seconds,
        };
        let (identity, optimizer, metrics) = (&self.facts.identity, &self.optimizer, &self.metrics);
        self.store.save(Snapshot { identity, fuser, optimizer, state, metrics })?;
        self.saved = Some(facts.step);
        Ok(())
    }

    /// The step of the newest checkpoint of this session, or of the one that it began at.
    pub fn saved(&self) -> Option<usize> {
        self.saved
    }

    /// The lowest validation loss so far, if its checkpoint is kept.
    pub fn best(&self) -> Option<Best> {
        self.best.filter(|_| self.facts.settings.keep_best)
    }
}

/// The folder of a run's checkpoints.
pub fn checkpoints_dir(run_dir: &Path) -> PathBuf {
    run_dir.join(CHECKPOINTS)
}

/// A file that grows by lines.
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// A file that holds just this, and grows.
    fn open(path: PathBuf, kept: &[u8]) -> Result<Self, TrainError> {
        c2c_lm::write_beside(&path, kept)?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|source| TrainError::Io { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    fn append(&mut self, line: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(line).map_err(|source| TrainError::Io { path: self.path.clone(), source })
    }
}
