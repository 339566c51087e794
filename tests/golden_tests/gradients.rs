//! The fuser's gradients against finite differences.
//!
//! The pair and the batch are those of the training fixtures (loss about 6, gradients of 0.01 to 1); the fuser has their
//! shape and weights drawn here. The analytic gradient is that of `supervised_loss` through `Fuser::train_forward`, with
//! every gate draw fixed at 0.5. The numeric one is taken from the same logits, by a cross entropy in f64 on the host, so
//! that the loss is checked too.
//!
//! Logits are f32. A logit of size 6 is off by up to 5e-7, which a difference over a step of `2 h` turns into 1e-5 or so.
//! Hence: 100 parameters are drawn among those whose gradient is at least [`FLOOR`], evenly from every named parameter;
//! steps begin at 0.064 and are halved; Neville's table extrapolates them to zero and the entry of the smallest
//! estimated error is taken. The relative error has to stay within [`LIMIT`]. A parameter tensor without any gradient of
//! that size fails the test.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::AutodiffModule;
use c2c_fuser::{Fuser, FuserConfig, FuserMode, GateDraw, GateNoise, LayerMapping, PairBatch};
use c2c_lm::{Lm, ModelDtype};
use c2c_tests::{Array, B, Fixture, autodiff_device, device, for_each_case, pair_batch};
use c2c_train::supervised_loss;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// Parameters checked a case.
const PARAMETERS: usize = 100;
/// The smallest gradient that f32 logits can confirm to [`LIMIT`].
const FLOOR: f64 = 0.01;
/// The largest error, relative to `max(|numeric|, FLOOR)`.
const LIMIT: f64 = 1e-3;
/// The first step, and how many halvings follow.
const FIRST_STEP: f64 = 0.064;
const STEPS: usize = 5;

type Values = BTreeMap<String, Vec<f32>>;

struct Setup {
    receiver: Lm<B>,
    receiver_autodiff: Lm<B>,
    sharer: Lm<B>,
    batch: PairBatch,
    config: FuserConfig,
}

impl Setup {
    fn open(dir: &Path) -> Self {
        let json = |name: &str| -> Value {
            serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
        };
        let case = json("case.json");
        let model = |key: &str| {
            Lm::<B>::from_dir(&dir.join(case[key].as_str().unwrap()), ModelDtype::F32, &device()).unwrap()
        };
        let (receiver, sharer) = (model("receiver"), model("sharer"));
        let params = &json("config.json")["model"]["projector"]["params"];
        let size = |key: &str| params[key].as_u64().unwrap() as usize;
        let (r, s) = (receiver.config(), sharer.config());
        let config = FuserConfig {
            sharer_heads: s.num_kv_heads,
            sharer_head_dim: s.head_dim,
            sharer_layers: s.num_layers,
            receiver_heads: r.num_kv_heads,
            receiver_head_dim: r.head_dim,
            layer_map: LayerMapping::LastAligned.map(r.num_layers, s.num_layers),
            hidden_dim: size("hidden_dim"),
            intermediate_dim: size("intermediate_dim"),
            num_layers: size("num_layers"),
            dropout: 0.0,
            initial_temperature: 1.0,
            final_temperature: 0.1,
            anneal_steps: 10,
            gate_noise: GateNoise::Gumbel,
            initial_gate_logit: 0.0,
            zero_init: false,
        };
        let batches = Fixture::open(&dir.join("batches.safetensors"));
        let sections = batches.get("mb0.sections");
        let sections: Vec<(usize, i64)> = sections.values.chunks(2).map(|s| (s[0] as usize, s[1] as i64)).collect();
        let batch = pair_batch(&batches, "mb0", &sections);
        let receiver_autodiff = <Lm<B> as AutodiffModule<B>>::from_inner(receiver.clone());
        Self { receiver, receiver_autodiff, sharer, batch, config }
    }

    fn fuser(&self, values: &Values) -> Fuser<B> {
        Fuser::load(&self.config, &autodiff_device(), |name, _| {
            values.get(name).cloned().ok_or_else(|| format!("  {name}: missing"))
        })
        .unwrap()
    }

    fn logits(&self, fuser: &Fuser<B>) -> burn::tensor::Tensor<B, 3> {
        let mode = FuserMode::Train { temperature: 0.8, draw: GateDraw::Fixed(0.5) };
        fuser.train_forward(&self.receiver, &self.receiver_autodiff, &self.sharer, &self.batch, mode).unwrap()
    }

    /// The loss in f64, from f32 logits.
    fn loss(&self, values: &Values) -> f64 {
        let logits = Array::of(&self.logits(&self.fuser(values)).inner());
        let (tokens, vocab) = (logits.shape[1], logits.shape[2]);
        let (mut sum, mut count) = (0.0, 0.0);
        for (row, labels) in self.batch.last().labels.iter().enumerate() {
            for (slot, label) in labels.iter().enumerate().skip(1) {
                let Some(label) = label else { continue };
                let start = (row * tokens + slot - 1) * vocab;
                let scores = &logits.values[start..start + vocab];
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let partition: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                sum += top + partition.ln() - scores[*label as usize];
                count += 1.0;
            }
        }
        sum / count
    }
}

/// Weights of standard deviation 0.3 and norms around 1, as in the fixtures.
fn draw(config: &FuserConfig, rng: &mut ChaCha8Rng) -> Values {
    let mut out = Values::new();
    Fuser::<B>::load(config, &device(), |name, shape| {
        let count: usize = shape.iter().product();
        let mut uniform = |centre: f32, half: f32| -> Vec<f32> {
            (0..count).map(|_| centre + half * (rng.random::<f32>() * 2.0 - 1.0)).collect()
        };
        let values = if name.ends_with(".norm") { uniform(1.0, 0.3) } else { uniform(0.0, 0.3 * 3.0_f32.sqrt()) };
        out.insert(name.to_owned(), values.clone());
        Ok(values)
    })
    .unwrap();
    out
}

/// The derivative of the loss by one parameter, extrapolated from central differences.
fn numeric(setup: &Setup, values: &Values, name: &str, index: usize) -> f64 {
    let mut moved = values.clone();
    let at = values[name][index];
    let mut difference = |h: f64| {
        let (above, below) = (at + h as f32, at - h as f32);
        let mut loss_at = |value: f32| {
            moved.get_mut(name).unwrap()[index] = value;
            setup.loss(&moved)
        };
        (loss_at(above) - loss_at(below)) / (f64::from(above) - f64::from(below))
    };
    let mut table: Vec<Vec<f64>> = Vec::new();
    let (mut best, mut error) = (f64::NAN, f64::INFINITY);
    for i in 0..STEPS {
        let mut row = vec![difference(FIRST_STEP / 2.0_f64.powi(i as i32))];
        for j in 1..=i {
            let weight = 4.0_f64.powi(j as i32);
            let (finer, coarser) = (row[j - 1], table[i - 1][j - 1]);
            let entry = (weight * finer - coarser) / (weight - 1.0);
            let estimate = (entry - finer).abs().max((entry - coarser).abs());
            if estimate < error {
                (best, error) = (entry, estimate);
            }
            row.push(entry);
        }
        table.push(row);
    }
    best
}

#[test]
fn fuser_gradients_equal_finite_differences() {
    for_each_case("train", |dir| {
        let setup = Setup::open(dir);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let values = draw(&setup.config, &mut rng);
        let fuser = setup.fuser(&values);
        let loss = supervised_loss(setup.logits(&fuser), &setup.batch.last().labels).unwrap();
        let value = loss.to_data().iter::<f64>().next().unwrap();
        let host = setup.loss(&values);
        assert!((value - host).abs() <= 1e-5 * host.abs().max(1.0), "loss {value}, on the host {host}");
        let grads = loss.backward();

        let params = fuser.named_params();
        let mut worst: (f64, String) = (0.0, String::new());
        let mut failed = Vec::new();
        for (place, (name, param)) in params.iter().enumerate() {
            let grad = param.val().grad(&grads).unwrap_or_else(|| panic!("{name} has no gradient"));
            let grad = Array::of(&grad).values;
            let mut large: Vec<usize> = (0..grad.len()).filter(|i| grad[*i].abs() >= FLOOR).collect();
            assert!(!large.is_empty(), "{name}: no gradient of at least {FLOOR}");
            let share = (place + 1) * PARAMETERS / params.len() - place * PARAMETERS / params.len();
            for _ in 0..share.min(large.len()) {
                let index = large.swap_remove(rng.random_range(0..large.len()));
                let found = numeric(&setup, &values, name, index);
                let error = (grad[index] - found).abs() / found.abs().max(FLOOR);
                let line = format!("{name}[{index}]: analytic {:.6e}, numeric {found:.6e}", grad[index]);
                if error.is_nan() || error > LIMIT {
                    failed.push(format!("{line}, relative error {error:.2e}"));
                }
                if error >= worst.0 {
                    worst = (error, line);
                }
            }
        }
        println!("loss {value}; worst relative error {:.2e} at {}", worst.0, worst.1);
        assert!(failed.is_empty(), "{} differ by more than {LIMIT}:\n{}", failed.len(), failed.join("\n"));
    });
}
