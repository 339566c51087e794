//! Small tokenizers and templates for the tests.

use std::sync::Arc;

use c2c_text::{PreTok, Prompt, Section, Tokenizer, train_bpe};

/// ChatML, as Qwen writes it; with a generation prompt it opens an empty thinking block, as it does before the last
/// reply.
pub const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}\
{% if loop.last and m.role == 'assistant' %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}\
{{ m.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{% endif %}";

/// Llama 3: a begin token, headers, contents trimmed.
pub const LLAMA3: &str = "{{ bos_token }}{% for m in messages %}\
{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

pub const CHATML_CONFIG: &str = r#"{"bos_token": null, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}"#;
pub const LLAMA3_CONFIG: &str = r#"{"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>"}}"#;

/// What the small tokenizers are trained on.
pub fn corpus() -> Vec<String> {
    [
        "What is the capital of France? The capital of France is Paris.",
        "The correct answer is B, because the other answers are about the weather.",
        "user assistant system think about the answer and the question",
        "There were 1234 apples in 1987, and 42 of them were left in 2025.",
        "北京是中国的首都。 東京は日本の首都です。",
        "Москва — столица России. Ελλάδα και Αθήνα.",
    ]
    .iter()
    .flat_map(|line| vec![(*line).to_string(); 3])
    .collect()
}

pub fn qwen_json(vocab_size: usize) -> Vec<u8> {
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    train_bpe(&corpus(), vocab_size, &specials, PreTok::Qwen).unwrap()
}

pub fn llama_json(vocab_size: usize) -> Vec<u8> {
    let specials = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];
    train_bpe(&corpus(), vocab_size, &specials, PreTok::Llama3).unwrap()
}

pub fn qwen(vocab_size: usize) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_parts(&qwen_json(vocab_size), Some(CHATML_CONFIG), Some(CHATML)).unwrap())
}

pub fn llama(vocab_size: usize) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_parts(&llama_json(vocab_size), Some(LLAMA3_CONFIG), Some(LLAMA3)).unwrap())
}

/// A SentencePiece-style BPE with byte fallback, as Gemma's: spaces as U+2581, no prefix space.
pub fn sentencepiece_json() -> String {
    let mut vocab = vec!["<unk>".to_string(), "<bos>".to_string(), "<eos>".to_string()];
    vocab.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    vocab.extend("\u{2581}ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz?.,北\n".chars().map(String::from));
    let merges =
        [("\u{2581}", "t"), ("h", "e"), ("\u{2581}t", "he"), ("\u{2581}", "o"), ("\u{2581}o", "f"), ("i", "s")];
    vocab.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let vocab: serde_json::Map<String, serde_json::Value> =
        vocab.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<bos>"), special(2, "<eos>")],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
    .to_string()
}

pub fn sentencepiece() -> Arc<Tokenizer> {
    let config = r#"{"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}"#;
    Arc::new(Tokenizer::from_parts(sentencepiece_json().as_bytes(), Some(config), Some(LLAMA3)).unwrap())
}

/// The Sharer's tokens without padding.
pub fn sharer_tokens(prompt: &Prompt) -> Vec<u32> {
    let pairs = prompt.sections.iter().flat_map(|section| section.sharer.iter().zip(&section.sharer_mask));
    pairs.filter_map(|(&id, &real)| real.then_some(id)).collect()
}

/// The text of one side of a section, padding left out.
pub fn text(tokenizer: &Tokenizer, ids: &[u32], mask: &[bool]) -> String {
    let real: Vec<u32> = ids.iter().zip(mask).filter_map(|(&id, &real)| real.then_some(id)).collect();
    tokenizer.decode(&real, false).unwrap()
}

pub fn receiver_text(tokenizer: &Tokenizer, section: &Section) -> String {
    text(tokenizer, &section.receiver, &section.receiver_mask)
}

pub fn sharer_text(tokenizer: &Tokenizer, section: &Section) -> String {
    text(tokenizer, &section.sharer, &section.sharer_mask)
}
