//! LongBench as training data: a prompt template for each task, and the half of the rows that is for training.
//!
//! The templates are LongBench's (THUDM/LongBench, MIT, see `longbench/LICENSE`), kept to the byte: published figures
//! were measured with them. As in the reference implementation (thu-nics/C2C), a row is for the test if the SHA-256 of
//! its `_id` leaves 1 when divided by 4, so that training and test share no row; the first of several answers is taken.

use c2c_text::{Message, Tokenizer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

use crate::DataError;
use crate::row::{Row, describe};

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Those for training: three quarters.
    #[default]
    Train,
    /// Those for the test: a quarter.
    Test,
    /// Both.
    All,
}

/// How LongBench is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LongBench {
    /// Which rows are wanted.
    pub part: Part,
    /// Prompts of more tokens lose their middle, down to this many.
    pub cut_middle: Option<usize>,
}

/// Task to template. A template that is no text is never looked up.
static PROMPTS: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("longbench/prompts.json")).unwrap_or_default());

impl LongBench {
    /// Whether a row is of the wanted part.
    pub(crate) fn wants(&self, id: &str) -> bool {
        let last = Sha256::digest(id.as_bytes()).last().copied().unwrap_or_default();
        match self.part {
            Part::All => true,
            Part::Test => last % 4 == 1,
            Part::Train => last % 4 != 1,
        }
    }

    /// The row as a chat; `None` if it is of the other part.
    pub(crate) fn parse(
        &self,
        row: &Row<'_>,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Option<Vec<Message>>, DataError> {
        if !self.wants(row.text(&["_id"])?) {
            return Ok(None);
        }
        let dataset = row.text(&["dataset"])?;
        let task = dataset.strip_suffix("_e").unwrap_or(dataset);
        // Some tasks have no question: all is in the context.
        let input = row.get("input").and_then(Value::as_str).unwrap_or_default();
        let prompt = prompt(row, task, input)?;
        let answers = row.get("answers").ok_or_else(|| row.error("answers", "a list of texts", "nothing"))?;
        let first = row.as_list("answers", answers)?.first();
        let answer = first.ok_or_else(|| row.error("answers", "at least one text", &describe(answers)))?;
        let answer = row.as_text("answers[0]", answer)?;
        let prompt = match (self.cut_middle, tokenizer) {
            (Some(most), Some(tokenizer)) => cut_middle(&prompt, most, tokenizer)
                .map_err(|error| DataError::Tokens { place: row.place(), reason: error.to_string() })?,
            _ => prompt,
        };
        Ok(Some(vec![Message::user(prompt), Message::assistant(answer)]))
    }
}

/// The user's text of a row of a task.
pub(crate) fn prompt(row: &Row<'_>, task: &str, input: &str) -> Result<String, DataError> {
    let Some(template) = PROMPTS.get(task).and_then(Value::as_str) else {
        let expected = format!("a task of LongBench ({})", tasks().join(", "));
        return Err(row.error("dataset", &expected, &format!("{task:?}")));
    };
    Ok(fill(template, row.text(&["context"])?, input))
}

/// The tasks that have a template.
pub(crate) fn tasks() -> Vec<&'static str> {
    PROMPTS.keys().map(String::as_str).collect()
}

/// Puts context and question into a template, in one pass: a context may hold braces.
fn fill(template: &str, context: &str, input: &str) -> String {
    let (before, after) = template.split_once("{context}").unwrap_or((template, ""));
    format!("{before}{context}{}", after.replacen("{input}", input, 1))
}

/// The first and the last half of `most` tokens, if there are more.
///
/// # Errors
/// A text that the tokenizer can't turn into ids or back.
pub fn cut_middle(text: &str, most: usize, tokenizer: &Tokenizer) -> Result<String, c2c_text::TextError> {
    let ids = tokenizer.encode(text)?.ids;
    if ids.len() <= most {
        return Ok(text.to_owned());
    }
    let half = most / 2;
    let (start, end) = (&ids[..half], &ids[ids.len() - half..]);
    Ok(format!("{}{}", tokenizer.decode(start, true)?, tokenizer.decode(end, true)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_template_has_a_place_for_the_context_before_the_question() {
        assert_eq!(PROMPTS.len(), 21);
        for (task, template) in PROMPTS.iter() {
            let template = template.as_str().unwrap();
            let context = template.find("{context}").unwrap_or_else(|| panic!("{task}"));
            assert!(template.find("{input}").is_none_or(|input| input > context), "{task}");
            let filled = fill(template, "C {input}", "I");
            assert!(filled.contains("C {input}") && !filled.contains("{context}"), "{task}");
        }
    }

    #[test]
    fn the_parts_share_no_row_and_miss_none() {
        let part = |part| LongBench { part, cut_middle: None };
        let ids: Vec<String> = (0..400).map(|number| format!("row {number}")).collect();
        let test = ids.iter().filter(|id| part(Part::Test).wants(id)).count();
        assert!((60..140).contains(&test), "{test}");
        for id in &ids {
            assert_ne!(part(Part::Train).wants(id), part(Part::Test).wants(id), "{id}");
            assert!(part(Part::All).wants(id));
        }
        // SHA-256 of "abc" ends in ad, and 0xad % 4 is 1.
        assert!(part(Part::Test).wants("abc"));
    }
}
