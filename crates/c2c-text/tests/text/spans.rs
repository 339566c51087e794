//! Alignment by spans: both models read their own tokens. And messages cut into paragraphs.

use std::sync::Arc;

use c2c_text::{AlignStrategy, Message, PairText, SectionCut, SectionKind, TokenMode, Tokenizer};
use proptest::prelude::*;

use crate::kit::{self, receiver_text, sharer_text};

fn pair_of(receiver: Arc<Tokenizer>, sharer: Arc<Tokenizer>) -> PairText {
    PairText::new(receiver, sharer, TokenMode::Aligned(AlignStrategy::Spans)).unwrap()
}

/// What a tokenizer makes of the rendered chat.
fn own(tokenizer: &Tokenizer, messages: &[Message]) -> Vec<u32> {
    tokenizer.encode(&tokenizer.render_chat(messages, true).unwrap()).unwrap().ids
}

fn check(pair: &PairText, messages: &[Message]) {
    let prompt = pair.prompt(messages).unwrap();
    assert_eq!(prompt.receiver_tokens(), own(pair.receiver(), messages), "the receiver reads its own tokens");
    assert_eq!(kit::sharer_tokens(&prompt), own(pair.sharer(), messages), "the sharer reads its own tokens");
    for section in prompt.sections.iter().filter(|s| matches!(s.kind, SectionKind::Message(_))) {
        assert!(section.fuse);
        assert_eq!((section.receiver_mask.last(), section.sharer_mask.last()), (Some(&true), Some(&true)));
        assert!(section.receiver_mask.iter().zip(&section.sharer_mask).all(|(a, b)| *a || *b), "no slot for nobody");
    }
}

#[test]
fn both_read_their_own_tokens_and_groups_end_together() {
    let pair = pair_of(kit::qwen(300), kit::llama(400));
    let messages = [Message::user("What is the capital of the country?")];
    check(&pair, &messages);
    let prompt = pair.prompt(&messages).unwrap();
    let section = prompt.sections.iter().find(|s| s.fuse).unwrap();
    assert!(section.sharer_mask.contains(&false), "the vocabularies differ, so somebody has to wait");
    // Wherever both have a token in a slot and both did in the slot before, they have read the same text.
    assert_eq!(receiver_text(pair.receiver(), section), sharer_text(pair.sharer(), section));
}

#[test]
fn one_vocabulary_needs_no_padding() {
    let tokenizer = kit::qwen(400);
    let pair = pair_of(tokenizer.clone(), tokenizer);
    let prompt = pair.prompt(&[Message::user("What is the capital?")]).unwrap();
    assert!(prompt.sections.iter().all(|s| s.receiver == s.sharer && !s.receiver_mask.contains(&false)));
}

#[test]
fn examples_start_with_their_prompt() {
    let pair = pair_of(kit::qwen(300), kit::llama(400));
    let chat = [Message::user("What melts?"), Message::assistant("The correct answer is A.")];
    let (prompt, example) = (pair.prompt(&chat[..1]).unwrap(), pair.example(&chat).unwrap());
    assert!(example.receiver_tokens().starts_with(&prompt.receiver_tokens()));
    assert_eq!(example.sections[..example.sections.len() - 1], prompt.sections[..prompt.sections.len() - 1]);
    assert!(example.sections.last().unwrap().labels.iter().any(Option::is_some));
}

#[test]
fn paragraphs_are_sections_of_their_own() {
    let text = "What is the capital?\n\nChoices:\nA. one\nB. two\n\nThe answer is";
    for strategy in [AlignStrategy::Longest, AlignStrategy::Spans] {
        let make = |cut| {
            let pair = PairText::new(kit::qwen(420), kit::llama(400), TokenMode::Aligned(strategy)).unwrap();
            pair.with_cut(cut).prompt(&[Message::user(text)]).unwrap()
        };
        let (whole, cut) = (make(SectionCut::Message), make(SectionCut::Paragraph));
        assert_eq!(whole.sections.iter().filter(|s| s.fuse).count(), 1);
        let pieces: Vec<String> =
            cut.sections.iter().filter(|s| s.fuse).map(|s| receiver_text(&kit::qwen(420), s)).collect();
        assert_eq!(
            pieces,
            ["What is the capital?\n\n", "Choices:\nA. one\nB. two\n\n", "The answer is"],
            "{strategy:?}"
        );
        assert_eq!(whole.receiver_tokens(), cut.receiver_tokens());
        assert_eq!(kit::sharer_tokens(&whole), kit::sharer_tokens(&cut));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_keeps_both_models_tokens(text in "[a-zA-Zéñ語🙂 ?.\n]{1,60}") {
        prop_assume!(!text.trim().is_empty() && text.trim() == text);
        check(&pair_of(kit::qwen(300), kit::llama(400)), &[Message::user(text)]);
    }
}
