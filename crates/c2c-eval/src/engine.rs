//! Questions in, records out.
//!
//! Within a method, questions are answered longest first in batches of like length, which saves padding and meets a
//! lack of memory at once; records come out in the order of the questions. A question that can't be put or answered is
//! a record with an error and counts as wrong, so that accuracies of all methods are over the same questions. When a
//! batch fails, its questions are tried one by one, so that one bad question doesn't take others with it.
//!
//! Everything in a record but its milliseconds is a function of models, questions and settings.

use c2c_data::Task;
use c2c_fuser::{C2c, FuserError};
use c2c_kernels::KernelBackend;
use c2c_recipe::{AnswerMode, Method};
use c2c_text::{PairText, Prompt, Tokenizer};

use crate::answer::{Answered, Answerer};
use crate::input::Input;
use crate::mismatch::{partners, with_sharer_of};
use crate::put::{self, Letters, letters_compared};
use crate::questions::BenchmarkQuestion;
use crate::score::judge;
use crate::settings::is_fused;
use crate::times::Phases;
use crate::{EvalError, EvalSettings, Evaluation, Record};

/// A trained pair and its texts.
#[derive(Debug)]
pub struct EvalPair<'a, B: KernelBackend> {
    /// Receiver, sharer and fuser.
    pub c2c: &'a C2c<B>,
    /// Their tokenizers, templates and alignment.
    pub text: &'a PairText,
}

/// How far a method has come. Reported after every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalProgress {
    /// Who is answering.
    pub method: Method,
    /// Questions done, failed ones included.
    pub done: usize,
    /// Questions in all.
    pub total: usize,
    /// Right answers so far.
    pub correct: usize,
}

/// Puts the questions to every method of the settings, one method after the other.
///
/// Receiver and sharer alone read their own chat templates in their own tokens. [`Method::C2c`] reads the aligned
/// prompt. [`Method::Mismatched`] does too, but its sharer reads another question. [`Method::GatesShut`] is the pair
/// with every gate shut, and its logits behind the prompt are compared with those of the receiver over the same slots.
///
/// # Errors
///
/// Settings out of range, no questions, or models, tokenizers and fuser that don't belong together. What concerns one
/// question stands in its record.
pub fn evaluate<B: KernelBackend>(
    pair: &EvalPair<'_, B>,
    questions: &[BenchmarkQuestion],
    settings: &EvalSettings,
    progress: &mut dyn FnMut(EvalProgress),
) -> Result<Evaluation, EvalError> {
    settings.check()?;
    if questions.is_empty() {
        return Err(EvalError::NoQuestions);
    }
    check_pair(pair, settings)?;
    let letters = letters(pair, questions, settings)?;
    let contexts = Contexts::of(pair);
    let pair_prompts: Vec<Result<Prompt, String>> = if settings.methods.iter().any(|method| is_fused(*method)) {
        let prompt = |asked: &BenchmarkQuestion| {
            let letters = letters.receiver.as_ref();
            put::pair(&asked.question, settings, pair.text, letters, contexts.both).map_err(|err| err.to_string())
        };
        questions.iter().map(prompt).collect()
    } else {
        Vec::new()
    };

    let mut records = Vec::with_capacity(settings.methods.len() * questions.len());
    let mut bit_equal = None;
    for &method in &settings.methods {
        let jobs = match method {
            Method::Receiver => alone(pair.text.receiver(), questions, settings, &letters.receiver, contexts.receiver),
            Method::Sharer => alone(pair.text.sharer(), questions, settings, &letters.sharer, contexts.sharer),
            Method::Mismatched => mismatched(&pair_prompts, questions, settings.seed),
            Method::C2c | Method::GatesShut => {
                pair_prompts.iter().map(|prompt| Job::of(prompt.clone().map(Input::Pair))).collect()
            }
        };
        let of_method = if method == Method::Sharer { &letters.sharer } else { &letters.receiver };
        let answerer = Answerer::new(pair, method, settings)?.with_letters(of_method.clone());
        let run = Run { method, questions, settings, answerer: &answerer, jobs: &jobs };
        let (method_records, method_equal) = run.records(progress);
        records.extend(method_records);
        bit_equal = bit_equal.or(method_equal);
    }
    Evaluation::of(records, &settings.methods, bit_equal)
}

/// Refuses what would fail on every question.
fn check_pair<B: KernelBackend>(pair: &EvalPair<'_, B>, settings: &EvalSettings) -> Result<(), EvalError> {
    let C2c { receiver, sharer, fuser } = pair.c2c;
    if settings.methods.iter().any(|method| is_fused(*method)) {
        fuser.check_models(receiver, sharer)?;
    }
    let sides = [("receiver", receiver, pair.text.receiver()), ("sharer", sharer, pair.text.sharer())];
    for (role, model, text) in sides {
        let (tokenizer, model) = (text.vocab_size(), model.config().vocab_size);
        if tokenizer > model {
            return Err(FuserError::Vocabulary { role, folder: text.owner().into(), tokenizer, model }.into());
        }
    }
    Ok(())
}

/// A question on its way to a method.
struct Job {
    /// What is read, or why nothing can be.
    input: Result<Input, String>,
    /// The question that the sharer reads instead.
    partner: Option<usize>,
}

impl Job {
    fn of(input: Result<Input, String>) -> Self {
        Self { input, partner: None }
    }
}

fn alone(
    tokenizer: &Tokenizer,
    questions: &[BenchmarkQuestion],
    settings: &EvalSettings,
    letters: &Option<Letters>,
    context: Option<usize>,
) -> Vec<Job> {
    let put = |asked: &BenchmarkQuestion| put::alone(&asked.question, settings, tokenizer, letters.as_ref(), context);
    questions.iter().map(|asked| Job::of(put(asked).map_err(|err| err.to_string()))).collect()
}

/// The letters in the tokens of both models; none where replies are written.
#[derive(Default)]
struct BothLetters {
    receiver: Option<Letters>,
    sharer: Option<Letters>,
}

fn letters<B: KernelBackend>(
    pair: &EvalPair<'_, B>,
    questions: &[BenchmarkQuestion],
    settings: &EvalSettings,
) -> Result<BothLetters, EvalError> {
    if settings.mode == AnswerMode::Generate {
        return Ok(BothLetters::default());
    }
    let compared = |asked: &BenchmarkQuestion| letters_compared(asked.question.choices().len(), settings.compat);
    let count = questions.iter().map(compared).max().unwrap_or(0);
    let of = |tokenizer| Letters::new(tokenizer, &settings.response_text, count).map(Some);
    // Only a tokenizer whose model answers has to tell the letters apart.
    let sharer = settings.methods.contains(&Method::Sharer);
    let receiver = settings.methods.iter().any(|method| *method != Method::Sharer);
    Ok(BothLetters {
        receiver: if receiver { of(pair.text.receiver())? } else { None },
        sharer: if sharer { of(pair.text.sharer())? } else { None },
    })
}

/// The most tokens that the models can read.
struct Contexts {
    receiver: Option<usize>,
    sharer: Option<usize>,
    both: Option<usize>,
}

impl Contexts {
    fn of<B: KernelBackend>(pair: &EvalPair<'_, B>) -> Self {
        let of = |model: &c2c_lm::Lm<B>| Some(model.config().max_position).filter(|limit| *limit > 0);
        let (receiver, sharer) = (of(&pair.c2c.receiver), of(&pair.c2c.sharer));
        Self { receiver, sharer, both: receiver.into_iter().chain(sharer).min() }
    }
}

fn mismatched(prompts: &[Result<Prompt, String>], questions: &[BenchmarkQuestion], seed: u64) -> Vec<Job> {
    const LONELY: &str =
        "there is no other question whose prompt the sharer could read instead; evaluate on two or more different ones";
    let usable: Vec<Option<&Prompt>> = prompts.iter().map(|prompt| prompt.as_ref().ok()).collect();
    let texts: Vec<&str> = questions.iter().map(|question| question.question.asked()).collect();
    let partners = partners(&usable, &texts, seed);
    let inputs = prompts.iter().zip(&partners).map(|(own, partner)| {
        let own = own.as_ref().map_err(Clone::clone)?;
        let other = partner.and_then(|partner| usable[partner]).ok_or(LONELY)?;
        Ok(Input::Pair(with_sharer_of(own, other)))
    });
    inputs.zip(&partners).map(|(input, partner)| Job { input, partner: *partner }).collect()
}

/// One method's way through the questions.
struct Run<'a, B: KernelBackend> {
    method: Method,
    questions: &'a [BenchmarkQuestion],
    settings: &'a EvalSettings,
    answerer: &'a Answerer<'a, B>,
    jobs: &'a [Job],
}

/// One row's reply with its share of the batch's time.
struct Reply {
    tokens: Vec<u32>,
    finish: c2c_lm::Finish,
    milliseconds: f64,
    phases: Phases,
    /// With logits compared.
    letters: Vec<f64>,
}

impl<B: KernelBackend> Run<'_, B> {
    /// The records in the order of the questions, and whether the logits of all batches were equal, if that was looked
    /// at.
    fn records(&self, progress: &mut dyn FnMut(EvalProgress)) -> (Vec<Record>, Option<bool>) {
        let total = self.questions.len();
        let mut records: Vec<Option<Record>> = vec![None; total];
        let mut ready: Vec<(usize, &Input)> = Vec::with_capacity(total);
        for (index, job) in self.jobs.iter().enumerate() {
            let checked = job.input.as_ref().map_err(Clone::clone).and_then(|input| {
                self.answerer.check_length(input, self.budget(index)).map_err(|err| err.to_string()).map(|()| input)
            });
            match checked {
                Ok(input) => ready.push((index, input)),
                Err(reason) => records[index] = Some(self.record(index, Err(reason))),
            }
        }
        // The index makes the order, and with it the batches, the same in every run.
        ready.sort_by_cached_key(|(index, input)| {
            (input.shape(), self.budget(*index), std::cmp::Reverse(input.slots()), *index)
        });

        let mut state = EvalProgress { method: self.method, done: total - ready.len(), total, correct: 0 };
        let mut bit_equal: Option<bool> = None;
        for batch in ready
            .chunk_by(|(one, first), (other, second)| {
                first.shape() == second.shape() && self.budget(*one) == self.budget(*other)
            })
            .flat_map(|like| like.chunks(self.settings.batch_size))
        {
            for (index, reply) in self.batch(batch, &mut bit_equal) {
                let record = self.record(index, reply);
                state.done += 1;
                state.correct += usize::from(record.correct);
                records[index] = Some(record);
            }
            progress(state);
        }
        if ready.is_empty() {
            progress(state);
        }
        (records.into_iter().flatten().collect(), bit_equal)
    }

    /// Answers a batch; if that fails, each of its questions alone.
    fn batch(&self, batch: &[(usize, &Input)], bit_equal: &mut Option<bool>) -> Vec<(usize, Result<Reply, String>)> {
        let inputs: Vec<&Input> = batch.iter().map(|(_, input)| *input).collect();
        let budget = batch.first().map_or(0, |(index, _)| self.budget(*index));
        match self.answerer.answer(&inputs, budget) {
            Ok(Answered { generated, mut letters, milliseconds, phases, bit_equal: equal }) => {
                if let Some(equal) = equal {
                    *bit_equal = Some(bit_equal.unwrap_or(true) && equal);
                }
                let milliseconds = milliseconds / batch.len() as f64;
                let phases = phases.share(batch.len());
                letters.resize(batch.len(), Vec::new());
                let replies = generated.tokens.into_iter().zip(generated.finish).zip(letters);
                let indices = batch.iter().map(|(index, _)| *index);
                let replies = replies
                    .map(|((tokens, finish), letters)| Ok(Reply { tokens, finish, milliseconds, phases, letters }));
                indices.zip(replies).collect()
            }
            Err(error) => match batch {
                [(index, _)] => vec![(*index, Err(error.to_string()))],
                _ => {
                    log::warn!(
                        "{}: a batch of {} failed ({error}); trying its questions alone",
                        self.method,
                        batch.len()
                    );
                    batch.iter().flat_map(|one| self.batch(std::slice::from_ref(one), bit_equal)).collect()
                }
            },
        }
    }

    /// The longest reply to a question, in tokens.
    fn budget(&self, index: usize) -> usize {
        put::budget(&self.questions[index].question, self.settings)
    }

    fn record(&self, index: usize, reply: Result<Reply, String>) -> Record {
        let (BenchmarkQuestion { benchmark, question }, job) = (&self.questions[index], &self.jobs[index]);
        let input = job.input.as_ref().ok();
        let mut gold = question.gold().into_iter();
        let classes = match &question.task {
            Task::Choice { .. } => Vec::new(),
            Task::Free(free) => free.classes.clone(),
        };
        let mut record = Record {
            method: self.method,
            benchmark: benchmark.clone(),
            question_id: question.id.clone(),
            subject: question.subject.clone(),
            gold: gold.next().unwrap_or_default(),
            choices: count(question.choices().len()),
            answer: None,
            rule: None,
            correct: false,
            output: String::new(),
            finish: None,
            prompt_sha256: input.map(Input::sha256).unwrap_or_default(),
            prompt_tokens: input.map_or(0, |input| count(input.tokens())),
            output_tokens: 0,
            milliseconds: 0.0,
            phases: Phases::default(),
            partner: job.partner.map(|partner| self.questions[partner].question.id.clone()),
            error: None,
            scorer: question.scorer(),
            score: None,
            alternatives: gold.collect(),
            classes,
            letter_logprobs: Vec::new(),
        };
        let decoded = reply.and_then(|reply| {
            let text = self.answerer.tokenizer().decode(&reply.tokens, true).map_err(|err| err.to_string())?;
            Ok((reply, text))
        });
        match decoded {
            Err(reason) => record.error = Some(reason),
            Ok((reply, text)) => {
                record.output = text.trim_matches('\n').to_owned();
                if self.settings.mode == AnswerMode::Logits {
                    let compared = letters_compared(question.choices().len(), self.settings.compat);
                    record.letter_logprobs = reply.letters.into_iter().take(compared).collect();
                } else {
                    record.finish = Some(reply.finish);
                }
                record.output_tokens = count(reply.tokens.len());
                record.milliseconds = reply.milliseconds;
                record.phases = reply.phases;
            }
        }
        let judged = judge(&record, self.settings.compat);
        record.answer = judged.answer;
        record.rule = judged.rule;
        record.correct = judged.points >= 1.0;
        record.score = record.scorer.is_graded().then_some(judged.points);
        record
    }
}

/// A number of tokens or choices as records hold it; no context is longer than that.
fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
