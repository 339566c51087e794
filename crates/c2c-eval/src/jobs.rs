//! From questions to what each method reads.

use c2c_data::prompts::multiple_choice;
use c2c_recipe::Method;
use c2c_text::{Message, PairText, Prompt, Tokenizer};

use crate::EvalSettings;
use crate::examples::{filled, turns};
use crate::input::{Input, ToBeTold, rendered};
use crate::mismatch::{partners, with_sharer_of};
use crate::questions::BenchmarkQuestion;

/// A question on its way to a method.
pub(crate) struct Job {
    /// What is read, or why nothing can be.
    pub(crate) input: Result<Input, String>,
    /// The question that the sharer reads instead.
    pub(crate) partner: Option<usize>,
}

impl Job {
    fn of(input: Result<Input, String>) -> Self {
        Self { input, partner: None }
    }
}

/// The questions of an evaluation, put as its settings say.
pub(crate) struct Jobs<'a> {
    text: &'a PairText,
    questions: &'a [BenchmarkQuestion],
    settings: &'a EvalSettings,
    chats: Vec<[Message; 1]>,
    /// Aligned prompts, made when the first method needs them.
    prompts: Option<Vec<Result<Prompt, String>>>,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(text: &'a PairText, questions: &'a [BenchmarkQuestion], settings: &'a EvalSettings) -> Self {
        let put = |BenchmarkQuestion { question, .. }: &BenchmarkQuestion| {
            [Message::user(multiple_choice(settings.prompt, &question.question, &question.choices))]
        };
        Self { text, questions, settings, chats: questions.iter().map(put).collect(), prompts: None }
    }

    /// What a method reads, question by question.
    pub(crate) fn of(&mut self, method: Method) -> Vec<Job> {
        match method {
            Method::Receiver => self.alone(self.text.receiver()),
            Method::Sharer => self.alone(self.text.sharer()),
            Method::Mismatched => {
                let (questions, seed) = (self.questions, self.settings.seed);
                mismatched(self.prompts(), questions, seed)
            }
            Method::C2c | Method::GatesShut => {
                self.prompts().iter().map(|prompt| Job::of(prompt.clone().map(Input::Pair))).collect()
            }
            Method::T2t | Method::T2tC2c => self.to_be_told(),
            Method::FewShot => self.with_examples(|text, chat| Input::alone(text, chat).map_err(|err| err.to_string())),
            Method::Oracle => self.with_examples(Input::with_examples),
        }
    }

    fn to_be_told(&self) -> Vec<Job> {
        let template = &self.settings.baselines.t2t_template;
        let told = |(asked, chat): (&BenchmarkQuestion, &[Message; 1])| {
            let request = filled(template, &asked.question);
            let ids = rendered(self.text.sharer(), &[Message::user(request.clone())]).map_err(|err| err.to_string())?;
            Ok(Input::ToBeTold(Box::new(ToBeTold { request, ids, question: chat[0].content.clone() })))
        };
        self.questions.iter().zip(&self.chats).map(told).map(Job::of).collect()
    }

    fn with_examples(&self, input: impl Fn(&Tokenizer, &[Message]) -> Result<Input, String>) -> Vec<Job> {
        let turns = turns(&self.settings.baselines.examples, self.settings.prompt);
        let job = |chat: &[Message; 1]| Job::of(input(self.text.receiver(), &[&turns[..], chat].concat()));
        self.chats.iter().map(job).collect()
    }

    fn prompts(&mut self) -> &[Result<Prompt, String>] {
        let (text, chats) = (self.text, &self.chats);
        self.prompts
            .get_or_insert_with(|| chats.iter().map(|chat| text.prompt(chat).map_err(|err| err.to_string())).collect())
    }

    fn alone(&self, tokenizer: &Tokenizer) -> Vec<Job> {
        let job = |chat: &[Message; 1]| Job::of(Input::alone(tokenizer, chat).map_err(|err| err.to_string()));
        self.chats.iter().map(job).collect()
    }
}

fn mismatched(prompts: &[Result<Prompt, String>], questions: &[BenchmarkQuestion], seed: u64) -> Vec<Job> {
    const LONELY: &str =
        "there is no other question whose prompt the sharer could read instead; evaluate on two or more different ones";
    let usable: Vec<Option<&Prompt>> = prompts.iter().map(|prompt| prompt.as_ref().ok()).collect();
    let texts: Vec<&str> = questions.iter().map(|question| question.question.question.as_str()).collect();
    let partners = partners(&usable, &texts, seed);
    let inputs = prompts.iter().zip(&partners).map(|(own, partner)| {
        let own = own.as_ref().map_err(Clone::clone)?;
        let other = partner.and_then(|partner| usable[partner]).ok_or(LONELY)?;
        Ok(Input::Pair(with_sharer_of(own, other)))
    });
    inputs.zip(&partners).map(|(input, partner)| Job { input, partner: *partner }).collect()
}
