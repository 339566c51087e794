//! A tiny fuser that has taken real AdamW steps, and checkpoints of it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::optim::{GradientsParams, Optimizer};
use burn::{Dispatch, DispatchDevice};
use c2c_fuser::{Fuser, FuserConfig, GateNoise};
use c2c_recipe::CheckpointSettings;
use c2c_train::checkpoint::{Best, DataCursor, Identity, OptimizerTimes, RngStreams, Snapshot, State, Store};
use c2c_train::{FuserModule, FuserOptimizer, StepFacts};

pub type B = Dispatch;

pub fn device() -> DispatchDevice {
    DispatchDevice::autodiff(DispatchDevice::Flex(burn_flex::FlexDevice))
}

pub fn config() -> FuserConfig {
    FuserConfig {
        parts: c2c_fuser::FuserParts::default(),
        all_in_one: None,
        sharer_heads: 1,
        sharer_head_dim: 4,
        sharer_layers: 2,
        receiver_heads: 2,
        receiver_head_dim: 2,
        layer_map: vec![0, 1],
        hidden_dim: 4,
        intermediate_dim: 6,
        num_layers: 3,
        dropout: 0.0,
        initial_temperature: 1.0,
        final_temperature: 0.1,
        anneal_steps: 10,
        gate_noise: GateNoise::Gumbel,
        initial_gate_logit: 0.5,
        zero_init: false,
    }
}

pub fn identity() -> Identity {
    Identity { recipe_sha256: "a1".repeat(32), receiver_sha256: "b2".repeat(32), sharer_sha256: "c3".repeat(32) }
}

/// What a run looks like after some steps.
pub struct Run {
    pub module: FuserModule<B>,
    pub optimizer: FuserOptimizer<B>,
    pub step: usize,
}

impl Run {
    pub fn new() -> Self {
        let fuser = Fuser::init(&config(), 7, &device()).unwrap();
        Self { module: FuserModule { fuser }, optimizer: FuserOptimizer::new(0.9, 0.999, 1e-8, 0.01), step: 0 }
    }

    /// One step on a loss that every parameter is in.
    pub fn step(&mut self) {
        let parts = self.module.fuser.named_params().into_iter().map(|(_, p)| p.val().sin().powi_scalar(2).sum());
        let loss = parts.reduce(|a, b| a + b).unwrap();
        let grads = GradientsParams::from_grads(loss.backward(), &self.module);
        self.module = self.optimizer.step(1e-2, self.module.clone(), grads);
        self.step += 1;
    }

    /// Every parameter and moment, to the bit.
    pub fn bits(&self) -> Vec<(String, Vec<u32>)> {
        let bits = |data: burn::tensor::TensorData| data.iter::<f32>().map(f32::to_bits).collect();
        let fuser = &self.module.fuser;
        let mut all: Vec<(String, Vec<u32>)> =
            fuser.named_params().into_iter().map(|(name, p)| (name, bits(p.val().into_data()))).collect();
        for m in self.optimizer.moments(fuser) {
            all.push((format!("{} time", m.name), vec![m.time as u32]));
            all.push((format!("{} first", m.name), bits(m.first.into_data())));
            all.push((format!("{} second", m.name), bits(m.second.into_data())));
        }
        all
    }

    pub fn state(&self, best: Option<Best>) -> State {
        State {
            step: self.step,
            total_steps: 100,
            schedule_steps: self.step,
            data: cursor(),
            rng: RngStreams { seed: 7, order_stream: 0, micro_batch: self.step },
            optimizer_times: OptimizerTimes::new(),
            best,
            last: StepFacts { step: self.step, ..StepFacts::default() },
            train_seconds: 0.5,
        }
    }

    pub fn save(&self, store: &mut Store, best: Option<Best>) {
        let metrics = "{}\n".repeat(self.step);
        let snapshot = Snapshot {
            identity: &identity(),
            fuser: &self.module.fuser,
            optimizer: &self.optimizer,
            state: self.state(best),
            metrics: metrics.as_bytes(),
        };
        store.save(snapshot).unwrap();
    }
}

pub fn cursor() -> DataCursor {
    DataCursor {
        epoch: 1,
        examples_done: 4,
        examples_in_epoch: 50,
        examples: 50,
        validation_examples: 5,
        examples_sha256: "e5".repeat(32),
        sources: vec![],
    }
}

/// A store, and what it tells.
pub fn store(dir: &Path, keep_last: usize, keep_best: bool) -> (Store, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = told.clone();
    let settings = CheckpointSettings { every: 1, keep_last, keep_best };
    let notes = Box::new(move |note: &str| notes.lock().unwrap().push(note.to_owned()));
    (Store::open(dir, &settings, notes).unwrap(), told)
}

/// The names in a folder, sorted, without the lock.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}
