//! Agreement with the reference implementation (thu-nics/C2C) on two toy tokenizers.
//!
//! Differences, on purpose: template sections are padded on the left instead of the right, so paddings are left out of
//! the comparison; and characters spread over several tokens keep their bytes, where the reference makes every such
//! token the first one of U+FFFD.

use std::sync::Arc;

use c2c_text::{AlignStrategy, Message, PairText, SectionKind, TokenAligner, TokenMode, Tokenizer};
use serde_json::Value;

use crate::kit;

const CASES: &str = include_str!("../fixtures/alignment.json");
const RECEIVER: &[u8] = include_bytes!("../fixtures/toy_receiver_tokenizer.json");
const SHARER: &[u8] = include_bytes!("../fixtures/toy_sharer_tokenizer.json");
/// The first byte of U+FFFD in the toy Sharer.
const LOST: u32 = 175;

fn toy(json: &[u8], specials: &Value, template: &Value) -> Arc<Tokenizer> {
    let config: serde_json::Map<String, Value> =
        specials.as_object().unwrap().iter().map(|(role, token)| (format!("{role}_token"), token.clone())).collect();
    let config = serde_json::to_string(&config).unwrap();
    Arc::new(Tokenizer::from_parts(json, Some(&config), template.as_str()).unwrap())
}

/// The ids of a case's side at the positions that its padding mask calls real.
fn real(case: &Value, side: &str) -> Vec<u32> {
    let ids = case[format!("{side}_ids_padded")].as_array().unwrap();
    let padding = case[format!("{side}_padding_mask")].as_array().unwrap();
    let pairs = ids.iter().zip(padding).filter(|(_, pad)| !pad.as_bool().unwrap());
    pairs.map(|(id, _)| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn chats_are_tokenized_and_aligned_as_in_the_reference() {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let receiver = toy(RECEIVER, &all["slm_special"], &all["slm_chat_template"]);
    let sharer = toy(SHARER, &all["llm_special"], &all["llm_chat_template"]);
    let mut compared = 0;
    for case in all["cases"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let strategy: AlignStrategy = serde_json::from_value(case["strategy"].clone()).unwrap();
        let pair = PairText::new(receiver.clone(), sharer.clone(), TokenMode::Aligned(strategy)).unwrap();
        let generation = case["add_generation_prompt"].as_bool().unwrap();
        let ours = if generation { pair.prompt(&messages) } else { pair.example(&messages) }.unwrap();
        let (mut ours_receiver, mut ours_sharer) = (ours.receiver_tokens(), kit::sharer_tokens(&ours));
        let (receiver_ids, theirs) = (real(case, "slm"), real(case, "llm"));
        if case["remove_last_suffix"].as_bool().unwrap() {
            // The reply without what closes it: here the beginning of a finished chat.
            assert!(receiver_ids.len() < ours_receiver.len() && theirs.len() < ours_sharer.len());
            ours_receiver.truncate(receiver_ids.len());
            ours_sharer.truncate(theirs.len());
        }
        assert_eq!(ours_receiver, receiver_ids);
        assert_eq!(ours_sharer.len(), theirs.len());
        for (place, (our, their)) in ours_sharer.iter().zip(&theirs).enumerate() {
            assert!(our == their || *their == LOST, "position {place}: {our} instead of {their}");
        }
        let messages_fused =
            ours.sections.iter().filter(|s| matches!(s.kind, SectionKind::Message(_)) && s.fuse).count();
        let expected = case["sections"].as_array().unwrap().iter().filter(|s| s["type"] == "message").count();
        // The supervised reply is part of the last section here, a message section of its own there.
        assert_eq!(messages_fused, expected - usize::from(!generation));
        compared += 1;
    }
    assert_eq!(compared, 6);
}

#[test]
fn what_the_reference_loses_is_kept() {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let receiver = toy(RECEIVER, &all["slm_special"], &all["slm_chat_template"]);
    let sharer = toy(SHARER, &all["llm_special"], &all["llm_chat_template"]);
    for strategy in [AlignStrategy::First, AlignStrategy::Longest] {
        let aligner = TokenAligner::new(receiver.clone(), sharer.clone(), strategy);
        let ids = receiver.encode("北京🚀").unwrap().ids;
        let aligned = aligner.align(&ids).unwrap();
        // The Receiver has a token of two bytes here, the Sharer has none but of one: each ends in the same byte.
        assert_eq!(ids.len(), 9);
        let last = |tokenizer: &Tokenizer, ids: &[u32]| -> Vec<u8> {
            ids.iter().map(|&id| *tokenizer.token_bytes(id).unwrap().last().unwrap()).collect()
        };
        assert_eq!(last(&sharer, &aligned), last(&receiver, &ids));
    }
}

#[test]
fn one_token_that_the_sharer_writes_with_several() {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let receiver = toy(RECEIVER, &all["slm_special"], &all["slm_chat_template"]);
    let sharer = toy(SHARER, &all["llm_special"], &all["llm_chat_template"]);
    let of = receiver.token_to_id("\u{120}of").unwrap();
    assert_eq!(sharer.encode(" of").unwrap().ids.len(), 2);
    for strategy in [AlignStrategy::First, AlignStrategy::Longest] {
        let aligner = TokenAligner::new(receiver.clone(), sharer.clone(), strategy);
        assert_eq!(aligner.align(&[of]).unwrap(), [sharer.token_to_id("\u{120}o").unwrap()]);
    }
}
