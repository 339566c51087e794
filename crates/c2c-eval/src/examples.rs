//! Answered examples, and what is asked with the help of them.

use std::collections::HashSet;

use c2c_data::prompts::PromptFormat;
use c2c_data::{Fingerprint, McQuestion, Question, Task, answer_sentence, choice_lines};
use c2c_recipe::{CHOICES, EvaluationSettings, QUESTION};
use c2c_text::Message;

use crate::extract::Compat;
use crate::put::put_with;
use crate::{BenchmarkQuestion, EvalError, load_questions, select_questions};

/// Examples with the fingerprints of their sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Examples {
    /// The examples, in the order in which they are put.
    pub questions: Vec<McQuestion>,
    /// A fingerprint a source.
    pub data: Vec<Fingerprint>,
}

/// Draws the examples of a recipe from their sources, none if no method needs any. A question that is asked is never one.
///
/// # Errors
///
/// As [`load_questions`]; fewer questions than the recipe wants.
pub fn load_examples(
    settings: &EvaluationSettings,
    recipe_seed: u64,
    asked: &[BenchmarkQuestion],
) -> Result<Examples, EvalError> {
    let Some(baselines) = settings.baselines.as_ref().filter(|baselines| !baselines.few_shot_sources.is_empty()) else {
        return Ok(Examples::default());
    };
    let asked: HashSet<&str> = asked.iter().map(|asked| asked.question.asked()).collect();
    let (mut questions, mut data) = (Vec::new(), Vec::new());
    for source in &baselines.few_shot_sources {
        let (rows, fingerprint) = load_questions(source, recipe_seed, settings.compat.into())?;
        // A recipe names no others here.
        let rows = rows.into_iter().filter_map(with_choices);
        questions.extend(rows.filter(|row| !asked.contains(row.question.as_str())));
        data.push(fingerprint);
    }
    let (found, wanted) = (questions.len(), baselines.few_shot_examples);
    if found < wanted {
        return Err(EvalError::Examples { found, wanted });
    }
    Ok(Examples { questions: select_questions(questions, Some(wanted), settings.seed), data })
}

fn with_choices(question: Question) -> Option<McQuestion> {
    let Question { id, question, subject, task } = question;
    match task {
        Task::Choice { choices, answer } => Some(McQuestion { id, question, choices, answer, subject }),
        Task::Free(_) => None,
    }
}

/// The turns before a question: each example put as questions are, and answered in a sentence.
pub(crate) fn turns(examples: &[McQuestion], prompt: PromptFormat, compat: Compat) -> Vec<Message> {
    let put = put_with(compat);
    let turn = |example: &McQuestion| {
        [
            Message::user(put(prompt, &example.question, &example.choices)),
            Message::assistant(answer_sentence(example.answer)),
        ]
    };
    examples.iter().flat_map(turn).collect()
}

/// A template of `evaluation.t2t_prompt` with the question, and its choices if it wants them and there are any. What the
/// question says is never taken for a part of the template.
pub(crate) fn filled(template: &str, question: &str, choices: &[String]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix(QUESTION) {
            text.push_str(question);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(CHOICES) {
            text.push_str(&choice_lines(choices));
            rest = behind;
        } else {
            text.push('{');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use c2c_data::prompts::multiple_choice;
    use c2c_recipe::{BaselineSettings, DataKind, DataSource, Method, SourceOptions};

    fn source(split: &str) -> DataSource {
        DataSource {
            kind: DataKind::Pocket,
            path: None,
            path_as_written: None,
            split: Some(split.into()),
            places: Some(2),
            limit: None,
            repeats: None,
            format: c2c_recipe::PromptFormat::Plain,
            options: SourceOptions::default(),
        }
    }

    fn settings(examples: usize, sources: Vec<DataSource>) -> EvaluationSettings {
        let baselines = BaselineSettings {
            t2t_prompt: "background".into(),
            t2t_max_new_tokens: 8,
            few_shot_examples: examples,
            few_shot_sources: sources,
            few_shot_reuse: true,
            oracle_layers: "all".into(),
        };
        EvaluationSettings {
            sources: vec![source("test")],
            limit: None,
            prompt: c2c_recipe::PromptFormat::Plain,
            max_new_tokens: 8,
            methods: vec![Method::FewShot],
            batch_size: 1,
            batch_tokens: None,
            seed: 4,
            baselines: Some(baselines),
            mode: None,
            response_text: None,
            chat_template: None,
            fused_share: None,
            fused_from: None,
            compat: None,
        }
    }

    #[test]
    fn a_question_that_is_asked_is_no_example() {
        let asked = |questions: Vec<Question>| -> Vec<BenchmarkQuestion> {
            questions.into_iter().map(|question| BenchmarkQuestion { benchmark: "x".into(), question }).collect()
        };
        let test = asked(load_questions(&source("test"), 4, Compat::Fixed).unwrap().0);
        let settings = settings(5, vec![source("train"), source("test")]);
        let examples = load_examples(&settings, 4, &test).unwrap();
        assert_eq!((examples.questions.len(), examples.data.len()), (5, 2));
        let train = load_questions(&source("train"), 4, Compat::Fixed).unwrap().0;
        assert!(examples.questions.iter().all(|example| train.contains(&Question::from(example.clone()))));
        assert_eq!(load_examples(&settings, 4, &test).unwrap(), examples, "drawn by the seed");
        let none_left = load_examples(&self::settings(1, vec![source("test")]), 4, &test).unwrap_err().to_string();
        assert!(none_left.contains("found 0") && none_left.contains("few_shot_sources"), "{none_left}");
        assert_eq!(load_examples(&self::settings(1, vec![]), 4, &test).unwrap(), Examples::default());
    }

    #[test]
    fn templates_are_filled_once() {
        let question = McQuestion {
            id: "q".into(),
            question: "What is {choices}?".into(),
            choices: vec!["ice".into(), "{question}".into()],
            answer: 0,
            subject: None,
        };
        let filled = |template| super::filled(template, &question.question, &question.choices);
        assert_eq!(filled("Say {x: {question}}"), "Say {x: What is {choices}?}");
        assert_eq!(filled("{question}\n{choices}"), "What is {choices}?\nA. ice\nB. {question}");
    }

    #[test]
    fn examples_are_turns_with_answers() {
        let question = McQuestion {
            id: "q".into(),
            question: "What melts?".into(),
            choices: vec!["ice".into(), "iron".into()],
            answer: 1,
            subject: None,
        };
        let turns = turns(std::slice::from_ref(&question), PromptFormat::PlainTrimmed, Compat::Fixed);
        assert_eq!(turns[0].content, multiple_choice(PromptFormat::PlainTrimmed, "What melts?", &question.choices));
        assert_eq!((turns[1].role.as_str(), turns[1].content.as_str()), ("assistant", "The correct answer is B."));
    }
}
