//! Prompts and examples with shared ids.

use c2c_text::{Message, PairText, SectionKind, TextError, TokenMode, Tokenizer};
use std::sync::Arc;

use crate::kit;

fn pair() -> PairText {
    let tokenizer = kit::qwen(420);
    PairText::new(tokenizer.clone(), tokenizer, TokenMode::Shared).unwrap()
}

fn chat() -> Vec<Message> {
    vec![
        Message::system("Answer the question."),
        Message::user("What is the capital of France?"),
        Message::assistant("Paris."),
        Message::user("What is 12 and 7?"),
        Message::assistant("The answer is 19."),
    ]
}

#[test]
fn all_but_the_last_prompt_token_is_fused() {
    let pair = pair();
    let messages = &chat()[..2];
    let prompt = pair.prompt(messages).unwrap();
    let ids = pair.receiver().encode(&pair.receiver().render_chat(messages, true).unwrap()).unwrap().ids;
    assert_eq!(prompt.receiver_ids(), ids);
    assert_eq!(prompt.sharer_ids(), ids);
    let [fused, last] = prompt.sections.as_slice() else { panic!("expected 2 sections") };
    assert_eq!((fused.len(), fused.fuse, last.len(), last.fuse), (ids.len() - 1, true, 1, false));
    assert_eq!(fused.kind, SectionKind::Template);
    assert!(prompt.sections.iter().all(|s| s.receiver_mask.iter().chain(&s.sharer_mask).all(|&real| real)));
    assert_eq!(prompt.supervised(), 0);
}

#[test]
fn only_the_last_reply_is_supervised() {
    let pair = pair();
    let chat = chat();
    let prompt = pair.prompt(&chat[..4]).unwrap();
    let example = pair.example(&chat).unwrap();
    let ids = pair.receiver().encode(&pair.receiver().render_chat(&chat, false).unwrap()).unwrap().ids;
    assert_eq!(example.receiver_ids(), ids);
    assert_eq!(example.sharer_ids(), ids);
    assert_eq!(example.sections[0], prompt.sections[0]);
    let last = &example.sections[1];
    assert_eq!(last.receiver[0], prompt.sections[1].receiver[0]);
    assert_eq!(last.labels[0], None);
    let labels: Vec<u32> = last.labels.iter().flatten().copied().collect();
    assert_eq!(labels, &last.receiver[1..]);
    assert_eq!(pair.receiver().decode(&labels, false).unwrap(), "The answer is 19.<|im_end|>\n");
    assert_eq!(example.supervised(), labels.len());
}

#[test]
fn a_prompt_that_is_no_prefix_of_the_chat_is_refused() {
    let tokenizer = kit::qwen(420);
    // The generation prompt opens a thinking block that the finished chat lacks.
    let template = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}{% if add_generation_prompt %}assistant<think>{% endif %}";
    let other = Tokenizer::from_parts(&kit::qwen_json(420), None, Some(template)).unwrap();
    let pair = PairText::new(Arc::new(other), tokenizer, TokenMode::Shared).unwrap();
    let err = pair.example(&[Message::user("why"), Message::assistant("so")]).unwrap_err();
    assert!(matches!(err, TextError::PromptNotPrefix { .. }), "{err}");
    assert!(err.to_string().contains("does not start with the prompt's tokens"), "{err}");
}

#[test]
fn unlike_vocabularies_cannot_share_ids() {
    let err = PairText::new(kit::qwen(420), kit::llama(420), TokenMode::Shared).unwrap_err();
    let TextError::VocabularyMismatch { id, receiver, sharer } = &err else { panic!("{err}") };
    assert_eq!((*id, receiver.as_str(), sharer.as_str()), (0, "<|endoftext|>", "<|begin_of_text|>"));
    assert!(err.to_string().contains("Switch token alignment on"));
}

#[test]
fn a_longer_vocabulary_of_the_same_family_shares_ids() {
    let (long, short) = (kit::qwen(420), kit::qwen(380));
    assert!(long.vocab_size() > short.vocab_size());
    let pair = PairText::new(long, short, TokenMode::Shared).unwrap();
    assert_eq!(pair.mode(), TokenMode::Shared);
    assert!(pair.prompt(&[Message::user("hello")]).is_ok());
}

#[test]
fn nothing_to_ask_or_to_learn_is_refused() {
    let pair = pair();
    for messages in [vec![], vec![Message::user(" \n")], vec![Message::user("a"), Message::user("")]] {
        let err = pair.prompt(&messages).unwrap_err();
        assert!(matches!(err, TextError::EmptyPrompt { .. }), "{err}");
    }
    for messages in [vec![], vec![Message::assistant("a")], vec![Message::user("a"), Message::assistant(" ")]] {
        let err = pair.example(&messages).unwrap_err();
        assert!(matches!(err, TextError::EmptyPrompt { .. }), "{err}");
    }
    let err = pair.example(&[Message::user("a")]).unwrap_err();
    assert!(matches!(&err, TextError::NotAssistant { role } if role == "user"), "{err}");
    // A template that writes next to nothing.
    let tiny = Arc::new(Tokenizer::from_parts(&kit::qwen_json(420), None, Some("{{ messages[0].content }}")).unwrap());
    let err = PairText::new(tiny.clone(), tiny, TokenMode::Shared).unwrap().prompt(&[Message::user("a")]).unwrap_err();
    assert!(matches!(err, TextError::PromptTooShort { found: 1, .. }), "{err}");
}

#[test]
fn texts_may_be_prepared_on_several_threads() {
    fn shareable<T: Send + Sync>() {}
    shareable::<PairText>();
    let pair = pair();
    let chat = chat();
    let alone = pair.example(&chat).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(pair.example(&chat).unwrap(), alone));
        }
    });
}
