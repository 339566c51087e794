//! Several devices: each computes the gradient of a part of a step, and the first one takes the step.
//!
//! Burn 0.21 has strategies of its own for several devices, but they are whole training loops around its own step: they
//! move the schedule once a micro-batch, add up instead of averaging, and hand a data loader to each device. What differs
//! in ours is the gradient's origin alone, so only that is here, from the same parts: [`Module::fork`], a thread a device,
//! and gradients that are moved to the first one.
//!
//! A step's micro-batches go round the devices. If there are fewer micro-batches than devices, each is cut into parts by
//! rows, whose gradients are weighed by their labels: the gradient is that of the whole, but for the order of summation.
//! Gate noise and dropout of a whole micro-batch are the same on any number of devices; those of a part are its own.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::backend::DeviceOps;
use burn::tensor::{Device, Tensor};
use burn::train::TrainStep;
use c2c_fuser::{FuserMode, GateDraw};
use c2c_kernels::TrainBackend;

use crate::grads::{in_own_dtype, scale};
use crate::learner::{FrozenPair, FuserModule, StepOutput, TrainItem};
use crate::loader::message;
use crate::{StepFacts, TrainError};

/// The frozen models of a run on each of its devices.
#[derive(Debug)]
pub struct Devices<B: TrainBackend> {
    replicas: Vec<Replica<B>>,
}

/// One device and the frozen models there.
type Replica<B> = (Device<B>, Arc<FrozenPair<B>>);

/// What a step's micro-batches come to, on the first device.
pub struct Gradients<B: TrainBackend> {
    /// The sum of the micro-batches' gradients.
    pub grads: GradientsParams,
    /// The loss of each micro-batch.
    pub outputs: Vec<StepOutput<B::InnerBackend>>,
}

/// A micro-batch, or a part of one.
struct Job<B: TrainBackend> {
    micro_batch: usize,
    item: TrainItem<B>,
    /// Its share of the micro-batch's labels.
    weight: f64,
}

/// What a device hands back: the weighed sum of its gradients, and micro-batch and weighed loss of each of its jobs.
type Share = (GradientsParams, Vec<(usize, f64)>);

impl<B: TrainBackend> Devices<B> {
    /// The models on further devices, beside the first, where they are.
    pub fn new(first: B::Device, pair: Arc<FrozenPair<B>>, more: &[B::Device]) -> Self {
        let copied = |device: &B::Device| {
            let plain = device.inner();
            let (receiver, sharer) = (pair.receiver.clone().to_device(plain), pair.sharer.clone().to_device(plain));
            (device.clone(), Arc::new(FrozenPair::new(receiver, sharer)))
        };
        let more: Vec<_> = more.iter().map(copied).collect();
        Self { replicas: [(first, pair)].into_iter().chain(more).collect() }
    }

    /// The gradients of some micro-batches.
    ///
    /// # Errors
    /// A batch that can't be cut, a thread that panicked. Errors inside a step are in the items' error slot.
    pub fn gradients(&self, model: &FuserModule<B>, items: Vec<TrainItem<B>>) -> Result<Gradients<B>, TrainError> {
        let count = items.len();
        let parts = if count < self.replicas.len() { self.replicas.len().div_ceil(count.max(1)) } else { 1 };
        let mut queues: Vec<Vec<Job<B>>> = self.replicas.iter().map(|_| Vec::new()).collect();
        let mut next = 0;
        for (micro_batch, item) in items.into_iter().enumerate() {
            for job in cut(micro_batch, item, parts)? {
                queues[next].push(job);
                next = (next + 1) % self.replicas.len();
            }
        }
        let shares: Vec<Result<Share, TrainError>> = std::thread::scope(|scope| {
            let work = |((device, pair), jobs): (&Replica<B>, Vec<Job<B>>)| {
                let (model, device, pair) = (model.clone(), device.clone(), pair.clone());
                scope.spawn(move || share(model, &device, &pair, jobs))
            };
            let threads: Vec<_> = self.replicas.iter().zip(queues).map(work).collect();
            let joined = |thread: std::thread::ScopedJoinHandle<'_, Share>| {
                thread.join().map_err(|panic| TrainError::Stopped(format!("a device: {}", message(&*panic))))
            };
            threads.into_iter().map(joined).collect()
        });
        let first = self.replicas[0].0.inner();
        let mut sum = GradientsAccumulator::new();
        let mut losses = vec![0.0; count];
        // In the order of the devices: a sum must not depend on who was first.
        for share in shares {
            let (grads, own) = share?;
            sum.accumulate(model, grads.to_device::<B, _>(first, model));
            own.into_iter().for_each(|(micro_batch, loss)| losses[micro_batch] += loss);
        }
        let output = |loss: f64| StepOutput {
            loss: Some(Tensor::from_floats([loss as f32], first)),
            facts: StepFacts::default(),
        };
        Ok(Gradients { grads: sum.grads(), outputs: losses.into_iter().map(output).collect() })
    }
}

/// One device's jobs, one after the other.
fn share<B: TrainBackend>(
    model: FuserModule<B>,
    device: &B::Device,
    pair: &Arc<FrozenPair<B>>,
    jobs: Vec<Job<B>>,
) -> Share {
    let model = model.fork(device);
    let mut sum = GradientsAccumulator::new();
    let mut losses = Vec::with_capacity(jobs.len());
    for Job { micro_batch, mut item, weight } in jobs {
        item.pair = pair.clone();
        let errors = item.errors.clone();
        let mut output = TrainStep::step(&model, item);
        if errors.is_set() {
            break;
        }
        in_own_dtype::<B, _>(&model, &mut output.grads);
        scale::<B, _>(&model, &mut output.grads, weight);
        sum.accumulate(&model, output.grads);
        losses.push((micro_batch, weight * output.item.loss_value()));
    }
    (sum.grads(), losses)
}

/// Cuts a micro-batch by rows; parts without a label have no gradient and are left out.
fn cut<B: TrainBackend>(micro_batch: usize, item: TrainItem<B>, parts: usize) -> Result<Vec<Job<B>>, TrainError> {
    let rows = item.batch.rows();
    if parts.min(rows) <= 1 {
        return Ok(vec![Job { micro_batch, item, weight: 1.0 }]);
    }
    let all = labels(&item.batch);
    let size = rows.div_ceil(parts);
    let mut jobs = Vec::new();
    for (number, start) in (0..rows).step_by(size).enumerate() {
        let range = start..(start + size).min(rows);
        let batch = item.batch.part(range.clone())?;
        let own = labels(&batch);
        if own == 0 && all > 0 {
            continue;
        }
        let contexts = item.contexts.as_ref().map(|contexts| Arc::new(contexts.part(range)));
        let mode = match item.mode {
            // Parts of one micro-batch don't draw the same.
            FuserMode::Train { temperature, draw: GateDraw::Seeded(seed) } => {
                FuserMode::Train { temperature, draw: GateDraw::Seeded(seed.wrapping_add(number as u64)) }
            }
            mode => mode,
        };
        let part = TrainItem { batch: Arc::new(batch), contexts, mode, ..item.clone() };
        jobs.push(Job { micro_batch, item: part, weight: own as f64 / all.max(1) as f64 });
    }
    Ok(jobs)
}

/// Labels of the last section that the loss counts: the first slot has nothing before it to predict it from.
fn labels(batch: &c2c_fuser::PairBatch) -> usize {
    batch.last().labels.iter().flat_map(|row| row.iter().skip(1)).flatten().count()
}
