//! Text told piece by piece is the text of all ids.

use std::sync::{Arc, LazyLock};

use c2c_text::{TextStream, Tokenizer};
use proptest::prelude::*;

use crate::kit;

/// The pieces of a stream; the last one is what is left at the end.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer);
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

/// As Llama 2's: a space in front of every text, which the decoder takes away again.
fn with_prefix_space() -> Arc<Tokenizer> {
    let mut json: serde_json::Value = serde_json::from_str(&kit::sentencepiece_json()).unwrap();
    let strip = serde_json::json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    json["decoder"]["decoders"].as_array_mut().unwrap().push(strip);
    let config = r#"{"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}"#;
    Arc::new(Tokenizer::from_parts(json.to_string().as_bytes(), Some(config), None).unwrap())
}

/// The SentencePiece tokenizer whose decoder gives each token a text of its own.
fn metaspace() -> Arc<Tokenizer> {
    let mut json: serde_json::Value = serde_json::from_str(&kit::sentencepiece_json()).unwrap();
    json["decoder"] =
        serde_json::json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let config = r#"{"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}"#;
    Arc::new(Tokenizer::from_parts(json.to_string().as_bytes(), Some(config), None).unwrap())
}

/// Made once: training two of them takes longer than the tests.
static ALL: LazyLock<[Arc<Tokenizer>; 5]> =
    LazyLock::new(|| [kit::qwen(420), kit::llama(400), kit::sentencepiece(), with_prefix_space(), metaspace()]);

#[test]
fn a_character_of_several_tokens_is_told_with_its_last() {
    for tokenizer in &[kit::qwen(300), kit::sentencepiece()] {
        let ids = tokenizer.encode("a 🚀b").unwrap().ids;
        let told = pieces(tokenizer, &ids);
        let rocket = told.iter().position(|piece| piece.contains('🚀')).unwrap();
        // Four bytes that neither vocabulary has a token for.
        assert!(told[rocket - 3..rocket].iter().all(String::is_empty), "{told:?}");
        assert!(told.iter().all(|piece| !piece.contains('\u{fffd}')), "{told:?}");
        assert_eq!(told.concat(), "a 🚀b");
    }
}

#[test]
fn a_character_that_is_never_whole_is_told_at_the_end() {
    let tokenizer = &kit::qwen(300);
    let mut ids = tokenizer.encode("a 🚀").unwrap().ids;
    ids.pop();
    let mut told = pieces(tokenizer, &ids);
    let last = told.pop().unwrap();
    assert!(last.contains('\u{fffd}') && !told.concat().contains('\u{fffd}'), "{told:?} {last:?}");
    // Bytes that a later token shows to be none of a character.
    ids.extend(tokenizer.encode("b").unwrap().ids);
    let told = pieces(tokenizer, &ids);
    assert!(told[ids.len() - 1].ends_with("\u{fffd}b"), "{told:?}");
}

#[test]
fn spaces_in_front_are_those_of_the_whole_text() {
    for tokenizer in &[with_prefix_space(), metaspace()] {
        let ids = tokenizer.encode(" the of  the").unwrap().ids;
        assert!(ids.len() > 3);
        let told = pieces(tokenizer, &ids);
        assert_eq!(told.concat(), tokenizer.decode(&ids, true).unwrap());
        assert_eq!(told.concat(), "the of  the");
        assert!(told.iter().any(|piece| piece.starts_with(' ')), "{told:?}");
    }
}

#[test]
fn special_tokens_have_no_text_and_do_not_begin_a_new_one() {
    for tokenizer in ALL.iter() {
        let special = tokenizer.eos_id().unwrap();
        let words = tokenizer.encode(" the of").unwrap().ids;
        let ids = [&[special][..], &words, &[special, special], &words, &[special]].concat();
        let told = pieces(tokenizer, &ids);
        assert_eq!(told.concat(), tokenizer.decode(&ids, true).unwrap());
        assert!(told[0].is_empty() && told[words.len() + 1].is_empty(), "{told:?}");
        assert!(told.concat().ends_with(" of the of"), "{told:?}");
    }
}

#[test]
fn what_is_told_is_not_taken_back() {
    let tokenizer = &kit::sentencepiece();
    let byte = |byte: u8| tokenizer.token_to_id(&format!("<0x{byte:02X}>")).unwrap();
    let ids = [byte(b'a'), byte(b'b'), byte(0xFF), byte(b'c')];
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "\u{fffd}".repeat(4));
    let told = pieces(tokenizer, &ids);
    assert_eq!(told[..2], ["a", "b"]);
    assert!(told.concat().starts_with("ab\u{fffd}"), "{told:?}");
}

#[test]
fn nothing_is_told_of_nothing() {
    assert_eq!(pieces(&kit::qwen(300), &[]), [""]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any ids at all: broken characters, runs of spaces, special tokens. Of SentencePiece all but byte tokens, whose
    /// decoder takes back what it has said when a run of them turns out to be broken.
    #[test]
    fn pieces_joined_are_the_text_of_all_ids(draws in proptest::collection::vec(0.0..1.0f64, 0..40)) {
        for tokenizer in ALL.iter() {
            let drawn = draws.iter().map(|draw| (draw * tokenizer.vocab_size() as f64) as u32);
            let ids: Vec<u32> =
                drawn.filter(|id| !tokenizer.id_to_token(*id).unwrap().starts_with("<0x")).collect();
            let told = pieces(tokenizer, &ids);
            prop_assert_eq!(told.concat(), tokenizer.decode(&ids, true).unwrap());
        }
    }

    /// What is told stays: no piece is taken back, and each is whole.
    #[test]
    fn a_text_is_told_in_whole_characters(text in "[a-z \\n北🚀é]{0,24}") {
        for tokenizer in &ALL[..3] {
            let ids = tokenizer.encode(&text).unwrap().ids;
            let mut told = pieces(tokenizer, &ids);
            prop_assert_eq!(told.pop().unwrap(), "");
            prop_assert_eq!(told.concat(), text.clone());
        }
    }
}
