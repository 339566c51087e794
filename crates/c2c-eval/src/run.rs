//! One method's way through the questions: the plan of its units, and each unit's records.

use std::cmp::Reverse;

use c2c_data::Task;
use c2c_kernels::KernelBackend;
use c2c_recipe::{AnswerMode, Method};

use crate::answer::{Answerer, Reply};
use crate::input::Input;
use crate::jobs::Job;
use crate::put::{self, letters_compared};
use crate::questions::BenchmarkQuestion;
use crate::score::judge;
use crate::times::Phases;
use crate::{EvalSettings, Record, Unit};

/// A method with its questions.
pub(crate) struct Run<'a, B: KernelBackend> {
    pub(crate) method: Method,
    pub(crate) questions: &'a [BenchmarkQuestion],
    pub(crate) settings: &'a EvalSettings,
    pub(crate) answerer: &'a Answerer<'a, B>,
    pub(crate) jobs: &'a [Job],
}

/// A unit before it is done.
pub(crate) enum Planned<'a> {
    /// Questions that can't be put, with the reason.
    Refused(Vec<(usize, String)>),
    /// Questions that are answered together.
    Batch(Vec<(usize, &'a Input)>),
}

impl Planned<'_> {
    /// What is read for those that can be put.
    pub(crate) fn inputs(&self) -> &[(usize, &Input)] {
        match self {
            Self::Refused(_) => &[],
            Self::Batch(batch) => batch,
        }
    }

    /// The numbers of the questions, in the order of the unit's records.
    pub(crate) fn questions(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Self::Refused(refused) => Box::new(refused.iter().map(|(index, _)| *index)),
            Self::Batch(batch) => Box::new(batch.iter().map(|(index, _)| *index)),
        }
    }
}

impl<'a, B: KernelBackend> Run<'a, B> {
    /// All units, which together hold every question once. Nothing is computed for it but lengths.
    pub(crate) fn plan(&self) -> Vec<Planned<'a>> {
        let mut refused = Vec::new();
        let mut ready: Vec<(usize, &Input)> = Vec::with_capacity(self.jobs.len());
        for (index, job) in self.jobs.iter().enumerate() {
            let checked = job.input.as_ref().map_err(Clone::clone).and_then(|input| {
                let fits = self.answerer.check_length(input, self.budget(index));
                fits.map_err(|err| err.to_string()).map(|()| input)
            });
            match checked {
                Ok(input) => ready.push((index, input)),
                Err(reason) => refused.push((index, reason)),
            }
        }
        // The index makes the order, and with it the batches, the same in every run.
        ready.sort_by_cached_key(|(index, input)| (input.shape(), self.budget(*index), Reverse(input.slots()), *index));
        let batches = ready
            .chunk_by(|(one, first), (other, second)| {
                first.shape() == second.shape() && self.budget(*one) == self.budget(*other)
            })
            .flat_map(|like| self.batches(like))
            .map(|batch| Planned::Batch(batch.to_vec()));
        let refused = (!refused.is_empty()).then_some(Planned::Refused(refused));
        refused.into_iter().chain(batches).collect()
    }

    /// Inputs of one shape, longest first, as batches: as many as may be together and as have room.
    fn batches<'b, 'i>(&self, mut like: &'b [(usize, &'i Input)]) -> Vec<&'b [(usize, &'i Input)]> {
        let mut batches = Vec::new();
        while let Some((_, longest)) = like.first() {
            let room = self.settings.batch_tokens.map_or(usize::MAX, |tokens| tokens / longest.slots().max(1));
            let (batch, rest) = like.split_at(self.settings.batch_size.min(room.max(1)).min(like.len()));
            batches.push(batch);
            like = rest;
        }
        batches
    }

    /// Does a unit.
    pub(crate) fn unit(&self, number: usize, planned: &Planned<'_>) -> Unit {
        let replies = match planned {
            Planned::Refused(refused) => refused.iter().map(|(index, reason)| (*index, Err(reason.clone()))).collect(),
            Planned::Batch(batch) => self.batch(batch),
        };
        let records = replies.into_iter().map(|(index, reply)| (index, self.record(index, reply))).collect();
        Unit { number, method: self.method, records }
    }

    /// Answers a batch; if that fails, each of its questions alone.
    fn batch(&self, batch: &[(usize, &Input)]) -> Vec<(usize, Result<Reply, String>)> {
        let inputs: Vec<&Input> = batch.iter().map(|(_, input)| *input).collect();
        let budget = batch.first().map_or(0, |(index, _)| self.budget(*index));
        match self.answerer.answer(&inputs, budget) {
            Ok(replies) => batch.iter().map(|(index, _)| *index).zip(replies).collect(),
            Err(error) => match batch {
                [(index, _)] => vec![(*index, Err(error.to_string()))],
                _ => {
                    log::warn!(
                        "{}: a batch of {} failed ({error}); trying its questions alone",
                        self.method,
                        batch.len()
                    );
                    batch.iter().flat_map(|one| self.batch(std::slice::from_ref(one))).collect()
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
            message: None,
            message_tokens: 0,
            error: None,
            scorer: question.scorer(),
            score: None,
            alternatives: gold.collect(),
            classes,
            letter_logprobs: Vec::new(),
            bit_equal: None,
            fused_tokens: self.settings.fused.and(input).and_then(Input::fused_tokens).map(count),
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
                    let compared = letters_compared(benchmark, question.choices().len(), self.settings.compat);
                    record.letter_logprobs = reply.letters.into_iter().take(compared).collect();
                } else {
                    record.finish = Some(reply.finish);
                }
                record.output_tokens = count(reply.tokens.len());
                record.milliseconds = reply.milliseconds;
                record.phases = reply.phases;
                record.bit_equal = reply.bit_equal;
                if let Some(heard) = reply.heard {
                    record.prompt_sha256 = heard.prompt_sha256;
                    record.prompt_tokens = count(heard.prompt_tokens);
                    record.fused_tokens = self.settings.fused.and(heard.fused_tokens).map(count);
                    record.message = Some(heard.text);
                    record.message_tokens = count(heard.tokens);
                }
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
