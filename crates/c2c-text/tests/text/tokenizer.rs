//! Ids, offsets, token bytes, special tokens, tokenizer folders.

use c2c_text::{Message, TextError, Tokenizer};

use crate::kit;

const TEXTS: [&str; 6] = [
    "What is the capital of France?",
    "1234 apples, 北京是中国的首都。",
    " leading and   trailing  \n\n\t spaces \n",
    "emoji 👩‍👩‍👧 🚀 é e\u{301}",
    "नमस्ते مرحبا Ελλάδα",
    "",
];

#[test]
fn offsets_are_bytes_of_the_text() {
    let tokenizer = kit::qwen(420);
    for text in TEXTS {
        let encoding = tokenizer.encode(text).unwrap();
        assert_eq!(encoding.ids.len(), encoding.offsets.len());
        for (id, (start, end)) in encoding.ids.iter().zip(&encoding.offsets) {
            let bytes = tokenizer.token_bytes(*id).unwrap();
            let covered = &text.as_bytes()[*start..*end];
            assert!(covered.windows(bytes.len()).any(|window| window == bytes), "{bytes:?} is not in {covered:?}");
        }
    }
}

#[test]
fn token_bytes_add_up_to_the_text() {
    for tokenizer in [kit::qwen(420), kit::llama(400), kit::sentencepiece()] {
        for text in TEXTS {
            let ids = tokenizer.encode(text).unwrap().ids;
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
        let beyond = u32::try_from(tokenizer.vocab_size()).unwrap();
        assert_eq!(tokenizer.token_bytes(beyond), None);
        assert!(tokenizer.token_bytes(beyond - 1).is_some());
    }
}

#[test]
fn special_tokens_by_role() {
    let qwen = kit::qwen(420);
    assert_eq!((qwen.bos_id(), qwen.eos_id(), qwen.unk_id(), qwen.pad_id()), (None, Some(2), None, 0));
    let llama = kit::llama(400);
    assert_eq!((llama.bos_id(), llama.eos_id(), llama.pad_id()), (Some(0), Some(3), 3));
    assert!(llama.is_special(1) && !llama.is_special(4));
    let bare = Tokenizer::from_parts(&kit::llama_json(400), None, None).unwrap();
    assert_eq!((bare.eos_id(), bare.pad_id(), bare.has_chat_template()), (None, 0, false));
    let spm = Tokenizer::from_parts(kit::sentencepiece_json().as_bytes(), None, None).unwrap();
    assert_eq!(spm.unk_id(), Some(0), "the model's own unknown token, without a config");
    let ids = qwen.encode("<|im_start|>user<|im_end|>").unwrap().ids;
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    assert_eq!(qwen.token_bytes(1).unwrap(), b"<|im_start|>");
    assert_eq!(qwen.decode(&ids, true).unwrap(), "user");
}

#[test]
fn what_tokenizer_json_would_add_or_cut_is_switched_off() {
    let mut json: serde_json::Value = serde_json::from_slice(&kit::llama_json(400)).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|eot_id|>"});
    json["post_processor"] =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    json["model"]["dropout"] = serde_json::json!(0.9);
    let changed = Tokenizer::from_parts(json.to_string().as_bytes(), None, None).unwrap();
    let text = "What is the capital of France? The capital of France is Paris.";
    assert_eq!(changed.encode(text).unwrap(), kit::llama(400).encode(text).unwrap());
}

#[test]
fn folders_are_read_and_the_jinja_file_wins() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), kit::qwen_json(300)).unwrap();
    let bare = Tokenizer::from_dir(dir.path()).unwrap();
    assert!(!bare.has_chat_template());
    let config = r#"{"eos_token": "<|im_end|>", "chat_template": "config {{ messages[0].content }}"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let chat = [Message::user("x")];
    let configured = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(configured.render_chat(&chat, true).unwrap(), "config x");
    assert_eq!(configured.eos_id(), Some(2));
    std::fs::write(dir.path().join("chat_template.jinja"), "file {{ messages[0].content }}{{ eos_token }}\n").unwrap();
    let overridden = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(overridden.render_chat(&chat, false).unwrap(), "file x<|im_end|>");
}

#[test]
fn a_missing_template_is_an_error_only_when_rendering() {
    let bare = Tokenizer::from_parts(&kit::qwen_json(300), None, None).unwrap();
    assert!(bare.encode("text").is_ok());
    let err = bare.render_chat(&[Message::user("x")], true).unwrap_err();
    assert!(matches!(err, TextError::NoChatTemplate { .. }));
    assert!(err.to_string().contains("chat_template.jinja"), "{err}");
}
