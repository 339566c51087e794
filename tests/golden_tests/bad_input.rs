//! Prompts, batches and folders that don't fit: refused with the id, row or length, and what was expected.

use std::path::Path;

use burn::tensor::{DType, Tensor};
use c2c_fuser::{BatchSection, FuserError, ModelSource, PairBatch, PairModels};
use c2c_lm::{
    DecodeOptions, KvCache, LayerKv, Lm, LmError, LogitsWanted, ModelDtype, SamplingParams, TokenBatch, decode,
};
use c2c_tests::{Array, B, assert_equal, copy_folder, device, folders};
use c2c_text::{PreTok, SectionCut, TokenMode, train_bpe};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use tempfile::TempDir;

use crate::lm_batching::greedy;

fn model() -> Lm<B> {
    Lm::from_dir(&folders("lm")[0], ModelDtype::F32, &device()).unwrap()
}

fn forward(model: &Lm<B>, ids: Vec<u32>, start: usize) -> Result<(), LmError> {
    let tokens = TokenBatch::new(vec![ids], start).unwrap();
    model.forward(&tokens, &mut model.new_cache(1), LogitsWanted::Last).map(|_| ())
}

#[test]
fn an_id_outside_the_vocabulary_is_named() {
    let model = model();
    let vocab = model.config().vocab_size;
    forward(&model, vec![3, vocab as u32 - 1], 0).unwrap();
    for id in [vocab as u32, u32::MAX] {
        let text = forward(&model, vec![3, id, 4], 0).unwrap_err().to_string();
        assert!(text.contains(&format!("token id {id}")) && text.contains(&vocab.to_string()), "{text}");
    }
}

#[test]
fn a_refused_batch_leaves_the_cache_as_it_was() {
    let model = model();
    let mut cache = model.new_cache(1);
    let good = TokenBatch::new(vec![vec![3, 4]], 0).unwrap();
    model.forward(&good, &mut cache, LogitsWanted::Last).unwrap();
    let bad = TokenBatch::new(vec![vec![u32::MAX]], 2).unwrap();
    model.forward(&bad, &mut cache, LogitsWanted::Last).unwrap_err();
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.layer(0).unwrap().key.dims()[2], 2);
}

#[test]
fn an_empty_prompt_is_refused() {
    for ids in [vec![], vec![vec![]], vec![vec![], vec![]]] {
        let error = TokenBatch::new(ids, 0).unwrap_err();
        assert!(matches!(error, LmError::EmptyPrompt), "{error:?}");
        assert!(error.to_string().contains("at least one token"), "{error}");
    }
}

#[test]
fn ragged_rows_are_named() {
    let ragged = |ids, mask, positions| TokenBatch::with_mask(ids, mask, positions).unwrap_err().to_string();
    let ids = || vec![vec![3, 4], vec![5, 6]];
    let mask = || vec![vec![true; 2]; 2];
    let positions = || vec![vec![0, 1]; 2];
    let text = TokenBatch::new(vec![vec![3, 4], vec![5]], 0).unwrap_err().to_string();
    assert!(text.contains("row 1 has 1 ids, expected 2"), "{text}");
    let text = ragged(ids(), vec![vec![true; 2], vec![true; 3]], positions());
    assert!(text.contains("row 1 has 3 mask entries, expected 2"), "{text}");
    let text = ragged(ids(), mask(), vec![vec![0], vec![0, 1]]);
    assert!(text.contains("row 0 has 1 positions, expected 2"), "{text}");
    let text = ragged(ids(), mask(), vec![vec![0, 1]]);
    assert!(text.contains("row 1 has 0 positions, expected 2"), "{text}");
}

#[test]
fn a_prompt_over_the_context_is_refused_before_it_runs() {
    let model = model();
    let limit = model.config().max_position;
    let text = forward(&model, vec![3; limit + 1], 0).unwrap_err().to_string();
    let parts = [&(limit + 1).to_string(), &limit.to_string(), "max_position_embeddings", "shorten the prompt"];
    assert!(parts.iter().all(|p| text.contains(*p)), "{text}");
    assert!(forward(&model, vec![3, 4], limit - 2).is_ok(), "the last position can be used");
    assert!(forward(&model, vec![3, 4], limit - 1).is_err());
}

#[test]
fn a_reply_over_the_context_is_refused() {
    let model = model();
    let limit = model.config().max_position;
    let tokens = TokenBatch::new(vec![vec![3, 4]], limit - 2).unwrap();
    let reply = |max_new_tokens| {
        let mut cache = model.new_cache(1);
        let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
        let options = DecodeOptions { max_new_tokens, ..Default::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        decode(&model, &mut cache, logits, &[vec![3, 4]], &[limit], &SamplingParams::default(), &options, &mut rng)
    };
    // One token can be chosen without running it.
    assert_eq!(reply(1).unwrap().tokens[0].len(), 1);
    let text = reply(2).unwrap_err().to_string();
    assert!(text.contains("lower max_new_tokens") && text.contains(&limit.to_string()), "{text}");
}

#[test]
fn a_cache_of_other_rows_or_layers_is_refused() {
    let model = model();
    let tokens = TokenBatch::new(vec![vec![3, 4]], 0).unwrap();
    let text = |mut cache| model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap_err().to_string();
    assert_eq!(text(model.new_cache(3)), "the cache has rows 3, expected 1");
    let layers = model.config().num_layers;
    let other = c2c_lm::KvCache::new(layers + 1, 1);
    assert_eq!(text(other), format!("the cache has layers {}, expected {layers}", layers + 1));
}

#[test]
fn layers_that_lack_tokens_are_not_read() {
    let model = model();
    let layers = model.config().num_layers;
    let tokens = |ids: [u32; 2], start| TokenBatch::new(vec![ids.to_vec()], start).unwrap();
    let forward = |cache: &mut KvCache<B>, start| model.forward(&tokens([5, 6], start), cache, LogitsWanted::Last);
    // Filled to one layer less, from nothing and behind what all layers hold.
    let mut shallow = model.new_cache(1);
    model.fill_cache(&tokens([3, 4], 0), &mut shallow, layers - 1).unwrap();
    let mut whole = model.new_cache(1);
    model.fill_cache(&tokens([7, 8], 0), &mut whole, layers).unwrap();
    model.fill_cache(&tokens([3, 4], 2), &mut whole, layers - 1).unwrap();
    for mut cache in [shallow, whole] {
        let start = cache.len();
        let error = forward(&mut cache, start).unwrap_err();
        assert!(matches!(error, LmError::CacheMismatch { what: "filled layers", .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("the cache has filled layers {}, expected {layers}", layers - 1));
        assert_eq!(cache.len(), start, "a refused batch leaves the cache as it was");
        assert!(cache.layer(layers - 1).is_none());
        // As deep as it is it goes on.
        model.fill_cache(&tokens([5, 6], start), &mut cache, layers - 1).unwrap();
        assert_eq!(cache.layer(layers - 2).unwrap().key.dims()[2], start + 2);
    }
}

#[test]
fn tensors_that_are_no_cache_of_the_model_are_named() {
    let model = model();
    let config = model.config();
    let (layers, heads, width) = (config.num_layers, config.num_kv_heads, config.head_dim);
    let tensor = |heads: usize, width: usize| Tensor::<B, 4>::ones([1, heads, 3, width], &device());
    let plain = || LayerKv { key: tensor(heads, width), value: tensor(heads, width) };
    let with = |place: usize, layer: LayerKv<B>| {
        let mut all: Vec<LayerKv<B>> = (0..layers).map(|_| plain()).collect();
        all[place] = layer;
        KvCache::from_layers(all, vec![vec![true; 3]])
    };
    let as_it_is = format!("[1, {heads}, 3, {width}] in F32");
    let named = |error: LmError, layer: usize, what: &str| {
        let text = error.to_string();
        assert!(matches!(error, LmError::CacheTensor { .. }), "{text}");
        let start = format!("layer {layer} of the cache has {what} ");
        assert!(text.starts_with(&start) && text.ends_with(&format!("expected {as_it_is}")), "{text}");
    };
    let more = || tensor(heads + 1, width);
    named(with(0, LayerKv { value: more(), ..plain() }).unwrap_err(), 0, "values");
    named(with(1, LayerKv { key: more(), value: more() }).unwrap_err(), 1, "keys");
    named(with(1, LayerKv { key: tensor(heads, width + 2), ..plain() }).unwrap_err(), 1, "keys");
    if c2c_tests::computes_bf16() {
        named(with(1, LayerKv { value: plain().value.cast(DType::BF16), ..plain() }).unwrap_err(), 1, "values");
    }

    // Layers that are alike, but not as the model's.
    let next = TokenBatch::new(vec![vec![3]], 3).unwrap();
    let refused = |layer: &dyn Fn() -> LayerKv<B>| {
        let all = (0..layers).map(|_| layer()).collect();
        let mut cache = KvCache::from_layers(all, vec![vec![true; 3]]).unwrap();
        model.forward(&next, &mut cache, LogitsWanted::Last).unwrap_err()
    };
    named(refused(&|| LayerKv { key: more(), value: more() }), 0, "keys");
    named(refused(&|| LayerKv { key: tensor(heads, 2 * width), value: tensor(heads, 2 * width) }), 0, "keys");
    if c2c_tests::computes_bf16() {
        let half = || plain().key.cast(DType::BF16);
        named(refused(&|| LayerKv { key: half(), value: half() }), 0, "keys");
    }

    let mut cache = with(0, plain()).unwrap();
    model.forward(&next, &mut cache, LogitsWanted::Last).unwrap();
    let before = Array::of(&cache.layer(0).unwrap().value);
    let text = cache.replace(0, 1, LayerKv { value: more(), ..plain() }).unwrap_err().to_string();
    assert!(text.starts_with("layer 0 of the cache has values") && text.ends_with(&as_it_is), "{text}");
    assert_equal("values", &Array::of(&cache.layer(0).unwrap().value), &before);
}

#[test]
fn sampling_out_of_range_is_refused_before_decoding() {
    let model = model();
    let tokens = TokenBatch::new(vec![vec![3]], 0).unwrap();
    let mut cache = model.new_cache(1);
    let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
    let sampling = SamplingParams { do_sample: true, top_p: 1.5, ..Default::default() };
    let options = DecodeOptions { max_new_tokens: 1, ..Default::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let error = decode(&model, &mut cache, logits, &[vec![3]], &[1], &sampling, &options, &mut rng).unwrap_err();
    assert_eq!(error.to_string(), "top_p = 1.5: expected above 0 and at most 1");
}

fn section(rows: usize, receiver: usize, sharer: usize, fuse: bool) -> BatchSection {
    let tokens = |n: usize| TokenBatch::new(vec![vec![3; n]; rows], 0).unwrap();
    BatchSection { receiver: tokens(receiver), sharer: tokens(sharer), fuse, labels: vec![vec![None; receiver]; rows] }
}

#[test]
fn sections_that_do_not_line_up_are_refused() {
    let refused = |sections| match PairBatch::new(sections) {
        Err(FuserError::Sections(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refused(Vec::new()).contains("at least one section"));
    assert!(refused(vec![section(1, 2, 2, true)]).contains("last section can't be fused"));
    let text = refused(vec![section(1, 2, 3, true), section(1, 1, 1, false)]);
    assert!(text.contains("section 0: receiver (1, 2), sharer (1, 3)"), "{text}");
    let text = refused(vec![section(2, 2, 2, true), section(1, 1, 1, false)]);
    assert!(text.contains("section 0") && text.contains("expected 1 rows"), "{text}");
    let text = refused(vec![BatchSection { labels: vec![vec![None; 2]; 2], ..section(1, 2, 2, false) }]);
    assert!(text.contains("section 0: labels"), "{text}");
}

/// A model folder with a tokenizer of about `vocab_size` tokens.
fn with_tokenizer(model: &Path, texts: &[String], vocab_size: usize) -> (TempDir, ModelSource, usize) {
    let dir = tempfile::tempdir().unwrap();
    copy_folder(model, dir.path());
    let json = train_bpe(texts, vocab_size, &["<pad>"], PreTok::Qwen).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), json).unwrap();
    let found = c2c_text::Tokenizer::from_dir(dir.path()).unwrap().vocab_size();
    let source = ModelSource { folder: dir.path().to_owned(), dtype: ModelDtype::F32 };
    (dir, source, found)
}

#[test]
fn a_tokenizer_larger_than_its_model_is_refused() {
    let model_dir = &folders("lm")[0];
    let vocab = model().config().vocab_size;
    let syllables = ["ka", "lo", "mi", "ne", "ru", "sa", "ti", "vu"];
    let word = |i: usize| format!("{}{}{}", syllables[i % 8], syllables[i / 8 % 8], syllables[i / 64 % 8]);
    let texts: Vec<String> = (0..512).map(|i| format!("{} {}", word(i), word(i * 5 + 3))).collect();
    let (_small, small, small_size) = with_tokenizer(model_dir, &texts, vocab.min(270));
    let (_large, large, large_size) = with_tokenizer(model_dir, &texts, vocab + 20);
    assert!(small_size <= vocab && large_size > vocab, "{small_size} {vocab} {large_size}");
    let load =
        |receiver, sharer| PairModels::<B>::load(receiver, sharer, TokenMode::Shared, SectionCut::default(), &device());
    load(&small, &small).unwrap();
    for (role, result) in [("receiver", load(&large, &small)), ("sharer", load(&small, &large))] {
        let error = result.unwrap_err();
        assert!(matches!(error, FuserError::Vocabulary { .. }), "{error:?}");
        let text = error.to_string();
        let folder = large.folder.display().to_string();
        for part in [role, &large_size.to_string(), &vocab.to_string(), &folder] {
            assert!(text.contains(part), "{text}\nlacks: {part}");
        }
    }
}

#[test]
fn a_folder_without_tokenizer_is_named() {
    let source = ModelSource { folder: folders("lm")[0].clone(), dtype: ModelDtype::F32 };
    let text = PairModels::<B>::load(&source, &source, TokenMode::Shared, SectionCut::default(), &device())
        .unwrap_err()
        .to_string();
    assert!(text.contains("tokenizer.json"), "{text}");
}

#[test]
fn no_new_token_is_no_step() {
    assert!(greedy(&model(), vec![vec![3, 4]], 0).tokens[0].is_empty());
}
