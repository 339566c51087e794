//! Query-level routing: a small classifier decides by the question alone whether a weak or a strong method answers.
//!
//! Fitted on one run, judged on another, from records and question texts; no model is loaded. The label is what routing is
//! about: whether the strong method is right where the weak one is wrong. The classifier is a logistic regression on hashed
//! words, as simple as routers come (Ong et al. 2024, RouteLLM, train larger ones on the same kind of label).
//!
//! Questions are sent to the strong method by falling score. So a share of calls, not a score, is what curves run over, and
//! a router whose scores are all too high or too low is judged by its order alone.

mod curve;
mod features;
mod logistic;
mod pairs;

use std::collections::HashSet;
use std::time::Instant;

use c2c_recipe::Method;
use serde_json::{Value, json};

use crate::{Kind, ReportError, RunFiles, Table};
use curve::Curve;
use features::features;
use logistic::{Example, Logistic};
use pairs::{Pairs, read};

/// What came of routing.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// Who answers if the router doesn't ask for the strong one, and who if it does.
    pub methods: [Method; 2],
    /// Questions that the router was fitted on and those of them that need the strong method.
    pub fitted: (usize, usize),
    /// Strength of the penalty that was chosen.
    pub penalty: f64,
    /// Milliseconds the router takes for a question, features included.
    pub router_ms: f64,
    /// The mean over all shares of calls of how much of the gap between the methods is closed: 0.5 is what chance does, 1 what
    /// the strong method does with no calls. None if there is no gap.
    pub recovered: Option<f64>,
    /// The chance that a question that needs the strong method has a higher score than one that doesn't. None without both.
    pub order: Option<f64>,
    tables: [Table; 3],
}

impl Routing {
    /// Fits a router on the records of `train` and judges it on those of `test`.
    ///
    /// # Errors
    ///
    /// A run without an evaluation, without one of the methods, or whose questions aren't at hand; questions that both runs
    /// have asked.
    pub fn new(train: &RunFiles, test: &RunFiles, methods: [Method; 2]) -> Result<Self, ReportError> {
        let (learnt, judged) = (read(train, methods)?, read(test, methods)?);
        let texts: HashSet<&str> = learnt.questions.iter().map(|question| question.text.as_str()).collect();
        let shared = judged.questions.iter().filter(|question| texts.contains(question.text.as_str())).count();
        if shared > 0 {
            return Err(ReportError::Leak { train: train.dir.clone(), test: test.dir.clone(), shared });
        }
        let known: Vec<_> = learnt.questions.iter().map(|question| features(&question.text)).collect();
        let examples: Vec<Example<'_>> = known
            .iter()
            .zip(&learnt.questions)
            .map(|(features, question)| (features, question.needs_strong()))
            .collect();
        let router = Logistic::fit(&examples);
        let start = Instant::now();
        let scores: Vec<f64> =
            judged.questions.iter().map(|question| router.score(&features(&question.text))).collect();
        let router_ms = start.elapsed().as_secs_f64() * 1e3 / scores.len().max(1) as f64;
        let curve = Curve::new(&judged.questions, &scores);
        Ok(Self {
            methods,
            fitted: (examples.len(), examples.iter().filter(|(_, needed)| *needed).count()),
            penalty: router.penalty,
            router_ms,
            recovered: curve.recovered(),
            order: curve.order(),
            tables: [curve.table(router_ms), curve.against(&judged.others, router_ms), by_question(&judged, &scores)],
        })
    }

    /// The curve, the test run's other methods against it, and every question.
    pub fn tables(&self) -> &[Table; 3] {
        &self.tables
    }

    /// The router in a few lines, without its tables.
    pub fn about(&self) -> String {
        let [weak, strong] = self.methods;
        let (questions, need) = self.fitted;
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        format!(
            "Router between {weak} and {strong}: fitted on {questions} questions, of which {need} need {strong}; penalty {}\n\
             mean of the gap closed {} (chance 0.5), order of scores {} (chance 0.5), {:.3} ms a question\n",
            self.penalty,
            number(self.recovered),
            number(self.order),
            self.router_ms,
        )
    }

    /// All of it for programs.
    pub fn json(&self) -> Value {
        let [curve, methods, questions] = &self.tables;
        json!({
            "weak": self.methods[0],
            "strong": self.methods[1],
            "fitted_on": self.fitted.0,
            "needing_strong": self.fitted.1,
            "penalty": self.penalty,
            "router_ms": self.router_ms,
            "gap_closed_mean": self.recovered,
            "order_of_scores": self.order,
            "curve": curve.json(),
            "methods": methods.json(),
            "questions": questions.json(),
        })
    }
}

fn by_question(judged: &Pairs, scores: &[f64]) -> Table {
    let about = "Every question with its score: the router's probability that the strong method is needed.";
    let columns = [
        ("benchmark", Kind::Text),
        ("question_id", Kind::Text),
        ("score", Kind::Number),
        ("weak_correct", Kind::Count),
        ("strong_correct", Kind::Count),
        ("weak_ms", Kind::Milliseconds),
        ("strong_ms", Kind::Milliseconds),
    ];
    let mut table = Table::new("questions", "Questions", about, &columns);
    for (question, score) in judged.questions.iter().zip(scores) {
        let [weak, strong] = question.correct.map(usize::from);
        let [weak_ms, strong_ms] = question.milliseconds;
        table.rows.push(vec![
            question.benchmark.as_str().into(),
            question.id.as_str().into(),
            (*score).into(),
            weak.into(),
            strong.into(),
            weak_ms.into(),
            strong_ms.into(),
        ]);
    }
    table
}
