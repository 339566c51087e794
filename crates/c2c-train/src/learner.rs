//! What Burn's learner trains: the fuser alone. The frozen models travel beside it, in the items.

use std::sync::{Arc, Mutex};

use burn::module::{AutodiffModule, Module};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use c2c_fuser::{C2c, Contexts, Fuser, FuserMode, Fusion, HostContexts, PairBatch};
use c2c_kernels::{KernelBackend, TrainBackend};
use c2c_lm::{Lm, LogitsWanted};

use crate::loss::{loss_gradient, scalar, supervised_loss};
use crate::{StepFacts, TrainError};

/// The module that is trained, saved and forked.
#[derive(Module, Debug)]
pub struct FuserModule<B: Backend> {
    /// The fuser.
    pub fuser: Fuser<B>,
}

/// The frozen models of a run, once on the plain device and, sharing its weights, the receiver on the autodiff device.
#[derive(Debug)]
pub struct FrozenPair<B: TrainBackend> {
    /// The model that answers.
    pub receiver: Lm<B::InnerBackend>,
    /// The same weights for the pass that gradients go through.
    pub receiver_autodiff: Lm<B>,
    /// The model that shares its cache.
    pub sharer: Lm<B::InnerBackend>,
}

impl<B: TrainBackend> FrozenPair<B> {
    /// Freezes both models.
    pub fn new(receiver: Lm<B::InnerBackend>, sharer: Lm<B::InnerBackend>) -> Self {
        let receiver = receiver.no_grad();
        let sharer = sharer.no_grad();
        let receiver_autodiff = <Lm<B> as AutodiffModule<B>>::from_inner(receiver.clone()).no_grad();
        Self { receiver, receiver_autodiff, sharer }
    }
}

/// The first error inside a step; Burn's step functions can't return one.
#[derive(Clone, Debug, Default)]
pub struct ErrorSlot(Arc<Mutex<Option<TrainError>>>);

impl ErrorSlot {
    /// Keeps the first error.
    pub fn put(&self, error: TrainError) {
        let mut slot = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        slot.get_or_insert(error);
    }

    /// Takes the error out, if there is one.
    pub fn take(&self) -> Option<TrainError> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// True once something went wrong.
    pub fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }
}

/// One micro-batch for training.
#[derive(Clone, Debug)]
pub struct TrainItem<B: TrainBackend> {
    /// The prompts and their labels.
    pub batch: Arc<PairBatch>,
    /// What the frozen models know of it, if it was prepared; else they are run.
    pub contexts: Option<Arc<HostContexts>>,
    /// The frozen models.
    pub pair: Arc<FrozenPair<B>>,
    /// Temperature and noise; set by the strategy, which knows the step.
    pub mode: FuserMode,
    /// Where errors go.
    pub errors: ErrorSlot,
}

/// One batch for validation.
#[derive(Clone, Debug)]
pub struct ValidItem<B: Backend> {
    /// The prompts and their labels.
    pub batch: Arc<PairBatch>,
    /// What the frozen models know of it, if it was prepared; else they are run.
    pub contexts: Option<Arc<HostContexts>>,
    /// The model that answers.
    pub receiver: Lm<B>,
    /// The model that shares its cache.
    pub sharer: Lm<B>,
    /// Where errors go.
    pub errors: ErrorSlot,
}

/// What a step hands to the metrics. The loss stays on the device until it is asked for.
#[derive(Clone, Debug)]
pub struct StepOutput<B: Backend> {
    /// Mean loss, `[1]`; `None` after an error.
    pub loss: Option<Tensor<B, 1>>,
    /// Everything else.
    pub facts: StepFacts,
}

impl<B: Backend> StepOutput<B> {
    /// The loss on the host; NaN after an error.
    pub fn loss_value(&self) -> f64 {
        self.loss.clone().map_or(f64::NAN, scalar)
    }
}

impl<B: Backend> ItemLazy for StepOutput<B> {
    type ItemSync = StepFacts;

    fn sync(self) -> StepFacts {
        let loss = if self.loss.is_some() { self.loss_value() } else { self.facts.loss };
        StepFacts { loss, ..self.facts }
    }
}

impl<B: TrainBackend> TrainStep for FuserModule<B> {
    type Input = TrainItem<B>;
    type Output = StepOutput<B::InnerBackend>;

    fn step(&self, item: TrainItem<B>) -> TrainOutput<Self::Output> {
        let pair = &item.pair;
        let contexts = match &item.contexts {
            Some(contexts) => contexts.load(&pair.receiver, &pair.sharer),
            None => {
                let depth = self.fuser.config().sharer_depth();
                Contexts::compute(&pair.receiver, &pair.sharer, depth, &item.batch)
            }
        };
        let losses = contexts.map_err(TrainError::from).and_then(|contexts| self.losses(contexts, &item));
        match losses {
            Ok((value, loss)) => {
                let output = StepOutput { loss: Some(value), facts: StepFacts::default() };
                TrainOutput::new(self, loss.backward(), output)
            }
            Err(error) => {
                item.errors.put(error);
                TrainOutput {
                    grads: GradientsParams::new(),
                    item: StepOutput { loss: None, facts: StepFacts::default() },
                }
            }
        }
    }
}

impl<B: TrainBackend> FuserModule<B> {
    /// The loss, and what to go back from: through the frozen receiver by kernels where they can, else by autodiff.
    fn losses(
        &self,
        contexts: Contexts<B::InnerBackend>,
        item: &TrainItem<B>,
    ) -> Result<(Tensor<B::InnerBackend, 1>, Tensor<B, 1>), TrainError> {
        let (fuser, pair, labels) = (&self.fuser, &item.pair, &item.batch.last().labels);
        let unlabelled = || TrainError::Stopped("a batch without a single label in its last section".into());
        if fuser.traces(&pair.receiver, &item.batch) {
            let head = |hidden| loss_gradient(&pair.receiver, hidden, labels);
            let traced = fuser.train_traced(contexts, &pair.receiver, &item.batch, item.mode, head)?;
            return traced.map(|traced| (traced.loss, traced.surrogate)).ok_or_else(unlabelled);
        }
        let logits = fuser.train_from(contexts, &pair.receiver_autodiff, &item.batch, item.mode)?;
        let loss = supervised_loss(logits, labels).ok_or_else(unlabelled)?;
        Ok((loss.clone().inner(), loss))
    }
}

impl<B: KernelBackend> InferenceStep for FuserModule<B> {
    type Input = ValidItem<B>;
    type Output = StepOutput<B>;

    fn step(&self, item: ValidItem<B>) -> StepOutput<B> {
        let c2c = C2c { receiver: item.receiver, sharer: item.sharer, fuser: self.fuser.clone() };
        let prefilled = match &item.contexts {
            Some(contexts) => contexts
                .load(&c2c.receiver, &c2c.sharer)
                .and_then(|contexts| c2c.prefill_from(&contexts, &item.batch, LogitsWanted::All)),
            None => c2c.prefill(&item.batch, Fusion::On, LogitsWanted::All),
        };
        let loss = match prefilled {
            Ok(prefilled) => supervised_loss(prefilled.logits, &item.batch.last().labels),
            Err(error) => {
                item.errors.put(error.into());
                None
            }
        };
        StepOutput { loss, facts: StepFacts::default() }
    }
}
