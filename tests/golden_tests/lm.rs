//! Language models against the fixtures: prefill, caches, greedy decoding, padding and holes, bf16.

use std::path::Path;

use c2c_lm::{KvCache, Lm, LogitsWanted, ModelDtype};
use c2c_tests::{
    Array, B, Fixture, assert_close, assert_close_at, assert_loose, bound, device, for_each_case, token_batch,
};

use crate::lm_batching::greedy;

/// Mean and largest difference that another bf16 kernel may make.
const BF16_MEAN: f64 = 0.1;
const BF16_MAX: f64 = 1.0;

pub fn load(dir: &Path) -> (Lm<B>, Fixture) {
    let model = Lm::from_dir(dir, ModelDtype::F32, &device()).unwrap();
    (model, Fixture::open(&dir.join("expected.safetensors")))
}

/// Compares all layers of a cache with `{prefix}k.{l}` and `{prefix}v.{l}`.
fn each_layer(cache: &KvCache<B>, expected: &Fixture, prefix: &str, compare: impl Fn(&str, &Array, &Array)) {
    assert_eq!(expected.count(&format!("{prefix}k.")), cache.num_layers());
    for l in 0..cache.num_layers() {
        let layer = cache.layer(l).unwrap();
        for (kind, tensor) in [("k", &layer.key), ("v", &layer.value)] {
            let name = format!("{prefix}{kind}.{l}");
            compare(&name, &Array::of(tensor), expected.get(&name));
        }
    }
}

#[test]
fn prefill_matches_in_every_layer() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids");
        let tokens = token_batch(ids, None, None, 0, ids.shape[1]);
        let mut cache = model.new_cache(ids.shape[0]);
        let mut inputs = Vec::new();
        let hidden = model.hidden_with(&tokens, &mut cache, |_, x| inputs.push(Array::of(x))).unwrap();
        let close = |name: &str, got: &Array, expected: &Array| {
            assert_close(name, got, expected, bound(expected));
        };
        assert_eq!(inputs.len(), expected.count("hidden."));
        for (l, input) in inputs.iter().enumerate() {
            let name = format!("hidden.{l}");
            close(&name, input, expected.get(&name));
        }
        each_layer(&cache, &expected, "", close);
        close("final_hidden", &Array::of(&hidden), expected.get("final_hidden"));
        close("logits", &Array::of(&model.logits(hidden, LogitsWanted::All)), expected.get("logits"));
    });
}

#[test]
fn greedy_continuation_is_identical() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let wanted = expected.get("greedy").id_list();
        let prompt = expected.get("input_ids").ids().remove(0);
        let replies = greedy(&model, vec![prompt], wanted.len());
        assert_eq!(replies.tokens, [wanted]);
    });
}

#[test]
fn padding_and_holes_are_not_attended() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        for (ids, mask, positions, logits) in [
            ("padded_input_ids", "attention_mask", "padded_position_ids", "padded_logits"),
            ("hole_input_ids", "hole_attention_mask", "hole_position_ids", "hole_logits"),
        ] {
            let (ids, mask) = (expected.get(ids), expected.get(mask));
            let real = mask.mask();
            assert!(real.iter().flatten().any(|m| !m), "{logits}: nothing is masked");
            let tokens = token_batch(ids, Some(mask), Some(expected.get(positions)), 0, ids.shape[1]);
            let mut cache = model.new_cache(ids.shape[0]);
            let got = Array::of(&model.forward(&tokens, &mut cache, LogitsWanted::All).unwrap());
            let wanted = expected.get(logits);
            assert_close_at(logits, &got, wanted, bound(wanted), |at| real[at[0]][at[1]]);
            assert!(got.values.iter().all(|v| v.is_finite()), "{logits}: masked slots must stay finite");
        }
    });
}

#[test]
fn bf16_stays_within_the_noise_of_bf16() {
    if !c2c_tests::computes_bf16() {
        return;
    }
    let mut compared = 0;
    for dir in c2c_tests::folders("lm") {
        let expected = Fixture::open(&dir.join("expected.safetensors"));
        let Some(logits) = expected.find("bf16.logits") else { continue };
        compared += 1;
        let model: Lm<B> = Lm::from_dir(&dir, ModelDtype::Bf16, &device()).unwrap();
        let ids = expected.get("input_ids");
        let tokens = token_batch(ids, None, None, 0, ids.shape[1]);
        let mut cache = model.new_cache(ids.shape[0]);
        let hidden = model.hidden(&tokens, &mut cache).unwrap();
        let loose = |name: &str, got: &Array, wanted: &Array| assert_loose(name, got, wanted, BF16_MEAN, BF16_MAX);
        each_layer(&cache, &expected, "bf16.", loose);
        loose("bf16.final_hidden", &Array::of(&hidden), expected.get("bf16.final_hidden"));
        loose("bf16.logits", &Array::of(&model.logits(hidden, LogitsWanted::All)), logits);
        let key = &cache.layer(0).unwrap().key;
        assert_eq!(key.dtype(), ModelDtype::Bf16.dtype(), "the cache of a bf16 model is bf16");
    }
    assert!(compared > 0, "no fixture has bf16.logits");
}

#[test]
fn the_likeliest_id_is_the_same_on_the_device_and_on_the_host() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids");
        let tokens = token_batch(ids, None, None, 0, ids.shape[1]);
        let mut cache = model.new_cache(ids.shape[0]);
        let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
        let [rows, _, vocab] = logits.dims();
        let values = Array::of(&logits).values;
        let host: Vec<u32> = values
            .chunks(vocab)
            .map(|row| (0..vocab as u32).max_by(|a, b| row[*a as usize].total_cmp(&row[*b as usize])).unwrap())
            .collect();
        assert_eq!(host.len(), rows);
        assert_eq!(c2c_lm::greedy(logits).unwrap(), host);
    });
}
