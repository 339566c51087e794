//! What a run writes while it trains: `metrics.jsonl`, `gates.jsonl`, `timings.jsonl` and checkpoints.
//!
//! `metrics.jsonl` has a line a step and holds nothing that depends on the clock, so that a resumed run's file equals an
//! uninterrupted run's byte for byte. So does `gates.jsonl`, with a line wherever the validation loss is measured, every so many
//! steps as checkpoints are, and at the end. The clock has `timings.jsonl`, which nothing depends on.
//!
//! Invariant: `metrics.jsonl` holds exactly the steps since the beginning of the run. A checkpoint has its own copy,
//! from which the file is written anew on a resume.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::AutodiffModule;
use c2c_fuser::Fuser;
use c2c_kernels::TrainBackend;
use c2c_recipe::CheckpointSettings;
use serde_json::json;

use crate::checkpoint::{
    Best, CHECKPOINTS, Checkpoint, DataCursor, Identity, Kept, METRICS_FILE, OptimizerTimes, RngStreams, State, Store,
};
use crate::{FuserOptimizer, StepFacts, TrainError};

/// Seconds since training began, and those that saving took, a line a step.
pub const TIMINGS_FILE: &str = "timings.jsonl";

/// The logits of all gates, of keys and of values by layer, a line at steps where the run is looked at.
pub const GATES_FILE: &str = "gates.jsonl";

/// A line of [`GATES_FILE`]. Numbers and lists of numbers, which JSON always has words for.
#[derive(serde::Serialize)]
struct GatesLine {
    step: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

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
    /// Examples in the epoch's order.
    pub examples_in_epoch: usize,
    /// Micro-batches taken.
    pub micro_batch: usize,
}

/// Writes the run of a fuser down.
pub struct Recorder<B: TrainBackend> {
    log: RunLog,
    gates_file: Lines,
    optimizer: FuserOptimizer<B>,
}

impl<B: TrainBackend> Recorder<B> {
    /// As [`RunLog::new`], for a fuser with this optimiser.
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
        let gates = run_dir.join(GATES_FILE);
        let kept = kept_until(&gates, from.map_or(0, |checkpoint| checkpoint.state.step));
        let gates_file = Lines::open(gates, &kept)?;
        Ok(Self { log: RunLog::new(run_dir, facts, store, from)?, gates_file, optimizer })
    }

    /// As [`RunLog::step`], saving this fuser.
    ///
    /// # Errors
    /// A file that can't be written; a checkpoint that can't be saved, in which case older ones are as they were.
    pub fn step(&mut self, fuser: &Fuser<B>, facts: &StepFacts, cursor: Cursor, ends: bool) -> Result<(), TrainError> {
        // Before the checkpoint, which a resumed run keeps the lines up to. Not where a run is merely stopped: it goes on as if it
        // hadn't been.
        let RunFacts { settings, total_steps, .. } = &self.log.facts;
        let due = facts.step.is_multiple_of(settings.every) || facts.step == *total_steps;
        if due || facts.validation_loss.is_some() {
            let (keys, values) = fuser.valid().gate_logits()?;
            // An ablation without gates has none, and gates that are made from the input have no logits of their own.
            if keys.iter().chain(&values).any(|logit| logit.is_finite()) {
                let mut line = serde_json::to_vec(&GatesLine { step: facts.step, keys, values }).unwrap_or_default();
                line.push(b'\n');
                self.gates_file.append(&line)?;
            }
        }
        let optimizer = &self.optimizer;
        self.log.step(facts, cursor, ends, || Kept::of_fuser(fuser, optimizer))
    }

    /// As [`RunLog::best`].
    pub fn best(&mut self) -> Option<(Best, Checkpoint)> {
        self.log.best()
    }
}

/// Writes a run down, whatever is trained.
pub struct RunLog {
    facts: RunFacts,
    store: Store,
    /// All of `metrics.jsonl`: about 200 bytes a step.
    metrics: Vec<u8>,
    metrics_file: Lines,
    timings_file: Lines,
    best: Option<Best>,
}

impl RunLog {
    /// Begins to write into a run directory, or goes on from a checkpoint: what was written after it is cut off.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn new(run_dir: &Path, facts: RunFacts, store: Store, from: Option<&Checkpoint>) -> Result<Self, TrainError> {
        let metrics = from.map(|checkpoint| checkpoint.metrics.clone()).unwrap_or_default();
        let (step, best) = from.map_or((0, None), |checkpoint| (checkpoint.state.step, checkpoint.state.best));
        let timings = run_dir.join(TIMINGS_FILE);
        let kept = kept_until(&timings, step);
        Ok(Self {
            facts,
            store,
            metrics_file: Lines::open(run_dir.join(METRICS_FILE), &metrics)?,
            timings_file: Lines::open(timings, &kept)?,
            metrics,
            best,
        })
    }

    /// Writes the figures of a step, and a checkpoint if one is due: every so many steps, at the lowest validation loss
    /// so far, and when the run ends or is interrupted.
    ///
    /// # Errors
    /// A file that can't be written; a checkpoint that can't be saved, in which case older ones are as they were.
    pub fn step(
        &mut self,
        facts: &StepFacts,
        cursor: Cursor,
        ends: bool,
        kept: impl FnOnce() -> Kept,
    ) -> Result<(), TrainError> {
        let line = format!("{}\n", json!(facts));
        self.metrics_file.append(line.as_bytes())?;
        self.metrics.extend_from_slice(line.as_bytes());
        let mut timing = json!({ "step": facts.step, "seconds": facts.seconds });
        let best = self.is_best(facts) && self.facts.settings.keep_best;
        if ends || best || facts.step.is_multiple_of(self.facts.settings.every) {
            let clock = Instant::now();
            self.save(kept(), facts, cursor)?;
            timing["save_seconds"] = json!(clock.elapsed().as_secs_f64());
        }
        self.timings_file.append(format!("{timing}\n").as_bytes())
    }

    /// Whether the step has the lowest validation loss so far, which is kept in mind.
    fn is_best(&mut self, facts: &StepFacts) -> bool {
        let lower = |loss: &f64| loss.is_finite() && self.best.is_none_or(|best| *loss < best.validation_loss);
        let Some(validation_loss) = facts.validation_loss.filter(lower) else { return false };
        self.best = Some(Best { step: facts.step, validation_loss });
        true
    }

    fn save(&mut self, kept: Kept, facts: &StepFacts, cursor: Cursor) -> Result<(), TrainError> {
        let state = State {
            step: facts.step,
            total_steps: self.facts.total_steps,
            // The schedule moves once a step.
            schedule_steps: facts.step,
            data: DataCursor {
                epoch: cursor.epoch,
                examples_done: cursor.examples_done,
                examples_in_epoch: cursor.examples_in_epoch,
                ..self.facts.data.clone()
            },
            rng: RngStreams {
                seed: self.facts.seed,
                order_stream: cursor.epoch.saturating_sub(1) as u64,
                micro_batch: cursor.micro_batch,
            },
            optimizer_times: OptimizerTimes::new(),
            best: self.best,
            last: facts.clone(),
            train_seconds: facts.seconds,
        };
        self.store.save_kept(&self.facts.identity, kept, state, &self.metrics)?;
        Ok(())
    }

    /// The checkpoint of the lowest validation loss, if it is kept; `None` with a note if it is damaged.
    pub fn best(&mut self) -> Option<(Best, Checkpoint)> {
        let best = self.best.filter(|_| self.facts.settings.keep_best)?;
        match self.store.read(best.step) {
            Ok(checkpoint) => Some((best, checkpoint)),
            Err(error) => {
                self.store.note(&format!("the checkpoint of lowest validation loss can't be used: {error}"));
                None
            }
        }
    }
}

/// The lines of a file that are of the first steps. What is lost is lost: nothing depends on it.
fn kept_until(path: &Path, step: usize) -> Vec<u8> {
    let text = std::fs::read(path).unwrap_or_default();
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| is_until(line, step)).flatten().copied().collect()
}

/// Whether a line is whole and of one of the first steps. A process that is killed may leave half a line, or none for
/// a step that it saved.
fn is_until(line: &[u8], step: usize) -> bool {
    let line: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    line.and_then(|line| line["step"].as_u64()).is_some_and(|found| found <= step as u64)
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
