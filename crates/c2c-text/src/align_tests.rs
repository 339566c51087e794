//! Tests of token alignment that look behind the identity short cut.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{PreTok, train_bpe};

fn trained(vocab_size: usize, specials: &[&str], pretok: PreTok, config: &str) -> Arc<Tokenizer> {
    let texts: Vec<String> = [
        "the capital of France is Paris and the answer is B",
        "the other answers are about the weather of 1987 and 2025",
        "北京是中国的首都。北京 東京は日本の首都です。東京",
        "Москва столица России Ελλάδα और नमस्ते मর حب مرحبا 🚀🚀 👩‍👩‍👧",
        "  indented\n\n    code\n\t\tand tabs \n \n",
    ]
    .iter()
    .flat_map(|line| vec![(*line).to_string(); 4])
    .collect();
    let json = train_bpe(&texts, vocab_size, specials, pretok).unwrap();
    Arc::new(Tokenizer::from_parts(&json, Some(config), None).unwrap())
}

static RECEIVER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let config = r#"{"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}"#;
    trained(420, &["<|endoftext|>", "<|im_start|>", "<|im_end|>"], PreTok::Qwen, config)
});

static SHARER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let config = r#"{"bos_token": "<s>", "eos_token": "<|eot|>", "unk_token": "<unk>"}"#;
    trained(330, &["<s>", "<|eot|>", "<unk>", "<|im_start|>"], PreTok::Llama3, config)
});

fn receiver() -> Arc<Tokenizer> {
    RECEIVER.clone()
}

fn sharer() -> Arc<Tokenizer> {
    SHARER.clone()
}

/// Without the short cut for identical vocabularies.
fn long_way(receiver: &Arc<Tokenizer>, sharer: &Arc<Tokenizer>, strategy: AlignStrategy) -> TokenAligner {
    TokenAligner::build(receiver.clone(), sharer.clone(), strategy, false)
}

fn token(tokenizer: &Tokenizer, text: &str) -> u32 {
    let ids = tokenizer.encode(text).unwrap().ids;
    assert_eq!(ids.len(), 1, "{text:?} is one token");
    ids[0]
}

fn one(aligner: &TokenAligner, id: u32) -> u32 {
    aligner.align(&[id]).unwrap()[0]
}

#[test]
fn special_tokens_go_by_role_then_by_name() {
    let (receiver, sharer) = (receiver(), sharer());
    let aligner = TokenAligner::new(receiver.clone(), sharer.clone(), AlignStrategy::Longest);
    let eot = sharer.token_to_id("<|eot|>").unwrap();
    assert_eq!(one(&aligner, receiver.eos_id().unwrap()), eot);
    assert_eq!(one(&aligner, receiver.pad_id()), eot, "the Sharer has no pad token; its end token stands in");
    let start = receiver.token_to_id("<|im_start|>").unwrap();
    assert_eq!(one(&aligner, start), sharer.token_to_id("<|im_start|>").unwrap());
    // The other way: no role and no name.
    let back = TokenAligner::new(sharer.clone(), receiver.clone(), AlignStrategy::Longest);
    assert_eq!(one(&back, sharer.bos_id().unwrap()), 0);
    assert_eq!(one(&back, sharer.unk_id().unwrap()), 0);
}

#[test]
fn ids_beyond_the_vocabulary_become_unknown() {
    let aligner = TokenAligner::new(receiver(), sharer(), AlignStrategy::First);
    assert_eq!(one(&aligner, 1_000_000), sharer().unk_id().unwrap());
}

#[test]
fn strategies_choose_among_several() {
    let (receiver, sharer) = (receiver(), sharer());
    let (first, longest) =
        (long_way(&receiver, &sharer, AlignStrategy::First), long_way(&receiver, &sharer, AlignStrategy::Longest));
    let mut differ = 0;
    for (id, _) in receiver.tokens() {
        let Some(text) = receiver.token_bytes(id).and_then(|b| String::from_utf8(b).ok()) else { continue };
        if receiver.is_special(id) {
            continue;
        }
        let candidates = sharer.encode(&text).unwrap().ids;
        let lengths: Vec<usize> =
            candidates.iter().map(|&c| sharer.decode(&[c], false).unwrap().chars().count()).collect();
        let most = *lengths.iter().max().unwrap();
        assert_eq!(one(&first, id), candidates[0]);
        assert_eq!(one(&longest, id), candidates[lengths.iter().position(|&l| l == most).unwrap()]);
        differ += usize::from(one(&first, id) != one(&longest, id));
    }
    assert!(differ > 0, "the strategies must differ somewhere for this test to mean anything");
}

#[test]
fn a_token_of_the_same_bytes_is_preferred_to_a_part() {
    let receiver = trained(600, &[], PreTok::Qwen, "{}");
    let json = train_bpe(&["the capital".to_string()], 262, &[], PreTok::Llama3).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    // A token that no merge leads to, but whose bytes are exactly right.
    let id = 262;
    json["model"]["vocab"]["\u{120}capital"] = id.into();
    let sharer = Arc::new(Tokenizer::from_parts(json.to_string().as_bytes(), None, None).unwrap());
    assert!(sharer.encode(" capital").unwrap().ids.len() > 1);
    let aligner = long_way(&receiver, &sharer, AlignStrategy::First);
    assert_eq!(one(&aligner, token(&receiver, " capital")), id);
}

#[test]
fn parts_of_a_character_get_the_token_that_covers_their_last_byte() {
    let bytes = trained(256 + 3, &["<|endoftext|>", "<|im_start|>", "<|im_end|>"], PreTok::Qwen, "{}");
    let sharer = sharer();
    let ids = bytes.encode("北a").unwrap().ids;
    assert_eq!(ids.len(), 4);
    let aligned = TokenAligner::new(bytes.clone(), sharer.clone(), AlignStrategy::First).align(&ids).unwrap();
    let encoding = sharer.encode("北").unwrap().ids;
    let mut end = 0;
    let ends: Vec<usize> = encoding
        .iter()
        .map(|&id| {
            end += sharer.token_bytes(id).unwrap().len();
            end
        })
        .collect();
    for (place, id) in aligned[..3].iter().enumerate() {
        assert_eq!(*id, encoding[ends.iter().position(|&end| end > place).unwrap()]);
    }
    assert_eq!(aligned[3], token(&sharer, "a"));
}

#[test]
fn an_unfinished_character_becomes_unknown() {
    let bytes = trained(256 + 3, &["<|endoftext|>", "<|im_start|>", "<|im_end|>"], PreTok::Qwen, "{}");
    let sharer = sharer();
    let unknown = sharer.unk_id().unwrap();
    let rocket = bytes.encode("🚀").unwrap().ids;
    assert_eq!(rocket.len(), 4);
    let a = bytes.encode("a").unwrap().ids[0];
    let aligner = TokenAligner::new(bytes.clone(), sharer.clone(), AlignStrategy::First);
    assert_eq!(aligner.align(&rocket[..3]).unwrap(), [unknown; 3]);
    assert_eq!(aligner.align(&[rocket[0], a]).unwrap(), [unknown, token(&sharer, "a")]);
    assert_eq!(aligner.align(&[rocket[1], rocket[0], 0, a]).unwrap()[..2], [unknown; 2]);
    assert!(aligner.align(&[]).unwrap().is_empty());
}

#[test]
fn identical_vocabularies_need_no_look_at_the_text() {
    let aligner = TokenAligner::new(receiver(), receiver(), AlignStrategy::First);
    let ids: Vec<u32> = (0..u32::try_from(receiver().vocab_size()).unwrap()).rev().collect();
    assert_eq!(aligner.align(&ids).unwrap(), ids);
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z ,.?'\n\t0-9]{1,12}",
        Just("北京是中国的首都".to_string()),
        Just("東京は日本の首都です".to_string()),
        Just("नमस्ते और".to_string()),
        Just("مرحبا".to_string()),
        Just("Москва Ελλάδα".to_string()),
        Just("👩‍👩‍👧🚀🇫🇷".to_string()),
        Just("e\u{301}\u{200d}\u{fe0f}".to_string()),
        Just("<|im_end|>".to_string()),
        "\\PC{1,8}",
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn equal_tokenizers_align_to_the_identity(text in any_text()) {
        let receiver = receiver();
        let ids = receiver.encode(&text).unwrap().ids;
        for strategy in [AlignStrategy::First, AlignStrategy::Longest] {
            prop_assert_eq!(&long_way(&receiver, &receiver, strategy).align(&ids).unwrap(), &ids);
        }
    }

    #[test]
    fn alignment_keeps_the_length_and_remembers(text in any_text()) {
        let (receiver, sharer) = (receiver(), sharer());
        let ids = receiver.encode(&text).unwrap().ids;
        for (from, to) in [(&receiver, &sharer), (&sharer, &receiver)] {
            let ids = if Arc::ptr_eq(from, &receiver) { ids.clone() } else { sharer.encode(&text).unwrap().ids };
            let aligner = TokenAligner::new(from.clone(), to.clone(), AlignStrategy::Longest);
            let aligned = aligner.align(&ids).unwrap();
            prop_assert_eq!(aligned.len(), ids.len());
            prop_assert!(aligned.iter().all(|&id| (id as usize) < to.vocab_size()));
            prop_assert_eq!(aligner.align(&ids).unwrap(), aligned);
        }
    }

    #[test]
    fn any_ids_at_all_are_aligned(ids in proptest::collection::vec(0u32..460, 0..40)) {
        let aligner = TokenAligner::new(receiver(), sharer(), AlignStrategy::First);
        prop_assert_eq!(aligner.align(&ids).unwrap().len(), ids.len());
    }
}
