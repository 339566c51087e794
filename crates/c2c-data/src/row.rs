//! One JSON object of a file, with its place for error messages, and the ways to ask it for a field.

use serde_json::{Map, Value};
use std::path::Path;

use crate::DataError;

/// One row of a file.
pub(crate) struct Row<'a> {
    pub(crate) path: &'a Path,
    /// The folder that all files of the source lie in, if there are several: two of its folders may have files of one name.
    pub(crate) root: Option<&'a Path>,
    /// Line of a JSONL file, or row of another one, from 1.
    pub(crate) line: usize,
    pub(crate) object: Map<String, Value>,
}

impl Row<'_> {
    /// The value of a field, if the row has it and it is not null.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// The first of several alternative fields that the row has, with its name.
    pub(crate) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &Value)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// A text field that must be there and hold more than white space.
    pub(crate) fn text(&self, names: &[&str]) -> Result<&str, DataError> {
        let (name, value) = self.first(names).ok_or_else(|| self.error(&names.join("` or `"), "a text", "nothing"))?;
        self.as_text(name, value)
    }

    /// The row's identifier: a text or a number in one of these fields; `None` where there is none.
    pub(crate) fn id(&self, names: &[&str]) -> Option<String> {
        match self.first(names)?.1 {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The given value as a text with more than white space.
    pub(crate) fn as_text<'v>(&self, field: &str, value: &'v Value) -> Result<&'v str, DataError> {
        match value.as_str() {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.error(field, "a text that is not empty", &describe(value))),
        }
    }

    /// The given value as a list.
    pub(crate) fn as_list<'v>(&self, field: &str, value: &'v Value) -> Result<&'v [Value], DataError> {
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.error(field, "a list", &describe(value)))
    }

    /// An error about a field of this row.
    pub(crate) fn error(&self, field: &str, expected: &str, found: &str) -> DataError {
        DataError::Field {
            path: self.path.to_path_buf(),
            line: self.line,
            field: field.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    /// The row's place in short: `rows.jsonl:12`; of several files with the folders that tell them apart: `de/rows.jsonl:12`.
    pub(crate) fn place(&self) -> String {
        let inner = self.root.and_then(|root| self.path.strip_prefix(root).ok());
        match inner.filter(|inner| inner.file_name().is_some()) {
            Some(inner) => format!("{}:{}", inner.display(), self.line),
            None => format!("{}:{}", self.path.file_name().unwrap_or_default().to_string_lossy(), self.line),
        }
    }
}

/// A short description of a JSON value for error messages: short scalars as they are, anything else by its kind.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN_CHARS: usize = 40;
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN_CHARS => {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            format!("{start:?}...")
        }
        scalar => scalar.to_string(),
    }
}
