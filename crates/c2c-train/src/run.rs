//! A training run: recipe and loaded pair in, trained fuser out.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::metric::LearningRateMetric;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};
use c2c_data::Fingerprint as DataFingerprint;
use c2c_fuser::{Fuser, FuserConfig, FuserMode, GateDraw, LayerMapping, PairModels};
use c2c_kernels::TrainBackend;
use c2c_lm::{Fingerprint, LmConfig};
use c2c_recipe::{ScheduleKind, TrainRecipe};

use crate::checkpoint::{Best, Checkpoint, Notes};
use crate::devices::Devices;
use crate::material::{PairMaterial, unchanged};
use crate::network::{all_in_one, fuser_parts, gate_noise};
use crate::recorder::{Recorder, Start};
use crate::renderer::Boxed;
use crate::setting::Opening;
use crate::{
    BatchLoader, ErrorSlot, FigureMetric, FrozenPair, FuserModule, FuserOptimizer, GatesOpen, GradNorm, Loss, MakeItem,
    Observer, Order, Padding, Schedule, ScheduleShape, StepFacts, StepPlan, StepStrategy, Temperature, TrainError,
    TrainItem, ValidItem, WindowMean,
};

/// What a run is given besides its recipe.
pub struct RunOptions {
    /// Stops the run after the current step.
    pub interrupter: Interrupter,
    /// Shows progress; `None` is Burn's own.
    pub renderer: Option<Box<dyn MetricsRenderer + 'static>>,
    /// Told about every step.
    pub observer: Observer,
    /// Told about checkpoints: where the run resumes, what was damaged.
    pub notes: Notes,
    /// Go on from the newest good checkpoint.
    pub resume: bool,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Trained<B: Backend> {
    /// The fuser, on the plain device.
    pub fuser: Fuser<B>,
    /// Optimiser steps taken.
    pub steps: usize,
    /// Optimiser steps planned.
    pub planned_steps: usize,
    /// Seconds in the training loop over all sessions, validation and saving included.
    pub train_seconds: f64,
    /// The figures of the last step.
    pub last: StepFacts,
    /// True if the run was stopped before its end.
    pub interrupted: bool,
    /// The step that this process began at, if it resumed a run.
    pub resumed_at: Option<usize>,
    /// The fuser of lowest validation loss, if its checkpoint is kept; not of an interrupted run.
    pub best: Option<BestFuser<B>>,
    /// The frozen receiver's weights, equal before and after.
    pub receiver: Fingerprint,
    /// The frozen sharer's weights, equal before and after.
    pub sharer: Fingerprint,
    /// One a data source.
    pub data: Vec<DataFingerprint>,
    /// Examples trained on, held out for validation, and left out.
    pub counts: ExampleCounts,
}

/// The fuser of lowest validation loss.
#[derive(Debug)]
pub struct BestFuser<B: Backend> {
    /// Step and loss.
    pub best: Best,
    /// The fuser, on the plain device.
    pub fuser: Fuser<B>,
}

/// Where the examples went.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ExampleCounts {
    /// Trained on.
    pub train: usize,
    /// Held out for the validation loss.
    pub validation: usize,
    /// Longer than `training.max_length`.
    pub too_long: usize,
    /// The first of them, each with its place and length.
    pub too_long_listed: Vec<String>,
    /// Refused by a template or the alignment.
    pub refused: usize,
    /// The first reasons.
    pub refusals: Vec<String>,
}

/// The config of a new fuser between two loaded models.
pub fn fuser_config<B: Backend>(recipe: &TrainRecipe, pair: &PairModels<B>, total_steps: usize) -> FuserConfig {
    fuser_shape(recipe, pair.receiver.config(), pair.sharer.config(), total_steps)
}

/// The config of a new fuser between two models of these configs.
pub fn fuser_shape(recipe: &TrainRecipe, receiver: &LmConfig, sharer: &LmConfig, total_steps: usize) -> FuserConfig {
    let f = &recipe.fuser;
    FuserConfig {
        hidden_dim: f.hidden_dim,
        intermediate_dim: f.intermediate_dim,
        num_layers: f.num_layers,
        dropout: f.dropout,
        initial_temperature: f.initial_temperature,
        final_temperature: f.final_temperature,
        anneal_steps: f.anneal_steps.unwrap_or(total_steps).max(1),
        gate_noise: gate_noise(recipe),
        initial_gate_logit: f.initial_gate_logit,
        zero_init: f.zero_init,
        parts: fuser_parts(recipe.level()),
        all_in_one: all_in_one(recipe),
        ..FuserConfig::between(receiver, sharer, layer_mapping(recipe))
    }
}

/// The layer alignment that a recipe names.
pub fn layer_mapping(recipe: &TrainRecipe) -> LayerMapping {
    match recipe.fuser.layer_mapping {
        c2c_recipe::LayerMapping::LastAligned => LayerMapping::LastAligned,
        c2c_recipe::LayerMapping::KNearest => LayerMapping::KNearest,
    }
}

/// Trains the fuser of a recipe between two loaded models.
///
/// The models and the fuser are on the first of `devices`; the others compute parts of each step's gradient.
///
/// `recipe_sha256` is [`c2c_recipe::Loaded::hash`]. `run_dir` receives `metrics.jsonl`, `timings.jsonl` and
/// `checkpoints/`; with `options.resume` the run goes on from the newest good checkpoint there, and ends as if it had
/// never stopped. `material` is that of this recipe and pair.
///
/// # Errors
/// A step that fails or diverges, a frozen model that changed, a checkpoint that can't be
/// written or doesn't fit.
pub fn train<B: TrainBackend>(
    recipe: &TrainRecipe,
    recipe_sha256: &str,
    pair: &PairModels<B::InnerBackend>,
    material: &PairMaterial,
    devices: &[B::Device],
    run_dir: &Path,
    options: RunOptions,
) -> Result<Trained<B::InnerBackend>, TrainError> {
    let [device, more @ ..] = devices else {
        return Err(TrainError::Stopped("no device was given".into()));
    };
    let PairMaterial { material, sharer, training: train_batches, validation: valid_batches } = material;
    let (notes, resume) = (options.notes, options.resume);
    let opening = Opening::open(recipe, recipe_sha256, material, Some(sharer), run_dir, notes, resume)?;
    let Opening { order, updates_per_epoch, facts, store, from } = opening;
    let (t, total) = (&recipe.training, facts.total_steps);
    let epochs = total.div_ceil(updates_per_epoch.max(1));

    let frozen = Arc::new(FrozenPair::<B>::new(pair.receiver.clone(), pair.sharer.clone()));
    let config = fuser_config(recipe, pair, total);
    let optimizer = adam_w::<B>(recipe);
    let (fuser, start) = begin(from.as_ref(), &config, recipe.seed, &optimizer, device)?;
    let (epoch, examples_done) = from.as_ref().map_or((1, 0), |checkpoint| checkpoint.state.data.next());

    let errors = ErrorSlot::default();
    let make_train: MakeItem<_> = {
        let (errors, pair, batches) = (errors.clone(), frozen.clone(), train_batches.clone());
        Arc::new(move |examples| {
            let (batch, contexts) = batches.batch(examples)?;
            Ok(TrainItem { batch, contexts, pair: pair.clone(), mode: FuserMode::Infer, errors: errors.clone() })
        })
    };
    let make_valid: MakeItem<_> = {
        let (receiver, sharer) = (frozen.receiver.clone(), frozen.sharer.clone());
        let (errors, batches) = (errors.clone(), valid_batches.clone());
        Arc::new(move |examples| {
            let (batch, contexts) = batches.batch(examples)?;
            let (receiver, sharer) = (receiver.clone(), sharer.clone());
            Ok(ValidItem { batch, contexts, receiver, sharer, errors: errors.clone() })
        })
    };
    let train_loader = BatchLoader::new(material.counts.train, t.batch_size, order, make_train, errors.clone());
    let train_loader = train_loader.starting_at(epoch - 1, examples_done).ahead(recipe.data.prefetch);
    let valid_loader =
        BatchLoader::new(material.counts.validation, t.batch_size, Order::AsIs, make_valid, errors.clone());
    let (train_loader, valid_loader) = (Arc::new(train_loader), Arc::new(valid_loader.ahead(recipe.data.prefetch)));

    let plan = StepPlan {
        total_steps: total,
        accumulation: t.gradient_accumulation,
        window_mean: WindowMean::Own,
        max_grad_norm: recipe.optimizer.max_grad_norm,
        evaluate_every: t.evaluate_every,
        seed: recipe.seed,
        draw: GateDraw::Random,
    };
    let mut learner = Learner::new(FuserModule { fuser }, optimizer.clone(), schedule(recipe, total));
    learner.load_scheduler(from.as_ref().map_or(0, |checkpoint| checkpoint.state.schedule_steps));
    let recorder = Recorder::new(run_dir, facts, store, optimizer.clone(), from.as_ref())?;
    let recorder = Arc::new(Mutex::new(recorder));
    let resumed_at = from.map(|checkpoint| checkpoint.state.step);
    let last = Arc::new(Mutex::new(start.last.clone()));
    let mut observe = options.observer;
    let seen = last.clone();
    let observer: Observer = Box::new(move |facts| {
        if let Ok(mut seen) = seen.lock() {
            *seen = facts.clone();
        }
        observe(facts);
    });
    let earlier_seconds = start.seconds;
    let strategy = StepStrategy::new(plan, optimizer, errors.clone(), observer);
    let mut strategy = strategy.recorded(recorder.clone(), start);
    if !more.is_empty() {
        strategy = strategy.over(Devices::new(device.clone(), frozen.clone(), more));
    }

    // Burn only leaves files in its folder when its own loggers are on.
    let mut training = SupervisedTraining::new(run_dir.join("burn"), train_loader, valid_loader)
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
        .with_metric_logger(InMemoryMetricLogger::default())
        .with_application_logger(None)
        .with_interrupter(options.interrupter.clone())
        .num_epochs(epochs.max(1))
        .metric_train_numeric(FigureMetric::<Loss>::default())
        .metric_valid_numeric(FigureMetric::<Loss>::default())
        .metric_train_numeric(LearningRateMetric::new())
        .metric_train_numeric(FigureMetric::<GradNorm>::default())
        .metric_train_numeric(FigureMetric::<Temperature>::default())
        .metric_train_numeric(FigureMetric::<GatesOpen>::default())
        .metric_train_numeric(FigureMetric::<Padding>::default());
    if epoch > 1 {
        training = training.checkpoint(epoch - 1);
    }
    if let Some(renderer) = options.renderer {
        training = training.renderer(Boxed(renderer));
    }
    let clock = Instant::now();
    let result = training.launch(learner);
    let train_seconds = earlier_seconds + clock.elapsed().as_secs_f64();
    let _ = std::fs::remove_dir(run_dir.join("burn"));
    if let Some(error) = errors.take() {
        return Err(error);
    }
    unchanged((&material.receiver, sharer), (&frozen.receiver, &frozen.sharer))?;
    let last = last.lock().map(|l| l.clone()).unwrap_or_default();
    let interrupted = last.step < total;
    let best = match recorder.lock().ok().filter(|_| !interrupted).and_then(|mut recorder| recorder.best()) {
        None => None,
        Some((best, checkpoint)) => {
            let device = result.model.fuser.named_params().first().map(|(_, p)| p.val().device()).unwrap_or_default();
            Some(BestFuser { best, fuser: checkpoint.fuser(&config, &device)? })
        }
    };
    Ok(Trained {
        fuser: result.model.fuser,
        steps: last.step,
        planned_steps: total,
        train_seconds,
        interrupted,
        resumed_at,
        best,
        last,
        receiver: material.receiver.clone(),
        sharer: sharer.clone(),
        data: material.sources.clone(),
        counts: material.counts.clone(),
    })
}

/// The fuser and the optimiser's state that a run begins with: new ones, or those of a checkpoint.
fn begin<B: TrainBackend>(
    from: Option<&Checkpoint>,
    config: &FuserConfig,
    seed: u64,
    optimizer: &FuserOptimizer<B>,
    device: &B::Device,
) -> Result<(Fuser<B>, Start), TrainError> {
    let Some(checkpoint) = from else {
        return Ok((Fuser::init(config, seed, device)?, Start::default()));
    };
    let fuser = checkpoint.fuser(config, device)?;
    checkpoint.restore_optimizer(optimizer, &fuser)?;
    Ok((fuser, Start::at(&checkpoint.state)))
}

/// AdamW as the recipe wants it; every parameter decays.
pub fn adam_w<B: TrainBackend>(recipe: &TrainRecipe) -> FuserOptimizer<B> {
    let o = &recipe.optimizer;
    FuserOptimizer::new(o.beta1, o.beta2, o.epsilon, o.weight_decay)
}

pub(crate) fn schedule(recipe: &TrainRecipe, total: usize) -> Schedule {
    let shape = ScheduleShape::from(recipe.schedule.kind);
    let warmup = (recipe.schedule.warmup_ratio * total as f64) as usize;
    Schedule::new(shape, recipe.optimizer.learning_rate, warmup, total)
}

impl From<ScheduleKind> for ScheduleShape {
    fn from(kind: ScheduleKind) -> Self {
        match kind {
            ScheduleKind::Linear => Self::Linear,
            ScheduleKind::Cosine => Self::Cosine,
            ScheduleKind::Constant => Self::Constant,
        }
    }
}
