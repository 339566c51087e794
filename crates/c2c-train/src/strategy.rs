//! The learning strategy: what differs from Burn's own loop.
//!
//! Burn's loop steps the schedule for each micro-batch, sums accumulated gradients, drops the last partial window and
//! clips by parameter. Here an optimiser step sees the mean over its micro-batches, clipped by global norm; the schedule
//! and the gate temperature move once a step; and an epoch's last partial window is a step too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::module::AutodiffModule;
use burn::optim::GradientsAccumulator;
use burn::train::{
    EventProcessorTraining, Learner, LearnerEvent, LearningComponentsMarker, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, TrainingModel, ValidLoader,
};
use c2c_fuser::{Fuser, FuserConfig, FuserMode, GateDraw, anneal};
use c2c_kernels::TrainBackend;

use crate::devices::{Devices, Gradients};
use crate::grads::{clip_factor, global_norm, in_own_dtype};
use crate::learner::{ErrorSlot, FuserModule, StepOutput};
use crate::recorder::{Cursor, Recorder, Start};
use crate::{FuserOptimizer, Schedule, StepFacts, TrainError, TrainItem};

/// The learning components of a fuser, for Burn.
pub type FuserLearning<B> = LearningComponentsMarker<B, Schedule, FuserModule<B>, FuserOptimizer<B>>;

/// By what an accumulated gradient is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowMean {
    /// The micro-batches that are in it.
    #[default]
    Own,
    /// The full window, also for an epoch's last, partial one: what the reference implementation does.
    Full,
}

/// What the loop needs to know.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// Optimiser steps in all.
    pub total_steps: usize,
    /// Micro-batches a step.
    pub accumulation: usize,
    /// By what gradients are divided.
    pub window_mean: WindowMean,
    /// Global gradient norm is brought down to this.
    pub max_grad_norm: f64,
    /// Steps between validations; `None` validates after each epoch.
    pub evaluate_every: Option<usize>,
    /// Seeds the device's generator for each micro-batch.
    pub seed: u64,
    /// Where gate noise comes from.
    pub draw: GateDraw,
}

/// Told about every optimiser step.
pub type Observer = Box<dyn FnMut(&StepFacts) + Send>;

/// The strategy.
pub struct StepStrategy<B: TrainBackend> {
    plan: StepPlan,
    /// Another handle of the learner's.
    optimizer: FuserOptimizer<B>,
    errors: ErrorSlot,
    observer: Mutex<Observer>,
    recorder: Option<Arc<Mutex<Recorder<B>>>>,
    start: Start,
    devices: Option<Devices<B>>,
}

impl<B: TrainBackend> StepStrategy<B> {
    /// A strategy after a plan. `optimizer` is a clone of the learner's; `observer` hears of each step; errors of steps end the
    /// training and stay in `errors`.
    pub fn new(plan: StepPlan, optimizer: FuserOptimizer<B>, errors: ErrorSlot, observer: Observer) -> Self {
        let observer = Mutex::new(observer);
        Self { plan, optimizer, errors, observer, recorder: None, start: Start::default(), devices: None }
    }

    /// Writes metrics and checkpoints, and begins where a checkpoint stands. The learner and the data loader have to
    /// stand there already.
    pub fn recorded(self, recorder: Arc<Mutex<Recorder<B>>>, start: Start) -> Self {
        Self { recorder: Some(recorder), start, ..self }
    }

    /// Computes the gradients of a step on these devices; the learner's is the first of them.
    pub fn over(self, devices: Devices<B>) -> Self {
        Self { devices: Some(devices), ..self }
    }

    /// Everything that follows a step: its validation has been done, and it is in `facts`.
    fn after_step(&self, fuser: &Fuser<B>, facts: &StepFacts, cursor: Cursor, ends: bool) -> Result<(), TrainError> {
        if let Ok(mut observer) = self.observer.lock() {
            observer(facts);
        }
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.step(fuser, facts, cursor, ends)
    }
}

/// The seed of a micro-batch: a fixed mix of the run's seed and its number.
pub(crate) fn micro_seed(seed: u64, micro: usize) -> u64 {
    let mut x = seed ^ (micro as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 31)
}

/// The state of the loop.
struct Loop<'a, B: TrainBackend> {
    strategy: &'a StepStrategy<B>,
    config: FuserConfig,
    learner: Learner<FuserLearning<B>>,
    accumulator: GradientsAccumulator<FuserModule<B>>,
    window: Vec<StepOutput<B::InnerBackend>>,
    /// Micro-batches of the window that wait for several devices.
    waiting: Vec<TrainItem<B>>,
    slots: (usize, usize),
    step: usize,
    micro: usize,
    epoch: usize,
    start: Instant,
}

impl<B: TrainBackend> Loop<'_, B> {
    fn temperature(&self) -> f64 {
        let c = &self.config;
        anneal(c.initial_temperature, c.final_temperature, c.anneal_steps, self.step)
    }

    /// One micro-batch: forward, backward, accumulate. Several devices wait until the window is full.
    fn micro_step(&mut self, mut item: TrainItem<B>, device: &B::Device) {
        let seed = micro_seed(self.strategy.plan.seed, self.micro);
        let draw = match self.strategy.plan.draw {
            GateDraw::Random => GateDraw::Seeded(seed),
            draw => draw,
        };
        item.mode = FuserMode::Train { temperature: self.temperature(), draw };
        let (real, all) = item.batch.padding();
        self.slots = (self.slots.0 + real, self.slots.1 + all);
        self.micro += 1;
        if self.strategy.devices.is_some() {
            return self.waiting.push(item);
        }
        B::seed(device, seed);
        let mut output = self.learner.train_step(item);
        let model = self.learner.model();
        if self.strategy.plan.accumulation > 1 {
            in_own_dtype::<B, _>(&model, &mut output.grads);
        }
        self.accumulator.accumulate(&model, output.grads);
        self.window.push(output.item);
    }

    /// Does what has waited for several devices.
    fn catch_up(&mut self) -> Result<(), TrainError> {
        let Some(devices) = self.strategy.devices.as_ref().filter(|_| !self.waiting.is_empty()) else { return Ok(()) };
        let model = self.learner.model();
        let Gradients { grads, outputs } = devices.gradients(&model, std::mem::take(&mut self.waiting))?;
        if self.strategy.errors.is_set() {
            // The first error is the one that is told.
            return Err(TrainError::Stopped("a step failed".into()));
        }
        self.accumulator.accumulate(&model, grads);
        self.window.extend(outputs);
        Ok(())
    }

    /// Ends the window: mean, clip, schedule, optimiser.
    fn optimizer_step(&mut self) -> Result<StepFacts, TrainError> {
        self.catch_up()?;
        let plan = &self.strategy.plan;
        let micro_batches = self.window.len();
        let divisor = match plan.window_mean {
            WindowMean::Own => micro_batches,
            WindowMean::Full => plan.accumulation,
        };
        let model = self.learner.model();
        let grads = self.accumulator.grads();
        let mean = 1.0 / divisor as f64;
        let norm = global_norm::<B, _>(&model, &grads)? * mean;
        let loss = self.window.drain(..).map(|o| o.loss_value()).sum::<f64>() / micro_batches as f64;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.step + 1, loss });
        }
        let temperature = self.temperature();
        self.learner.lr_step();
        // Parameters that nobody else holds are changed in place.
        drop(model);
        self.strategy.optimizer.scale_gradients(mean * clip_factor(norm, plan.max_grad_norm));
        self.learner.optimizer_step(grads);
        if self.strategy.optimizer.awaits_step() {
            return Err(TrainError::Stopped("the strategy was given another optimiser than the learner".into()));
        }
        self.step += 1;
        let (keys, values) = self.learner.model().valid().fuser.gate_logits()?;
        let gates = keys.len() + values.len();
        let open = keys.iter().chain(&values).filter(|g| **g > 0.0).count();
        let (real, all) = std::mem::take(&mut self.slots);
        Ok(StepFacts {
            step: self.step,
            epoch: self.epoch,
            loss,
            learning_rate: self.learner.lr_current(),
            grad_norm: norm,
            temperature,
            gates_open: open as f64 / gates.max(1) as f64,
            tokens: real,
            padding: 1.0 - real as f64 / all.max(1) as f64,
            validation_loss: None,
            seconds: self.strategy.start.seconds + self.start.elapsed().as_secs_f64(),
        })
    }
}

impl<B: TrainBackend> SupervisedLearningStrategy<FuserLearning<B>> for StepStrategy<B> {
    fn fit(
        &self,
        components: TrainingComponents<FuserLearning<B>>,
        learner: Learner<FuserLearning<B>>,
        train: TrainLoader<FuserLearning<B>>,
        valid: ValidLoader<FuserLearning<B>>,
        starting_epoch: usize,
    ) -> (TrainingModel<FuserLearning<B>>, SupervisedTrainingEventProcessor<FuserLearning<B>>) {
        let mut processor = components.event_processor;
        let interrupter = components.interrupter;
        let model = learner.model();
        let device = burn::module::Module::<B>::devices(&model).into_iter().next().unwrap_or_default();
        let mut state = Loop {
            strategy: self,
            config: model.fuser.config().clone(),
            learner,
            accumulator: GradientsAccumulator::new(),
            window: Vec::new(),
            waiting: Vec::new(),
            slots: (0, 0),
            step: self.start.step,
            micro: self.start.micro_batch,
            epoch: starting_epoch,
            start: Instant::now(),
        };
        if state.step >= self.plan.total_steps {
            // The run was killed after its last step.
            return (state.learner.model(), processor);
        }
        'epochs: for epoch in starting_epoch..=components.num_epochs {
            state.epoch = epoch;
            let global = Progress::new(epoch, components.num_epochs);
            let mut batches = train.iter();
            while let Some(item) = batches.next() {
                state.micro_step(item, &device);
                if self.errors.is_set() {
                    break 'epochs;
                }
                let progress = batches.progress();
                let epoch_ends = progress.items_processed >= progress.items_total;
                if state.window.len() + state.waiting.len() < self.plan.accumulation && !epoch_ends {
                    continue;
                }
                let mut facts = match state.optimizer_step() {
                    Ok(facts) => facts,
                    Err(error) => {
                        self.errors.put(error);
                        break 'epochs;
                    }
                };
                processor.process_train(LearnerEvent::ProcessedItem(TrainingItem::new(
                    StepOutput { loss: None, facts: facts.clone() },
                    Progress::new(facts.step, self.plan.total_steps),
                    global.clone(),
                    Some(facts.step),
                    Some(facts.learning_rate),
                )));
                let last = facts.step >= self.plan.total_steps;
                // Measured whether or not the run is being stopped: a step's figures must not depend on that.
                let due = match self.plan.evaluate_every {
                    Some(every) => facts.step.is_multiple_of(every) || last,
                    None => epoch_ends || last,
                };
                if due && valid.num_items() > 0 {
                    facts.validation_loss =
                        Some(validate::<B>(&state.learner, &valid, &mut processor, &global, facts.step, epoch));
                }
                if self.errors.is_set() {
                    break 'epochs;
                }
                let ends = last || interrupter.should_stop();
                let cursor = Cursor {
                    epoch,
                    examples_done: progress.items_processed,
                    examples_in_epoch: progress.items_total,
                    micro_batch: state.micro,
                };
                if let Err(error) = self.after_step(&state.learner.model().fuser, &facts, cursor, ends) {
                    self.errors.put(error);
                    break 'epochs;
                }
                if ends {
                    break 'epochs;
                }
            }
            // A batch that couldn't be made ends its epoch early.
            if self.errors.is_set() {
                break;
            }
            processor.process_train(LearnerEvent::EndEpoch(epoch));
        }
        (state.learner.model(), processor)
    }
}

/// The loss on held-out examples with hard gates: the mean over their labels. NaN if something went wrong.
fn validate<B: TrainBackend>(
    learner: &Learner<FuserLearning<B>>,
    valid: &ValidLoader<FuserLearning<B>>,
    processor: &mut SupervisedTrainingEventProcessor<FuserLearning<B>>,
    global: &Progress,
    step: usize,
    epoch: usize,
) -> f64 {
    let model = learner.model().valid();
    let mut batches = valid.iter();
    let (mut sum, mut labels) = (0.0, 0);
    while let Some(item) = batches.next() {
        let count = item.batch.last().labels.iter().flat_map(|row| row.iter().skip(1)).flatten().count();
        let mut output = burn::train::InferenceStep::step(&model, item);
        output.facts.step = step;
        sum += output.loss_value() * count as f64;
        labels += count;
        let item = TrainingItem::new(output, batches.progress(), global.clone(), Some(step), None);
        processor.process_valid(LearnerEvent::ProcessedItem(item));
    }
    processor.process_valid(LearnerEvent::EndEpoch(epoch));
    sum / labels as f64
}
