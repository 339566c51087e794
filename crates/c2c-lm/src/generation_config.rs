//! `generation_config.json`: how a model's publisher samples it.

use std::path::Path;

use serde_json::Value;

use crate::config::{read_json, short};
use crate::{LmError, SamplingParams};

/// The file beside `config.json`.
const FILE: &str = "generation_config.json";

impl SamplingParams {
    /// What the file in a model folder says: `do_sample`, `temperature`, `top_k` (0 is none), `top_p` and
    /// `repetition_penalty`. Without the file, and where it lacks a key, it is greedy and nothing is cut or penalised;
    /// keys of other ways of decoding are not read.
    ///
    /// # Errors
    /// A file that can't be read, a value of another kind or out of range.
    pub fn from_dir(dir: &Path) -> Result<Self, LmError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let json = read_json(&path)?;
        let get = |key: &str| json.get(key).filter(|value| !value.is_null());
        let refuse = |key: &str, value: &Value, expected: &str| LmError::ConfigKey {
            path: path.clone(),
            key: key.to_owned(),
            reason: short(format!("found {value}, expected {expected}")),
        };
        let number = |key: &str, default: f64| match get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| refuse(key, value, "a number")),
        };
        let default = Self::default();
        let params = Self {
            do_sample: match get("do_sample") {
                None => default.do_sample,
                Some(value) => value.as_bool().ok_or_else(|| refuse("do_sample", value, "true or false"))?,
            },
            temperature: number("temperature", default.temperature)?,
            top_k: match get("top_k") {
                None => None,
                Some(value) => {
                    let k = value.as_u64().and_then(|k| usize::try_from(k).ok());
                    Some(k.ok_or_else(|| refuse("top_k", value, "a whole number"))?).filter(|k| *k > 0)
                }
            },
            top_p: number("top_p", default.top_p)?,
            repetition_penalty: number("repetition_penalty", default.repetition_penalty)?,
            ..default
        };
        params.validate().map_err(|error| match error {
            LmError::Sampling { name, value, expected } => LmError::ConfigKey {
                path: path.clone(),
                key: name.to_owned(),
                reason: format!("found {value}, expected {expected}"),
            },
            error => error,
        })?;
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str) -> Result<SamplingParams, LmError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        SamplingParams::from_dir(dir.path())
    }

    #[test]
    fn what_the_file_says_is_taken_and_the_rest_is_off() {
        let qwen = r#"{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1,
            "eos_token_id": [1, 2], "transformers_version": "4.37.0"}"#;
        let expected = SamplingParams {
            do_sample: true,
            temperature: 0.7,
            top_k: Some(20),
            top_p: 0.8,
            repetition_penalty: 1.1,
            ..SamplingParams::default()
        };
        assert_eq!(read(qwen).unwrap(), expected);
        let off = r#"{"do_sample": true, "top_k": 0, "top_p": null}"#;
        assert_eq!(read(off).unwrap(), SamplingParams { do_sample: true, ..SamplingParams::default() });
        assert_eq!(read("{}").unwrap(), SamplingParams::default());
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(SamplingParams::from_dir(empty.path()).unwrap(), SamplingParams::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_file_and_key() {
        for (text, words) in [
            (r#"{"top_k": 1.5}"#, ["`top_k`", "1.5", "a whole number"]),
            (r#"{"do_sample": 1}"#, ["`do_sample`", "found 1", "true or false"]),
            (r#"{"top_p": 1.5}"#, ["`top_p`", "1.5", "at most 1"]),
            (r#"{"temperature": "hot"}"#, ["`temperature`", "hot", "a number"]),
            ("[", ["generation_config.json", "is not valid", "EOF"]),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains(FILE) && words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}
