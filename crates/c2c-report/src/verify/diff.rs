//! The summary as it stands against the one that the records give.
//!
//! Numbers are compared as JSON holds them: the figures made again are written to JSON and read back, so both sides have
//! gone the same way and no tolerance is needed.

use c2c_eval::{Asked, Evaluation};
use c2c_recipe::Method;
use serde_json::Value;

use super::{Difference, show};
use crate::run::SUMMARY;

/// Compares; returns how many values were.
pub(super) fn summary(
    found: &Value,
    asked: &Asked,
    evaluation: &Evaluation,
    differences: &mut Vec<Difference>,
) -> usize {
    let made = Value::Object(c2c_eval::summary(asked, evaluation));
    // `made` was built from maps, texts and numbers a line above: its text is JSON.
    let expected: Value = serde_json::from_str(&made.to_string()).unwrap_or(made);
    let mut compared = 0;
    let Some(keys) = expected.as_object() else { return compared };
    for (key, expected) in keys {
        compare(key, found.get(key), Some(expected), differences, &mut compared);
    }
    // Figures of a method that wasn't asked. The other keys are those of training.
    for method in Method::WORDS.iter().filter(|word| !keys.contains_key(**word)) {
        if let Some(found) = found.get(*method) {
            compare(method, Some(found), None, differences, &mut compared);
        }
    }
    compared
}

fn compare(
    path: &str,
    found: Option<&Value>,
    expected: Option<&Value>,
    differences: &mut Vec<Difference>,
    compared: &mut usize,
) {
    match (found, expected) {
        (Some(Value::Object(found)), Some(Value::Object(expected))) => {
            for (key, expected) in expected {
                compare(&format!("{path}.{key}"), found.get(key), Some(expected), differences, compared);
            }
            for (key, found) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                compare(&format!("{path}.{key}"), Some(found), None, differences, compared);
            }
        }
        (Some(Value::Array(found)), Some(Value::Array(expected))) => {
            for place in 0..found.len().max(expected.len()) {
                let path = format!("{path}[{place}]");
                compare(&path, found.get(place), expected.get(place), differences, compared);
            }
        }
        (found, expected) => {
            *compared += 1;
            if found != expected {
                differences.push(Difference::new(SUMMARY, "", path, show(found), show(expected)));
            }
        }
    }
}
