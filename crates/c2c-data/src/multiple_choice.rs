//! Multiple-choice questions: the row type and its file shapes.
//!
//! - this project's, and MMLU's: `{"id"?, "question", "choices": [text, ...], "answer": index from 0, "subject"?}`;
//! - the one that OpenBookQA and ARC are published in: `{"id", "question_stem" or "question", "choices": {"text": [...],
//!   "label": [...]}, "answerKey"}`, where the key is one of the labels. Files whose keys are numbers from 1 while the
//!   labels are letters (or the other way round) are read by position, so that no question is lost.
//!
//! A row that holds nothing but such an object in a field (MMLU's `auxiliary_train` configuration puts all of it into
//! `train`) is read as that object. Other keys are ignored. A row without an id is called by its place.

use crate::ids::Ids;
use crate::row::{Row, describe};
use crate::{DataError, Loaded};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The most choices a question can have: one for each letter.
pub const MAX_CHOICES: usize = 26;

/// One multiple-choice question. `answer` is always an index into `choices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct McQuestion {
    /// The identifier given by the source.
    pub id: String,
    /// The question without its choices.
    pub question: String,
    /// The choices in the order of their letters.
    pub choices: Vec<String>,
    /// The index of the right choice, from 0.
    pub answer: usize,
    /// The subject, where the source names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Reads multiple-choice questions from one file of any format, at most `limit` of them.
///
/// # Errors
///
/// Fails when the file cannot be read or has no rows, and at the first row that is not a question with at least two
/// choices and an answer among them, or whose identifier another row has. The error names file, line and field.
pub fn load_multiple_choice(path: impl AsRef<Path>, limit: Option<usize>) -> Result<Loaded<McQuestion>, DataError> {
    let mut ids = Ids::default();
    crate::load::strict(path.as_ref(), limit, |row| {
        let question = parse(row)?;
        ids.take(row, &question.id)?;
        Ok(question)
    })
}

pub(crate) fn parse(row: &Row<'_>) -> Result<McQuestion, DataError> {
    if let (1, Some(Value::Object(inner))) = (row.object.len(), row.object.values().next()) {
        return parse(&Row { path: row.path, root: row.root, line: row.line, object: inner.clone() });
    }
    let (choices, labels) = choices(row)?;
    let answer = answer(row, choices.len(), labels.as_deref())?;
    let subject = match row.get("subject") {
        // MMLU's training questions have an empty one.
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(value) => Some(row.as_text("subject", value)?.to_owned()),
        None => None,
    };
    Ok(McQuestion {
        id: row.id(&["id"]).unwrap_or_else(|| row.place()),
        question: row.text(&["question", "question_stem"])?.to_owned(),
        choices,
        answer,
        subject,
    })
}

/// The choices, and their labels where the file gives any.
fn choices(row: &Row<'_>) -> Result<(Vec<String>, Option<Vec<String>>), DataError> {
    const EXPECTED: &str = "a list of texts, or an object with the lists `text` and `label`";
    let value = row.get("choices").ok_or_else(|| row.error("choices", EXPECTED, "nothing"))?;
    let (choices, labels) = match value {
        Value::Array(items) => (texts(row, "choices", items)?, None),
        Value::Object(lists) => {
            let list = |name: &str| {
                let field = format!("choices.{name}");
                let value = lists.get(name).unwrap_or(&Value::Null);
                texts(row, &field, row.as_list(&field, value)?)
            };
            (list("text")?, Some(list("label")?))
        }
        other => return Err(row.error("choices", EXPECTED, &describe(other))),
    };
    if !(2..=MAX_CHOICES).contains(&choices.len()) {
        let expected = format!("2 to {MAX_CHOICES} choices");
        return Err(row.error("choices", &expected, &choices.len().to_string()));
    }
    if let Some(labels) = &labels
        && labels.len() != choices.len()
    {
        let expected = format!("{} labels, one for each choice", choices.len());
        return Err(row.error("choices.label", &expected, &labels.len().to_string()));
    }
    Ok((choices, labels))
}

fn texts(row: &Row<'_>, field: &str, items: &[Value]) -> Result<Vec<String>, DataError> {
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        texts.push(row.as_text(&format!("{field}[{index}]"), item)?.to_owned());
    }
    Ok(texts)
}

fn answer(row: &Row<'_>, count: usize, labels: Option<&[String]>) -> Result<usize, DataError> {
    match row.first(&["answer", "answerKey"]) {
        Some(("answer", value)) => {
            value.as_u64().and_then(|index| usize::try_from(index).ok()).filter(|index| *index < count).ok_or_else(
                || {
                    let expected =
                        format!("the index of the right choice, 0 to {} (a letter goes into `answerKey`)", count - 1);
                    row.error("answer", &expected, &describe(value))
                },
            )
        }
        Some((name, value)) => {
            let key = row.as_text(name, value)?.trim();
            labels
                .and_then(|labels| labels.iter().position(|label| label.trim() == key))
                .or_else(|| position(key))
                .filter(|index| *index < count)
                .ok_or_else(|| {
                    let expected = format!("the label, letter or number (from 1) of one of {count} choices");
                    row.error(name, &expected, &describe(value))
                })
        }
        None => Err(row.error("answer` or `answerKey", "the right choice", "nothing")),
    }
}

/// The index that a letter ("B") or a number from 1 ("2") stands for.
fn position(key: &str) -> Option<usize> {
    match key.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => key.parse::<usize>().ok()?.checked_sub(1),
    }
}
