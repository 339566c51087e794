//! A shut gate leaves the receiver's cache alone, to the bit.

use c2c_fuser::{
    C2c, Contexts, Fuser, FuserMode, Fusion, FusionOrder, Link, PairBatch, Phase, Prefilled, Several, SeveralBatch,
};
use c2c_lm::{DecodeOptions, KvCache, LayerKv, LogitsWanted, SamplingParams};
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

/// The same link with other gates: open where `open` says so, by branch.
fn with_gates(pair: &C2c<B>, open: impl Fn(usize) -> bool) -> C2c<B> {
    let params: Vec<(String, Array)> =
        pair.fuser.named_params().into_iter().map(|(name, param)| (name, Array::of(&param.val()))).collect();
    let read = |name: &str, shape: [usize; 3]| match name {
        "gate_logit" => Ok((0..shape[0]).map(|branch| if open(branch) { 0.5 } else { -0.5 }).collect()),
        _ => Ok(params.iter().find(|(of, _)| of == name).unwrap().1.f32s()),
    };
    let fuser = Fuser::load(pair.fuser.config(), &c2c_tests::device(), read).unwrap();
    let fuser = fuser.for_inference(pair.receiver.dtype()).unwrap();
    C2c { fuser, ..pair.clone() }
}

/// The layers of a cache that were run.
fn filled(cache: &KvCache<B>) -> usize {
    (0..cache.num_layers()).take_while(|layer| cache.layer(*layer).is_some()).count()
}

#[test]
fn the_sharer_runs_as_deep_as_open_branches_read() {
    let mut less = 0;
    for dir in c2c_tests::folders("c2c") {
        let case = Case::open(&dir);
        let (run, sharer) = case.single_runs().find(|(run, _)| run.fuses()).unwrap();
        let (pair, batch) = (case.pair(sharer), run.batch(&case.expected));
        let config = pair.fuser.config().clone();
        let layers = config.layers();
        let whole = config.sharer_depth();
        // The key branch of one layer alone, its value branch alone, and those of it and the layers below.
        let gates = (0..layers).flat_map(|layer| {
            [vec![layer], vec![layers + layer], (0..=layer).chain(layers..=layers + layer).collect::<Vec<usize>>()]
        });
        for open in gates.chain([Vec::new()]) {
            let some = with_gates(&pair, |branch| open.contains(&branch));
            let needed = open.iter().map(|branch| config.layer_map[branch % layers] + 1).max().unwrap_or(0);
            let name = format!("{} {}: branches {open:?}", dir.display(), run.name);
            assert_eq!(some.fuser.sharer_depth(), needed, "{name}");
            assert_eq!(filled(&some.sharer_cache(&batch).unwrap()), needed, "{name}");
            less += usize::from(needed > 0 && needed < whole);

            let mut phases = Vec::new();
            let observed = &mut |phase| phases.push(phase);
            let found = some.prefill_observed(&batch, Fusion::On, LogitsWanted::All, observed).unwrap();
            assert_eq!(phases.contains(&Phase::Sharer), needed > 0, "{name}");
            assert!(phases.contains(&Phase::Fusion), "{name}");
            // The same fuser on a sharer that ran as deep as all branches read.
            let deep = Contexts::compute(&some.receiver, &some.sharer, whole, &batch).unwrap();
            let expected = some.prefill_from(&deep, &batch, LogitsWanted::All).unwrap();
            caches_equal(&name, &found, &expected);
            assert_equal(&name, &Array::of(&found.logits), &Array::of(&expected.logits));

            let link = || Link { sharer: some.sharer.clone(), fuser: some.fuser.clone() };
            for order in [FusionOrder::Sequential, FusionOrder::Parallel] {
                let twice = Several::new(some.receiver.clone(), vec![link(), link()], order).unwrap();
                let both = SeveralBatch::new(vec![batch.clone(), batch.clone()]).unwrap();
                let mut phases = Vec::new();
                let found = twice.prefill_observed(&both, LogitsWanted::All, &mut |phase| phases.push(phase)).unwrap();
                let ran = phases.iter().filter(|phase| **phase == Phase::Sharer).count();
                assert_eq!(ran, if needed > 0 { 2 } else { 0 }, "{name}");
                if open.is_empty() {
                    assert_equal(&name, &Array::of(&found.logits), &Array::of(&expected.logits));
                }
            }
        }
    }
    assert!(less > 0, "no sharer ran less deep than all branches read");
}

#[test]
fn a_cache_as_deep_as_is_read_is_enough() {
    let case = Case::open(&c2c_tests::folders("c2c")[0]);
    let (run, sharer) = case.single_runs().find(|(run, _)| run.fuses()).unwrap();
    let (pair, batch) = (case.pair(sharer), run.batch(&case.expected));
    let map = pair.fuser.config().layer_map.clone();
    let layer = (0..map.len()).find(|layer| map[*layer] > 0).unwrap();
    let some = with_gates(&pair, |branch| branch == layer);
    let layers = |cache: &KvCache<B>| -> Vec<LayerKv<B>> {
        (0..filled(cache)).map(|layer| cache.layer(layer).unwrap()).collect()
    };
    let (own, other) =
        (some.prefill(&batch, Fusion::Off, LogitsWanted::Last).unwrap().cache, some.sharer_cache(&batch));
    let mut other = layers(&other.unwrap());
    let slots = other[0].key.dims()[2];
    let own: Vec<LayerKv<B>> = (0..map.len()).map(|layer| own.slice(layer, 0, slots).unwrap()).collect();
    let fused = some.fuser.fuse(&other, &own, FuserMode::Infer).unwrap();
    for (at, (own, fused)) in own.iter().zip(&fused).enumerate() {
        assert_eq!(Array::of(&own.key) == Array::of(&fused.key), at != layer, "layer {at}");
        assert_equal("values", &Array::of(&own.value), &Array::of(&fused.value));
    }
    other.pop();
    let told = some.fuser.fuse(&other, &own, FuserMode::Infer).unwrap_err().to_string();
    let (needed, found) = (map[layer] + 1, map[layer]);
    assert!(told.contains("sharer layers") && told.contains(&needed.to_string()), "{told}");
    assert!(told.contains(&found.to_string()), "{told}");
    // Nothing is asked of a sharer that nobody reads.
    let shut = with_gates(&pair, |_| false);
    assert_eq!(shut.fuser.fuse(&[], &own, FuserMode::Infer).unwrap().len(), own.len());
}
