//! Ways of running the same tokens that have to agree: in chunks, in batches, padded, only as deep as needed.

use c2c_lm::{DecodeOptions, Finish, Generated, Lm, LogitsWanted, SamplingParams, TokenBatch, decode};
use c2c_tests::{Array, B, assert_close, assert_equal, bound, for_each_case, token_batch};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::lm::load;

/// The largest difference, relative to the largest logit, between batched and single rows: other blocking of the same
/// products, nothing more.
const BATCH_LIMIT: f64 = 1e-5;

/// Greedy decoding of unpadded prompts of one length, without end tokens.
pub fn greedy(model: &Lm<B>, prompts: Vec<Vec<u32>>, max_new_tokens: usize) -> Generated {
    let positions = vec![prompts[0].len(); prompts.len()];
    continue_greedily(model, &TokenBatch::new(prompts.clone(), 0).unwrap(), &prompts, &positions, max_new_tokens)
}

fn continue_greedily(
    model: &Lm<B>,
    tokens: &TokenBatch,
    prompts: &[Vec<u32>],
    next_positions: &[usize],
    max_new_tokens: usize,
) -> Generated {
    let mut cache = model.new_cache(prompts.len());
    let logits = model.forward(tokens, &mut cache, LogitsWanted::Last).unwrap();
    let options = DecodeOptions { max_new_tokens, ..Default::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    decode(model, &mut cache, logits, prompts, next_positions, &SamplingParams::default(), &options, &mut rng).unwrap()
}

#[test]
fn two_chunks_equal_one() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids");
        let (rows, n) = (ids.shape[0], ids.shape[1]);
        let wanted = expected.get("logits");
        for cut in [1, n / 3, n - 1] {
            let mut cache = model.new_cache(rows);
            let mut run = |start: usize, length: usize| {
                let tokens = token_batch(ids, None, None, start, length);
                Array::of(&model.forward(&tokens, &mut cache, LogitsWanted::All).unwrap())
            };
            for (start, length) in [(0, cut), (cut, n - cut)] {
                let got = run(start, length);
                let part = wanted.narrow(1, start, length);
                assert_close(&format!("logits of {start}.. cut at {cut}"), &got, &part, bound(wanted));
            }
            for l in 0..cache.num_layers() {
                let layer = cache.layer(l).unwrap();
                for (kind, tensor) in [("k", &layer.key), ("v", &layer.value)] {
                    let name = format!("{kind}.{l}");
                    let wanted = expected.get(&name);
                    assert_close(&format!("{name} cut at {cut}"), &Array::of(tensor), wanted, bound(wanted));
                }
            }
        }
    });
}

#[test]
fn last_logits_are_the_last_row_of_all() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids");
        let (rows, n) = (ids.shape[0], ids.shape[1]);
        let tokens = token_batch(ids, None, None, 0, n);
        let run = |wanted| Array::of(&model.forward(&tokens, &mut model.new_cache(rows), wanted).unwrap());
        let last = run(LogitsWanted::Last);
        // The head's product is blocked by the number of rows, hence not bit for bit.
        let all = run(LogitsWanted::All).narrow(1, n - 1, 1);
        assert_close("last", &last, &all, 1e-6 * all.max_abs().max(1.0));
    });
}

#[test]
fn a_shallow_fill_equals_the_full_cache() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let ids = expected.get("input_ids");
        let tokens = token_batch(ids, None, None, 0, ids.shape[1]);
        let mut whole = model.new_cache(ids.shape[0]);
        model.forward(&tokens, &mut whole, LogitsWanted::Last).unwrap();
        for depth in 1..=whole.num_layers() {
            let mut cache = model.new_cache(ids.shape[0]);
            model.fill_cache(&tokens, &mut cache, depth).unwrap();
            for l in 0..whole.num_layers() {
                let Some(layer) = cache.layer(l) else {
                    assert!(l >= depth, "layer {l} is empty at depth {depth}");
                    continue;
                };
                assert!(l < depth, "layer {l} was run at depth {depth}");
                let full = whole.layer(l).unwrap();
                assert_equal(&format!("k.{l} at depth {depth}"), &Array::of(&layer.key), &Array::of(&full.key));
                assert_equal(&format!("v.{l} at depth {depth}"), &Array::of(&layer.value), &Array::of(&full.value));
            }
        }
    });
}

#[test]
fn a_batch_of_five_equals_single_rows() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let prompts = expected.get("input_ids").ids();
        let five: Vec<Vec<u32>> = (0..5).map(|i| prompts[i % prompts.len()].clone()).collect();
        let run = |rows: Vec<Vec<u32>>| {
            let tokens = TokenBatch::new(rows, 0).unwrap();
            Array::of(&model.forward(&tokens, &mut model.new_cache(tokens.rows()), LogitsWanted::All).unwrap())
        };
        let batched = run(five.clone());
        let replies = greedy(&model, five.clone(), 6).tokens;
        for (i, prompt) in five.into_iter().enumerate() {
            let single = run(vec![prompt.clone()]);
            let limit = BATCH_LIMIT * single.max_abs().max(1.0);
            assert_close(&format!("row {i}"), &batched.narrow(0, i, 1), &single, limit);
            assert_eq!(replies[i], greedy(&model, vec![prompt], 6).tokens[0], "reply of row {i}");
        }
    });
}

#[test]
fn a_left_padded_row_replies_as_if_alone() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let prompts = expected.get("input_ids").ids();
        let long = prompts[0].clone();
        let n = long.len();
        let short = prompts[prompts.len() - 1][..n - n / 3].to_vec();
        let pad = n - short.len();
        let real = [vec![true; n], [vec![false; pad], vec![true; short.len()]].concat()];
        let positions = [(0..n).collect(), [vec![0; pad], (0..short.len()).collect()].concat()];
        let ids = [long.clone(), [vec![0; pad], short.clone()].concat()];
        let tokens = TokenBatch::with_mask(ids.into(), real.into(), positions.into()).unwrap();
        let prompts = [long.clone(), short.clone()];
        let replies = continue_greedily(&model, &tokens, &prompts, &[n, short.len()], 6).tokens;
        assert_eq!(replies[0], greedy(&model, vec![long], 6).tokens[0], "the long row");
        assert_eq!(replies[1], greedy(&model, vec![short], 6).tokens[0], "the padded row");
    });
}

#[test]
fn a_row_that_has_ended_does_not_disturb_the_others() {
    for_each_case("lm", |dir| {
        let (model, expected) = load(dir);
        let prompts = expected.get("input_ids").ids();
        let free = greedy(&model, prompts.clone(), 8).tokens;
        let eos = free[0][2];
        let tokens = TokenBatch::new(prompts.clone(), 0).unwrap();
        let mut cache = model.new_cache(prompts.len());
        let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
        let options = DecodeOptions { max_new_tokens: 8, eos: vec![eos], pad: 0, keep_scores: true };
        let positions = vec![prompts[0].len(); prompts.len()];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let sampling = SamplingParams::default();
        let got = decode(&model, &mut cache, logits, &prompts, &positions, &sampling, &options, &mut rng).unwrap();
        let mut steps = 0;
        for (row, free) in free.iter().enumerate() {
            let wanted: Vec<u32> = free.iter().copied().take_while(|id| *id != eos).collect();
            let ended = wanted.len() < free.len();
            assert_eq!(got.tokens[row], wanted, "row {row}");
            assert_eq!(got.finish[row], if ended { Finish::Eos } else { Finish::Length }, "row {row}");
            steps = steps.max(wanted.len() + usize::from(ended));
        }
        assert_eq!(got.scores.len(), steps, "decoding goes on until the last row has ended, and no further");
    });
}
