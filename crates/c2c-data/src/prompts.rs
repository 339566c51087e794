//! The user's text for a multiple-choice question.
//!
//! These texts are an interface: published figures were measured with them, and a trained fuser has seen one of them.
//! They are therefore kept to the byte, with their odd spots (two empty lines in front of the instructions, a line of
//! 19 spaces). [`PromptFormat::C2c`], [`PromptFormat::C2cCot`] and [`PromptFormat::Plain`] are what the reference
//! implementation (thu-nics/C2C) evaluates with, [`PromptFormat::Training`] is what it trains on.

use serde::{Deserialize, Serialize};

use crate::letter;
use crate::training::{choice_lines, cued_prompt, plain_prompt, training_prompt};

/// How a multiple-choice question is put to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptFormat {
    /// With instructions, asking for the answer alone; ends in `The correct answer is`.
    C2c,
    /// With instructions that ask for the reasoning first.
    C2cCot,
    /// The question and its choices, each choice closed by a line break.
    Plain,
    /// As [`PromptFormat::Plain`], without white space at the end: the plain text that training uses.
    PlainTrimmed,
    /// As [`PromptFormat::PlainTrimmed`], with `The correct answer is` as the last line.
    PlainCued,
    /// The user's text in training, with a label in front of the question.
    Training,
}

/// The user's text for a question with its choices, which are given the letters from A on.
///
/// The example of an answer in [`PromptFormat::C2c`] is `A/B/C/D`, however many choices there are.
pub fn multiple_choice<S: AsRef<str>>(format: PromptFormat, question: &str, choices: &[S]) -> String {
    with_example(format, question, choices, "A/B/C/D")
}

/// The same, but for the example of an answer, which names as many letters as there are choices: with four, to the byte
/// the same text.
pub fn multiple_choice_by_letters<S: AsRef<str>>(format: PromptFormat, question: &str, choices: &[S]) -> String {
    let letters: Vec<String> = (0..choices.len()).map(|index| letter(index).to_string()).collect();
    with_example(format, question, choices, &letters.join("/"))
}

fn with_example<S: AsRef<str>>(format: PromptFormat, question: &str, choices: &[S], example: &str) -> String {
    match format {
        PromptFormat::C2c => format!(
            "Accurately answer the following question:\n\n{question}\n\nChoices:\n{}\n\n\
             Instructions:\n\
             - Carefully read the question and all options.\n\
             - Select the single most correct answer.\n\
             - Respond ONLY in the following format: \"The correct answer is {example}\".\n\
             - Do not include any explanations, additional text, or punctuation besides the answer.\n\n\
             The correct answer is",
            closed_lines(choices)
        ),
        PromptFormat::C2cCot => format!(
            "Accurately answer the following question:\n{:19}\n{question}\n\nChoices:\n{}\n\n\
             Instructions:\n\
             - Carefully read the question and all options.\n\
             - Let's think step by step and explain your reasoning briefly.\n\
             - Then give the final answer starting with The correct answer is",
            "",
            closed_lines(choices)
        ),
        PromptFormat::Plain => format!("{question}\n\nChoices:\n{}", closed_lines(choices)),
        PromptFormat::PlainTrimmed => plain_prompt(question, choices),
        PromptFormat::PlainCued => cued_prompt(question, choices),
        PromptFormat::Training => training_prompt(question, choices),
    }
}

/// The choices as lines, the last one closed by a line break as well.
fn closed_lines<S: AsRef<str>>(choices: &[S]) -> String {
    let mut lines = choice_lines(choices);
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const CHOICES: [&str; 4] = ["ice", "sand", "iron", "wood"];

    fn prompt(format: PromptFormat) -> String {
        multiple_choice(format, "What melts?", &CHOICES)
    }

    #[test]
    fn instructions_to_the_byte() {
        let lines = [
            "Accurately answer the following question:",
            "",
            "What melts?",
            "",
            "Choices:",
            "A. ice",
            "B. sand",
            "C. iron",
            "D. wood",
            "",
            "",
            "Instructions:",
            "- Carefully read the question and all options.",
            "- Select the single most correct answer.",
            "- Respond ONLY in the following format: \"The correct answer is A/B/C/D\".",
            "- Do not include any explanations, additional text, or punctuation besides the answer.",
            "",
            "The correct answer is",
        ];
        assert_eq!(prompt(PromptFormat::C2c), lines.join("\n"));
    }

    #[test]
    fn the_example_has_as_many_letters_as_choices() {
        let text = |count: usize| multiple_choice_by_letters(PromptFormat::C2c, "Which?", &["x"; 12][..count]);
        assert!(text(3).contains("The correct answer is A/B/C\".") && text(10).contains("is A/B/C/D/E/F/G/H/I/J\"."));
        assert_eq!(text(4), multiple_choice(PromptFormat::C2c, "Which?", &["x"; 4]));
    }

    #[test]
    fn reasoning_instructions_to_the_byte() {
        let spaces = " ".repeat(19);
        let lines = [
            "Accurately answer the following question:",
            &spaces,
            "What melts?",
            "",
            "Choices:",
            "A. ice",
            "B. sand",
            "C. iron",
            "D. wood",
            "",
            "",
            "Instructions:",
            "- Carefully read the question and all options.",
            "- Let's think step by step and explain your reasoning briefly.",
            "- Then give the final answer starting with The correct answer is",
        ];
        assert_eq!(prompt(PromptFormat::C2cCot), lines.join("\n"));
    }

    #[test]
    fn plain_and_training_to_the_byte() {
        let plain = "What melts?\n\nChoices:\nA. ice\nB. sand\nC. iron\nD. wood";
        assert_eq!(prompt(PromptFormat::Plain), format!("{plain}\n"));
        assert_eq!(prompt(PromptFormat::PlainTrimmed), plain);
        assert_eq!(prompt(PromptFormat::Training), format!("Question: {plain}"));
    }

    #[test]
    fn format_names_in_recipes() {
        let formats = ["c2c", "c2c-cot", "plain", "plain-trimmed", "training"];
        for name in formats {
            let format: PromptFormat = serde_json::from_value(name.into()).unwrap();
            assert_eq!(serde_json::to_value(format).unwrap(), name);
        }
    }
}
