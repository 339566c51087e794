//! Rows of benchmarks with free answers.

use serde_json::Value;

use super::{Benchmark, Cut, Framing, Free, Outcome, Question, Scorer, Task, Wanted, id_fields};
use crate::row::{Row, describe};
use crate::{DataError, LongBench, longbench};

/// The longest reply to a mathematical problem: reasoning takes its room.
const MATHS_TOKENS: usize = 1024;

/// The user's text for a mathematical problem, to the byte that of the reference implementation (thu-nics/C2C).
pub(super) fn maths_prompt(question: &str) -> String {
    format!(
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: \
         $ANSWER (without quotes) where $ANSWER is the answer to the problem.\n\n{question}\n\nPlease think step by step \
         and explain your reasoning. Remember to put your answer on its own line after \"Answer:\", and you do not need \
         to use a \\boxed command."
    )
}

fn maths(id: String, question: String, subject: Option<String>, gold: String, scorer: Scorer) -> Outcome {
    let free = Free {
        prompt: maths_prompt(&question),
        gold: vec![gold],
        classes: Vec::new(),
        scorer,
        max_new_tokens: MATHS_TOKENS,
        framing: Framing::Chat,
        cut: Cut::Never,
    };
    Outcome::Asked(Question { id, question, subject, task: Task::Free(free) })
}

/// GSM8K: the right number stands behind the last `####` of the worked answer.
pub(super) fn gsm8k(row: &Row<'_>, as_reference: bool) -> Result<Outcome, DataError> {
    let answer = row.text(&["answer"])?;
    let Some((_, number)) = answer.rsplit_once("####") else {
        return Err(row.error("answer", "a number behind `####`", &describe(&Value::from(answer))));
    };
    let number = number.trim();
    let gold = match as_reference {
        true => first_decimal(number).unwrap_or(number).to_owned(),
        false => number.chars().filter(|letter| !matches!(letter, ',' | '$')).collect(),
    };
    if gold.is_empty() {
        return Err(row.error("answer", "a number behind `####`", "nothing"));
    }
    let id = row.id(&["id"]).unwrap_or_else(|| row.place());
    Ok(maths(id, row.text(&["question"])?.to_owned(), None, gold, Scorer::Number))
}

/// The first decimal number of a text, which ends at a thousands separator: what the reference implementation takes for
/// the answer.
fn first_decimal(text: &str) -> Option<&str> {
    let start = text.find(|letter: char| letter.is_ascii_digit())?;
    let signed = start > 0 && text[..start].ends_with('-');
    let digits =
        |from: usize| text[from..].find(|letter: char| !letter.is_ascii_digit()).map_or(text.len(), |n| from + n);
    let mut end = digits(start);
    if text[end..].starts_with('.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    Some(&text[start - usize::from(signed)..end])
}

/// MATH-500: a problem and its answer in LaTeX.
pub(super) fn math500(row: &Row<'_>) -> Result<Outcome, DataError> {
    let subject = row.get("subject").and_then(Value::as_str).map(str::to_owned);
    let id = row.id(id_fields(Benchmark::Math500)).unwrap_or_else(|| row.place());
    let gold = match row.get("answer") {
        Some(Value::Number(number)) => number.to_string(),
        _ => row.text(&["answer"])?.to_owned(),
    };
    Ok(maths(id, row.text(&["problem"])?.to_owned(), subject, gold, Scorer::Maths))
}

/// What LongBench does with a task: its scorer, its longest reply in tokens, and whether it goes on with examples or
/// code, which are put without a chat template.
const TASKS: &[(&str, Scorer, usize, bool)] = &[
    ("narrativeqa", Scorer::F1, 128, false),
    ("qasper", Scorer::F1, 128, false),
    ("multifieldqa_en", Scorer::F1, 64, false),
    ("multifieldqa_zh", Scorer::F1Zh, 64, false),
    ("hotpotqa", Scorer::F1, 32, false),
    ("2wikimqa", Scorer::F1, 32, false),
    ("musique", Scorer::F1, 32, false),
    ("dureader", Scorer::RougeZh, 128, false),
    ("gov_report", Scorer::Rouge, 512, false),
    ("qmsum", Scorer::Rouge, 512, false),
    ("multi_news", Scorer::Rouge, 512, false),
    ("vcsum", Scorer::RougeZh, 512, false),
    ("trec", Scorer::Class, 64, true),
    ("triviaqa", Scorer::F1Line, 32, true),
    ("samsum", Scorer::RougeLine, 128, true),
    ("lsht", Scorer::Class, 64, true),
    ("passage_count", Scorer::Count, 32, false),
    ("passage_retrieval_en", Scorer::Paragraph, 32, false),
    ("passage_retrieval_zh", Scorer::ParagraphZh, 32, false),
    ("lcc", Scorer::Code, 64, true),
    ("repobench-p", Scorer::Code, 64, true),
];

/// LongBench: a long context, a question about it, and answers of which one has to be met.
pub(super) fn longbench(row: &Row<'_>, wanted: &Wanted) -> Result<Outcome, DataError> {
    let id = row.text(&["_id"])?.to_owned();
    if !(LongBench { part: wanted.part, cut_middle: None }).wants(&id) {
        return Ok(Outcome::LeftOut("split"));
    }
    let dataset = row.text(&["dataset"])?.to_owned();
    let name = dataset.strip_suffix("_e").unwrap_or(&dataset);
    let Some((_, scorer, max_new_tokens, few_shot)) = TASKS.iter().find(|(task, ..)| *task == name) else {
        let tasks: Vec<&str> = TASKS.iter().map(|(task, ..)| *task).collect();
        return Err(row.error(
            "dataset",
            &format!("a task of LongBench ({})", tasks.join(", ")),
            &format!("{dataset:?}"),
        ));
    };
    let input = row.get("input").and_then(Value::as_str).unwrap_or_default().to_owned();
    let prompt = longbench::prompt(row, name, &input)?;
    let texts = |field: &str| -> Result<Vec<String>, DataError> {
        let Some(value) = row.get(field) else { return Ok(Vec::new()) };
        let list = row.as_list(field, value)?.iter().enumerate();
        list.map(|(index, item)| row.as_text(&format!("{field}[{index}]"), item).map(str::to_owned)).collect()
    };
    let gold = texts("answers")?;
    if gold.is_empty() {
        return Err(row.error("answers", "at least one text", "none"));
    }
    let free = Free {
        prompt,
        gold,
        classes: texts("all_classes")?,
        scorer: *scorer,
        max_new_tokens: *max_new_tokens,
        framing: match (few_shot, wanted.as_reference) {
            (true, false) => Framing::Bare,
            (false, true) => Framing::ChatTwice,
            (true, true) | (false, false) => Framing::Chat,
        },
        cut: wanted.cut_middle.map_or(Cut::ToContext, Cut::To),
    };
    Ok(Outcome::Asked(Question { id, question: input, subject: Some(dataset), task: Task::Free(free) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_ends_at_its_separator() {
        let cases = [("1,200", "1"), ("-3.50", "-3.50"), ("$18.", "18"), ("about 12", "12"), ("7", "7")];
        for (text, expected) in cases {
            assert_eq!(first_decimal(text), Some(expected), "{text}");
        }
        assert_eq!(first_decimal("none"), None);
    }

    #[test]
    fn every_task_has_a_template() {
        let tasks: Vec<&str> = TASKS.iter().map(|(task, ..)| *task).collect();
        assert_eq!(tasks, longbench::tasks());
    }

    #[test]
    fn the_maths_prompt_to_the_byte() {
        let expected = [
            "Solve the following math problem step by step. The last line of your response should be of the form Answer: $ANSWER (without quotes) where $ANSWER is the answer to the problem.",
            "",
            "What is 1 + 1?",
            "",
            "Please think step by step and explain your reasoning. Remember to put your answer on its own line after \"Answer:\", and you do not need to use a \\boxed command.",
        ];
        assert_eq!(maths_prompt("What is 1 + 1?"), expected.join("\n"));
    }
}
