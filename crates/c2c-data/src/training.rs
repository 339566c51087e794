//! A multiple-choice question as the conversation that a fuser is trained on.
//!
//! The answer is always the sentence that evaluation looks for. Two user texts exist: the longer one is that of the
//! reference implementation (thu-nics/C2C); the plain one has no label in front of the question, which is kinder to the
//! small models of the pocket pair.

use crate::McQuestion;
use c2c_text::Message;

/// The letter of the choice with the given index (0 is A).
///
/// Indexes beyond the alphabet give Z: a question never has more than [`MAX_CHOICES`](crate::MAX_CHOICES) choices.
pub fn letter(index: usize) -> char {
    // The minimum is at most 25, so the cast and the sum stay within ASCII.
    char::from(b'A' + index.min(25) as u8)
}

/// The choices as lines `A. text`, joined by line breaks, without one at the end.
pub fn choice_lines<S: AsRef<str>>(choices: &[S]) -> String {
    let lines: Vec<String> =
        choices.iter().enumerate().map(|(index, choice)| format!("{}. {}", letter(index), choice.as_ref())).collect();
    lines.join("\n")
}

/// How an answer begins, in a reply and, as a cue, at the end of a prompt.
pub const ANSWER_CUE: &str = "The correct answer is";

/// The sentence that gives the choice with the given index as the answer.
pub fn answer_sentence(index: usize) -> String {
    format!("{ANSWER_CUE} {}.", letter(index))
}

/// The user's text in training: the question with its label, then the choices; trimmed.
pub fn training_prompt<S: AsRef<str>>(question: &str, choices: &[S]) -> String {
    format!("Question: {question}\n\nChoices:\n{}", choice_lines(choices)).trim().to_owned()
}

/// The plain user's text: the question, then the choices; trimmed at the end.
pub fn plain_prompt<S: AsRef<str>>(question: &str, choices: &[S]) -> String {
    format!("{question}\n\nChoices:\n{}", choice_lines(choices)).trim_end().to_owned()
}

/// The plain user's text with the cue of the answer behind it.
pub fn cued_prompt<S: AsRef<str>>(question: &str, choices: &[S]) -> String {
    format!("{}\n\n{ANSWER_CUE}", plain_prompt(question, choices))
}

/// The question as a conversation of two messages, with [`training_prompt`].
pub fn training_chat(question: &McQuestion) -> Vec<Message> {
    answered(training_prompt(&question.question, &question.choices), question.answer)
}

/// The question as a conversation of two messages, with [`plain_prompt`].
pub fn plain_chat(question: &McQuestion) -> Vec<Message> {
    answered(plain_prompt(&question.question, &question.choices), question.answer)
}

/// A user's text and the sentence that answers it.
pub fn answered(prompt: String, answer: usize) -> Vec<Message> {
    vec![Message::user(prompt), Message::assistant(answer_sentence(answer))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> McQuestion {
        McQuestion {
            id: "q".to_owned(),
            question: "What melts?".to_owned(),
            choices: vec!["ice".to_owned(), "sand ".to_owned()],
            answer: 1,
            subject: None,
        }
    }

    #[test]
    fn both_formats_to_the_byte() {
        let chat = training_chat(&question());
        assert_eq!(chat.len(), 2);
        assert_eq!((chat[0].role.as_str(), chat[1].role.as_str()), ("user", "assistant"));
        assert_eq!(chat[0].content, "Question: What melts?\n\nChoices:\nA. ice\nB. sand");
        assert_eq!(chat[1].content, "The correct answer is B.");
        let chat = plain_chat(&question());
        assert_eq!(chat[0].content, "What melts?\n\nChoices:\nA. ice\nB. sand");
        assert_eq!(chat[1].content, "The correct answer is B.");
    }

    #[test]
    fn letters_end_at_z() {
        assert_eq!((letter(0), letter(25), letter(99)), ('A', 'Z', 'Z'));
    }
}
