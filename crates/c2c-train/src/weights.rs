//! The trained parameters of any module by name: for checkpoints of what isn't a fuser.
//!
//! A parameter's name is its path in the module, `layers.3.qkv`. Parameters that need no gradient have none here: they
//! are what the run began with.

use std::collections::HashMap;
use std::path::Path;

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
    struct Map {
        path: Vec<String>,
        tensors: HashMap<String, TensorData>,
        problems: Vec<String>,
    }
    impl<B: AutodiffBackend> ModuleMapper<B> for Map {
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
            let (shape, device) = (param.val().dims(), param.val().device());
            match take(&mut self.tensors, &self.path.join("."), &shape) {
                Ok(data) => param.map(|_| Tensor::from_data(data, &device).require_grad()),
                Err(problem) => {
                    self.problems.push(problem);
                    param
                }
            }
        }
    }
    let (path, tensors) = checkpoint.weights()?;
    let mut map = Map { path: Vec::new(), tensors, problems: Vec::new() };
    let module = module.map(&mut map);
    none_left(&path, map.tensors, map.problems)?;
    Ok(module)
}

/// The optimiser of this module where a checkpoint left it.
///
/// # Errors
/// Tensors that are missing, misshapen or not of this module.
pub(crate) fn restored_optimizer<B: TrainBackend, M: AutodiffModule<B>>(
    adam: Adam<M, B>,
    module: &M,
    checkpoint: &Checkpoint,
) -> Result<Adam<M, B>, CheckpointError> {
    struct Visit<'a, M: AutodiffModule<B>, B: TrainBackend> {
        path: Vec<String>,
        times: &'a OptimizerTimes,
        tensors: HashMap<String, TensorData>,
        record: AdamRecord<M, B>,
        problems: Vec<String>,
    }
    impl<B: TrainBackend, M: AutodiffModule<B>> ModuleVisitor<B> for Visit<'_, M, B> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let name = self.path.join(".");
            let Some(time) = self.times.get(&name).filter(|_| param.is_require_grad()) else { return };
            let value = param.val().inner();
            let (shape, device) = (value.dims(), value.device());
            let mut read = |which: &str| match take(&mut self.tensors, &format!("{name}.{which}"), &shape) {
                Ok(data) => Some(Tensor::<B::InnerBackend, D>::from_data(data, &device)),
                Err(problem) => {
                    self.problems.push(problem);
                    None
                }
            };
            if let (Some(moment_1), Some(moment_2)) = (read("moment_1"), read("moment_2")) {
                let momentum = AdaptiveMomentumState { time: *time, moment_1, moment_2, max_moment_2: None };
                self.record.insert(param.id, AdaptorRecord::from_state(AdamWState::new(momentum)));
            }
        }
    }
    let (path, tensors) = checkpoint.moments()?;
    let times = &checkpoint.state.optimizer_times;
    let mut visit =
        Visit::<M, B> { path: Vec::new(), times, tensors, record: Default::default(), problems: Vec::new() };
    module.visit(&mut visit);
    let Visit { tensors, record, problems, .. } = visit;
    none_left(&path, tensors, problems)?;
    Ok(adam.load_record(record))
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

fn take(tensors: &mut HashMap<String, TensorData>, name: &str, shape: &[usize]) -> Result<TensorData, String> {
    match tensors.remove(name) {
        None => Err(format!("  {name}: missing, expected shape {shape:?}")),
        Some(data) if data.shape.iter().copied().ne(shape.iter().copied()) => {
            Err(format!("  {name}: found shape {:?}, expected {shape:?}", data.shape))
        }
        Some(data) => Ok(data),
    }
}

fn none_left(
    path: &Path,
    tensors: HashMap<String, TensorData>,
    mut problems: Vec<String>,
) -> Result<(), CheckpointError> {
    let mut unused: Vec<String> = tensors.keys().map(|name| format!("  {name}: no such tensor")).collect();
    unused.sort_unstable();
    problems.append(&mut unused);
    if problems.is_empty() { Ok(()) } else { Err(CheckpointError::Tensors { path: path.to_owned(), problems }) }
}
