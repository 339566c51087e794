//! Tokenizers trained here, and segmentation with merge dropout.

use c2c_text::{PreTok, TextError, Tokenizer, train_bpe};
use proptest::prelude::*;

use crate::kit;

#[test]
fn training_is_deterministic() {
    assert_eq!(kit::qwen_json(420), kit::qwen_json(420));
    let mut shuffled = kit::corpus();
    shuffled.reverse();
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    assert_eq!(train_bpe(&shuffled, 420, &specials, PreTok::Qwen).unwrap(), kit::qwen_json(420), "order of the texts");
    assert!(kit::qwen_json(420).starts_with(b"{\n"), "written for people to read");
}

#[test]
fn families_split_digits_as_published() {
    let texts: Vec<String> = vec!["12345 12345 12345 123 123".to_string(); 8];
    let load = |pretok| Tokenizer::from_parts(&train_bpe(&texts, 400, &[], pretok).unwrap(), None, None).unwrap();
    assert_eq!(load(PreTok::Qwen).encode("12345").unwrap().ids.len(), 5);
    let llama = load(PreTok::Llama3);
    let ids = llama.encode("12345").unwrap().ids;
    assert_eq!(
        ids.iter().map(|&id| llama.token_bytes(id).unwrap()).collect::<Vec<_>>(),
        [b"123".to_vec(), b"45".to_vec()]
    );
}

#[test]
fn special_tokens_come_first_and_are_not_learned_as_text() {
    let texts = vec!["<|im_start|>user<|im_end|>".to_string(); 20];
    let json = train_bpe(&texts, 400, &["<|im_start|>", "<|im_end|>"], PreTok::Qwen).unwrap();
    let tokenizer = Tokenizer::from_parts(&json, None, None).unwrap();
    assert_eq!(tokenizer.token_to_id("<|im_start|>"), Some(0));
    assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(1));
    assert_eq!(tokenizer.token_to_id("<|"), None);
    assert!(tokenizer.token_to_id("user").is_some());
    // Three merges is all there is to learn.
    assert_eq!(tokenizer.vocab_size(), 2 + 256 + 3);
}

#[test]
fn impossible_trainings_are_refused() {
    for (size, specials) in [(257, vec!["a", "b"]), (300, vec!["a", "a"]), (300, vec![""])] {
        let err = train_bpe(&kit::corpus(), size, &specials, PreTok::Qwen).unwrap_err();
        assert!(matches!(err, TextError::TrainBpe { .. }), "{err}");
    }
    assert!(train_bpe(&[], 256, &[], PreTok::Llama3).is_ok(), "no text: the bytes alone");
}

#[test]
fn dropout_is_seeded_and_runs_from_words_to_bytes() {
    for tokenizer in [kit::qwen(420), kit::sentencepiece()] {
        let text = "the capital of France is the answer 北京";
        let whole = tokenizer.encode(text).unwrap().ids;
        assert_eq!(tokenizer.encode_with_dropout(text, 0.0, 7).unwrap(), whole);
        // So improbable that nothing is dropped: the merge loop agrees with the library's.
        assert_eq!(tokenizer.encode_with_dropout(text, f32::MIN_POSITIVE, 7).unwrap(), whole);
        let bytes = tokenizer.encode_with_dropout(text, 1.0, 7).unwrap();
        assert!(bytes.len() > whole.len());
        let half = tokenizer.encode_with_dropout(text, 0.5, 7).unwrap();
        assert_eq!(half, tokenizer.encode_with_dropout(text, 0.5, 7).unwrap());
        let lengths: Vec<usize> =
            (0..20).map(|seed| tokenizer.encode_with_dropout(text, 0.5, seed).unwrap().len()).collect();
        let total: usize = lengths.iter().sum();
        assert!(20 * whole.len() < total && total < 20 * bytes.len());
        assert!(lengths.iter().any(|&length| length != lengths[0]), "the seed matters");
    }
}

#[test]
fn dropout_keeps_special_tokens_whole() {
    let tokenizer = kit::qwen(420);
    let ids = tokenizer.encode_with_dropout("<|im_start|>user\nthe<|im_end|>", 1.0, 1).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    assert_eq!(ids.len(), 2 + "user\nthe".len());
}

#[test]
fn dropout_that_makes_no_sense_is_refused() {
    let tokenizer = kit::qwen(300);
    for p in [-0.1, 1.1, f32::NAN] {
        let err = tokenizer.encode_with_dropout("a", p, 0).unwrap_err();
        assert!(matches!(err, TextError::Dropout { .. }), "{err}");
    }
    let words = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}}"#;
    let words = Tokenizer::from_parts(words.as_bytes(), None, None).unwrap();
    let err = words.encode_with_dropout("a", 0.5, 0).unwrap_err();
    assert!(err.to_string().contains("isn't BPE"), "{err}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn dropout_changes_the_tokens_but_not_the_text(text in "(\\PC|[ a-z\n]|the|北京|🚀){0,24}", p in 0.0f32..=1.0, seed in any::<u64>()) {
        let tokenizer = kit::qwen(420);
        let ids = tokenizer.encode_with_dropout(&text, p, seed).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.clone());
        prop_assert_eq!(tokenizer.encode_with_dropout(&text, f32::MIN_POSITIVE, seed).unwrap(), tokenizer.encode(&text).unwrap().ids);
    }
}
