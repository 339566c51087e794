//! AdamW whose state can be looked at while Burn's learner holds it.
//!
//! Burn's `Learner` keeps its optimiser to itself and hands its state out to Burn's own checkpointer only, which writes
//! three unrelated files. A clone of a [`FuserOptimizer`] is another handle of the same optimiser, so that the strategy
//! can save what the learner changes, and tell the next step what its gradients are multiplied with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::record::AdaptorRecord;
use burn::optim::{AdamWState, AdaptiveMomentumState, GradientsParams, MultiGradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use c2c_fuser::Fuser;
use c2c_kernels::TrainBackend;

use crate::FuserModule;
use crate::adamw::OnePassAdamW;

type Adam<B> = OptimizerAdaptor<OnePassAdamW, FuserModule<B>, B>;
type AdamRecord<B> = <Adam<B> as Optimizer<FuserModule<B>, B>>::Record;

/// The optimiser of a fuser; clones share its state.
#[derive(Clone)]
pub struct FuserOptimizer<B: TrainBackend>(Arc<Mutex<State<B>>>);

struct State<B: TrainBackend> {
    adam: Adam<B>,
    /// What the gradients of the next step are multiplied with; 1 if nothing was said.
    factor: Option<f64>,
}

impl<B: TrainBackend> State<B> {
    fn step(&mut self, step: impl FnOnce(&mut Adam<B>) -> FuserModule<B>) -> FuserModule<B> {
        let Self { adam, factor } = self;
        adam.optim().factor().during(factor.take().unwrap_or(1.0), || step(adam))
    }
}

/// What AdamW knows about one parameter.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// The parameter's name in the artefact.
    pub name: String,
    /// Steps taken.
    pub time: usize,
    /// Mean of the gradient.
    pub first: Tensor<B, 3>,
    /// Mean of its square.
    pub second: Tensor<B, 3>,
}

impl<B: TrainBackend> FuserOptimizer<B> {
    /// AdamW of these numbers; every parameter decays. No AMSGrad, no clipping of its own: the strategy clips.
    pub fn new(beta1: f64, beta2: f64, epsilon: f64, decay: f64) -> Self {
        let adam = OnePassAdamW::new(beta1, beta2, epsilon, decay);
        Self(Arc::new(Mutex::new(State { adam: OptimizerAdaptor::from(adam), factor: None })))
    }

    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Multiplies the gradients of the next step, and of no other, with a factor. Where the device has a kernel for the step that
    /// takes no pass over them.
    pub fn scale_gradients(&self, factor: f64) {
        self.state().factor = Some(factor);
    }

    /// True while a factor waits for the step that it was given for.
    pub(crate) fn awaits_step(&self) -> bool {
        self.state().factor.is_some()
    }

    /// The state by parameter name, in the order of [`Fuser::named_params`]; before the first step there is none.
    pub fn moments(&self, fuser: &Fuser<B>) -> Vec<Moments<B::InnerBackend>> {
        let mut record = self.state().adam.to_record();
        let of_param = |(name, param): (String, &burn::module::Param<Tensor<B, 3>>)| {
            let momentum = record.remove(&param.id)?.into_state::<3>().momentum;
            Some(Moments { name, time: momentum.time, first: momentum.moment_1, second: momentum.moment_2 })
        };
        fuser.named_params().into_iter().filter_map(of_param).collect()
    }

    /// Goes on from this state; parameters that it doesn't name start anew.
    pub fn restore(&self, fuser: &Fuser<B>, moments: Vec<Moments<B::InnerBackend>>) {
        let mut record = AdamRecord::<B>::default();
        let params = fuser.named_params();
        for m in moments {
            if let Some((_, param)) = params.iter().find(|(name, _)| *name == m.name) {
                let momentum =
                    AdaptiveMomentumState { time: m.time, moment_1: m.first, moment_2: m.second, max_moment_2: None };
                record.insert(param.id, AdaptorRecord::from_state(AdamWState::new(momentum)));
            }
        }
        let mut state = self.state();
        state.adam = state.adam.clone().load_record(record);
    }
}

impl<B: TrainBackend> Optimizer<FuserModule<B>, B> for FuserOptimizer<B> {
    type Record = AdamRecord<B>;

    fn step(&mut self, rate: f64, module: FuserModule<B>, grads: GradientsParams) -> FuserModule<B> {
        self.state().step(|adam| adam.step(rate, module, grads))
    }

    fn step_multi(&mut self, rate: f64, module: FuserModule<B>, grads: MultiGradientsParams) -> FuserModule<B> {
        self.state().step(|adam| adam.step_multi(rate, module, grads))
    }

    fn to_record(&self) -> Self::Record {
        self.state().adam.to_record()
    }

    fn load_record(self, record: Self::Record) -> Self {
        let mut state = self.state();
        state.adam = state.adam.clone().load_record(record);
        drop(state);
        self
    }
}
