//! Broken and ill-meaning files.

use c2c_text::{AlignStrategy, Message, PairText, TextError, TokenMode, Tokenizer};
use std::sync::Arc;

use crate::kit;

fn json_error(json: &[u8]) -> String {
    let err = Tokenizer::from_parts(json, None, None).unwrap_err();
    assert!(matches!(err, TextError::TokenizerJson { .. }), "{err}");
    err.to_string()
}

#[test]
fn broken_tokenizer_json() {
    let good = kit::qwen_json(300);
    json_error(b"");
    json_error(b"{}");
    json_error(b"\xff\xfe");
    json_error(&good[..good.len() / 2]);
    assert!(
        json_error(
            br#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {}, "unk_token": "u"}}"#
        )
        .contains("vocabulary is empty")
    );
    let mut json: serde_json::Value = serde_json::from_slice(&good).unwrap();
    json["model"]["merges"] = serde_json::json!([["no such", "tokens"]]);
    json_error(json.to_string().as_bytes());
}

#[test]
fn broken_config() {
    for config in ["", "[1]", r#"{"chat_template": 5}"#] {
        let err = Tokenizer::from_parts(&kit::qwen_json(300), Some(config), None).unwrap_err();
        assert!(matches!(err, TextError::Config { .. }), "{err}");
    }
    // Special tokens that the vocabulary lacks, or of a strange type, count as missing.
    let odd = r#"{"bos_token": "<nowhere>", "eos_token": 7, "pad_token": {"lstrip": true}}"#;
    let tokenizer = Tokenizer::from_parts(&kit::qwen_json(300), Some(odd), None).unwrap();
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()), (None, None, 0));
}

#[test]
fn missing_and_unreadable_files() {
    let dir = tempfile::tempdir().unwrap();
    let err = Tokenizer::from_dir(dir.path()).unwrap_err();
    assert!(matches!(&err, TextError::Read { path, .. } if path.ends_with("tokenizer.json")), "{err}");
    std::fs::write(dir.path().join("tokenizer.json"), kit::qwen_json(300)).unwrap();
    std::fs::write(dir.path().join("chat_template.jinja"), b"\xff\xff").unwrap();
    let err = Tokenizer::from_dir(dir.path()).unwrap_err();
    assert!(matches!(&err, TextError::Read { path, .. } if path.ends_with("chat_template.jinja")), "{err}");
}

#[test]
fn template_with_a_syntax_error_fails_when_used() {
    let tokenizer =
        Tokenizer::from_parts(&kit::qwen_json(300), None, Some("{% for m in messages %}{{ m.content")).unwrap();
    assert!(tokenizer.encode("still works").is_ok());
    let err = tokenizer.render_chat(&[Message::user("x")], true).unwrap_err();
    assert!(matches!(err, TextError::TemplateSyntax { .. }), "{err}");
    // With shared ids the Sharer's template isn't used at all.
    let pair = PairText::new(kit::qwen(300), Arc::new(tokenizer), TokenMode::Shared).unwrap();
    assert!(pair.prompt(&[Message::user("x")]).is_ok());
}

#[test]
fn template_that_raises() {
    let template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ messages[0].content }}";
    let tokenizer = Arc::new(Tokenizer::from_parts(&kit::qwen_json(300), None, Some(template)).unwrap());
    let pair = PairText::new(kit::qwen(300), tokenizer, TokenMode::Aligned(AlignStrategy::First)).unwrap();
    let err = pair.prompt(&[Message::system("s"), Message::user("u")]).unwrap_err();
    assert!(matches!(err, TextError::TemplateRender { .. }), "{err}");
    assert!(err.to_string().contains("System role not supported"), "{err}");
}

#[test]
fn template_that_recurses_or_calls_the_unknown() {
    for template in
        ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ open('/etc/passwd') }}", "{% include 'other' %}"]
    {
        let tokenizer = Tokenizer::from_parts(&kit::qwen_json(300), None, Some(template)).unwrap();
        let err = tokenizer.render_chat(&[Message::user("x")], true).unwrap_err();
        assert!(matches!(err, TextError::TemplateRender { .. }), "{err}");
    }
}
