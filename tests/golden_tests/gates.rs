//! A shut gate leaves the receiver's cache alone, to the bit.

use c2c_fuser::{C2c, Fusion, PairBatch, Prefilled};
use c2c_lm::{DecodeOptions, LogitsWanted, SamplingParams};
use c2c_tests::{Array, B, assert_close, assert_equal, bound, for_each_case};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::c2c_case::Case;

fn caches_equal(name: &str, a: &Prefilled<B>, b: &Prefilled<B>) {
    for l in 0..a.cache.num_layers() {
        let (a, b) = (a.cache.layer(l).unwrap(), b.cache.layer(l).unwrap());
        assert_equal(&format!("{name}: k.{l}"), &Array::of(&a.key), &Array::of(&b.key));
        assert_equal(&format!("{name}: v.{l}"), &Array::of(&a.value), &Array::of(&b.value));
    }
}

#[test]
fn all_gates_shut_equals_no_fusion() {
    for_each_case("c2c", |dir| {
        let case = Case::open(dir);
        for sharer in 0..case.sharers() {
            let mut pair = case.pair(sharer);
            pair.fuser = pair.fuser.with_gates_shut();
            for (run, _) in case.single_runs().filter(|(run, s)| *s == sharer && run.fuses()) {
                let batch = run.batch(&case.expected);
                let prefill = |fusion| pair.prefill(&batch, fusion, LogitsWanted::All).unwrap();
                let (on, off) = (prefill(Fusion::On), prefill(Fusion::Off));
                caches_equal(&run.name, &on, &off);
                let logits = format!("{}: logits", run.name);
                assert_equal(&logits, &Array::of(&on.logits), &Array::of(&off.logits));
                let options = DecodeOptions { max_new_tokens: 6, ..Default::default() };
                let reply = |fusion| {
                    let mut rng = ChaCha8Rng::seed_from_u64(0);
                    pair.generate(&batch, fusion, &SamplingParams::default(), &options, &mut rng).unwrap().tokens
                };
                assert_eq!(reply(Fusion::On), reply(Fusion::Off), "{}", run.name);
            }
        }
    });
}

/// The slots of the first fused section of a batch.
fn first_fused(batch: &PairBatch) -> (usize, usize) {
    let sections = batch.sections();
    let index = sections.iter().position(|s| s.fuse).unwrap();
    (sections[..index].iter().map(|s| s.receiver.tokens()).sum(), sections[index].receiver.tokens())
}

#[test]
fn a_gate_at_or_below_zero_is_shut_and_above_is_open() {
    let mut shut = 0;
    for dir in c2c_tests::folders("c2c") {
        let case = Case::open(&dir);
        for sharer in 0..case.sharers() {
            let pair = case.pair(sharer);
            let Some((run, _)) = case.single_runs().find(|(run, s)| *s == sharer && run.fuses()) else { continue };
            let batch = run.batch(&case.expected);
            let (start, length) = first_fused(&batch);
            let prefill = |fusion| pair.prefill(&batch, fusion, LogitsWanted::Last).unwrap();
            let (on, off) = (prefill(Fusion::On), prefill(Fusion::Off));
            let (keys, values) = pair.fuser.gate_logits().unwrap();
            for l in 0..keys.len() {
                let (on, off) = (on.cache.layer(l).unwrap(), off.cache.layer(l).unwrap());
                for (kind, logit, on, off) in
                    [("k", keys[l], &on.key, &off.key), ("v", values[l], &on.value, &off.value)]
                {
                    let slice = |t| Array::of(t).narrow(2, start, length);
                    let name = format!("{} {} {kind}.{l}, gate logit {logit}", dir.display(), run.name);
                    assert_eq!(slice(on) == slice(off), logit <= 0.0, "{name}");
                    shut += usize::from(logit <= 0.0);
                }
            }
        }
    }
    assert!(shut > 0, "no fixture has a shut gate");
}

#[test]
fn a_fuser_made_ready_for_inference_gives_what_the_whole_one_gives() {
    let mut left_out = 0;
    for dir in c2c_tests::folders("c2c") {
        let case = Case::open(&dir);
        for sharer in 0..case.sharers() {
            let pair = case.pair(sharer);
            let (keys, values) = pair.fuser.gate_logits().unwrap();
            left_out += keys.iter().chain(&values).filter(|logit| **logit <= 0.0).count();
            let mut ready = pair.clone();
            ready.fuser = ready.fuser.for_inference(pair.receiver.dtype()).unwrap();
            for (run, _) in case.single_runs().filter(|(run, s)| *s == sharer && run.fuses()) {
                let batch = run.batch(&case.expected);
                let prefill = |pair: &C2c<B>| pair.prefill(&batch, Fusion::On, LogitsWanted::All).unwrap();
                let (whole, ready) = (prefill(&pair), prefill(&ready));
                for l in 0..whole.cache.num_layers() {
                    let (whole, ready) = (whole.cache.layer(l).unwrap(), ready.cache.layer(l).unwrap());
                    for (kind, whole, ready) in [("k", whole.key, ready.key), ("v", whole.value, ready.value)] {
                        let (whole, ready) = (Array::of(&whole), Array::of(&ready));
                        assert_close(&format!("{}: {kind}.{l}", run.name), &ready, &whole, bound(&whole));
                    }
                }
            }
        }
    }
    assert!(left_out > 0, "no fixture has a shut gate");
}

#[test]
fn a_fuser_without_an_open_gate_is_ready_too() {
    let case = Case::open(&c2c_tests::folders("c2c")[0]);
    let (run, sharer) = case.single_runs().find(|(run, _)| run.fuses()).unwrap();
    let mut pair = case.pair(sharer);
    pair.fuser = pair.fuser.with_gates_shut().for_inference(pair.receiver.dtype()).unwrap();
    let batch = run.batch(&case.expected);
    let prefill = |fusion| pair.prefill(&batch, fusion, LogitsWanted::All).unwrap();
    caches_equal(&run.name, &prefill(Fusion::On), &prefill(Fusion::Off));
}
