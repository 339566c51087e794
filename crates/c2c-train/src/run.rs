//! A training run: recipe and loaded pair in, trained fuser out.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::optim::AdamWConfig;
use burn::tensor::backend::Backend;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::metric::LearningRateMetric;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};
use c2c_data::Fingerprint as DataFingerprint;
use c2c_fuser::{Fuser, FuserConfig, FuserMode, GateDraw, GateNoise, LayerMapping, PairBatch, PairModels};
use c2c_kernels::TrainBackend;
use c2c_lm::Fingerprint;
use c2c_recipe::{ScheduleKind, TrainRecipe};
use c2c_text::Prompt;

use crate::data::{Examples, TrainExample, load_examples, split};
use crate::{
    BatchLoader, ErrorSlot, FigureMetric, FrozenPair, FuserModule, GatesOpen, GradNorm, Loss, MakeBatch, Observer,
    Order, Padding, Schedule, ScheduleShape, StepFacts, StepPlan, StepStrategy, Temperature, TrainError, TrainItem,
    ValidItem, WindowMean,
};

/// What a run is given besides its recipe.
pub struct RunOptions {
    /// Stops the run after the current step.
    pub interrupter: Interrupter,
    /// Shows progress; `None` is Burn's own.
    pub renderer: Option<Box<dyn MetricsRenderer + 'static>>,
    /// Told about every step.
    pub observer: Observer,
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
    /// Seconds in the training loop, validation included.
    pub train_seconds: f64,
    /// The figures of the last step.
    pub last: StepFacts,
    /// True if the run was stopped before its end.
    pub interrupted: bool,
    /// The frozen receiver's weights, equal before and after.
    pub receiver: Fingerprint,
    /// The frozen sharer's weights, equal before and after.
    pub sharer: Fingerprint,
    /// One a data source.
    pub data: Vec<DataFingerprint>,
    /// Examples trained on, held out for validation, and left out.
    pub counts: ExampleCounts,
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
    /// Refused by a template or the alignment.
    pub refused: usize,
    /// The first reasons.
    pub refusals: Vec<String>,
}

/// The config of a new fuser between two loaded models.
pub fn fuser_config<B: Backend>(recipe: &TrainRecipe, pair: &PairModels<B>, total_steps: usize) -> FuserConfig {
    let f = &recipe.fuser;
    FuserConfig {
        hidden_dim: f.hidden_dim,
        intermediate_dim: f.intermediate_dim,
        num_layers: f.num_layers,
        dropout: f.dropout,
        initial_temperature: f.initial_temperature,
        final_temperature: f.final_temperature,
        anneal_steps: f.anneal_steps.unwrap_or(total_steps).max(1),
        gate_noise: match f.gate_noise {
            c2c_recipe::GateNoise::Gumbel => GateNoise::Gumbel,
            c2c_recipe::GateNoise::Logistic => GateNoise::Logistic,
        },
        initial_gate_logit: f.initial_gate_logit,
        zero_init: f.zero_init,
        ..FuserConfig::between(pair.receiver.config(), pair.sharer.config(), layer_mapping(recipe))
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
/// `work_dir` is where Burn may leave its own files.
///
/// # Errors
/// Data that can't be read, a step that fails or diverges, a frozen model that changed.
pub fn train<B: TrainBackend>(
    recipe: &TrainRecipe,
    pair: &PairModels<B::InnerBackend>,
    device: &B::Device,
    work_dir: &Path,
    options: RunOptions,
) -> Result<Trained<B::InnerBackend>, TrainError> {
    let Examples { examples, fingerprints, too_long, refused, refused_count, .. } = load_examples(recipe, &pair.text)?;
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
    let updates_per_epoch = order.epoch_len(training.len()).div_ceil(t.batch_size).div_ceil(t.gradient_accumulation);
    let total = t.max_steps.unwrap_or(updates_per_epoch * t.epochs);
    let epochs = total.div_ceil(updates_per_epoch.max(1));

    let receiver_before = pair.receiver.fingerprint()?;
    let sharer_before = pair.sharer.fingerprint()?;
    let frozen = Arc::new(FrozenPair::<B>::new(pair.receiver.clone(), pair.sharer.clone()));
    let config = fuser_config(recipe, pair, total);
    let fuser = Fuser::<B>::init(&config, recipe.seed, device)?;

    let errors = ErrorSlot::default();
    let pads = (pair.text.receiver().pad_id(), pair.text.sharer().pad_id());
    let make_train = {
        let errors = errors.clone();
        let pair = frozen.clone();
        move |batch| TrainItem { batch, pair: pair.clone(), mode: FuserMode::Infer, errors: errors.clone() }
    };
    let make_valid = {
        let errors = errors.clone();
        let (receiver, sharer) = (frozen.receiver.clone(), frozen.sharer.clone());
        move |batch| ValidItem { batch, receiver: receiver.clone(), sharer: sharer.clone(), errors: errors.clone() }
    };
    let (train_count, valid_count) = (training.len(), validation.len());
    let batches = |examples: Vec<TrainExample>| batch_maker(examples.into_iter().map(|e| e.prompt).collect(), pads);
    let train_loader =
        Arc::new(BatchLoader::new(train_count, t.batch_size, order, batches(training)?, Arc::new(make_train)));
    let valid_loader =
        Arc::new(BatchLoader::new(valid_count, t.batch_size, Order::AsIs, batches(validation)?, Arc::new(make_valid)));

    let plan = StepPlan {
        total_steps: total,
        accumulation: t.gradient_accumulation,
        window_mean: WindowMean::Own,
        max_grad_norm: recipe.optimizer.max_grad_norm,
        evaluate_every: t.evaluate_every,
        seed: recipe.seed,
        draw: GateDraw::Random,
    };
    let last = Arc::new(std::sync::Mutex::new(StepFacts::default()));
    let mut observe = options.observer;
    let seen = last.clone();
    let observer: Observer = Box::new(move |facts| {
        if let Ok(mut seen) = seen.lock() {
            *seen = facts.clone();
        }
        observe(facts);
    });
    let strategy = StepStrategy::new(plan, errors.clone(), observer);
    let learner = Learner::new(FuserModule { fuser }, adam_w(recipe), schedule(recipe, total));

    let mut training = SupervisedTraining::new(work_dir, train_loader, valid_loader)
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
    if let Some(renderer) = options.renderer {
        training = training.renderer(Boxed(renderer));
    }
    let start = Instant::now();
    let result = training.launch(learner);
    let train_seconds = start.elapsed().as_secs_f64();
    if let Some(error) = errors.take() {
        return Err(error);
    }
    unchanged("receiver", &receiver_before, &frozen.receiver.fingerprint()?)?;
    unchanged("sharer", &sharer_before, &frozen.sharer.fingerprint()?)?;
    let last = last.lock().map(|l| l.clone()).unwrap_or_default();
    Ok(Trained {
        fuser: result.model.fuser,
        steps: last.step,
        planned_steps: total,
        train_seconds,
        interrupted: last.step < total,
        last,
        receiver: receiver_before,
        sharer: sharer_before,
        data: fingerprints,
        counts,
    })
}

fn unchanged(model: &'static str, before: &Fingerprint, after: &Fingerprint) -> Result<(), TrainError> {
    if before == after {
        return Ok(());
    }
    Err(TrainError::NotFrozen { model, before: before.to_string(), after: after.to_string() })
}

/// AdamW as the recipe wants it; every parameter decays.
pub fn adam_w<B: TrainBackend>(recipe: &TrainRecipe) -> crate::FuserOptimizer<B> {
    let o = &recipe.optimizer;
    adam_w_of(o.beta1, o.beta2, o.epsilon, o.weight_decay)
}

/// AdamW of these numbers.
pub fn adam_w_of<B: TrainBackend>(beta1: f64, beta2: f64, epsilon: f64, decay: f64) -> crate::FuserOptimizer<B> {
    AdamWConfig::new()
        .with_beta_1(beta1 as f32)
        .with_beta_2(beta2 as f32)
        .with_epsilon(epsilon as f32)
        .with_weight_decay(decay as f32)
        .init()
}

fn schedule(recipe: &TrainRecipe, total: usize) -> Schedule {
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

/// Batches are checked once here, so that making one later can't fail.
fn batch_maker(prompts: Vec<Prompt>, (receiver_pad, sharer_pad): (u32, u32)) -> Result<MakeBatch, TrainError> {
    for prompt in &prompts {
        PairBatch::collate(std::slice::from_ref(prompt), receiver_pad, sharer_pad)?;
    }
    let prompts = Arc::new(prompts);
    Ok(Arc::new(move |indexes: &[usize]| {
        let rows: Vec<Prompt> = indexes.iter().map(|i| prompts[*i].clone()).collect();
        // Collating fails for no row, or for a prompt that fails alone, which was tried above; loaders ask for rows only.
        #[allow(clippy::expect_used)]
        PairBatch::collate(&rows, receiver_pad, sharer_pad).expect("prompts that collate alone collate together")
    }))
}

/// Burn takes renderers by value; this hands a boxed one on.
struct Boxed(Box<dyn MetricsRenderer>);

mod boxed {
    use burn::train::LearnerSummary;
    use burn::train::metric::MetricDefinition;
    use burn::train::renderer::{
        EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
        MetricsRendererTraining, ProgressType, TrainingProgress,
    };

    impl MetricsRendererTraining for super::Boxed {
        fn update_train(&mut self, state: MetricState) {
            self.0.update_train(state);
        }
        fn update_valid(&mut self, state: MetricState) {
            self.0.update_valid(state);
        }
        fn render_train(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
            self.0.render_train(item, indicators);
        }
        fn render_valid(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
            self.0.render_valid(item, indicators);
        }
        fn on_train_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
            self.0.on_train_end(summary)
        }
    }

    impl MetricsRendererEvaluation for super::Boxed {
        fn update_test(&mut self, name: EvaluationName, state: MetricState) {
            self.0.update_test(name, state);
        }
        fn render_test(&mut self, item: EvaluationProgress, indicators: Vec<ProgressType>) {
            self.0.render_test(item, indicators);
        }
    }

    impl MetricsRenderer for super::Boxed {
        fn manual_close(&mut self) {
            self.0.manual_close();
        }
        fn register_metric(&mut self, definition: MetricDefinition) {
            self.0.register_metric(definition);
        }
    }
}
