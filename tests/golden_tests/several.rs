//! Several sharers against the fixtures: fused caches, logits and replies, one after the other and side by side.

use c2c_fuser::{
    BatchSection, C2c, FuserError, FuserMode, Fusion, FusionOrder, Link, PairBatch, Several, SeveralBatch,
};
use c2c_lm::{DecodeOptions, KvCache, LayerKv, LogitsWanted, SamplingParams, TokenBatch};
use c2c_tests::{Array, B, folders};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::c2c::{compare_prefill, compare_scores};
use crate::c2c_case::{Case, Run};

fn joined(case: &Case, order: FusionOrder) -> Several<B> {
    let link = |sharer: usize| {
        let C2c { sharer, fuser, .. } = case.pair(sharer);
        Link { sharer, fuser }
    };
    Several::new(case.receiver.clone(), (0..case.sharers()).map(link).collect(), order).unwrap()
}

/// One batch a sharer: a section is fused with those whose bit it has.
fn batches(case: &Case, run: &Run) -> Vec<PairBatch> {
    let of = |sharer: usize| {
        let own = |mask: i64| if mask > 0 && mask >> sharer & 1 == 1 { 1 } else { -1 };
        let sections: Vec<(usize, i64)> = run.sections.iter().map(|(length, mask)| (*length, own(*mask))).collect();
        c2c_tests::pair_batch(&case.expected, &run.name, &sections)
    };
    (0..case.sharers()).map(of).collect()
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = folders("c2c").iter().map(|dir| Case::open(dir)).filter(|case| case.sharers() > 1).collect();
    assert!(!cases.is_empty(), "no case of several sharers");
    cases
}

#[test]
fn runs_with_several_sharers_match() {
    let (mut compared, mut orders) = (0, [false; 2]);
    for case in cases() {
        for run in &case.runs {
            let several = joined(&case, run.order);
            let batch = SeveralBatch::new(batches(&case, run)).unwrap();
            // A run that is about its end has its tokens alone.
            let whole = case.expected.count(&format!("{}.k.", run.name)) > 0;
            if whole {
                compare_prefill(&case, run, batch.first(), &several.prefill(&batch, LogitsWanted::All).unwrap());
            }
            let expected = |name: &str| case.expected.find(&format!("{}.{name}", run.name));
            let greedy = expected("greedy").unwrap().ids();
            let eos = expected("eos_token_id").map(Array::id_list).unwrap_or_default();
            let pad = expected("pad_token_id").map_or(0, |pad| pad.id_list()[0]);
            let max_new_tokens = greedy[0].len();
            let options = DecodeOptions { max_new_tokens, eos, pad, keep_scores: true };
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let replies = several.generate(&batch, &SamplingParams::default(), &options, &mut rng).unwrap();
            if whole {
                compare_scores(&case, run, &replies, max_new_tokens);
            }
            for (row, wanted) in greedy.iter().enumerate() {
                let ends = |id: &u32| !options.eos.is_empty() && *id == pad;
                let wanted: Vec<u32> = wanted.iter().copied().take_while(|id| !ends(id)).collect();
                assert_eq!(replies.tokens[row], wanted, "{} row {row}", run.name);
            }
            compared += 1;
            orders[usize::from(run.order == FusionOrder::Parallel)] |= run.sharer().is_none();
        }
    }
    assert!(compared > 0 && orders == [true; 2], "both orders: {orders:?}");
}

/// The slots of a row's real tokens in a cache, keys and values of all layers.
fn real(prefilled: &c2c_fuser::Prefilled<B>, row: usize) -> Vec<f64> {
    let slots: Vec<usize> =
        prefilled.cache.mask()[row].iter().enumerate().filter(|(_, real)| **real).map(|(slot, _)| slot).collect();
    let mut values = Vec::new();
    for layer in 0..prefilled.cache.num_layers() {
        let kv = prefilled.cache.layer(layer).unwrap();
        for tensor in [&kv.key, &kv.value] {
            let [_, heads, total, width] = tensor.dims();
            let all = Array::of(tensor).values;
            for head in 0..heads {
                for slot in &slots {
                    let at = ((row * heads + head) * total + slot) * width;
                    values.extend_from_slice(&all[at..at + width]);
                }
            }
        }
    }
    values
}

/// The same batch with padding before the tokens of each section.
fn padded(batch: &PairBatch, by: usize) -> PairBatch {
    let side = |tokens: &TokenBatch| {
        let wide = |row: usize| {
            let ids = [vec![0; by], tokens.ids()[row].clone()].concat();
            let mask = [vec![false; by], tokens.mask()[row].clone()].concat();
            (ids, mask, [vec![0; by], tokens.positions()[row].clone()].concat())
        };
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for (ids, mask, positions) in (0..tokens.rows()).map(wide) {
            columns.0.push(ids);
            columns.1.push(mask);
            columns.2.push(positions);
        }
        TokenBatch::with_mask(columns.0, columns.1, columns.2).unwrap()
    };
    let section = |section: &BatchSection| BatchSection {
        receiver: side(&section.receiver),
        sharer: side(&section.sharer),
        fuse: section.fuse,
        labels: section.labels.iter().map(|row| [vec![None; by], row.clone()].concat()).collect(),
    };
    PairBatch::new(batch.sections().iter().map(section).collect()).unwrap()
}

#[test]
fn each_sharer_may_have_a_padding_of_its_own() {
    for case in cases() {
        for run in case.runs.iter().filter(|run| run.sharer().is_none()) {
            let several = joined(&case, run.order);
            let plain = batches(&case, run);
            let apart: Vec<PairBatch> =
                plain.iter().enumerate().map(|(place, batch)| padded(batch, 2 * place)).collect();
            let prefill = |batches| several.prefill(&SeveralBatch::new(batches).unwrap(), LogitsWanted::Last).unwrap();
            let (plain, apart) = (prefill(plain), prefill(apart));
            for row in 0..plain.cache.rows() {
                let (a, b) = (real(&plain, row), real(&apart, row));
                let size = a.iter().map(|x| x.abs()).fold(0.0, f64::max);
                assert!(
                    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * size),
                    "{}",
                    run.name
                );
            }
        }
    }
}

#[test]
fn one_of_several_is_the_pair_to_the_bit() {
    for case in cases() {
        let (run, sharer) = case.single_runs().find(|(run, _)| run.fuses()).unwrap();
        let pair = case.pair(sharer);
        let batch = run.batch(&case.expected);
        let alone = pair.prefill(&batch, Fusion::On, LogitsWanted::All).unwrap();
        let link = Link { sharer: pair.sharer, fuser: pair.fuser };
        let several = Several::new(pair.receiver, vec![link], FusionOrder::Parallel).unwrap();
        let joined = several.prefill(&SeveralBatch::new(vec![batch]).unwrap(), LogitsWanted::All).unwrap();
        assert_eq!(Array::of(&joined.logits).values, Array::of(&alone.logits).values);
    }
}

/// Keys and values of all layers over some slots.
fn slots(cache: &KvCache<B>, from: usize, to: usize) -> Vec<LayerKv<B>> {
    (0..cache.num_layers()).map(|layer| cache.slice(layer, from, to).unwrap()).collect()
}

fn values(layers: &[LayerKv<B>]) -> Vec<f64> {
    layers.iter().flat_map(|kv| [Array::of(&kv.key).values, Array::of(&kv.value).values].concat()).collect()
}

/// The first fused section: the receiver's own cache there is the same in all runs, so that formulas can be told by it.
#[test]
fn the_same_sharer_twice_changes_twice_as_much_side_by_side() {
    let mut compared = 0;
    for case in cases() {
        let (run, sharer) = case.single_runs().find(|(run, _)| run.fuses()).unwrap();
        let pair = case.pair(sharer);
        let batch = run.batch(&case.expected);
        let place = batch.sections().iter().position(|section| section.fuse).unwrap();
        let from: usize = batch.sections()[..place].iter().map(|section| section.receiver.tokens()).sum();
        let to = from + batch.sections()[place].receiver.tokens();
        let read = |order| {
            let link = || Link { sharer: pair.sharer.clone(), fuser: pair.fuser.clone() };
            let twice = Several::new(pair.receiver.clone(), vec![link(), link()], order).unwrap();
            let both = SeveralBatch::new(vec![batch.clone(), batch.clone()]).unwrap();
            values(&slots(&twice.prefill(&both, LogitsWanted::Last).unwrap().cache, from, to))
        };
        let alone = |fusion| slots(&pair.prefill(&batch, fusion, LogitsWanted::Last).unwrap().cache, from, to);
        let (own, once) = (alone(Fusion::Off), alone(Fusion::On));
        // What the sharer itself has there.
        let mut cache = pair.sharer.new_cache(batch.rows());
        for section in &batch.sections()[..=place] {
            pair.sharer.fill_cache(&section.sharer, &mut cache, pair.sharer.config().num_layers).unwrap();
        }
        let again = pair.fuser.fuse(&slots(&cache, from, to), &once, FuserMode::Infer).unwrap();
        let (own, once, again) = (values(&own), values(&once), values(&again));
        let size = once.iter().map(|x| x.abs()).fold(0.0, f64::max);
        let near =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * size);
        let doubled: Vec<f64> = own.iter().zip(&once).map(|(own, once)| own + 2.0 * (once - own)).collect();
        let (parallel, sequential) = (read(FusionOrder::Parallel), read(FusionOrder::Sequential));
        assert!(near(&parallel, &doubled), "{}: side by side", run.name);
        assert!(near(&sequential, &again), "{}: one after the other", run.name);
        assert!(!near(&sequential, &parallel) && !near(&once, &own), "{}: nothing to tell apart", run.name);
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn what_does_not_belong_together_is_named() {
    let case = &cases()[0];
    let run = &case.runs[0];
    let both = batches(case, run);
    let error = |result: Result<SeveralBatch, FuserError>| result.unwrap_err().to_string();
    assert!(error(SeveralBatch::new(Vec::new())).contains("at least one"));
    let lengths: Vec<usize> = run.sections.iter().map(|section| section.0).collect();
    let other = [(lengths[0] - 1, 1), (1, -1), (lengths[1], -1)];
    let other = c2c_tests::pair_batch(&case.expected, &run.name, &other);
    let told = error(SeveralBatch::new(vec![both[0].clone(), other]));
    assert!(told.contains("section 0") && told.contains("sharer 1"), "{told}");
    let several = joined(case, FusionOrder::Sequential);
    let few = SeveralBatch::new(vec![both[0].clone()]).unwrap();
    let told = several.prefill(&few, LogitsWanted::Last).unwrap_err().to_string();
    assert!(told.contains("one a sharer") && told.contains("found 1"), "{told}");
    assert!(Several::<B>::new(case.receiver.clone(), Vec::new(), FusionOrder::Sequential).is_err());
}
