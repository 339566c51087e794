//! The answers of two methods to the same questions, with the questions' texts.

use std::collections::HashMap;

use c2c_data::choice_lines;
use c2c_eval::{Record, benchmark_names, load_questions, read_records};
use c2c_recipe::{Method, Recipe};

use crate::run::{RECIPE, RECORDS};
use crate::{ReportError, RunFiles};

/// A question that both methods have been asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) benchmark: String,
    pub(super) id: String,
    /// The question with its choices.
    pub(super) text: String,
    /// Whether the weak method is right, and the strong one.
    pub(super) correct: [bool; 2],
    /// Whether each method of the run that is no control is right, in the order of [`Pairs::competing`].
    pub(super) right: Vec<bool>,
    pub(super) milliseconds: [f64; 2],
}

impl Question {
    /// Whether there is anything to be gained by the strong method.
    pub(super) fn needs_strong(&self) -> bool {
        self.correct == [false, true]
    }
}

/// Another method of the run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Other {
    pub(super) method: Method,
    pub(super) correct: usize,
    /// A question's mean.
    pub(super) milliseconds: f64,
}

/// A run as far as routing is concerned.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pairs {
    pub(super) questions: Vec<Question>,
    pub(super) others: Vec<Other>,
    /// The methods of the run that are no controls.
    pub(super) competing: Vec<Method>,
    /// Why these are no figures of whole benchmarks; empty if they are.
    pub(super) partial: Vec<String>,
}

/// Reads a run's records and the texts of its questions.
pub(super) fn read(run: &RunFiles, methods: [Method; 2]) -> Result<Pairs, ReportError> {
    let asked = run.asked(&run.summary()?)?;
    if let Some(missing) = methods.iter().find(|method| !asked.methods.contains(method)) {
        return Err(ReportError::NoMethod { path: run.dir.clone(), method: *missing });
    }
    let records = read_records(run.path(RECORDS))?;
    let graded = records.iter().filter(|record| record.method == methods[0] && record.scorer.is_graded()).count();
    if graded > 0 {
        return Err(ReportError::Graded { path: run.dir.clone(), graded });
    }
    let texts = texts(run)?;
    let of = |method| records.iter().filter(move |record: &&Record| record.method == method);
    let competing: Vec<Method> =
        asked.methods.iter().copied().filter(|method| !method.is_control() || methods.contains(method)).collect();
    let right: Vec<Vec<bool>> =
        competing.iter().map(|method| of(*method).map(|record| record.correct).collect()).collect();
    let mut questions = Vec::new();
    for (place, (weak, strong)) in of(methods[0]).zip(of(methods[1])).enumerate() {
        let key = (weak.benchmark.clone(), weak.question_id.clone());
        let text = texts.get(&key).filter(|_| (&strong.benchmark, &strong.question_id) == (&key.0, &key.1));
        let Some(text) = text else {
            let reason = format!("question {}/{} isn't in the recipe's sources; run `c2c verify`", key.0, key.1);
            return Err(ReportError::Read { path: run.path(RECORDS), reason });
        };
        questions.push(Question {
            benchmark: key.0,
            id: key.1,
            text: text.clone(),
            correct: [weak.correct, strong.correct],
            // Every method has answered the same questions in the same order; one that hasn't got so far is wrong.
            right: right.iter().map(|of| of.get(place).copied().unwrap_or(false)).collect(),
            milliseconds: [weak.milliseconds, strong.milliseconds],
        });
    }
    let others = asked.methods.iter().map(|method| {
        let milliseconds: f64 = of(*method).map(|record| record.milliseconds).sum();
        let correct = of(*method).filter(|record| record.correct).count();
        Other { method: *method, correct, milliseconds: milliseconds / questions.len().max(1) as f64 }
    });
    Ok(Pairs { others: others.collect(), questions, competing, partial: asked.partial_because })
}

/// Question and choices by benchmark and identifier, from the sources of the run's recipe.
fn texts(run: &RunFiles) -> Result<HashMap<(String, String), String>, ReportError> {
    let path = run.path(RECIPE);
    let refuse = |reason: String| ReportError::Read { path: path.clone(), reason };
    let loaded = c2c_recipe::load(&path, &[]).map_err(|errors| refuse(errors.to_string().trim().to_owned()))?;
    let (settings, seed) = match &loaded.recipe {
        Recipe::Eval(recipe) => (Some(&recipe.evaluation), recipe.seed),
        Recipe::Train(recipe) => (recipe.evaluation.as_ref(), recipe.seed),
        Recipe::Pretrain(recipe) => (None, recipe.seed),
    };
    let settings = settings.ok_or_else(|| refuse("no evaluation in this recipe".into()))?;
    let mut texts = HashMap::new();
    for (source, name) in settings.sources.iter().zip(benchmark_names(&settings.sources)) {
        for question in load_questions(source, seed, settings.compat.into())?.0 {
            let text = format!("{}\n{}", question.asked(), choice_lines(question.choices()));
            texts.insert((name.clone(), question.id), text);
        }
    }
    Ok(texts)
}
