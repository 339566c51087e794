//! Rows of multiple-choice benchmarks, one function a layout.

use serde_json::Value;

use super::shuffle::content_order;
use super::{Benchmark, Outcome, Question, Task, id_fields};
use crate::row::{Row, describe};
use crate::{DataError, MAX_CHOICES, letter, multiple_choice};

/// Letters that the reference implementation takes as an answer.
const REFERENCE_LETTERS: usize = 4;

/// OpenBookQA and ARC: a list of choices with labels, and the label of the right one.
pub(super) fn labelled(row: &Row<'_>, as_reference: bool) -> Result<Outcome, DataError> {
    let mut question = multiple_choice::parse(row)?;
    question.subject = None;
    let key = row.get("answerKey").and_then(Value::as_str).unwrap_or_default().trim();
    let is_number = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    if as_reference && (is_number || question.answer >= REFERENCE_LETTERS) {
        return Ok(Outcome::LeftOut("answer key"));
    }
    Ok(Outcome::Asked(question.into()))
}

/// MMLU: a list of choices and the index of the right one.
pub(super) fn mmlu(row: &Row<'_>, subject: Option<String>) -> Result<Outcome, DataError> {
    if row.get("choices").is_none() {
        return columns(row, subject);
    }
    Ok(Outcome::Asked(listed(row, "choices", subject)?))
}

/// MMLU-Redux: as MMLU, with what is wrong about a question. Questions without a right answer, and those that only an
/// expert can judge, are not asked; a wrong answer is replaced by the right one.
pub(super) fn redux(row: &Row<'_>, subject: Option<String>, as_reference: bool) -> Result<Outcome, DataError> {
    let error = row.get("error_type").and_then(Value::as_str).unwrap_or("ok");
    match error {
        "no_correct_answer" => return Ok(Outcome::LeftOut("no_correct_answer")),
        "expert" => return Ok(Outcome::LeftOut("expert")),
        _ => {}
    }
    let mut question = listed(row, "choices", subject)?;
    if error == "wrong_groundtruth"
        && let Task::Choice { choices, answer } = &mut question.task
    {
        let correction = row.get("correct_answer").and_then(|value| correction(value, choices));
        match correction {
            Some(right) => *answer = right,
            // The reference implementation asks it with the answer that is known to be wrong.
            None if as_reference => {}
            None => return Ok(Outcome::LeftOut("wrong_groundtruth without a correction")),
        }
    }
    Ok(Outcome::Asked(question))
}

/// The index that a correction names: by index, by letter, or by the choice's text.
fn correction(value: &Value, choices: &[String]) -> Option<usize> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let by_letter = || match text.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        [letter @ b'a'..=b'z'] => Some(usize::from(letter - b'a')),
        _ => None,
    };
    let index = text.parse::<usize>().ok().or_else(by_letter).filter(|index| *index < choices.len());
    index.or_else(|| choices.iter().position(|choice| choice.trim() == text))
}

/// C-Eval and MMMLU: a column a choice, `A` to `D`, and the letter (or index) of the right one. Rows without an answer,
/// as in C-Eval's test split on some copies, are left out.
pub(super) fn columns(row: &Row<'_>, subject: Option<String>) -> Result<Outcome, DataError> {
    if row.get("choices").is_some() {
        return Ok(Outcome::Asked(listed(row, "choices", subject)?));
    }
    let mut choices = Vec::new();
    for index in 0..MAX_CHOICES {
        let name = letter(index).to_string();
        match row.get(&name) {
            Some(Value::String(text)) if text.trim().is_empty() => break,
            Some(Value::Number(number)) => choices.push(number.to_string()),
            Some(value) => choices.push(row.as_text(&name, value)?.to_owned()),
            None => break,
        }
    }
    let (name, value) = match row.first(&["Answer", "answer"]) {
        Some((_, Value::String(text))) if text.trim().is_empty() => return Ok(Outcome::LeftOut("no answer")),
        Some(found) => found,
        None => return Ok(Outcome::LeftOut("no answer")),
    };
    let answer = key(row, name, value, choices.len())?;
    checked(row, &choices)?;
    let question = row.text(&["Question", "question"])?.to_owned();
    Ok(Outcome::Asked(Question {
        id: id(row, subject.as_deref()),
        question,
        subject,
        task: Task::Choice { choices, answer },
    }))
}

/// MMLU-Pro: up to ten `options`, the letter and the index of the right one.
pub(super) fn pro(row: &Row<'_>) -> Result<Outcome, DataError> {
    let subject = row.get("category").and_then(Value::as_str).map(str::to_owned);
    let id = row.id(id_fields(Benchmark::MmluPro)).unwrap_or_else(|| row.place());
    let question = listed(row, "options", subject)?;
    Ok(Outcome::Asked(Question { id, ..question }))
}

/// GPQA: the right answer and three wrong ones, in an order that the question's own text decides.
pub(super) fn gpqa(row: &Row<'_>) -> Result<Outcome, DataError> {
    let column = |name: &str| {
        let revised = format!("Extra Revised {name}");
        match row.get(&revised).and_then(Value::as_str) {
            Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
            _ => row.text(&[name]).map(str::to_owned),
        }
    };
    let question = column("Question")?;
    let texts = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
        .map(column)
        .into_iter()
        .collect::<Result<Vec<String>, DataError>>()?;
    let order = content_order(&question, &texts);
    let choices: Vec<String> = order.iter().map(|index| texts[*index].clone()).collect();
    // Of two choices of one text the first one is right, whichever it was.
    let answer = choices.iter().position(|choice| *choice == texts[0]).unwrap_or_default();
    let id = row.id(id_fields(Benchmark::Gpqa)).unwrap_or_else(|| row.place());
    let subject = row.get("High-level domain").and_then(Value::as_str).map(str::to_owned);
    Ok(Outcome::Asked(Question { id, question, subject, task: Task::Choice { choices, answer } }))
}

/// A list of choices with the index or the letter of the right one.
fn listed(row: &Row<'_>, field: &str, subject: Option<String>) -> Result<Question, DataError> {
    let value = row.get(field).ok_or_else(|| row.error(field, "a list of texts", "nothing"))?;
    let mut choices = Vec::new();
    for (index, item) in row.as_list(field, value)?.iter().enumerate() {
        choices.push(row.as_text(&format!("{field}[{index}]"), item)?.to_owned());
    }
    checked(row, &choices)?;
    let (name, value) =
        row.first(&["answer_index", "answer"]).ok_or_else(|| row.error("answer", "the right choice", "nothing"))?;
    let answer = key(row, name, value, choices.len())?;
    let question = row.text(&["question"])?.to_owned();
    Ok(Question { id: id(row, subject.as_deref()), question, subject, task: Task::Choice { choices, answer } })
}

fn checked(row: &Row<'_>, choices: &[String]) -> Result<(), DataError> {
    if (2..=MAX_CHOICES).contains(&choices.len()) {
        return Ok(());
    }
    Err(row.error("choices", &format!("2 to {MAX_CHOICES} choices"), &choices.len().to_string()))
}

/// The index that an answer names: an index from 0, as a number or its text, or a letter.
fn key(row: &Row<'_>, field: &str, value: &Value, count: usize) -> Result<usize, DataError> {
    let by_text = |text: &str| match text.trim().as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => text.trim().parse::<usize>().ok(),
    };
    let index = match value {
        Value::String(text) => by_text(text),
        other => other.as_u64().and_then(|index| usize::try_from(index).ok()),
    };
    index.filter(|index| *index < count).ok_or_else(|| {
        let expected = format!("the index (from 0) or the letter of one of {count} choices");
        row.error(field, &expected, &describe(value))
    })
}

/// The row's own identifier, which is unique within its subject only; else its place. The data packs of some benchmarks
/// number each subject from 0.
fn id(row: &Row<'_>, subject: Option<&str>) -> String {
    match (row.id(&["id"]), subject) {
        (Some(id), Some(subject)) if !id.contains(subject) => format!("{subject}/{id}"),
        (Some(id), _) => id,
        (None, Some(subject)) => format!("{subject}/{}", row.line),
        (None, None) => row.place(),
    }
}
