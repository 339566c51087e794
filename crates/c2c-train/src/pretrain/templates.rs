//! Special tokens and chat templates of the pocket models, in the manner of their families.

use c2c_recipe::ModelFamily;
use c2c_text::PreTok;
use serde_json::json;

/// What a family's tokenizer looks like.
pub(super) struct FamilyText {
    pub(super) special_tokens: &'static [&'static str],
    pub(super) pre_tokenizer: PreTok,
    bos: Option<&'static str>,
    eos: &'static str,
    pad: &'static str,
    template: &'static str,
}

/// ChatML.
const QWEN: FamilyText = FamilyText {
    special_tokens: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    pre_tokenizer: PreTok::Qwen,
    bos: None,
    eos: "<|im_end|>",
    pad: "<|endoftext|>",
    template: "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
               {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
};

/// Headers and an end-of-turn token.
const LLAMA: FamilyText = FamilyText {
    special_tokens: &[
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|finetune_right_pad_id|>",
    ],
    pre_tokenizer: PreTok::Llama3,
    bos: Some("<|begin_of_text|>"),
    eos: "<|eot_id|>",
    pad: "<|finetune_right_pad_id|>",
    template: "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n\
               {{ message.content }}<|eot_id|>{% endfor %}\
               {% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
};

/// The text side of a family.
pub(super) fn of(family: ModelFamily) -> &'static FamilyText {
    match family {
        ModelFamily::Qwen3 => &QWEN,
        ModelFamily::Llama => &LLAMA,
    }
}

impl FamilyText {
    /// The `tokenizer_config.json`.
    pub(super) fn tokenizer_config(&self) -> String {
        let json = json!({
            "bos_token": self.bos,
            "eos_token": self.eos,
            "pad_token": self.pad,
            "chat_template": self.template,
            "clean_up_tokenization_spaces": false,
        });
        format!("{json:#}\n")
    }
}
