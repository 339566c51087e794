//! Whole replies that are drawn: the same wherever their tokens are chosen, and no reply where logits are no distribution.

use std::path::Path;

use burn::DispatchDevice;
use burn::tensor::{Tensor, TensorData};
use c2c_lm::{
    BadLogits, DecodeOptions, Finish, Generated, Lm, LmError, LogitsWanted, ModelDtype, SamplingParams, TokenBatch,
    decode,
};
use c2c_tests::{B, Fixture, device, folders, for_each_case};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

const TOKENS: usize = 8;

fn load(dir: &Path, device: &DispatchDevice) -> Lm<B> {
    Lm::from_dir(dir, ModelDtype::F32, device).unwrap()
}

/// The prompts of a case, three times, so that rows end one after the other.
fn prompts(dir: &Path) -> Vec<Vec<u32>> {
    let ids = Fixture::open(&dir.join("expected.safetensors")).get("input_ids").ids();
    [ids.clone(), ids.clone(), ids].concat()
}

fn reply(model: &Lm<B>, prompts: &[Vec<u32>], sampling: &SamplingParams, options: &DecodeOptions) -> Generated {
    let tokens = TokenBatch::new(prompts.to_vec(), 0).unwrap();
    let mut cache = model.new_cache(prompts.len());
    let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
    let next = vec![prompts[0].len(); prompts.len()];
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    decode(model, &mut cache, logits, prompts, &next, sampling, options, &mut rng).unwrap()
}

fn samplings() -> [SamplingParams; 4] {
    let sampled = SamplingParams { do_sample: true, ..Default::default() };
    let penalised =
        SamplingParams { presence_penalty: 0.3, frequency_penalty: 0.2, repetition_penalty: 1.2, ..sampled.clone() };
    [
        sampled.clone(),
        SamplingParams { temperature: 0.8, top_k: Some(40), top_p: 0.9, ..sampled },
        SamplingParams { temperature: 1.5, top_p: 0.95, ..penalised.clone() },
        SamplingParams { do_sample: false, ..penalised },
    ]
}

/// Rows end at different steps and leave the cache; what each of them has seen goes with it.
#[test]
fn replies_are_those_of_the_cpu_and_of_scores_that_are_read_back() {
    for_each_case("lm", |dir| {
        let (model, cpu) = (load(dir, &device()), load(dir, &DispatchDevice::Flex(burn_flex::FlexDevice)));
        let prompts = prompts(dir);
        for sampling in samplings() {
            let options = DecodeOptions { max_new_tokens: TOKENS, ..Default::default() };
            let free = reply(&model, &prompts, &sampling, &options).tokens;
            // What most rows say early, but not all at one step.
            let eos =
                free.iter().take(free.len() / 2 + 1).enumerate().map(|(row, tokens)| tokens[row % 3 + 1]).collect();
            let options = DecodeOptions { eos, ..options };
            let scored = DecodeOptions { keep_scores: true, ..options.clone() };
            let found = reply(&model, &prompts, &sampling, &options);
            assert!(found.finish.contains(&Finish::Eos), "{sampling:?}: no row ends early");
            for (place, expected) in [
                ("the CPU", reply(&cpu, &prompts, &sampling, &options)),
                ("the host", reply(&model, &prompts, &sampling, &scored)),
            ] {
                assert_eq!(found.tokens, expected.tokens, "{sampling:?} on {place}");
                assert_eq!(found.finish, expected.finish, "{sampling:?} on {place}");
            }
        }
        let drawn =
            reply(&model, &prompts, &samplings()[0], &DecodeOptions { max_new_tokens: TOKENS, ..Default::default() });
        let rows = prompts.len() / 3;
        assert_ne!(drawn.tokens[0], drawn.tokens[rows], "one prompt, drawn twice");
    });
}

#[test]
fn logits_that_are_no_distribution_end_decoding() {
    let model = load(&folders("lm")[0], &device());
    let vocab = model.config().vocab_size;
    let sampled = SamplingParams { do_sample: true, ..Default::default() };
    let penalised = SamplingParams { repetition_penalty: 1.1, ..Default::default() };
    for sampling in [SamplingParams::default(), penalised, sampled] {
        for keep_scores in [false, true] {
            for (bad, found) in [(f32::NAN, BadLogits::Nan), (f32::NEG_INFINITY, BadLogits::Nothing)] {
                let mut flat = vec![0.0; 2 * vocab];
                flat[vocab..].fill(bad);
                let logits = Tensor::from_data(TensorData::new(flat, [2, 1, vocab]), &device());
                let options = DecodeOptions { max_new_tokens: 2, keep_scores, ..Default::default() };
                let mut rng = ChaCha8Rng::seed_from_u64(0);
                let mut cache = model.new_cache(2);
                let prompts = [vec![3], vec![4]];
                let error =
                    decode(&model, &mut cache, logits.clone(), &prompts, &[1, 1], &sampling, &options, &mut rng);
                let error = error.unwrap_err();
                let LmError::Logits { row: 1, step: 0, found: named } = error else { panic!("{error:?}") };
                assert_eq!(named, found);
                let text = error.to_string();
                let parts = ["row 1", "new token 0", &found.to_string(), "overflowed", "dtype"];
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
                let error = c2c_lm::greedy(logits).unwrap_err();
                assert!(matches!(error, LmError::Logits { row: 1, .. }), "{error:?}");
            }
        }
    }
}

/// A model whose weights overflow in the second step alone: its error names that step.
#[test]
fn the_step_of_bad_logits_is_named() {
    let model = load(&folders("lm")[0], &device());
    let prompts = [vec![3, 4], vec![5, 6]];
    let tokens = TokenBatch::new(prompts.to_vec(), 0).unwrap();
    let mut cache = model.new_cache(2);
    let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
    // A value that is no number in a slot that both steps read, put there behind the prompt's pass.
    let layers = (0..cache.num_layers()).map(|l| {
        let mut layer = cache.layer(l).unwrap().clone();
        let [_, heads, slots, width] = layer.value.dims();
        let bad = Tensor::full([1, heads, slots, width], f32::NAN, &device());
        layer.value = Tensor::cat(vec![bad, layer.value.narrow(0, 1, 1)], 0);
        layer
    });
    let mask = cache.mask().to_vec();
    let mut cache = c2c_lm::KvCache::from_layers(layers.collect(), mask).unwrap();
    let sampling = SamplingParams { do_sample: true, ..Default::default() };
    let options = DecodeOptions { max_new_tokens: 3, ..Default::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let error = decode(&model, &mut cache, logits, &prompts, &[2, 2], &sampling, &options, &mut rng).unwrap_err();
    assert!(matches!(error, LmError::Logits { row: 0, step: 1, found: BadLogits::Nan }), "{error:?}");
}
