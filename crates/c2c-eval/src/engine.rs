//! Questions in, records out.
//!
//! Within a method, questions are answered longest first in batches of like length, which saves padding and meets a lack
//! of memory at once; records come out in the order of the questions. A question that can't be put or answered is a
//! record with an error and counts as wrong, so that accuracies of all methods are over the same questions. When a batch
//! fails, its questions are tried one by one, so that one bad question doesn't take others with it.
//!
//! Everything in a record but its milliseconds is a function of models, questions and settings. The work is cut into
//! [`Unit`]s, which may be done in several sittings and in several places.

use c2c_fuser::{C2c, FuserError, FusionOrder};
use c2c_kernels::KernelBackend;
use c2c_lm::Lm;
use c2c_recipe::Method;
use c2c_text::PairText;

use crate::answer::Answerer;
use crate::jobs::{BothLetters, Jobs};
use crate::questions::BenchmarkQuestion;
use crate::run::{Planned, Run};
use crate::several::{Joined, SeveralSharers};
use crate::unit::{Course, Session, assemble};
use crate::{EvalError, EvalProgress, EvalSettings, Evaluation, Unit};

/// Who can answer, and how they read.
#[derive(Debug)]
pub struct EvalPair<'a, B: KernelBackend> {
    /// The models.
    pub models: EvalModels<'a, B>,
    /// Their tokenizers, templates and alignment.
    pub text: &'a PairText,
}

/// The models of an evaluation.
#[derive(Debug)]
pub enum EvalModels<'a, B: KernelBackend> {
    /// Receiver, sharer and fuser.
    Pair(&'a C2c<B>),
    /// The same, and who is fused by [`Method::Several`] and its control.
    Several(&'a C2c<B>, &'a SeveralSharers<B>),
    /// Receiver and sharer without a fuser: whoever doesn't need one can answer ([`Method::needs_fuser`]).
    Unfused {
        /// The model that answers.
        receiver: &'a Lm<B>,
        /// The model that knows.
        sharer: &'a Lm<B>,
    },
    /// A receiver alone: whoever needs no sharer can answer ([`Method::needs_sharer`]).
    Receiver(&'a Lm<B>),
}

impl<B: KernelBackend> Clone for EvalModels<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: KernelBackend> Copy for EvalModels<'_, B> {}

impl<'a, B: KernelBackend> EvalModels<'a, B> {
    /// The model that answers.
    pub(crate) fn receiver(&self) -> &'a Lm<B> {
        match self {
            Self::Pair(c2c) | Self::Several(c2c, _) => &c2c.receiver,
            Self::Unfused { receiver, .. } => receiver,
            Self::Receiver(model) => model,
        }
    }

    /// The model that knows, if there is one.
    pub(crate) fn sharer(&self) -> Option<&'a Lm<B>> {
        match self {
            Self::Pair(c2c) | Self::Several(c2c, _) => Some(&c2c.sharer),
            Self::Unfused { sharer, .. } => Some(sharer),
            Self::Receiver(_) => None,
        }
    }

    /// All three, if there are three.
    pub(crate) fn pair(&self) -> Option<&'a C2c<B>> {
        match self {
            Self::Pair(c2c) | Self::Several(c2c, _) => Some(c2c),
            Self::Unfused { .. } | Self::Receiver(_) => None,
        }
    }

    /// All Sharers that are fused together, in their order; none if there is no more than a pair.
    pub(crate) fn joined(&self, text: &'a PairText) -> Vec<Joined<'a, B>> {
        match self {
            Self::Several(first, several) => several.joined(first, text),
            Self::Pair(_) | Self::Unfused { .. } | Self::Receiver(_) => Vec::new(),
        }
    }

    /// How they are fused.
    pub(crate) fn order(&self) -> FusionOrder {
        match self {
            Self::Several(_, several) => several.order,
            Self::Pair(_) | Self::Unfused { .. } | Self::Receiver(_) => FusionOrder::default(),
        }
    }
}

/// Puts the questions to every method of the settings, one method after the other.
///
/// Receiver and sharer alone read their own chat templates in their own tokens. [`Method::C2c`]
/// reads the aligned prompt. [`Method::Mismatched`] does too, but its sharer reads another
/// question. [`Method::GatesShut`] is the pair with every gate shut, and its logits behind
/// the prompt are compared with those of the receiver over the same slots. [`Method::Several`] reads one aligned prompt a
/// Sharer, all with the same tokens of the receiver, and [`Method::SeveralMismatched`] the same with another question for
/// all Sharers. The baselines' formulas stand in
/// `docs/baselines.md`.
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
    let session = Session { progress: Box::new(progress), ..Session::default() };
    let course = evaluate_in(pair, questions, settings, session)?;
    Evaluation::of_units(course.units, settings, questions.len())
}

/// As [`evaluate`], in one of several sittings, or one of several shards: does the units of the session's shard that
/// aren't done yet, until its end or until it is told to stop. [`Evaluation::of_units`] makes the evaluation of the units
/// of all shards.
///
/// # Errors
///
/// As [`evaluate`]; units of an earlier sitting that hold other questions than they would now; what the session's `save`
/// returns.
pub fn evaluate_in<B: KernelBackend>(
    pair: &EvalPair<'_, B>,
    questions: &[BenchmarkQuestion],
    settings: &EvalSettings,
    mut session: Session<'_>,
) -> Result<Course, EvalError> {
    check_evaluation(pair, questions, settings)?;
    let mut jobs = Jobs::new(pair, questions, settings)?;
    let mut done = std::mem::take(&mut session.done).into_iter().peekable();
    let mut units: Vec<Unit> = Vec::new();
    let mut first = 0;
    for (place, &method) in settings.methods.iter().enumerate() {
        let answerer = Answerer::new(pair, method, settings, jobs.letters(method).cloned())?;
        let jobs = jobs.of(method);
        let run = Run { method, questions, settings, answerer: &answerer, jobs: &jobs };
        let plan = run.plan();
        let own: Vec<(usize, &Planned)> =
            (first..).zip(&plan).filter(|(number, _)| session.shard.holds(*number)).collect();
        first += plan.len();
        let total = own.iter().map(|(_, planned)| planned.questions().count()).sum();
        let mut state = EvalProgress { method, place, methods: settings.methods.len(), done: 0, total, correct: 0 };
        let count = |state: &mut EvalProgress, unit: &Unit| {
            state.done += unit.records.len();
            state.correct += unit.records.iter().filter(|(_, record)| record.correct).count();
        };
        let earlier = units.len();
        for (number, planned) in &own {
            let Some(unit) = done.next_if(|unit| unit.number == *number) else { break };
            let same =
                unit.method == method && unit.records.iter().map(|(question, _)| *question).eq(planned.questions());
            if !same {
                return Err(EvalError::UnitChanged { number: *number });
            }
            count(&mut state, &unit);
            units.push(unit);
        }
        let left = &own[units.len() - earlier..];
        (session.progress)(state);
        let inputs = plan.iter().flat_map(|planned| planned.inputs()).map(|(_, input)| *input);
        answerer.prepare(inputs, left.iter().map(|(_, planned)| planned.inputs().len()).sum());
        for (number, planned) in left {
            if (session.stop)() {
                return Ok(Course { units, total: None });
            }
            let unit = run.unit(*number, planned);
            (session.save)(&unit)?;
            count(&mut state, &unit);
            units.push(unit);
            (session.progress)(state);
        }
    }
    match done.next() {
        Some(unit) => Err(EvalError::UnitChanged { number: unit.number }),
        None => Ok(Course { units, total: Some(first) }),
    }
}

impl Evaluation {
    /// The evaluation that all units of all shards make.
    ///
    /// # Errors
    /// A question that a method has answered twice, or not at all.
    pub fn of_units(units: Vec<Unit>, settings: &EvalSettings, questions: usize) -> Result<Self, EvalError> {
        let records = assemble(units, &settings.methods, questions)?;
        Self::of(records, &settings.methods, None)
    }
}

/// Refuses what would fail on every question. [`evaluate`] does so itself; this is for those who want to know before.
///
/// # Errors
///
/// As [`evaluate`].
pub fn check_evaluation<B: KernelBackend>(
    pair: &EvalPair<'_, B>,
    questions: &[BenchmarkQuestion],
    settings: &EvalSettings,
) -> Result<(), EvalError> {
    settings.check()?;
    if questions.is_empty() {
        return Err(EvalError::NoQuestions);
    }
    let receiver = pair.models.receiver();
    let mut sides = vec![("receiver", receiver, pair.text.receiver())];
    let (fused, sharer) = (pair.models.pair(), pair.models.sharer());
    let refuse =
        |method: &Method, expected| Err(EvalError::Settings { key: "methods", found: method.to_string(), expected });
    match (settings.methods.iter().find(|method| method.needs_fuser()), fused) {
        (Some(_), Some(C2c { receiver, sharer, fuser })) => fuser.check_models(receiver, sharer)?,
        (Some(method), None) => {
            return refuse(method, "receiver, sharer, t2t, few_shot or oracle, for there is no fuser");
        }
        (None, _) => {}
    }
    match (settings.methods.iter().find(|method| method.needs_sharer()), sharer) {
        (Some(method), None) => return refuse(method, "receiver, few_shot or oracle, for there is one model only"),
        (_, Some(sharer)) => sides.push(("sharer", sharer, pair.text.sharer())),
        (None, None) => {}
    }
    let joined = pair.models.joined(pair.text);
    if let Some(method) = settings.methods.iter().find(|method| method.fuses_several()) {
        if joined.is_empty() {
            return refuse(method, "other methods, for no Sharers are to be fused together");
        }
        for Joined { link, text } in &joined {
            link.fuser.check_models(receiver, &link.sharer)?;
            sides.push(("sharer", &link.sharer, text.sharer()));
        }
    }
    if let Some(layers) =
        settings.baselines.oracle_layers.as_ref().filter(|_| settings.methods.contains(&Method::Oracle))
        && let Some(layer) = layers.iter().find(|layer| **layer >= receiver.config().num_layers)
    {
        let found = format!("{layer}, of a receiver with {} layers", receiver.config().num_layers);
        return Err(EvalError::Settings { key: "baselines.oracle_layers", found, expected: "numbers below that" });
    }
    BothLetters::of(pair.text, questions, settings)?;
    for (role, model, text) in sides {
        let (tokenizer, model) = (text.vocab_size(), model.config().vocab_size);
        if tokenizer > model {
            return Err(FuserError::Vocabulary { role, folder: text.owner().into(), tokenizer, model }.into());
        }
    }
    Ok(())
}
