//! From questions to what each method reads.

use c2c_data::{Question, Task};
use c2c_kernels::KernelBackend;
use c2c_lm::Lm;
use c2c_recipe::{AnswerMode, Method};
use c2c_text::{Message, PairText, Prompt, Section, TextError, Tokenizer};

use crate::examples::{filled, turns};
use crate::input::{Input, ToBeTold, rendered};
use crate::mismatch::{partners, with_sharers_of};
use crate::put::{self, Letters, letters_compared};
use crate::questions::BenchmarkQuestion;
use crate::{EvalError, EvalPair, EvalSettings};

/// A question on its way to a method.
pub(crate) struct Job {
    /// What is read, or why nothing can be.
    pub(crate) input: Result<Input, String>,
    /// The question that the sharers read instead.
    pub(crate) partner: Option<usize>,
}

impl Job {
    fn of(input: Result<Input, String>) -> Self {
        Self { input, partner: None }
    }
}

/// The letters in the tokens of both models, of those that answer; none where replies are written.
#[derive(Default)]
pub(crate) struct BothLetters {
    receiver: Option<Letters>,
    sharer: Option<Letters>,
}

impl BothLetters {
    /// Refuses a tokenizer in which the letters can't be told apart.
    pub(crate) fn of(
        text: &PairText,
        questions: &[BenchmarkQuestion],
        settings: &EvalSettings,
    ) -> Result<Self, EvalError> {
        if settings.mode == AnswerMode::Generate {
            return Ok(Self::default());
        }
        let compared = |asked: &BenchmarkQuestion| {
            letters_compared(&asked.benchmark, asked.question.choices().len(), settings.compat)
        };
        let count = questions.iter().map(compared).max().unwrap_or(0);
        let of = |tokenizer| Letters::new(tokenizer, &settings.response_text, count).map(Some);
        // Only a tokenizer whose model answers has to tell the letters apart.
        let sharer = settings.methods.contains(&Method::Sharer);
        let receiver = settings.methods.iter().any(|method| *method != Method::Sharer);
        Ok(Self {
            receiver: if receiver { of(text.receiver())? } else { None },
            sharer: if sharer { of(text.sharer())? } else { None },
        })
    }
}

/// The most tokens that the models can read.
struct Contexts {
    receiver: Option<usize>,
    sharer: Option<usize>,
    both: Option<usize>,
    /// Of the receiver and of all Sharers that are fused together.
    several: Option<usize>,
}

impl Contexts {
    fn of<B: KernelBackend>(pair: &EvalPair<'_, B>) -> Self {
        let of = |model: &Lm<B>| Some(model.config().max_position).filter(|limit| *limit > 0);
        let (receiver, sharer) = (of(pair.models.receiver()), pair.models.sharer().and_then(of));
        let joined = pair.models.joined(pair.text);
        let several = receiver.into_iter().chain(joined.iter().filter_map(|one| of(&one.link.sharer))).min();
        Self { receiver, sharer, both: receiver.into_iter().chain(sharer).min(), several }
    }
}

/// The questions of an evaluation, put as its settings say.
pub(crate) struct Jobs<'a> {
    text: &'a PairText,
    questions: &'a [BenchmarkQuestion],
    settings: &'a EvalSettings,
    letters: BothLetters,
    contexts: Contexts,
    /// Of receiver and sharer.
    pair: InStep<'a>,
    /// Of the receiver and all Sharers that are fused together.
    several: InStep<'a>,
}

/// Prompts that models read in step.
struct InStep<'a> {
    /// One a sharer.
    texts: Vec<&'a PairText>,
    /// The most tokens that all of them can read.
    context: Option<usize>,
    /// Question by question, one a sharer; made when the first method needs them.
    prompts: Option<Vec<Result<Vec<Prompt>, String>>>,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new<B: KernelBackend>(
        pair: &EvalPair<'a, B>,
        questions: &'a [BenchmarkQuestion],
        settings: &'a EvalSettings,
    ) -> Result<Self, EvalError> {
        let letters = BothLetters::of(pair.text, questions, settings)?;
        let contexts = Contexts::of(pair);
        let joined = pair.models.joined(pair.text).into_iter().map(|one| one.text).collect();
        let several = InStep { texts: joined, context: contexts.several, prompts: None };
        let own = InStep { texts: vec![pair.text], context: contexts.both, prompts: None };
        Ok(Self { text: pair.text, questions, settings, letters, contexts, pair: own, several })
    }

    /// The letters in the tokens of the model that answers, if their probabilities are compared.
    pub(crate) fn letters(&self, method: Method) -> Option<&Letters> {
        match method {
            Method::Sharer => self.letters.sharer.as_ref(),
            _ => self.letters.receiver.as_ref(),
        }
    }

    /// What a method reads, question by question.
    pub(crate) fn of(&mut self, method: Method) -> Vec<Job> {
        match method {
            Method::Receiver => self.alone(self.text.receiver(), method, self.contexts.receiver),
            Method::Sharer => self.alone(self.text.sharer(), method, self.contexts.sharer),
            Method::Mismatched | Method::SeveralMismatched => {
                let (questions, settings) = (self.questions, self.settings);
                mismatched(self.in_step(method), questions, settings)
            }
            Method::C2c | Method::GatesShut | Method::Several => {
                let settings = self.settings;
                let job = |prompts: &Result<Vec<Prompt>, String>| {
                    Job::of(prompts.clone().map(|prompts| Input::InStep(put::fused_in_part(prompts, settings))))
                };
                self.in_step(method).iter().map(job).collect()
            }
            Method::T2t | Method::T2tC2c => self.to_be_told(),
            Method::FewShot => self.with_examples(|tokenizer, chat, start| {
                Input::alone(tokenizer, chat, start).map_err(|err| err.to_string())
            }),
            Method::Oracle => self.with_examples(Input::with_examples),
        }
    }

    /// Whatever is read in turns is put in a chat template.
    fn to_be_told(&self) -> Vec<Job> {
        let baselines = &self.settings.baselines;
        // What the receiver reads beside the question: the request, which holds it too, and the text.
        let template = self.text.receiver().encode(&baselines.t2t_template).map_or(0, |encoding| encoding.ids.len());
        let beside = baselines.t2t_max_new_tokens + template;
        let halved = self.contexts.both.map(|context| context.saturating_sub(beside) / 2);
        let told = |asked: &Question| {
            let put = put::turn(asked, self.settings, self.text.receiver(), halved, 0)?;
            let request = match &asked.task {
                Task::Choice { choices, .. } => filled(&baselines.t2t_template, &asked.question, choices),
                // All that there is to know stands in the whole text.
                Task::Free(_) => filled(&baselines.t2t_template, &put, &[]),
            };
            let ids = rendered(self.text.sharer(), &[Message::user(request.clone())])?;
            Ok::<_, TextError>(Input::ToBeTold(Box::new(ToBeTold { request, ids, question: put })))
        };
        self.questions.iter().map(|asked| Job::of(told(&asked.question).map_err(|err| err.to_string()))).collect()
    }

    fn with_examples(&self, input: impl Fn(&Tokenizer, &[Message], &[u32]) -> Result<Input, String>) -> Vec<Job> {
        let (settings, tokenizer) = (self.settings, self.text.receiver());
        let turns = turns(&settings.baselines.examples, settings.prompt, settings.compat);
        let beside = match turns.is_empty() {
            true => 0,
            // Turns that can't be rendered are told of with each question.
            false => rendered(tokenizer, &turns).map_or(0, |ids| ids.len()),
        };
        let start = put::start(self.letters.receiver.as_ref());
        let job = |asked: &BenchmarkQuestion| {
            let put = put::turn(&asked.question, settings, tokenizer, self.contexts.receiver, beside);
            let chat = [&turns[..], &[Message::user(put.map_err(|err| err.to_string())?)]].concat();
            input(tokenizer, &chat, start)
        };
        self.questions.iter().map(|asked| Job::of(job(asked))).collect()
    }

    /// What receiver and sharers read in step, question by question.
    fn in_step(&mut self, method: Method) -> &[Result<Vec<Prompt>, String>] {
        let (questions, settings, letters) = (self.questions, self.settings, self.letters.receiver.as_ref());
        let InStep { texts, context, prompts } =
            if method.fuses_several() { &mut self.several } else { &mut self.pair };
        let put = |asked: &BenchmarkQuestion| {
            let prompts = put::prompts(&asked.question, settings, texts, letters, *context);
            in_step(prompts.map_err(|err| err.to_string())?)
        };
        prompts.get_or_insert_with(|| questions.iter().map(put).collect())
    }

    fn alone(&self, tokenizer: &Tokenizer, method: Method, context: Option<usize>) -> Vec<Job> {
        let letters = self.letters(method);
        let put = |asked: &BenchmarkQuestion| put::alone(&asked.question, self.settings, tokenizer, letters, context);
        self.questions.iter().map(|asked| Job::of(put(asked).map_err(|err| err.to_string()))).collect()
    }
}

/// The prompts of several Sharers, if the receiver reads the same in all, section by section.
fn in_step(prompts: Vec<Prompt>) -> Result<Vec<Prompt>, String> {
    let sections = |prompt: &Prompt| -> Vec<(bool, Vec<u32>)> {
        let real = |section: &Section| {
            let ids = section.receiver.iter().zip(&section.receiver_mask);
            ids.filter_map(|(id, real)| real.then_some(*id)).collect()
        };
        prompt.sections.iter().map(|section| (section.fuse, real(section))).collect()
    };
    let first = prompts.first().map(sections);
    match prompts.iter().position(|prompt| Some(sections(prompt)) != first) {
        None => Ok(prompts),
        Some(other) => Err(format!(
            "the receiver's tokens for sharer {} of those that are fused are cut into other sections than for the first: the fusers were trained \
             with different alignments; fuse those of one alignment.mode and alignment.sections",
            other + 1
        )),
    }
}

/// Partners are found among whole prompts, so that they are the same whatever share is fused.
fn mismatched(
    prompts: &[Result<Vec<Prompt>, String>],
    questions: &[BenchmarkQuestion],
    settings: &EvalSettings,
) -> Vec<Job> {
    const LONELY: &str =
        "there is no other question whose prompt the sharer could read instead; evaluate on two or more different ones";
    let usable: Vec<Option<&[Prompt]>> = prompts.iter().map(|own| own.as_ref().ok().map(Vec::as_slice)).collect();
    let texts: Vec<&str> = questions.iter().map(|question| question.question.asked()).collect();
    let partners = partners(&usable, &texts, settings.seed);
    let inputs = prompts.iter().zip(&partners).map(|(own, partner)| {
        let own = own.as_ref().map_err(Clone::clone)?;
        let other = partner.and_then(|partner| usable[partner]).ok_or(LONELY)?;
        Ok(Input::InStep(put::fused_in_part(with_sharers_of(own, other), settings)))
    });
    inputs.zip(&partners).map(|(input, partner)| Job { input, partner: *partner }).collect()
}
