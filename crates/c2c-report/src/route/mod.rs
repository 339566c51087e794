//! Query-level routing: a small classifier decides by the question alone whether a weak or a strong method answers.
//!
//! Fitted on one run, judged on another, from records and question texts; no model is loaded. A router is a logistic
//! regression on hashed words, as simple as routers come, or a matrix factorisation in the form of RouteLLM (Ong et al. 2024);
//! [`Form`] says what each is fitted to.
//!
//! Questions are sent to the strong method by falling score. So a share of calls, not a score, is what curves run over, and
//! a router whose scores are all too high or too low is judged by its order alone.

mod curve;
mod factors;
mod features;
mod logistic;
mod pairs;
mod penalty;
mod told;

use std::collections::HashSet;
use std::time::Instant;

use c2c_recipe::Method;

use crate::plot::routing::{self, Line};
use crate::{ReportError, RunFiles, Table};
use curve::{Curve, curve_table, methods_table};
use factors::Factors;
use features::{Features, features};
use logistic::Logistic;
use pairs::{Pairs, read};

/// What a router is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Logistic regression: its score is the probability that the strong method is right where the weak one is wrong. Nothing
    /// is drawn.
    Logistic,
    /// Matrix factorisation: its score is the probability that the strong method is better, a tie counting half, fitted on all
    /// methods of the run but controls. The seed draws where fitting begins.
    Factors,
}

impl Form {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Factors => "mf",
        }
    }
}

/// A router that was fitted and judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    /// What it is.
    pub form: Form,
    /// Strength of the penalty that was chosen.
    pub penalty: f64,
    /// The seed, where something is drawn.
    pub seed: Option<u64>,
    /// The methods that it was fitted on.
    pub methods: Vec<Method>,
    /// Milliseconds it takes for a question, features included.
    pub ms: f64,
    /// The mean over all shares of calls of how much of the gap between the methods is closed: 0.5 is what chance does, 1 what
    /// the strong method does with no calls. None if there is no gap.
    pub recovered: Option<f64>,
    /// The chance that a question that needs the strong method has a higher score than one that doesn't. None without both.
    pub order: Option<f64>,
}

/// What came of routing.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// Who answers if the router doesn't ask for the strong one, and who if it does.
    pub methods: [Method; 2],
    /// Questions that the routers were fitted on and those of them that need the strong method.
    pub fitted: (usize, usize),
    /// The routers, in the order in which their forms were named.
    pub routers: Vec<Router>,
    tables: [Table; 4],
    svg: String,
    notes: Vec<String>,
}

/// A router that can be asked.
enum Fitted {
    Logistic(Logistic),
    Factors { factors: Factors, pair: [usize; 2], competing: Vec<Method>, seed: u64 },
}

impl Fitted {
    fn fit(form: Form, learnt: &Pairs, methods: [Method; 2], seed: u64) -> Self {
        let known: Vec<Features> = learnt.questions.iter().map(|question| features(&question.text)).collect();
        let examples = known.iter().zip(&learnt.questions);
        match form {
            Form::Logistic => {
                let examples: Vec<_> =
                    examples.map(|(features, question)| (features, question.needs_strong())).collect();
                Self::Logistic(Logistic::fit(&examples))
            }
            Form::Factors => {
                let examples: Vec<_> =
                    examples.map(|(features, question)| (features, question.right.as_slice())).collect();
                let competing = learnt.competing.clone();
                // Both have been asked, as reading the run has found, and no method of choice is left out.
                let pair =
                    methods.map(|method| competing.iter().position(|other| *other == method).unwrap_or_default());
                let factors = Factors::fit(&examples, competing.len(), pair, seed);
                Self::Factors { factors, pair, competing, seed }
            }
        }
    }

    fn score(&self, text: &str) -> f64 {
        match self {
            Self::Logistic(logistic) => logistic.score(&features(text)),
            Self::Factors { factors, pair, .. } => factors.score(&features(text), *pair),
        }
    }
}

impl Routing {
    /// Fits a router of each form on the records of `train` and judges it on those of `test`. `seed` is of no matter to a form
    /// that draws nothing.
    ///
    /// # Errors
    ///
    /// A run without an evaluation, without one of the methods, with graded answers, or whose questions aren't at hand;
    /// questions that both runs have asked.
    pub fn new(
        train: &RunFiles,
        test: &RunFiles,
        methods: [Method; 2],
        forms: &[Form],
        seed: u64,
    ) -> Result<Self, ReportError> {
        let (learnt, judged) = (read(train, methods)?, read(test, methods)?);
        let texts: HashSet<&str> = learnt.questions.iter().map(|question| question.text.as_str()).collect();
        let shared = judged.questions.iter().filter(|question| texts.contains(question.text.as_str())).count();
        if shared > 0 {
            return Err(ReportError::Leak { train: train.dir.clone(), test: test.dir.clone(), shared });
        }
        let (mut routers, mut lines) = (Vec::new(), Vec::new());
        let (mut curves, mut against, mut questions) = (Vec::new(), Vec::new(), Vec::new());
        let mut ideal = Vec::new();
        for form in forms {
            let fitted = Fitted::fit(*form, &learnt, methods, seed);
            let start = Instant::now();
            let scores: Vec<f64> = judged.questions.iter().map(|question| fitted.score(&question.text)).collect();
            let ms = start.elapsed().as_secs_f64() * 1e3 / scores.len().max(1) as f64;
            let curve = Curve::new(&judged.questions, &scores);
            curves.extend(curve.rows(*form, ms));
            against.extend(curve.against(&judged.others, *form, ms));
            questions.extend(told::question_rows(&judged, *form, &scores));
            lines.push(Line { name: form.as_str().to_owned(), points: curve.points() });
            ideal = curve.ideal();
            let (recovered, order) = (curve.recovered(), curve.order());
            let (penalty, seed, methods) = match fitted {
                Fitted::Logistic(logistic) => (logistic.penalty, None, methods.to_vec()),
                Fitted::Factors { factors, competing, seed, .. } => (factors.penalty, Some(seed), competing),
            };
            routers.push(Router { form: *form, penalty, seed, methods, ms, recovered, order });
        }
        let needing = learnt.questions.iter().filter(|question| question.needs_strong()).count();
        let others: Vec<(String, f64)> = judged
            .others
            .iter()
            .map(|other| (other.method.to_string(), other.correct as f64 / judged.questions.len().max(1) as f64))
            .collect();
        let [weak, strong] = methods.map(Method::as_str);
        Ok(Self {
            methods,
            fitted: (learnt.questions.len(), needing),
            tables: [
                told::routers_table(&routers),
                curve_table(curves),
                methods_table(against),
                told::questions_table(questions),
            ],
            svg: routing::draw([weak, strong], judged.questions.len(), &lines, &ideal, &others)?,
            routers,
            notes: [(train, &learnt), (test, &judged)].into_iter().filter_map(|(run, of)| partial(run, of)).collect(),
        })
    }
}

/// That a run has not asked whole benchmarks, if so.
fn partial(run: &RunFiles, pairs: &Pairs) -> Option<String> {
    let reasons = pairs.partial.join(", ");
    let note = || format!("PARTIAL: {}: {reasons}; these are no figures of the whole set", run.name());
    (!pairs.partial.is_empty()).then(note)
}
