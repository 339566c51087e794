//! What this crate reads of `tokenizer_config.json`: the special tokens by role, and the chat template.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The part of `tokenizer_config.json` that matters here.
#[derive(Debug, Default, Clone)]
pub(crate) struct TokenizerConfig {
    /// `bos_token`, `eos_token`, `pad_token`, `unk_token` and the like, by name. Templates may use all of them.
    pub(crate) specials: BTreeMap<String, String>,
    /// The chat template for plain chats.
    pub(crate) chat_template: Option<String>,
}

impl TokenizerConfig {
    /// Reads the file's text; unknown keys are left alone, as the file holds many that only matter elsewhere.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let map: Map<String, Value> = serde_json::from_str(text).map_err(|err| err.to_string())?;
        let specials = map
            .iter()
            .filter(|(key, _)| key.ends_with("_token"))
            .filter_map(|(key, value)| Some((key.clone(), token_content(value)?)))
            .collect();
        let chat_template = match map.get("chat_template") {
            None | Some(Value::Null) => None,
            Some(Value::String(template)) => Some(template.clone()),
            Some(Value::Array(list)) => pick_template(list)?,
            Some(other) => {
                return Err(format!("chat_template is {other}, expected a string or a list of {{name, template}}"));
            }
        };
        Ok(Self { specials, chat_template })
    }
}

/// A special token is written as a string or as an object with its content.
fn token_content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
}

/// Of several named templates (tool use, retrieval) plain chats use the one called `default`, or the only one.
fn pick_template(list: &[Value]) -> Result<Option<String>, String> {
    let named: Vec<(&str, &str)> = list
        .iter()
        .map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?)))
        .collect::<Option<_>>()
        .ok_or("chat_template is a list with an entry that isn't {name, template}")?;
    match named.as_slice() {
        [] => Ok(None),
        [(_, only)] => Ok(Some((*only).to_string())),
        many => match many.iter().find(|(name, _)| *name == "default") {
            Some((_, template)) => Ok(Some((*template).to_string())),
            None => {
                let names: Vec<&str> = many.iter().map(|(name, _)| *name).collect();
                Err(format!("chat_template lists {}, none of which is called `default`", names.join(", ")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn special_tokens_are_strings_or_objects() {
        let config = TokenizerConfig::parse(
            r#"{"bos_token": null, "eos_token": "<|im_end|>", "pad_token": {"content": "<pad>", "lstrip": false},
                "add_bos_token": false, "model_max_length": 7}"#,
        )
        .unwrap();
        assert_eq!(config.specials.get("eos_token").map(String::as_str), Some("<|im_end|>"));
        assert_eq!(config.specials.get("pad_token").map(String::as_str), Some("<pad>"));
        assert_eq!(config.specials.len(), 2);
        assert_eq!(config.chat_template, None);
    }

    #[test]
    fn the_default_of_several_templates_is_taken() {
        let two = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        assert_eq!(TokenizerConfig::parse(two).unwrap().chat_template.as_deref(), Some("D"));
        let one = r#"{"chat_template": [{"name": "chat", "template": "C"}]}"#;
        assert_eq!(TokenizerConfig::parse(one).unwrap().chat_template.as_deref(), Some("C"));
        let none = r#"{"chat_template": [{"name": "a", "template": "A"}, {"name": "b", "template": "B"}]}"#;
        assert!(TokenizerConfig::parse(none).unwrap_err().contains("a, b"));
    }

    #[test]
    fn malformed_configs_are_refused() {
        assert!(TokenizerConfig::parse("[]").is_err());
        assert!(TokenizerConfig::parse(r#"{"chat_template": 3}"#).unwrap_err().contains("expected a string"));
        assert!(TokenizerConfig::parse(r#"{"chat_template": [{"name": "x"}]}"#).is_err());
    }
}
