//! The fuser's gradients against finite differences.
//!
//! The pair and the batch are those of the training fixtures (loss about 6); the fuser has their shape and weights drawn
//! here. The analytic gradient is that of `supervised_loss` through `Fuser::train_forward`, with every gate draw fixed at
//! 0.5. The numeric one is taken from the same f32 logits, by a cross entropy in f64 on the host, so that the loss is
//! checked too.
//!
//! f32 logits bound what differences can confirm: a loss of 6 is off by about 7e-7, a central difference over `2 h` by
//! 7e-7 / h, while the loss is smooth over steps of 0.01 to 0.2 only. Hence:
//! * 100 parameters are drawn, evenly from all named parameters, among those whose gradient is at least [`FLOOR`]; a
//!   tensor that has too few of them gives its largest.
//! * The first step is [`FIRST_STEP`], made smaller while two steps in a row disagree by more than [`SMOOTH`]. Richardson
//!   extrapolation over [`STEPS`] steps follows; of its entries the one with the smallest estimate of its error, remaining
//!   noise included, is taken.
//! * The error has to stay within [`LIMIT`] of `max(|numeric|, FLOOR)`. Over 20 other seeds and both cases, the worst of 4000
//!   parameters was off by 8.3e-4.

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
const FLOOR: f64 = 0.04;
/// The largest error, relative to `max(|numeric|, FLOOR)`.
const LIMIT: f64 = 1e-3;
/// The first step, what each next one is divided by, and how many there are.
const FIRST_STEP: f64 = 0.2;
const RATIO: f64 = 1.5;
const STEPS: usize = 5;

/// Steps are coarse while two of them differ by more than this share, and not smaller than that.
const SMOOTH: f64 = 0.05;
const LAST_STEP: f64 = 0.01;

type Values = BTreeMap<String, Vec<f32>>;

struct Setup {
    receiver: Lm<B>,
    receiver_autodiff: Lm<B>,
    sharer: Lm<B>,
    batch: PairBatch,
    config: FuserConfig,
}

impl Setup {
    /// With `chained`, the fused section is cut in two, so that the second is fused on top of the first.
    fn open(dir: &Path, chained: bool) -> Self {
        let json =
            |name: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap() };
        let case = json("case.json");
        let model =
            |key: &str| Lm::<B>::from_dir(&dir.join(case[key].as_str().unwrap()), ModelDtype::F32, &device()).unwrap();
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
            parts: Default::default(),
            all_in_one: None,
        };
        let batches = Fixture::open(&dir.join("batches.safetensors"));
        let sections = batches.get("mb0.sections");
        let sections: Vec<(usize, i64)> = sections.values.chunks(2).map(|s| (s[0] as usize, s[1] as i64)).collect();
        let cut = |(length, mask): (usize, i64)| match mask > 0 && chained {
            true => vec![(length / 2, mask), (length - length / 2, mask)],
            false => vec![(length, mask)],
        };
        let sections: Vec<(usize, i64)> = sections.into_iter().flat_map(cut).collect();
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
        let mode = FuserMode::Train { temperature: 1.0, draw: GateDraw::Fixed(0.5) };
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

/// Weights of standard deviation 0.2 and norms around 1.
fn draw(config: &FuserConfig, rng: &mut ChaCha8Rng) -> Values {
    let mut out = Values::new();
    Fuser::<B>::load(config, &device(), |name, shape| {
        let count: usize = shape.iter().product();
        let mut uniform = |centre: f32, half: f32| -> Vec<f32> {
            (0..count).map(|_| centre + half * (rng.random::<f32>() * 2.0 - 1.0)).collect()
        };
        let values = if name.ends_with(".norm") { uniform(1.0, 0.3) } else { uniform(0.0, 0.2 * 3.0_f32.sqrt()) };
        out.insert(name.to_owned(), values.clone());
        Ok(values)
    })
    .unwrap();
    out
}

/// An extrapolated derivative with what is known of its error: how far it moved from the entries it was made of, and how
/// much of the noise of the differences is left in it.
#[derive(Clone, Copy)]
struct Entry {
    value: f64,
    moved: f64,
    noise: f64,
}

/// The derivative of the loss by one parameter, extrapolated from central differences.
fn numeric(setup: &Setup, values: &Values, name: &str, index: usize, loss_noise: f64) -> f64 {
    let mut moved = values.clone();
    let at = values[name][index];
    let mut difference = |h: f64| {
        let (above, below) = (at + h as f32, at - h as f32);
        let mut loss_at = |value: f32| {
            moved.get_mut(name).unwrap()[index] = value;
            setup.loss(&moved)
        };
        let value = (loss_at(above) - loss_at(below)) / (f64::from(above) - f64::from(below));
        Entry { value, moved: f64::INFINITY, noise: loss_noise / h }
    };
    // Coarse steps are left behind while halving them still changes the picture: they extrapolate to anything.
    let mut h = FIRST_STEP;
    let mut first = difference(h);
    let mut next = difference(h / RATIO);
    while (first.value - next.value).abs() > SMOOTH * next.value.abs() && h > LAST_STEP {
        h /= RATIO;
        (first, next) = (next, difference(h / RATIO));
    }
    let mut last: Vec<Entry> = Vec::new();
    let mut all = Vec::new();
    for i in 0..STEPS {
        let mut row = vec![match i {
            0 => first,
            1 => next,
            _ => difference(h / RATIO.powi(i as i32)),
        }];
        for (j, coarser) in last.iter().enumerate() {
            let weight = RATIO.powi(2 * (j as i32 + 1));
            let finer = row[j];
            let value = (weight * finer.value - coarser.value) / (weight - 1.0);
            let moved = (value - finer.value).abs().max((value - coarser.value).abs());
            let noise = (weight * finer.noise).hypot(coarser.noise) / (weight - 1.0);
            row.push(Entry { value, moved, noise });
        }
        all.extend(row.iter().skip(2));
        last = row;
    }
    let error = |e: &Entry| e.moved + e.noise;
    all.iter().min_by(|a, b| error(a).total_cmp(&error(b))).unwrap().value
}

#[test]
fn fuser_gradients_equal_finite_differences() {
    check(false);
}

#[test]
fn gradients_reach_back_through_earlier_fused_sections() {
    check(true);
}

fn check(chained: bool) {
    for_each_case("train", |dir| {
        let setup = Setup::open(dir, chained);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let values = draw(&setup.config, &mut rng);
        let fuser = setup.fuser(&values);
        let loss = supervised_loss(setup.logits(&fuser), &setup.batch.last().labels).unwrap();
        let value = loss.to_data().iter::<f64>().next().unwrap();
        let host = setup.loss(&values);
        assert!((value - host).abs() <= 1e-5 * host.abs().max(1.0), "loss {value}, on the host {host}");
        let loss_noise = f64::from(f32::EPSILON) * host;
        let grads = loss.backward();

        let params = fuser.named_params();
        let mut worst: (f64, String) = (0.0, String::new());
        let mut failed = Vec::new();
        let mut checked = 0;
        for (place, (name, param)) in params.iter().enumerate() {
            let grad = param.val().grad(&grads).unwrap_or_else(|| panic!("{name} has no gradient"));
            let grad = Array::of(&grad).values;
            let mut order: Vec<usize> = (0..grad.len()).collect();
            order.sort_by(|a, b| grad[*b].abs().total_cmp(&grad[*a].abs()));
            let large = order.iter().take_while(|i| grad[**i].abs() >= FLOOR).count();
            // A tensor of few parameters, or of small gradients, gives its largest; what it can't give falls to the next.
            let due = (place + 1) * PARAMETERS / params.len() - checked;
            let mut large = order[..large.max(due).min(order.len())].to_vec();
            for _ in 0..due.min(large.len()) {
                checked += 1;
                let index = large.swap_remove(rng.random_range(0..large.len()));
                let found = numeric(&setup, &values, name, index, loss_noise);
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
        assert_eq!(checked, PARAMETERS);
        println!("loss {value}; worst relative error {:.2e} at {}", worst.0, worst.1);
        assert!(failed.is_empty(), "{} differ by more than {LIMIT}:\n{}", failed.len(), failed.join("\n"));
    });
}
