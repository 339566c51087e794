//! Prompts and examples with token alignment.

use std::sync::Arc;

use c2c_text::{AlignStrategy, Message, PairText, Prompt, SectionKind, TextError, TokenMode, Tokenizer};
use proptest::prelude::*;

use crate::kit::{self, receiver_text, sharer_text};

fn pair_of(receiver: Arc<Tokenizer>, sharer: Arc<Tokenizer>) -> PairText {
    PairText::new(receiver, sharer, TokenMode::Aligned(AlignStrategy::Longest)).unwrap()
}

fn pair() -> PairText {
    pair_of(kit::qwen(420), kit::llama(400))
}

/// What must hold for every aligned prompt or example.
fn check(pair: &PairText, prompt: &Prompt) {
    for section in &prompt.sections {
        assert_eq!(section.fuse, matches!(section.kind, SectionKind::Message(_)));
        assert_eq!(section.receiver.len(), section.sharer.len());
        assert_eq!(section.receiver_mask.last(), Some(&true));
        if section.labels.iter().all(Option::is_none) {
            assert_eq!(section.sharer_mask.last(), Some(&true));
        }
        for (id, real) in section.receiver.iter().zip(&section.receiver_mask) {
            assert!(*real || *id == pair.receiver().pad_id());
        }
    }
    assert!(!prompt.sections.last().unwrap().fuse);
}

#[test]
fn template_and_message_sections_alternate() {
    let pair = pair();
    let prompt = pair.prompt(&[Message::system("Answer."), Message::user("What is the capital?")]).unwrap();
    check(&pair, &prompt);
    let kinds: Vec<SectionKind> = prompt.sections.iter().map(|s| s.kind).collect();
    let template = SectionKind::Template;
    assert_eq!(kinds, [template, SectionKind::Message(0), template, SectionKind::Message(1), template]);
    let receiver: Vec<String> = prompt.sections.iter().map(|s| receiver_text(pair.receiver(), s)).collect();
    assert_eq!(
        receiver,
        [
            "<|im_start|>system\n",
            "Answer.",
            "<|im_end|>\n<|im_start|>user\n",
            "What is the capital?",
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ]
    );
    let sharer: Vec<String> = prompt.sections.iter().map(|s| sharer_text(pair.sharer(), s)).collect();
    assert_eq!(sharer[0], "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n");
    assert_eq!(sharer[2], "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n");
    assert_eq!(sharer[4], "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    // Each side as its model alone would read it.
    let alone = pair.receiver().render_chat(&[Message::system("Answer."), Message::user("What is the capital?")], true);
    assert_eq!(prompt.receiver_tokens(), pair.receiver().encode(&alone.unwrap()).unwrap().ids);
}

#[test]
fn an_example_extends_the_prompt_by_the_reply() {
    let pair = pair();
    let chat = [
        Message::user("What is the capital of France?"),
        Message::assistant("Paris."),
        Message::user("the question"),
        Message::assistant("The correct answer is B"),
    ];
    let prompt = pair.prompt(&chat[..3]).unwrap();
    let example = pair.example(&chat).unwrap();
    check(&pair, &prompt);
    check(&pair, &example);
    let (last, before) = example.sections.split_last().unwrap();
    let (prompt_last, prompt_before) = prompt.sections.split_last().unwrap();
    assert_eq!(before, prompt_before);
    assert!(before.iter().any(|s| s.kind == SectionKind::Message(1) && s.fuse), "earlier replies are fused");
    let gap = prompt_last.len();
    assert_eq!(last.receiver[..gap], prompt_last.receiver);
    assert_eq!(last.sharer[..gap], prompt_last.sharer);
    assert_eq!(last.sharer_mask[..gap], prompt_last.sharer_mask);
    assert!(last.labels[..gap].iter().all(Option::is_none));
    let labels: Vec<u32> = last.labels[gap..].iter().map(|label| label.unwrap()).collect();
    assert_eq!(labels, last.receiver[gap..]);
    assert_eq!(pair.receiver().decode(&labels, false).unwrap(), "The correct answer is B<|im_end|>\n");
    // The Sharer closes with its own, shorter text: one token, then padding.
    let end = last.len();
    assert_eq!(pair.sharer().token_to_id("<|eot_id|>"), Some(last.sharer[end - 2]));
    assert_eq!(last.sharer_mask[end - 2..], [true, false]);
    assert!(example.receiver_tokens().starts_with(&prompt.receiver_tokens()));
    assert_eq!(example.supervised(), labels.len());
}

#[test]
fn a_longer_closing_of_the_sharer_is_cut() {
    let pair = pair_of(kit::llama(400), kit::qwen(420));
    let example = pair.example(&[Message::user("the question"), Message::assistant("the answer")]).unwrap();
    let last = example.sections.last().unwrap();
    assert_eq!(pair.receiver().token_to_id("<|eot_id|>"), last.receiver.last().copied());
    assert_eq!(pair.sharer().token_to_id("<|im_end|>"), last.sharer.last().copied());
    assert_eq!(last.sharer_mask.last(), Some(&true));
}

#[test]
fn contents_are_found_where_templates_trim_or_repeat_them() {
    let pair = pair();
    // LLAMA3 trims, CHATML doesn't; "user" and "assistant" also stand in the templates.
    let chat = [Message::user("  user \n"), Message::assistant("assistant"), Message::user("user")];
    let prompt = pair.prompt(&chat).unwrap();
    check(&pair, &prompt);
    let messages: Vec<(SectionKind, String)> =
        prompt.sections.iter().filter(|s| s.fuse).map(|s| (s.kind, receiver_text(pair.receiver(), s))).collect();
    assert_eq!(
        messages,
        [
            (SectionKind::Message(0), "  user \n".to_string()),
            (SectionKind::Message(1), "assistant".to_string()),
            (SectionKind::Message(2), "user".to_string()),
        ]
    );
    let first = sharer_text(pair.sharer(), &prompt.sections[0]);
    assert_eq!(first, "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n");
}

#[test]
fn a_content_that_a_template_drops_is_named() {
    let template =
        "{% for m in messages %}{% if m.role != 'system' %}<|eot_id|>{{ m.content }}{% endif %}{% endfor %}<|eot_id|>";
    let sharer = Tokenizer::from_parts(&kit::llama_json(400), Some(kit::LLAMA3_CONFIG), Some(template)).unwrap();
    let pair = pair_of(kit::qwen(420), Arc::new(sharer));
    let err = pair.prompt(&[Message::user("Hello."), Message::system("Be brief."), Message::user("Go.")]).unwrap_err();
    let TextError::ContentNotFound { index, side, .. } = &err else { panic!("{err}") };
    assert_eq!((*index, *side), (1, "sharer"));
    assert!(err.to_string().contains("\"Be brief.\""), "{err}");
}

#[test]
fn blank_system_prompts_and_templates_that_look_into_contents() {
    let pair = pair();
    let prompt = pair.prompt(&[Message::system(""), Message::user("the question")]).unwrap();
    check(&pair, &prompt);
    assert_eq!(
        prompt.sections.iter().filter(|s| s.fuse).map(|s| s.kind).collect::<Vec<_>>(),
        [SectionKind::Message(1)]
    );
    // Writes something else for the markers than for the content.
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if 'capital' in m.content %}{{ m.content }}{% else %}none{% endif %}<|im_end|>\n{% endfor %}<|im_start|>";
    let receiver = Tokenizer::from_parts(&kit::qwen_json(420), Some(kit::CHATML_CONFIG), Some(template)).unwrap();
    let pair = pair_of(Arc::new(receiver), kit::llama(400));
    let prompt = pair.prompt(&[Message::user("the capital")]).unwrap();
    assert_eq!(receiver_text(pair.receiver(), &prompt.sections[1]), "the capital");
}

#[test]
fn a_template_without_generation_prompt_is_refused() {
    let template = "{% for m in messages %}<|eot_id|>{{ m.content }}{% endfor %}";
    let sharer = Tokenizer::from_parts(&kit::llama_json(400), Some(kit::LLAMA3_CONFIG), Some(template)).unwrap();
    let err = pair_of(kit::qwen(420), Arc::new(sharer)).prompt(&[Message::user("hi")]).unwrap_err();
    assert!(matches!(err, TextError::NoGenerationPrompt { side: "sharer", .. }), "{err}");
}

#[test]
fn a_reply_that_merges_with_the_template_is_refused() {
    let template = "{% for m in messages %}{{ m.role + ' ' + m.content }}.{% endfor %}{% if add_generation_prompt %}assistant t{% endif %}";
    let receiver = Tokenizer::from_parts(&kit::qwen_json(420), Some(kit::CHATML_CONFIG), Some(template)).unwrap();
    let pair = pair_of(Arc::new(receiver), kit::llama(400));
    let err = pair.example(&[Message::user("the question"), Message::assistant("the answer")]).unwrap_err();
    assert!(matches!(err, TextError::PromptNotPrefix { .. }), "{err}");
}

fn content() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z0-9 ,.?!'<>|_\n]{1,12}",
        Just("user".to_string()),
        Just("<|im_end|>".to_string()),
        Just("北京是中国的首都".to_string()),
        Just("नमस्ते مرحبا".to_string()),
        Just("👩‍👩‍👧🚀é".to_string()),
        "\\PC{1,6}",
    ];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| format!("a{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_prompt_is_a_prefix_of_the_example(
        ask in content(), earlier in content(), again in content(), reply in content(), swap in any::<bool>()
    ) {
        let pair = if swap { pair_of(kit::llama(400), kit::qwen(420)) } else { pair() };
        let chat = [Message::user(ask), Message::assistant(earlier), Message::user(again), Message::assistant(reply)];
        let prompt = pair.prompt(&chat[..3]).unwrap();
        let example = pair.example(&chat).unwrap();
        check(&pair, &prompt);
        check(&pair, &example);
        prop_assert!(example.receiver_tokens().starts_with(&prompt.receiver_tokens()));
        prop_assert_eq!(&example.sections[..prompt.sections.len() - 1], &prompt.sections[..prompt.sections.len() - 1]);
        let labels: Vec<u32> = example.sections.iter().flat_map(|s| &s.labels).flatten().copied().collect();
        let tail = example.receiver_tokens().len() - prompt.receiver_tokens().len();
        prop_assert_eq!(labels.len(), tail);
    }
}
