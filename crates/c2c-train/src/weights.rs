//! The trained parameters of any module by name: for checkpoints of what isn't a fuser.
//!
//! A parameter's name is its path in the module, `layers.3.qkv`. Parameters that need no gradient have none here: they
//! are what the run began with.

use std::collections::HashMap;
use std::path::PathBuf;

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::record::AdaptorRecord;
use burn::optim::{AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use c2c_kernels::TrainBackend;
use c2c_recipe::OptimizerSettings;

use crate::adamw::OnePassAdamW;
use crate::checkpoint::{Checkpoint, CheckpointError, Kept, OptimizerTimes};

/// AdamW over any module.
pub(crate) type Adam<M, B> = OptimizerAdaptor<OnePassAdamW, M, B>;
type AdamRecord<M, B> = <Adam<M, B> as Optimizer<M, B>>::Record;

/// AdamW as a recipe wants it; every trained parameter decays.
pub(crate) fn adam_w<B: TrainBackend, M: AutodiffModule<B>>(o: &OptimizerSettings) -> Adam<M, B> {
    OnePassAdamW::new(o.beta1, o.beta2, o.epsilon, o.weight_decay).into()
}

/// What a checkpoint keeps of a module and its optimiser.
pub(crate) fn kept<B: TrainBackend, M: AutodiffModule<B>>(module: &M, adam: &Adam<M, B>) -> Kept {
    struct Visit<'a, M: AutodiffModule<B>, B: TrainBackend> {
        path: Vec<String>,
        record: &'a AdamRecord<M, B>,
        kept: Kept,
    }
    impl<B: TrainBackend, M: AutodiffModule<B>> ModuleVisitor<B> for Visit<'_, M, B> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if !param.is_require_grad() {
                return;
            }
            let name = self.path.join(".");
            self.kept.weights.push((&name, &param.val()).into());
            if let Some(state) = self.record.get(&param.id) {
                let momentum = state.clone().into_state::<D>().momentum;
                self.kept.times.insert(name.clone(), momentum.time);
                self.kept.moments.push((&format!("{name}.moment_1"), &momentum.moment_1).into());
                self.kept.moments.push((&format!("{name}.moment_2"), &momentum.moment_2).into());
            }
        }
    }
    let record = adam.to_record();
    let mut visit = Visit::<M, B> { path: Vec::new(), record: &record, kept: Kept::default() };
    module.visit(&mut visit);
    visit.kept
}

/// The module with its trained parameters as a checkpoint has them.
///
/// # Errors
/// Tensors that are missing, misshapen or not of this module.
pub(crate) fn restored<B: TrainBackend, M: AutodiffModule<B>>(
    module: M,
    checkpoint: &Checkpoint,
) -> Result<M, CheckpointError> {
    Ok(restore::<B, M>(module, checkpoint, None)?.0)
}

/// What a run begins with: module and optimiser as they are, or where a checkpoint left them.
///
/// # Errors
/// Tensors that are missing, misshapen or not of this module.
pub(crate) fn begun<B: TrainBackend, M: AutodiffModule<B>>(
    module: M,
    adam: Adam<M, B>,
    from: Option<&Checkpoint>,
) -> Result<(M, Adam<M, B>), CheckpointError> {
    let Some(checkpoint) = from else { return Ok((module, adam)) };
    let moments = (&checkpoint.state.optimizer_times, Tensors::of(checkpoint.moments()?));
    let (module, record) = restore::<B, M>(module, checkpoint, Some(moments))?;
    Ok((module, adam.load_record(record)))
}

/// AdamW's state of a checkpoint.
type Moments<'a> = (&'a OptimizerTimes, Tensors);

/// Puts the weights of a checkpoint into a module, and reads the optimiser's state that belongs to them.
fn restore<B: TrainBackend, M: AutodiffModule<B>>(
    module: M,
    checkpoint: &Checkpoint,
    moments: Option<Moments<'_>>,
) -> Result<(M, AdamRecord<M, B>), CheckpointError> {
    struct Map<'a, M: AutodiffModule<B>, B: TrainBackend> {
        path: Vec<String>,
        weights: Tensors,
        moments: Option<Moments<'a>>,
        record: AdamRecord<M, B>,
    }
    impl<B: TrainBackend, M: AutodiffModule<B>> ModuleMapper<B> for Map<'_, M, B> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            if !param.is_require_grad() {
                return param;
            }
            let name = self.path.join(".");
            let (shape, device) = (param.val().dims(), param.val().device());
            if let Some((times, tensors)) = &mut self.moments
                && let Some(time) = times.get(&name)
            {
                let device = param.val().inner().device();
                let mut read = |which: &str| {
                    let data = tensors.take(&format!("{name}.{which}"), &shape)?;
                    Some(Tensor::<B::InnerBackend, D>::from_data(data, &device))
                };
                if let (Some(moment_1), Some(moment_2)) = (read("moment_1"), read("moment_2")) {
                    let momentum = AdaptiveMomentumState { time: *time, moment_1, moment_2, max_moment_2: None };
                    self.record.insert(param.id, AdaptorRecord::from_state(AdamWState::new(momentum)));
                }
            }
            match self.weights.take(&name, &shape) {
                Some(data) => param.map(|_| Tensor::from_data(data, &device).require_grad()),
                None => param,
            }
        }
    }
    let weights = Tensors::of(checkpoint.weights()?);
    let mut map = Map::<M, B> { path: Vec::new(), weights, moments, record: Default::default() };
    let module = module.map(&mut map);
    map.weights.none_left()?;
    map.moments.map_or(Ok(()), |(_, tensors)| tensors.none_left())?;
    Ok((module, map.record))
}

/// How many parameters are trained.
pub(crate) fn count<B: TrainBackend, M: AutodiffModule<B>>(module: &M) -> usize {
    struct Visit(usize);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Visit {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if param.is_require_grad() {
                self.0 += param.val().shape().num_elements();
            }
        }
    }
    let mut visit = Visit(0);
    Module::<B>::visit(module, &mut visit);
    visit.0
}

/// The tensors of a file, each taken once, and what is wrong with them.
struct Tensors {
    path: PathBuf,
    left: HashMap<String, TensorData>,
    problems: Vec<String>,
}

impl Tensors {
    fn of((path, left): (PathBuf, HashMap<String, TensorData>)) -> Self {
        Self { path, left, problems: Vec::new() }
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Option<TensorData> {
        match self.left.remove(name) {
            None => self.problems.push(format!("  {name}: missing, expected shape {shape:?}")),
            Some(data) if data.shape.iter().copied().ne(shape.iter().copied()) => {
                self.problems.push(format!("  {name}: found shape {:?}, expected {shape:?}", data.shape));
            }
            Some(data) => return Some(data),
        }
        None
    }

    fn none_left(self) -> Result<(), CheckpointError> {
        let mut unused: Vec<String> = self.left.keys().map(|name| format!("  {name}: no such tensor")).collect();
        unused.sort_unstable();
        let problems = [self.problems, unused].concat();
        if problems.is_empty() { Ok(()) } else { Err(CheckpointError::Tensors { path: self.path, problems }) }
    }
}
