//! How a question is put to a model: its text, its frame, and where the model is cued to answer.

use c2c_data::prompts::{PromptFormat, multiple_choice, multiple_choice_by_letters};
use c2c_data::{Benchmark, Cut, Framing, Question, Task, cut_middle, letter};
use c2c_recipe::AnswerMode;
use c2c_text::{Message, PairText, Prompt, TextError, Tokenizer};

use crate::EvalError;
use crate::EvalSettings;
use crate::averages::named;
use crate::extract::Compat;
use crate::input::Input;

/// Slots that are kept free when the middle of a prompt is left out: the two halves may meet in other tokens than they
/// had before.
const SLACK: usize = 16;

/// The longest reply to a question, in tokens; none is written where the letters' probabilities are compared.
pub(crate) fn budget(question: &Question, settings: &EvalSettings) -> usize {
    match (settings.mode, &question.task) {
        (AnswerMode::Logits, _) => 0,
        (AnswerMode::Generate, Task::Free(free)) => free.max_new_tokens,
        (AnswerMode::Generate, Task::Choice { .. }) => settings.max_new_tokens,
    }
}

/// Whether a question is put in chat templates.
fn in_chat(question: &Question, settings: &EvalSettings) -> bool {
    let usual = match &question.task {
        Task::Choice { .. } => true,
        Task::Free(free) => free.framing != Framing::Bare,
    };
    settings.chat_template.unwrap_or(usual)
}

/// The template of multiple-choice questions.
pub(crate) fn put_with(compat: Compat) -> fn(PromptFormat, &str, &[String]) -> String {
    match compat {
        Compat::Fixed => multiple_choice_by_letters,
        Compat::Reference => multiple_choice,
    }
}

/// The user's text, no longer than `context` allows together with template and reply if it may be cut.
fn text(
    question: &Question,
    settings: &EvalSettings,
    tokenizer: &Tokenizer,
    context: Option<usize>,
) -> Result<String, TextError> {
    let free = match &question.task {
        Task::Choice { choices, .. } => {
            return Ok(put_with(settings.compat)(settings.prompt, &question.question, choices));
        }
        Task::Free(free) => free,
    };
    let room = match (free.cut, context) {
        (Cut::To(most), _) => Some(most),
        (Cut::ToContext, Some(context)) => Some(context.saturating_sub(free.max_new_tokens + SLACK)),
        (Cut::ToContext, None) | (Cut::Never, _) => None,
    };
    match room {
        Some(room) => cut_middle(&free.prompt, room, tokenizer),
        None => Ok(free.prompt.clone()),
    }
}

/// The same in the frame that its benchmark wants around it.
fn framed(
    question: &Question,
    settings: &EvalSettings,
    tokenizer: &Tokenizer,
    context: Option<usize>,
) -> Result<String, TextError> {
    let text = text(question, settings, tokenizer, context)?;
    match &question.task {
        Task::Free(free) if free.framing == Framing::ChatTwice => tokenizer.render_chat(&[Message::user(text)], true),
        _ => Ok(text),
    }
}

/// The user's text in a chat of several turns, which take `beside` tokens of the `context`.
pub(crate) fn turn(
    question: &Question,
    settings: &EvalSettings,
    tokenizer: &Tokenizer,
    context: Option<usize>,
    beside: usize,
) -> Result<String, TextError> {
    let context = context.map(|context| context.saturating_sub(around(tokenizer) + beside));
    text(question, settings, tokenizer, context)
}

/// The start of a reply that a model reads behind its prompt: nothing where replies are written.
pub(crate) fn start(letters: Option<&Letters>) -> &[u32] {
    letters.map_or(&[], |letters| &letters.start)
}

/// An aligned prompt with the start of the reply.
pub(crate) fn begun(prompt: Prompt, letters: Option<&Letters>, sharer_pad: u32) -> Prompt {
    match letters {
        Some(letters) => prompt.with_reply_start(&letters.start, sharer_pad),
        None => prompt,
    }
}

/// The prompts with as much of them fused as the settings say.
pub(crate) fn fused_in_part(prompts: Vec<Prompt>, settings: &EvalSettings) -> Vec<Prompt> {
    match settings.fused {
        Some(part) => prompts.into_iter().map(|prompt| prompt.fused_in_part(part)).collect(),
        None => prompts,
    }
}

/// Tokens that a chat template puts around a message.
fn around(tokenizer: &Tokenizer) -> usize {
    const MESSAGE: &str = "a";
    let rendered = tokenizer.render_chat(&[Message::user(MESSAGE)], true);
    rendered.and_then(|text| tokenizer.encode(&text)).map_or(0, |encoding| encoding.ids.len())
}

/// What one model reads alone. `context` is the most that it can.
pub(crate) fn alone(
    question: &Question,
    settings: &EvalSettings,
    tokenizer: &Tokenizer,
    letters: Option<&Letters>,
    context: Option<usize>,
) -> Result<Input, TextError> {
    let context = context.map(|context| context.saturating_sub(around(tokenizer)));
    let text = framed(question, settings, tokenizer, context)?;
    let mut ids = match in_chat(question, settings) {
        true => {
            let ids = tokenizer.encode(&tokenizer.render_chat(&[Message::user(text)], true)?)?.ids;
            // The reference implementation lets the tokenizer frame the rendered text once more.
            let frame = if settings.compat == Compat::Reference { tokenizer.frame() } else { &[] };
            [frame, &ids].concat()
        }
        false => [tokenizer.frame(), &tokenizer.encode(&text)?.ids].concat(),
    };
    if ids.is_empty() {
        return Err(TextError::PromptTooShort { owner: tokenizer.owner().to_owned(), found: 0 });
    }
    ids.extend(start(letters));
    Ok(Input::Alone(ids))
}

/// What the receiver reads in step with a sharer, or with each of several: the same text for all. `context` is the most that
/// all can.
pub(crate) fn prompts(
    question: &Question,
    settings: &EvalSettings,
    pairs: &[&PairText],
    letters: Option<&Letters>,
    context: Option<usize>,
) -> Result<Vec<Prompt>, TextError> {
    let Some(first) = pairs.first() else { return Ok(Vec::new()) };
    let around = pairs.iter().map(|pair| around_both(pair)).max().unwrap_or(0);
    let context = context.map(|context| context.saturating_sub(around));
    let text = framed(question, settings, first.receiver(), context)?;
    pairs.iter().map(|pair| in_step(&text, question, settings, pair, letters)).collect()
}

fn around_both(pair: &PairText) -> usize {
    around(pair.receiver()).max(around(pair.sharer()))
}

fn in_step(
    text: &str,
    question: &Question,
    settings: &EvalSettings,
    pair: &PairText,
    letters: Option<&Letters>,
) -> Result<Prompt, TextError> {
    let prompt = match in_chat(question, settings) {
        true => pair.prompt(&[Message::user(text)])?,
        false => pair.bare_prompt(text)?,
    };
    Ok(begun(prompt, letters, pair.sharer().pad_id()))
}

/// The start of a reply in a model's tokens, and the token of each letter behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letters {
    pub(crate) start: Vec<u32>,
    /// From A on.
    pub(crate) next: Vec<u32>,
}

impl Letters {
    /// What all replies of `text` and a letter begin with, and the first token in which they differ. So it doesn't
    /// matter whether a tokenizer writes the space in front of a letter with the letter, with the word before, or
    /// alone.
    pub(crate) fn new(tokenizer: &Tokenizer, text: &str, count: usize) -> Result<Self, EvalError> {
        let replies: Vec<Vec<u32>> = (0..count.max(2))
            .map(|index| tokenizer.encode(&format!("{text} {}", letter(index))).map(|encoding| encoding.ids))
            .collect::<Result<_, _>>()
            .map_err(c2c_fuser::FuserError::from)?;
        let same =
            |place: &usize| replies.iter().all(|ids| ids.get(*place).is_some_and(|id| *id == replies[0][*place]));
        let common = (0..replies[0].len()).take_while(same).count();
        let next: Vec<u32> = replies.iter().filter_map(|ids| ids.get(common).copied()).collect();
        let mut once = next.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() != replies.len() {
            return Err(EvalError::Letters { owner: tokenizer.owner().to_owned(), text: text.to_owned(), count });
        }
        Ok(Self { start: replies[0][..common].to_vec(), next })
    }

    /// The logarithms of the letters' probabilities, given the logits of all tokens.
    pub(crate) fn logprobs(&self, logits: &[f32]) -> Vec<f64> {
        let largest = logits.iter().fold(f64::NEG_INFINITY, |largest, logit| largest.max(f64::from(*logit)));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
        let all = largest + sum.ln();
        let of = |id: &u32| logits.get(*id as usize).map_or(f64::NEG_INFINITY, |logit| f64::from(*logit) - all);
        self.next.iter().map(of).collect()
    }
}

/// How many letters are compared by [`AnswerMode::Logits`]: those of the choices; by the reference implementation ten on
/// MMLU-Pro and four on every other benchmark, however many choices a question has. `benchmark` is its name in the records,
/// as [`benchmark_names`](crate::benchmark_names) gives it.
pub fn letters_compared(benchmark: &str, choices: usize, compat: Compat) -> usize {
    match compat {
        Compat::Fixed => choices,
        Compat::Reference if named(benchmark) == Some(Benchmark::MmluPro) => 10,
        Compat::Reference => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_compares_ten_letters_on_mmlu_pro_alone() {
        for (benchmark, choices, reference) in
            [("mmlu_pro", 10, 10), ("mmlu_pro#2", 3, 10), ("mmlu", 4, 4), ("arc", 5, 4), ("openbookqa", 3, 4)]
        {
            assert_eq!(letters_compared(benchmark, choices, Compat::Reference), reference, "{benchmark}");
            assert_eq!(letters_compared(benchmark, choices, Compat::Fixed), choices, "{benchmark}");
        }
    }
}
