//! Training: loss, gradients, norms, rates, temperatures and parameters against the fixtures, through Burn's learner and
//! the project's own strategy.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::Dispatch;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn::train::{InferenceStep, Learner, SupervisedTraining, TrainStep, TrainingStrategy};
use c2c_export::published;
use c2c_fuser::{Fuser, FuserConfig, FuserMode, GateDraw, PairBatch};
use c2c_lm::{Lm, ModelDtype};
use c2c_tests::{Array, B, Fixture, assert_close, autodiff_device, device, for_each_case, pair_batch};
use c2c_train::{
    BatchLoader, ErrorSlot, FrozenPair, FuserModule, FuserOptimizer, Order, Schedule, ScheduleShape, StepFacts,
    StepPlan, StepStrategy, TrainItem, ValidItem, WindowMean, grads,
};
use serde_json::Value;

/// Largest difference of a gradient.
const GRADIENT: f64 = 2e-5;
/// Largest difference of a loss; largest relative difference of a gradient norm.
const LOSS: f64 = 1e-5;
/// Largest difference of a parameter after the optimiser's steps.
const PARAMETER: f64 = 5e-6;

struct Case {
    json: Value,
    expected: Fixture,
    micro_batches: Vec<Arc<PairBatch>>,
    pair: Arc<FrozenPair<Dispatch>>,
    config: FuserConfig,
    fuser: Fuser<B>,
}

impl Case {
    fn open(dir: &Path) -> Self {
        let json: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("case.json")).unwrap()).unwrap();
        let model =
            |key: &str| Lm::<B>::from_dir(&dir.join(json[key].as_str().unwrap()), ModelDtype::F32, &device()).unwrap();
        let (receiver, sharer) = (model("receiver"), model("sharer"));
        let loaded = published::load::<B>(dir, receiver.config(), sharer.config(), &device()).unwrap();
        let config = FuserConfig {
            initial_temperature: json["initial_temperature"].as_f64().unwrap(),
            final_temperature: json["final_temperature"].as_f64().unwrap(),
            anneal_steps: json["anneal_steps"].as_u64().unwrap() as usize,
            dropout: 0.0,
            ..loaded.fuser.config().clone()
        };
        let batches = Fixture::open(&dir.join("batches.safetensors"));
        let micro_batches = (0..)
            .map_while(|i| {
                let name = format!("mb{i}");
                let sections = batches.find(&format!("{name}.sections"))?;
                let sections: Vec<(usize, i64)> =
                    sections.values.chunks(2).map(|s| (s[0] as usize, s[1] as i64)).collect();
                Some(Arc::new(pair_batch(&batches, &name, &sections)))
            })
            .collect();
        Self {
            expected: Fixture::open(&dir.join("expected.safetensors")),
            pair: Arc::new(FrozenPair::new(receiver, sharer)),
            micro_batches,
            config,
            fuser: loaded.fuser,
            json,
        }
    }

    /// The published fuser with the case's temperatures, ready to train.
    fn module(&self) -> FuserModule<Dispatch> {
        let params = self.fuser.named_params();
        let fuser = Fuser::load(&self.config, &autodiff_device(), |name, _| {
            let (_, param) = params.iter().find(|(n, _)| n == name).unwrap();
            Ok(param.val().to_data().to_vec::<f32>().unwrap())
        });
        FuserModule { fuser: fuser.unwrap() }
    }

    fn item(&self, batch: usize, errors: &ErrorSlot) -> TrainItem<Dispatch> {
        TrainItem {
            batch: self.micro_batches[batch].clone(),
            contexts: None,
            pair: self.pair.clone(),
            mode: FuserMode::Train { temperature: self.config.initial_temperature, draw: self.draw() },
            errors: errors.clone(),
        }
    }

    fn draw(&self) -> GateDraw {
        GateDraw::Fixed(self.json["uniform_noise"].as_f64().unwrap())
    }

    fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap()
    }

    fn adam(&self) -> FuserOptimizer<B> {
        let beta = |n: usize| self.json["betas"][n].as_f64().unwrap();
        FuserOptimizer::new(beta(0), beta(1), self.number("eps"), self.number("weight_decay"))
    }

    /// Trains up to `steps` optimiser steps through Burn's learner.
    fn train(&self, steps: usize) -> (FuserModule<B>, Vec<StepFacts>) {
        let adam = self.adam();
        let (module, facts, errors) = self.train_by(steps, adam.clone(), adam);
        assert!(errors.take().is_none());
        (module, facts)
    }

    /// As [`Case::train`], with the strategy's and the learner's handle of the optimiser.
    fn train_by(
        &self,
        steps: usize,
        handle: FuserOptimizer<B>,
        adam: FuserOptimizer<B>,
    ) -> (FuserModule<B>, Vec<StepFacts>, ErrorSlot) {
        let order: Vec<usize> =
            self.json["micro_batch_order"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect();
        let count = order.len();
        let batches = self.micro_batches.clone();
        let errors = ErrorSlot::default();
        let template = self.item(0, &errors);
        let train = BatchLoader::new(
            count,
            1,
            Order::AsIs,
            Arc::new(move |i: &[usize]| Ok(TrainItem { batch: batches[order[i[0]]].clone(), ..template.clone() })),
            errors.clone(),
        );
        let (receiver, sharer) = (self.pair.receiver.clone(), self.pair.sharer.clone());
        let (batch, slot) = (self.micro_batches[0].clone(), errors.clone());
        let valid = BatchLoader::new(
            0,
            1,
            Order::AsIs,
            Arc::new(move |_: &[usize]| {
                Ok(ValidItem {
                    batch: batch.clone(),
                    contexts: None,
                    receiver: receiver.clone(),
                    sharer: sharer.clone(),
                    errors: slot.clone(),
                })
            }),
            errors.clone(),
        );
        let plan = StepPlan {
            total_steps: steps,
            accumulation: self.number("gradient_accumulation") as usize,
            window_mean: WindowMean::Full,
            max_grad_norm: self.number("max_grad_norm"),
            evaluate_every: None,
            seed: 0,
            draw: self.draw(),
        };
        let facts = Arc::new(Mutex::new(Vec::new()));
        let seen = facts.clone();
        let observer = Box::new(move |f: &StepFacts| seen.lock().unwrap().push(f.clone()));
        let strategy = StepStrategy::new(plan, handle, errors.clone(), observer);
        let (warmup, total) = (self.number("warmup_steps") as usize, self.number("total_steps") as usize);
        let schedule = Schedule::new(ScheduleShape::Linear, self.number("learning_rate"), warmup, total);
        let dir = tempfile::tempdir().unwrap();
        let result = SupervisedTraining::new(dir.path(), Arc::new(train), Arc::new(valid))
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
            .with_metric_logger(InMemoryMetricLogger::default())
            .with_application_logger(None)
            .renderer(Silent)
            .num_epochs(1)
            .launch(Learner::new(self.module(), adam, schedule));
        let facts = facts.lock().unwrap().clone();
        (result.model, facts, errors)
    }

    /// Compares every parameter with `{prefix}.{layer}.{published name}`.
    fn compare(&self, prefix: &str, limit: f64, tensor: impl Fn(&str) -> Vec<f32>) {
        let mut compared = 0;
        for (name, _) in self.fuser.named_params() {
            for part in published::split_param(&self.config, &name, &tensor(&name)).unwrap() {
                let full = format!("{prefix}.{}.{}", part.layer, part.name);
                let expected = self.expected.get(&full);
                let got = Array {
                    shape: expected.shape.clone(),
                    values: part.values.iter().map(|v| f64::from(*v)).collect(),
                };
                assert_eq!(got.values.len(), expected.values.len(), "{full}");
                assert_close(&full, &got, expected, limit);
                compared += 1;
            }
        }
        let listed = self.expected.names().filter(|n| n.starts_with(&format!("{prefix}."))).count();
        assert_eq!(compared, listed, "{prefix}: tensors compared and tensors in the fixture");
    }
}

fn relative(got: f64, expected: f64) -> f64 {
    (got - expected).abs() / expected.abs()
}

#[test]
fn one_micro_batch_gives_loss_logits_and_every_gradient() {
    for_each_case("train", |dir| {
        let case = Case::open(dir);
        let errors = ErrorSlot::default();
        let module = case.module();
        let item = case.item(0, &errors);
        let pair = &case.pair;
        let logits = module
            .fuser
            .train_forward(&pair.receiver, &pair.receiver_autodiff, &pair.sharer, &item.batch, item.mode)
            .unwrap();
        let expected = case.expected.get("single.logits");
        assert_close("logits", &Array::of::<3>(&logits.inner()), expected, c2c_tests::bound(expected));
        let output = TrainStep::step(&module, item);
        assert!(errors.take().is_none());
        let loss = output.item.loss_value();
        assert!((loss - case.expected.get("single.loss").values[0]).abs() <= LOSS, "loss {loss}");
        let params = module.fuser.named_params();
        case.compare("single.grad", GRADIENT, |name| {
            let (_, param) = params.iter().find(|(n, _)| n == name).unwrap();
            let grad: Tensor<B, 3> = output.grads.get(param.id).unwrap();
            grad.into_data().to_vec::<f32>().unwrap()
        });
        let norm = grads::global_norm::<Dispatch, _>(&module, &output.grads).unwrap();
        assert!(relative(norm, case.expected.get("single.grad_norm").values[0]) <= LOSS, "norm {norm}");
    });
}

#[test]
fn three_optimiser_steps_reach_the_fixtures_parameters() {
    for_each_case("train", |dir| {
        let case = Case::open(dir);
        for steps in [2, 3] {
            let (module, facts) = case.train(steps);
            assert_eq!(facts.len(), steps);
            let params = module.fuser.named_params();
            case.compare(&format!("after{steps}"), PARAMETER, |name| {
                let (_, param) = params.iter().find(|(n, _)| n == name).unwrap();
                param.val().to_data().to_vec::<f32>().unwrap()
            });
        }
        let (module, facts) = case.train(3);
        let losses = &case.expected.get("steps.loss").values;
        let window = case.number("gradient_accumulation") as usize;
        for (step, fact) in facts.iter().enumerate() {
            let own = &losses[step * window..((step + 1) * window).min(losses.len())];
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            assert!((fact.loss - mean).abs() <= LOSS, "step {step}: loss {}, expected {mean}", fact.loss);
            let norm = case.expected.get("steps.grad_norm").values[step];
            assert!(relative(fact.grad_norm, norm) <= LOSS, "step {step}: norm {}, expected {norm}", fact.grad_norm);
            let rate = case.expected.get("steps.lr").values[step];
            assert!((fact.learning_rate - rate).abs() <= 1e-12, "step {step}: rate {}", fact.learning_rate);
            let tau = case.expected.get("steps.tau").values[step];
            let c = &case.config;
            let own = c2c_fuser::anneal(c.initial_temperature, c.final_temperature, c.anneal_steps, step + 1);
            assert!((own - tau).abs() <= 1e-6, "step {step}: temperature {own}, expected {tau}");
        }
        for (i, batch) in case.micro_batches.iter().enumerate() {
            let errors = ErrorSlot::default();
            let (receiver, sharer) = (case.pair.receiver.clone(), case.pair.sharer.clone());
            let output = InferenceStep::step(
                &module,
                ValidItem { batch: batch.clone(), contexts: None, receiver, sharer, errors: errors.clone() },
            );
            assert!(errors.take().is_none());
            let expected = case.expected.get("eval.loss").values[i];
            assert!((output.loss_value() - expected).abs() <= LOSS, "eval loss {}, {expected}", output.loss_value());
        }
    });
}

#[test]
fn frozen_models_get_no_gradient_and_keep_their_bytes() {
    for_each_case("train", |dir| {
        let case = Case::open(dir);
        let before = [case.pair.receiver.fingerprint().unwrap(), case.pair.sharer.fingerprint().unwrap()];
        let module = case.module();
        let output = TrainStep::step(&module, case.item(0, &ErrorSlot::default()));
        assert_eq!(output.grads.len(), module.fuser.named_params().len(), "gradients of the fuser and of nothing else");
        let (trained, _) = case.train(2);
        let after = [case.pair.receiver.fingerprint().unwrap(), case.pair.sharer.fingerprint().unwrap()];
        assert_eq!(before, after);
        assert_eq!(before[0], case.pair.receiver_autodiff.valid().fingerprint().unwrap());
        let moved = trained.fuser.named_params().iter().zip(case.fuser.named_params()).any(|((_, a), (_, b))| {
            a.val().to_data().to_vec::<f32>().unwrap() != b.val().to_data().to_vec::<f32>().unwrap()
        });
        assert!(moved, "the fuser itself has to move");
    });
}

#[test]
fn an_error_inside_a_step_ends_the_training_and_is_kept() {
    let dir: PathBuf = c2c_tests::folders("train").remove(0);
    let case = Case::open(&dir);
    let errors = ErrorSlot::default();
    let mut item = case.item(0, &errors);
    // Without labels there is nothing to learn from.
    let mut sections = item.batch.sections().to_vec();
    for labels in sections.iter_mut().flat_map(|s| &mut s.labels) {
        labels.fill(None);
    }
    item.batch = Arc::new(PairBatch::new(sections).unwrap());
    TrainStep::step(&case.module(), item);
    assert!(errors.is_set());
    assert!(errors.take().unwrap().to_string().contains("without a single label"));
}

#[test]
fn a_strategy_of_another_optimiser_stops_instead_of_not_clipping() {
    let dir: PathBuf = c2c_tests::folders("train").remove(0);
    let case = Case::open(&dir);
    let (_, facts, errors) = case.train_by(2, case.adam(), case.adam());
    assert!(facts.is_empty(), "no step is told of");
    assert!(errors.take().unwrap().to_string().contains("another optimiser than the learner"));
}

/// Shows nothing.
struct Silent;

impl MetricsRendererTraining for Silent {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
    fn render_train(&mut self, _: TrainingProgress, _: Vec<ProgressType>) {}
    fn render_valid(&mut self, _: TrainingProgress, _: Vec<ProgressType>) {}
}

impl MetricsRendererEvaluation for Silent {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
    fn render_test(&mut self, _: EvaluationProgress, _: Vec<ProgressType>) {}
}

impl MetricsRenderer for Silent {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: burn::train::metric::MetricDefinition) {}
}
