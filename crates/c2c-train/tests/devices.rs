//! Several devices come to the gradient of one.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::train::TrainStep;
use burn::{Dispatch, DispatchDevice};
use c2c_fuser::{BatchSection, Fuser, FuserConfig, FuserMode, GateDraw, LayerMapping, PairBatch};
use c2c_lm::{Lm, LmConfig, TokenBatch, init_random};
use c2c_train::devices::Devices;
use c2c_train::{ErrorSlot, FrozenPair, FuserModule, TrainItem};
use serde_json::json;

type B = Dispatch;

const VOCAB: u32 = 23;

fn plain() -> DispatchDevice {
    DispatchDevice::Flex(burn_flex::FlexDevice)
}

fn device() -> DispatchDevice {
    DispatchDevice::autodiff(plain())
}

fn lm(layers: usize, heads: usize) -> Lm<B> {
    let config = json!({
        "model_type": "qwen3", "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 2, "head_dim": 8,
        "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": true,
    });
    init_random(&LmConfig::from_json(&config, std::path::Path::new("x")).unwrap(), layers as u64, &plain())
}

/// A batch whose rows are padded by different amounts and have different numbers of labels.
fn batch(rows: usize, seed: usize) -> PairBatch {
    let section = |tokens: usize, fuse: bool| {
        let id = |row: usize, slot: usize| ((seed * 7 + row * 5 + slot * 3) % VOCAB as usize) as u32;
        let ids: Vec<Vec<u32>> = (0..rows).map(|row| (0..tokens).map(|slot| id(row, slot)).collect()).collect();
        let pads = |row: usize| (row * 2 + seed) % (tokens - 2);
        let mask: Vec<Vec<bool>> = (0..rows).map(|row| (0..tokens).map(|slot| slot >= pads(row)).collect()).collect();
        let positions: Vec<Vec<usize>> =
            (0..rows).map(|row| (0..tokens).map(|slot| slot.saturating_sub(pads(row))).collect()).collect();
        let tokens = TokenBatch::with_mask(ids.clone(), mask.clone(), positions).unwrap();
        let label = |row: usize, slot: usize| (!fuse && slot > pads(row) + 1).then(|| ids[row][slot]);
        let labels = (0..rows).map(|row| (0..ids[row].len()).map(|slot| label(row, slot)).collect()).collect();
        BatchSection { receiver: tokens.clone(), sharer: tokens, fuse, labels }
    };
    PairBatch::new(vec![section(9, true), section(7, false)]).unwrap()
}

struct Bench {
    pair: Arc<FrozenPair<B>>,
    module: FuserModule<B>,
}

impl Bench {
    fn new(dropout: f64) -> Self {
        let (receiver, sharer) = (lm(3, 4), lm(2, 2));
        let mapping = FuserConfig::between(receiver.config(), sharer.config(), LayerMapping::LastAligned);
        let config = FuserConfig { hidden_dim: 12, intermediate_dim: 12, dropout, ..mapping };
        let fuser = Fuser::init(&config, 5, &device()).unwrap();
        Self { pair: Arc::new(FrozenPair::new(receiver, sharer)), module: FuserModule { fuser } }
    }

    fn item(&self, batch: PairBatch, draw: GateDraw) -> TrainItem<B> {
        let mode = FuserMode::Train { temperature: 0.7, draw };
        TrainItem {
            batch: Arc::new(batch),
            contexts: None,
            pair: self.pair.clone(),
            mode,
            errors: ErrorSlot::default(),
        }
    }

    fn values(&self, grads: &GradientsParams) -> BTreeMap<String, Vec<f64>> {
        let value = |param: &burn::module::Param<burn::tensor::Tensor<B, 3>>| {
            let grad = grads.get::<B, 3>(param.id).expect("every parameter has a gradient");
            grad.into_data().iter::<f64>().collect()
        };
        self.module.fuser.named_params().into_iter().map(|(name, param)| (name, value(param))).collect()
    }

    /// Gradients and loss of one device, added up.
    fn one(&self, items: &[TrainItem<B>]) -> (BTreeMap<String, Vec<f64>>, Vec<f64>) {
        let (mut sum, mut losses) = (BTreeMap::new(), Vec::new());
        for item in items {
            let output = TrainStep::step(&self.module, item.clone());
            assert!(item.errors.take().is_none());
            losses.push(output.item.loss_value());
            for (name, values) in self.values(&output.grads) {
                let own: &mut Vec<f64> = sum.entry(name).or_insert_with(|| vec![0.0; values.len()]);
                own.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        (sum, losses)
    }

    /// Compares several devices with one.
    fn compare(&self, devices: usize, items: &[TrainItem<B>]) {
        let (expected, losses) = self.one(items);
        let several = Devices::new(device(), self.pair.clone(), &vec![device(); devices - 1]);
        let gradients = several.gradients(&self.module, items.to_vec()).unwrap();
        for (output, loss) in gradients.outputs.iter().zip(&losses) {
            assert!((output.loss_value() - loss).abs() < 1e-5 * loss, "{} {loss}", output.loss_value());
        }
        assert_eq!(gradients.outputs.len(), losses.len());
        let found = self.values(&gradients.grads);
        for (name, expected) in &expected {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let size = norm(&mut expected.iter().copied());
            let distance = norm(&mut expected.iter().zip(&found[name]).map(|(a, b)| a - b));
            assert!(size > 0.0, "{name} has no gradient, so nothing is compared");
            assert!(distance <= 1e-5 * size, "{name}: {distance:e} apart, of {size:e}, on {devices} devices");
        }
    }
}

#[test]
fn a_batch_that_is_cut_by_rows_has_the_gradient_of_the_joined_batch() {
    let bench = Bench::new(0.0);
    let items = [bench.item(batch(5, 1), GateDraw::Fixed(0.5))];
    for devices in [1, 2, 3, 5, 8] {
        bench.compare(devices, &items);
    }
}

#[test]
fn micro_batches_go_round_the_devices_with_the_noise_and_dropout_they_have_on_one() {
    let bench = Bench::new(0.3);
    let items: Vec<_> = (0..4).map(|n| bench.item(batch(3, n), GateDraw::Seeded(70 + n as u64))).collect();
    for devices in [1, 2, 3, 4] {
        bench.compare(devices, &items);
    }
    let other = bench.item(batch(3, 0), GateDraw::Seeded(1));
    assert_ne!(bench.one(&items[..1]).1, bench.one(&[other]).1, "another seed draws otherwise");
}

#[test]
fn an_error_on_one_device_is_in_the_error_slot() {
    let bench = Bench::new(0.0);
    let errors = ErrorSlot::default();
    let mut items: Vec<_> = (0..2).map(|n| bench.item(batch(2, n), GateDraw::Fixed(0.5))).collect();
    let labels = |section: &BatchSection| vec![vec![None; section.receiver.tokens()]; 2];
    let without = items[1].batch.sections().iter().map(|s| BatchSection { labels: labels(s), ..s.clone() });
    items[1].batch = Arc::new(PairBatch::new(without.collect()).unwrap());
    items.iter_mut().for_each(|item| item.errors = errors.clone());
    let several = Devices::new(device(), bench.pair.clone(), &[device()]);
    assert!(several.gradients(&bench.module, items).is_ok());
    assert!(errors.take().unwrap().to_string().contains("without a single label"));
}
