//! The training loop of what isn't a fuser: one module, one loss.
//!
//! A step is what it is for a fuser (see [`crate::StepStrategy`]): the mean of its micro-batches' gradients, clipped by
//! global norm; the schedule moves once a step; an epoch's last partial window is a step too; validation after a set
//! number of steps or each epoch. Data order, seeds, metrics and checkpoints are the same, so runs can be compared.

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::train::Interrupter;
use c2c_kernels::TrainBackend;

use crate::grads::{clip_factor, global_norm};
use crate::loss::scalar;
use crate::recorder::{Cursor, RunLog, Start};
use crate::strategy::micro_seed;
use crate::weights::{Adam, kept};
use crate::{Observer, Order, Schedule, StepFacts, TrainError};

/// The loss of some examples.
pub(crate) struct Micro<B: TrainBackend> {
    /// Mean loss, `[1]`.
    pub(crate) loss: Tensor<B, 1>,
    /// Tokens, padding not counted, and slots in all.
    pub(crate) slots: (usize, usize),
}

/// What is learnt.
pub(crate) trait Task<B: TrainBackend> {
    /// What learns.
    type Module: AutodiffModule<B>;

    /// The loss of some training examples.
    fn loss(&self, module: &Self::Module, examples: &[usize]) -> Result<Micro<B>, TrainError>;

    /// The loss of all held-out examples; `None` without any.
    fn validation(&self, module: &<Self::Module as AutodiffModule<B>>::InnerModule) -> Result<Option<f64>, TrainError>;
}

/// How it is learnt.
pub(crate) struct FitPlan {
    /// Optimiser steps in all.
    pub(crate) total_steps: usize,
    /// Examples a micro-batch.
    pub(crate) batch_size: usize,
    /// Micro-batches a step.
    pub(crate) accumulation: usize,
    /// Global gradient norm is brought down to this.
    pub(crate) max_grad_norm: f64,
    /// Steps between validations; `None` validates after each epoch.
    pub(crate) evaluate_every: Option<usize>,
    /// The run's seed.
    pub(crate) seed: u64,
    /// The order of the examples.
    pub(crate) order: Order,
    /// Examples.
    pub(crate) examples: usize,
    /// The learning rate.
    pub(crate) schedule: Schedule,
}

/// What a run is told by, and tells.
pub(crate) struct Session<'a> {
    /// Where it begins.
    pub(crate) start: Start,
    /// Epoch from 1, and examples of it that are done.
    pub(crate) cursor: (usize, usize),
    /// Writes it down.
    pub(crate) log: &'a mut RunLog,
    /// Stops it after a step.
    pub(crate) interrupter: Interrupter,
    /// Hears of each step.
    pub(crate) observer: Observer,
}

/// Trains a module; returns it with the figures of the last step.
pub(crate) fn fit<B: TrainBackend, T: Task<B>>(
    task: &T,
    mut module: T::Module,
    mut adam: Adam<T::Module, B>,
    plan: &FitPlan,
    device: &B::Device,
    session: Session<'_>,
) -> Result<(T::Module, StepFacts), TrainError> {
    let Session { start, cursor: (first_epoch, mut skip), log, interrupter, mut observer } = session;
    let clock = Instant::now();
    let (mut step, mut micro, mut last) = (start.step, start.micro_batch, start.last);
    let mut epoch = first_epoch;
    while step < plan.total_steps {
        let order = plan.order.epoch(plan.examples, epoch - 1);
        let mut done = std::mem::take(&mut skip);
        let mut window = Window::default();
        while done < order.len() {
            let end = (done + plan.batch_size).min(order.len());
            B::seed(device, micro_seed(plan.seed, micro));
            window.add(&module, task.loss(&module, &order[done..end])?);
            (micro, done) = (micro + 1, end);
            let epoch_ends = done >= order.len();
            if window.losses.len() < plan.accumulation && !epoch_ends {
                continue;
            }
            let rate = plan.schedule.rate(step);
            let (stepped, mut facts) = std::mem::take(&mut window).end(module, &mut adam, rate, plan, step + 1)?;
            module = stepped;
            step += 1;
            facts.epoch = epoch;
            let ended = step >= plan.total_steps;
            // Measured whether or not the run is being stopped: a step's figures must not depend on that.
            let due = match plan.evaluate_every {
                Some(every) => step.is_multiple_of(every) || ended,
                None => epoch_ends || ended,
            };
            if due {
                facts.validation_loss = task.validation(&module.valid())?;
            }
            facts.seconds = start.seconds + clock.elapsed().as_secs_f64();
            observer(&facts);
            let ends = ended || interrupter.should_stop();
            let cursor = Cursor { epoch, examples_done: done, examples_in_epoch: order.len(), micro_batch: micro };
            log.step(&facts, cursor, ends, || kept(&module, &adam))?;
            last = facts;
            if ends {
                return Ok((module, last));
            }
        }
        epoch += 1;
    }
    // The run was killed after its last step.
    Ok((module, last))
}

/// The micro-batches of a step.
struct Window<B: TrainBackend, M: AutodiffModule<B>> {
    sum: GradientsAccumulator<M>,
    losses: Vec<Tensor<B::InnerBackend, 1>>,
    slots: (usize, usize),
}

impl<B: TrainBackend, M: AutodiffModule<B>> Default for Window<B, M> {
    fn default() -> Self {
        Self { sum: GradientsAccumulator::new(), losses: Vec::new(), slots: (0, 0) }
    }
}

impl<B: TrainBackend, M: AutodiffModule<B>> Window<B, M> {
    fn add(&mut self, module: &M, micro: Micro<B>) {
        self.losses.push(micro.loss.clone().inner());
        self.slots = (self.slots.0 + micro.slots.0, self.slots.1 + micro.slots.1);
        self.sum.accumulate(module, GradientsParams::from_grads(micro.loss.backward(), module));
    }

    fn end(
        mut self,
        module: M,
        adam: &mut Adam<M, B>,
        rate: f64,
        plan: &FitPlan,
        step: usize,
    ) -> Result<(M, StepFacts), TrainError> {
        let grads = self.sum.grads();
        let mean = 1.0 / self.losses.len() as f64;
        let norm = global_norm::<B, _>(&module, &grads)? * mean;
        let factor = mean * clip_factor(norm, plan.max_grad_norm);
        let loss = self.losses.into_iter().map(scalar).sum::<f64>() * mean;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(TrainError::Diverged { step, loss });
        }
        let (real, all) = self.slots;
        let facts = StepFacts {
            step,
            loss,
            learning_rate: rate,
            grad_norm: norm,
            tokens: real,
            padding: 1.0 - real as f64 / all.max(1) as f64,
            ..StepFacts::default()
        };
        Ok((adam.optim().factor().during(factor, || adam.step(rate, module, grads)), facts))
    }
}
