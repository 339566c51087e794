//! The whole pipeline against the fixtures: fused caches, logits, decoding, end tokens, rows.

use c2c_fuser::{C2c, Fusion, PairBatch, Prefilled};
use c2c_lm::{DecodeOptions, Finish, Generated, LogitsWanted, SamplingParams};
use c2c_tests::{Array, B, assert_close, assert_close_at, bound, for_each_case};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::c2c_case::{Case, Run};

fn prefill(pair: &C2c<B>, batch: &PairBatch, fusion: Fusion) -> Prefilled<B> {
    pair.prefill(batch, fusion, LogitsWanted::All).unwrap()
}

fn reply(pair: &C2c<B>, batch: &PairBatch, fusion: Fusion, options: &DecodeOptions) -> Generated {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    pair.generate(batch, fusion, &SamplingParams::default(), options, &mut rng).unwrap()
}

/// Compares the cache and the logits of the last section, at real slots.
pub fn compare_prefill(case: &Case, run: &Run, batch: &PairBatch, got: &Prefilled<B>) {
    let real: Vec<Vec<bool>> = got.cache.mask().to_vec();
    let layers = got.cache.num_layers();
    assert_eq!(case.expected.count(&format!("{}.k.", run.name)), layers);
    for l in 0..layers {
        let layer = got.cache.layer(l).unwrap();
        for (kind, tensor) in [("k", &layer.key), ("v", &layer.value)] {
            let name = format!("{}.{kind}.{l}", run.name);
            let wanted = case.expected.get(&name);
            assert_close_at(&name, &Array::of(tensor), wanted, bound(wanted), |at| real[at[0]][at[2]]);
        }
    }
    let name = format!("{}.logits", run.name);
    let wanted = case.expected.get(&name);
    let real = batch.last().receiver.mask();
    assert_close_at(&name, &Array::of(&got.logits), wanted, bound(wanted), |at| real[at[0]][at[1]]);
}

/// Compares the scores of the first `steps` decode steps.
pub fn compare_scores(case: &Case, run: &Run, replies: &Generated, steps: usize) {
    let wanted = case.expected.get(&format!("{}.scores", run.name));
    for (step, got) in replies.scores.iter().enumerate().take(steps) {
        let wanted = wanted.narrow(0, step, 1);
        let values = got.iter().flatten().map(|v| f64::from(*v)).collect();
        let got = Array { shape: vec![1, got.len(), got[0].len()], values };
        assert_close(&format!("{}.scores[{step}]", run.name), &got, &wanted, bound(&wanted));
    }
}

/// True where masked slots lie in the prompt: the reference implementation attends to them while decoding, this project
/// doesn't, so that only the prompt and its logits can be compared.
fn has_masked_slots(batch: &PairBatch) -> bool {
    let (real, all) = batch.padding();
    real < all
}

#[test]
fn runs_with_one_sharer_match() {
    for_each_case("c2c", |dir| {
        let case = Case::open(dir);
        let pairs: Vec<C2c<B>> = (0..case.sharers()).map(|s| case.pair(s)).collect();
        let mut compared = 0;
        for (run, sharer) in case.single_runs() {
            if case.expected.find(&format!("{}.scores", run.name)).is_none() {
                continue;
            }
            let (pair, batch) = (&pairs[sharer], run.batch(&case.expected));
            compare_prefill(&case, run, &batch, &prefill(pair, &batch, Fusion::On));

            let greedy = case.expected.get(&format!("{}.greedy", run.name)).ids();
            let max_new_tokens = greedy[0].len();
            let options = DecodeOptions { max_new_tokens, keep_scores: true, ..Default::default() };
            let replies = reply(pair, &batch, Fusion::On, &options);
            assert_eq!(replies.scores.len(), max_new_tokens);
            if has_masked_slots(&batch) {
                compare_scores(&case, run, &replies, 1);
            } else {
                compare_scores(&case, run, &replies, max_new_tokens);
                assert_eq!(replies.tokens, greedy, "{}", run.name);
                assert!(replies.finish.iter().all(|f| *f == Finish::Length));
                let sequences = case.expected.get(&format!("{}.sequences", run.name)).ids();
                for (row, sequence) in sequences.iter().enumerate() {
                    let whole = [&batch.receiver_prompts()[row][..], &replies.tokens[row]].concat();
                    assert_eq!(&whole, sequence, "{} row {row}", run.name);
                }
            }
            compared += 1;
        }
        println!("{compared} of {} runs compared", case.runs.len());
        assert!(compared > 0, "no run was compared");
    });
}

#[test]
fn only_runs_of_several_sharers_are_left_out() {
    for_each_case("c2c", |dir| {
        let case = Case::open(dir);
        let left: Vec<&str> = case.runs.iter().filter(|r| r.sharer().is_none()).map(|r| r.name.as_str()).collect();
        assert!(case.sharers() > 1 || left.is_empty(), "left out: {left:?}");
    });
}

#[test]
fn an_end_token_ends_the_reply() {
    let mut compared = 0;
    for dir in c2c_tests::folders("c2c") {
        let case = Case::open(&dir);
        for (run, sharer) in case.single_runs() {
            let Some(eos) = case.expected.find(&format!("{}.eos_token_id", run.name)) else { continue };
            let pad = case.expected.get(&format!("{}.pad_token_id", run.name)).id_list()[0];
            let greedy = case.expected.get(&format!("{}.greedy", run.name)).ids();
            // The fixture stops with its last row; more are allowed here, so that stopping is what is tested.
            let max_new_tokens = greedy[0].len() + 6;
            let options = DecodeOptions { max_new_tokens, eos: eos.id_list(), pad, keep_scores: true };
            let batch = run.batch(&case.expected);
            let replies = reply(&case.pair(sharer), &batch, Fusion::On, &options);
            for (row, wanted) in greedy.iter().enumerate() {
                let wanted: Vec<u32> = wanted.iter().copied().take_while(|id| *id != pad).collect();
                assert_eq!(replies.tokens[row], wanted, "{} {} row {row}", dir.display(), run.name);
                assert_eq!(replies.finish[row], Finish::Eos);
            }
            assert_eq!(replies.scores.len(), greedy[0].len(), "no step after the last end token");
            compared += 1;
        }
    }
    assert!(compared > 0, "no run with an end token");
}

#[test]
fn switched_off_equals_the_receiver_alone() {
    for_each_case("c2c", |dir| {
        let case = Case::open(dir);
        let run = case.runs.iter().find(|r| !r.fuses()).expect("a run without fusion");
        // Sections that are marked for fusion; off means that the marks don't count.
        let last = run.sections.len() - 1;
        let marked: Vec<(usize, i64)> =
            run.sections.iter().enumerate().map(|(i, s)| (s.0, if i < last { 1 } else { -1 })).collect();
        let batch = c2c_tests::pair_batch(&case.expected, &run.name, &marked);
        let pair = case.pair(0);
        compare_prefill(&case, run, &batch, &prefill(&pair, &batch, Fusion::Off));
        let greedy = case.expected.get(&format!("{}.greedy", run.name)).ids();
        let options = DecodeOptions { max_new_tokens: greedy[0].len(), keep_scores: true, ..Default::default() };
        let replies = reply(&pair, &batch, Fusion::Off, &options);
        compare_scores(&case, run, &replies, greedy[0].len());
        assert_eq!(replies.tokens, greedy);
    });
}

#[test]
fn published_layer_maps_are_the_computed_ones() {
    for_each_case("c2c", |dir| {
        let case = Case::open(dir);
        let mapping = match case.mapping() {
            "last_aligned" => c2c_fuser::LayerMapping::LastAligned,
            "k_nearest" => c2c_fuser::LayerMapping::KNearest,
            other => panic!("unknown mapping {other}"),
        };
        for sharer in 0..case.sharers() {
            let pair = case.pair(sharer);
            let map = mapping.map(pair.receiver.config().num_layers, pair.sharer.config().num_layers);
            assert_eq!(map, case.layer_map(sharer));
            assert_eq!(pair.fuser.config().layer_map, map);
        }
    });
}
