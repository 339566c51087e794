//! A device's own ways through a model and a fuser against the one that is composed of single operations, which is what gradients
//! go through.

use burn::DispatchDevice;
use burn::module::Module;
use burn::tensor::{Distribution, Tensor};
use c2c_fuser::{Fuser, FuserConfig, FuserMode, FuserParts, GateNoise};
use c2c_lm::{LayerKv, Lm, LogitsWanted, TokenBatch};
use c2c_tests::{Array, B, assert_close, autodiff_device, bound, device, for_each_case};

use crate::lm::load;

/// Slots of padding in front of each row.
pub const PADDING: [usize; 3] = [0, 5, 34];

pub fn tokens(from: usize, count: usize, vocab: usize) -> TokenBatch {
    let slots = from..from + count;
    let ids = |row: usize| slots.clone().map(|slot| ((7 * row + 13 * slot + 5) % vocab) as u32).collect();
    let mask = |row: usize| slots.clone().map(|slot| slot >= PADDING[row]).collect();
    let positions = |row: usize| slots.clone().map(|slot| slot.saturating_sub(PADDING[row])).collect();
    let rows = 0..PADDING.len();
    TokenBatch::with_mask(
        rows.clone().map(ids).collect(),
        rows.clone().map(mask).collect(),
        rows.map(positions).collect(),
    )
    .unwrap()
}

/// More tokens than are attended at once, padding that ends within a block, windows, and tokens one by one behind them.
#[test]
fn a_model_is_the_composed_one() {
    for_each_case("lm", |dir| {
        let (model, _) = load(dir);
        let tracked = Lm::<B>::from_dir(dir, c2c_lm::ModelDtype::F32, &autodiff_device()).unwrap().no_grad();
        let vocab = model.config().vocab_size;
        let (mut cache, mut composed) = (model.new_cache(PADDING.len()), tracked.new_cache(PADDING.len()));
        // What padding sees is no matter.
        let real = PADDING[2];
        for (from, count) in [(0, 67), (67, 35), (102, 1), (103, 1)] {
            let batch = tokens(from, count, vocab);
            let found = Array::of(&model.forward(&batch, &mut cache, LogitsWanted::All).unwrap());
            let logits = tracked.forward(&batch, &mut composed, LogitsWanted::All).unwrap();
            let expected = Array::of(&logits.inner());
            let skip = real.saturating_sub(from);
            let part = |all: Array| all.narrow(1, skip, count - skip);
            assert_close(&format!("logits from {from}"), &part(found), &part(expected.clone()), bound(&expected));
        }
        for layer in 0..model.config().num_layers {
            let (found, expected) = (cache.layer(layer).unwrap(), composed.layer(layer).unwrap());
            for (kind, found, expected) in
                [("key", found.key, expected.key.inner()), ("value", found.value, expected.value.inner())]
            {
                let expected = Array::of(&expected);
                let (slots, limit) = (expected.shape[2], bound(&expected));
                let part = |all: Array| all.narrow(2, real, slots - real);
                assert_close(&format!("{kind} {layer}"), &part(Array::of(&found)), &part(expected), limit);
            }
        }
    });
}

/// With norms that aren't 1 and weights and gates that matter, for few rows and for more than one block of them.
#[test]
fn a_fuser_is_the_composed_one() {
    let config = FuserConfig {
        sharer_heads: 2,
        sharer_head_dim: 8,
        sharer_layers: 2,
        receiver_heads: 3,
        receiver_head_dim: 16,
        layer_map: vec![0, 0, 1],
        hidden_dim: 40,
        intermediate_dim: 56,
        num_layers: 4,
        dropout: 0.0,
        initial_temperature: 1.0,
        final_temperature: 0.1,
        anneal_steps: 1,
        gate_noise: GateNoise::default(),
        initial_gate_logit: 1.0,
        zero_init: false,
        parts: FuserParts::default(),
        all_in_one: None,
    };
    let drawn = Fuser::<B>::init(&config, 7, &device()).unwrap();
    let params: Vec<(String, Array)> =
        drawn.named_params().into_iter().map(|(name, param)| (name, Array::of(&param.val()))).collect();
    let load = |device: &DispatchDevice| {
        let read = |name: &str, _: [usize; 3]| {
            let found = params.iter().find(|(of, _)| of == name).unwrap();
            let norm = if name.ends_with("norm") { 0.3 } else { 0.0 };
            Ok(found.1.f32s().into_iter().enumerate().map(|(i, x)| x + norm * (i % 5) as f32).collect())
        };
        Fuser::<B>::load(&config, device, read).unwrap()
    };
    let (plain, tracked) = (load(&device()), load(&autodiff_device()).no_grad());
    let ready = load(&device()).for_inference(burn::tensor::DType::F32).unwrap();
    for (rows, tokens) in [(1, 1), (2, 21), (1, 70)] {
        let cache = |layers: usize, heads: usize, width: usize| -> Vec<LayerKv<B>> {
            let drawn = || Tensor::random([rows, heads, tokens, width], Distribution::Normal(0.0, 1.0), &device());
            (0..layers).map(|_| LayerKv { key: drawn(), value: drawn() }).collect()
        };
        let (sharer, own) = (cache(2, 2, 8), cache(3, 3, 16));
        let tracked_of = |layers: &[LayerKv<B>]| -> Vec<LayerKv<B>> {
            let of = |x: &Tensor<B, 4>| Tensor::from_inner(x.clone());
            layers.iter().map(|kv| LayerKv { key: of(&kv.key), value: of(&kv.value) }).collect()
        };
        let expected = tracked.fuse(&tracked_of(&sharer), &tracked_of(&own), FuserMode::Infer).unwrap();
        for (name, fuser) in [("whole", &plain), ("ready", &ready)] {
            let found = fuser.fuse(&sharer, &own, FuserMode::Infer).unwrap();
            for (layer, (found, expected)) in found.iter().zip(&expected).enumerate() {
                for (found, expected) in [(&found.key, &expected.key), (&found.value, &expected.value)] {
                    let expected = Array::of(&expected.clone().inner());
                    let what = format!("{name}, layer {layer}, {rows} x {tokens}");
                    assert_close(&what, &Array::of(found), &expected, bound(&expected));
                }
            }
        }
    }
}
