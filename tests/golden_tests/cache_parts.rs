//! Caches cut and put together: rows taken out or doubled, slots dropped, layers exchanged.

use std::sync::atomic::{AtomicUsize, Ordering};

use c2c_lm::{DecodeOptions, KvCache, Lm, LmError, LogitsWanted, SamplingParams, decode};
use c2c_tests::{Array, B, assert_close, assert_equal, bound, for_each_case, token_batch};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::lm::load;
use crate::lm_batching::greedy;

fn each(cache: &KvCache<B>, mut look: impl FnMut(usize, &str, Array)) {
    for l in 0..cache.num_layers() {
        let layer = cache.layer(l).unwrap();
        look(l, "k", Array::of(&layer.key));
        look(l, "v", Array::of(&layer.value));
    }
}

fn filled(model: &Lm<B>, ids: &Array) -> KvCache<B> {
    let mut cache = model.new_cache(ids.shape[0]);
    model.forward(&token_batch(ids, None, None, 0, ids.shape[1]), &mut cache, LogitsWanted::Last).unwrap();
    cache
}

fn of(cache: &KvCache<B>, layer: usize, kind: &str) -> Array {
    let layer = cache.layer(layer).unwrap();
    Array::of(if kind == "k" { &layer.key } else { &layer.value })
}

#[test]
fn rows_are_taken_in_the_order_asked_for() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let cache = filled(&model, expected.get("input_ids"));
        let last = cache.rows() - 1;
        let picked = cache.select_rows(&[last, 0, 0]).unwrap();
        assert_eq!((picked.rows(), picked.len()), (3, cache.len()));
        each(&picked, |l, kind, rows| {
            let whole = of(&cache, l, kind);
            for (place, row) in [last, 0, 0].into_iter().enumerate() {
                assert_equal(&format!("{kind}.{l}"), &rows.narrow(0, place, 1), &whole.narrow(0, row, 1));
            }
        });
        assert!(matches!(cache.select_rows(&[last + 1]), Err(LmError::CacheMismatch { what: "rows", .. })));
    });
}

#[test]
fn a_prefix_read_once_and_doubled_equals_rows_that_read_it_themselves() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids").narrow(0, 0, 1);
        let n = ids.shape[1];
        let cut = n / 2;
        let mut one = model.new_cache(1);
        model.fill_cache(&token_batch(&ids, None, None, 0, cut), &mut one, model.config().num_layers).unwrap();
        let mut doubled = one.select_rows(&[0, 0]).unwrap();
        let twice = Array { shape: vec![2, n], values: [ids.values.clone(), ids.values.clone()].concat() };
        let rest = token_batch(&twice, None, None, cut, n - cut);
        let got = Array::of(&model.forward(&rest, &mut doubled, LogitsWanted::Last).unwrap());
        let whole = token_batch(&twice, None, None, 0, n);
        let wanted = Array::of(&model.forward(&whole, &mut model.new_cache(2), LogitsWanted::Last).unwrap());
        assert_close("logits", &got, &wanted, bound(&wanted));
    });
}

#[test]
fn slots_are_dropped_with_their_mask() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let cache = filled(&model, expected.get("input_ids"));
        let n = cache.len();
        for slots in [1..n - 1, 0..2, n - 2..n, 3..3] {
            let left = cache.without_slots(slots.clone()).unwrap();
            assert_eq!(left.len(), n - slots.len());
            assert!(left.mask().iter().all(|row| row.len() == left.len()));
            each(&left, |l, kind, kept| {
                let whole = of(&cache, l, kind);
                // From here, from there, so many.
                for (found, wanted, length) in [(0, 0, slots.start), (slots.start, slots.end, n - slots.end)] {
                    if length > 0 {
                        assert_equal(kind, &kept.narrow(2, found, length), &whole.narrow(2, wanted, length));
                    }
                }
            });
        }
        assert!(cache.without_slots(n - 1..n + 1).is_err());
    });
}

#[test]
fn layers_come_from_the_cache_that_was_named() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids");
        let (n, layers) = (ids.shape[1], model.config().num_layers);
        let (a, b) = (filled(&model, &ids.narrow(1, 0, n - 1)), filled(&model, &ids.narrow(1, 1, n - 1)));
        let mixed = a.clone().with_layers_of(&b, &[layers - 1]).unwrap();
        each(&mixed, |l, kind, got| {
            let from = if l == layers - 1 { &b } else { &a };
            assert_equal(&format!("{kind}.{l}"), &got, &of(from, l, kind));
        });
        assert!(a.clone().with_layers_of(&b, &[layers]).is_err());
        assert!(a.with_layers_of(&filled(&model, ids), &[0]).is_err());
    });
}

#[test]
fn rows_that_have_ended_leave_the_cache() {
    let left = AtomicUsize::new(0);
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let prompts = expected.get("input_ids").ids();
        // Three rows of the first prompt end at its third token; one of another prompt may go on.
        let rows: Vec<Vec<u32>> = [0, 0, 0, prompts.len() - 1].map(|row| prompts[row].clone()).into();
        let free = greedy(&model, rows.clone(), 8).tokens;
        let eos = free[0][2];
        let ids =
            Array { shape: vec![4, rows[0].len()], values: rows.iter().flatten().map(|id| f64::from(*id)).collect() };
        let mut cache = model.new_cache(4);
        let tokens = token_batch(&ids, None, None, 0, rows[0].len());
        let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
        let options = DecodeOptions { max_new_tokens: 8, eos: vec![eos], ..Default::default() };
        let (sampling, mut rng) = (SamplingParams::default(), ChaCha8Rng::seed_from_u64(0));
        let next = vec![rows[0].len(); 4];
        let got = decode(&model, &mut cache, logits, &rows, &next, &sampling, &options, &mut rng).unwrap();
        for (row, free) in free.iter().enumerate() {
            let wanted: Vec<u32> = free.iter().copied().take_while(|id| *id != eos).collect();
            assert_eq!(got.tokens[row], wanted, "row {row}");
        }
        if got.tokens[3].len() > got.tokens[0].len() + 1 {
            assert_eq!(cache.rows(), 1, "only the row that went on is held");
            left.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(left.into_inner() > 0, "in no case did a row go on without the others");
}
