//! Random models with heads as wide as real ones have them: the fixtures' are narrower, and devices have ways of their own for
//! heads of 64, 128 and 256.
//!
//! The oracle is the way composed of single operations, in f32 on the CPU, whatever device is under test.

use std::path::Path;

use burn::DispatchDevice;
use burn::module::Module;
use c2c_lm::{KvCache, Lm, LmConfig, LogitsWanted, ModelDtype, init_random};
use c2c_tests::{Array, B, assert_close, bound, computes_bf16, device};
use serde_json::{Value, json};

use crate::composed::{PADDING, tokens};

/// Two prefills, the second on the first one's cache, and two tokens one by one.
const SECTIONS: [(usize, usize); 4] = [(0, 67), (67, 35), (102, 1), (103, 1)];

/// A value is rounded to bf16 some dozen times a layer, in three layers, each time by at most 2^-9 of it. Were all of these
/// errors independent and as large as that, they would add up to `sqrt(40) * 2^-9`, 1.2 %; norms and the softmax may make some
/// of them larger. A key too many or too few in a softmax over a hundred changes more, see [`a_slip_is_seen`].
const BF16_RELATIVE: f64 = 1.0 / 32.0;

fn config(change: Value) -> LmConfig {
    let mut json = json!({
        "vocab_size": 160, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3,
        "tie_word_embeddings": true, "max_position_embeddings": 128,
    });
    json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    LmConfig::from_json(&json, Path::new("config.json")).unwrap()
}

/// Query heads that share keys, by threes, fours and twos; windows shorter than the first section, ending within a block, and
/// far longer than any prompt.
fn configs() -> Vec<LmConfig> {
    let heads = |family: &str, heads: usize, shared: usize, width: usize| json!({ "model_type": family, "num_attention_heads": heads, "num_key_value_heads": shared, "head_dim": width });
    let windowed = |width: usize, window: u64| {
        let mut json = heads("gemma3_text", 2, 1, width);
        json["sliding_window"] = json!(window);
        json["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        json
    };
    let all = [
        heads("llama", 6, 2, 64),
        heads("qwen2", 4, 1, 128),
        heads("qwen3", 4, 2, 128),
        windowed(64, 33),
        windowed(128, 50),
        windowed(256, 33),
        windowed(64, 1 << 31),
        windowed(64, u64::from(u32::MAX)),
    ];
    all.into_iter().map(config).collect()
}

fn named(config: &LmConfig) -> String {
    let window = config.sliding_windows[0].map_or(String::new(), |window| format!(", window {window}"));
    format!("{:?}, {} heads of {}{window}", config.family, config.num_heads, config.head_dim)
}

/// Logits of all sections, `[rows, tokens, vocab]` each, and the cache that they leave.
fn run(model: &Lm<B>) -> (Vec<Array>, KvCache<B>) {
    let mut cache = model.new_cache(PADDING.len());
    let logits = SECTIONS.map(|(from, count)| {
        let batch = tokens(from, count, model.config().vocab_size);
        Array::of(&model.forward(&batch, &mut cache, LogitsWanted::All).unwrap())
    });
    (logits.into(), cache)
}

/// What padding sees is no matter: the slots behind the longest of it.
fn real(all: &Array, axis: usize, from: usize) -> Array {
    let skip = PADDING[2].saturating_sub(from);
    all.narrow(axis, skip, all.shape[axis] - skip)
}

/// A random model whose weights are exact in bf16, as a folder.
fn folder(config: &LmConfig) -> tempfile::TempDir {
    let (first, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init_random::<B>(config, 11, &cpu()).save(first.path()).unwrap();
    Lm::<B>::from_dir(first.path(), ModelDtype::Bf16, &cpu()).unwrap().save(dir.path()).unwrap();
    dir
}

fn cpu() -> DispatchDevice {
    DispatchDevice::Flex(burn_flex::FlexDevice)
}

/// On a device that records gradients everything is composed.
fn oracle(dir: &Path) -> (Vec<Array>, KvCache<B>) {
    run(&Lm::<B>::from_dir(dir, ModelDtype::F32, &DispatchDevice::autodiff(cpu())).unwrap().no_grad())
}

/// Compares logits and caches of a model on the device with the oracle's.
fn each(dir: &Path, dtype: ModelDtype, compare: &dyn Fn(&str, Array, Array)) {
    let (expected, expected_cache) = oracle(dir);
    let (found, cache) = run(&Lm::<B>::from_dir(dir, dtype, &device()).unwrap());
    for ((from, _), (found, expected)) in SECTIONS.into_iter().zip(found.iter().zip(&expected)) {
        compare(&format!("logits from {from}"), real(found, 1, from), real(expected, 1, from));
    }
    for layer in 0..cache.num_layers() {
        let (found, expected) = (cache.layer(layer).unwrap(), expected_cache.layer(layer).unwrap());
        for (kind, found, expected) in [("keys", found.key, expected.key), ("values", found.value, expected.value)] {
            let name = format!("{kind} of layer {layer}");
            compare(&name, real(&Array::of(&found), 2, 0), real(&Array::of(&expected), 2, 0));
        }
    }
}

/// Of each vector along the last axis, how long the difference is compared with the expected one; the largest.
fn relative(found: &Array, expected: &Array) -> f64 {
    assert_eq!(found.shape, expected.shape);
    let width = *expected.shape.last().unwrap();
    let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let vectors = found.values.chunks(width).zip(expected.values.chunks(width));
    let each = vectors.map(|(found, expected)| {
        let off = length(&mut found.iter().zip(expected).map(|(f, e)| f - e));
        off / length(&mut expected.iter().copied())
    });
    // A NaN is as far off as can be.
    each.fold(0.0, |most, off| if off <= most { most } else { off })
}

#[test]
fn wide_heads_are_the_composed_ones() {
    for config in configs() {
        let (dir, name) = (folder(&config), named(&config));
        each(dir.path(), ModelDtype::F32, &|what, found, expected| {
            assert_close(&format!("{name}: {what}"), &found, &expected, bound(&expected));
        });
    }
}

#[test]
fn wide_heads_in_bf16_are_within_its_rounding() {
    if !computes_bf16() {
        return;
    }
    for config in configs() {
        let (dir, name) = (folder(&config), named(&config));
        each(dir.path(), ModelDtype::Bf16, &|what, found, expected| {
            let off = relative(&found, &expected);
            println!("{name}: {what}: {off:.4}");
            assert!(off <= BF16_RELATIVE, "{name}: {what}: {off:.4} of its length off, {BF16_RELATIVE} allowed");
        });
    }
}

/// The bounds tell a window of one slot less.
#[test]
fn a_slip_is_seen() {
    for config in configs().into_iter().filter(|config| config.sliding_windows[0].is_some_and(|w| w < 100)) {
        let dir = folder(&config);
        let (expected, _) = oracle(dir.path());
        let path = dir.path().join("config.json");
        let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        json["sliding_window"] = json!(config.sliding_windows[0].unwrap() - 1);
        std::fs::write(&path, json.to_string()).unwrap();
        let (slipped, _) = oracle(dir.path());
        let off = relative(&real(&slipped[0], 1, 0), &real(&expected[0], 1, 0));
        println!("{}: {off:.4}", named(&config));
        assert!(off > BF16_RELATIVE, "{}: {off:.4}", named(&config));
    }
}
