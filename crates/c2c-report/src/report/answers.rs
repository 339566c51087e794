//! A run question by question: who answered what, and which two answered right together.

use std::collections::{BTreeMap, HashMap};

use c2c_data::Scorer;
use c2c_eval::stats::{Overlap, PairedDifference};
use c2c_eval::{FREE_ANSWER, NO_ANSWER};
use polars::prelude::{Column, DataFrame, PolarsResult};

/// The scorers of answers that are right or wrong.
const EXACT: [Scorer; 3] = [Scorer::Letter, Scorer::Number, Scorer::Maths];

/// Two methods, or one method in two runs, on the same questions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub first: String,
    pub second: String,
    /// Of questions whose answers are right or wrong; none if all are graded.
    pub overlap: Option<Overlap>,
    pub paired: PairedDifference,
}

/// A question that was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub method: String,
    pub benchmark: String,
    pub question_id: String,
    pub error: String,
}

/// What a run's methods scored, question by question.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Benchmark and identifier.
    places: HashMap<(String, String), usize>,
    gold: Vec<String>,
    /// Whether the answers are graded, not just right or wrong.
    graded: Vec<bool>,
    /// By method: the score, or nothing where it wasn't asked.
    right: Vec<(String, Vec<Option<f64>>)>,
}

/// The columns that are read question by question.
pub(super) struct Texts<'a> {
    columns: HashMap<&'static str, Vec<Option<&'a str>>>,
    scores: Vec<f64>,
}

impl<'a> Texts<'a> {
    pub(super) fn of(frame: &'a DataFrame) -> PolarsResult<Self> {
        let mut columns = HashMap::new();
        for name in ["method", "benchmark", "question_id", "gold", "answer", "error", "scorer"] {
            let column: &Column = frame.column(name)?;
            columns.insert(name, column.str()?.iter().collect());
        }
        let scores = frame.column("score")?.f64()?.iter().map(|score| score.unwrap_or(0.0)).collect();
        Ok(Self { columns, scores })
    }

    fn get(&self, name: &'static str, row: usize) -> Option<&'a str> {
        self.columns.get(name).and_then(|column| column[row])
    }

    fn text(&self, name: &'static str, row: usize) -> &'a str {
        self.get(name, row).unwrap_or_default()
    }

    fn rows(&self) -> std::ops::Range<usize> {
        0..self.scores.len()
    }

    pub(super) fn count(&self, name: &'static str) -> BTreeMap<String, BTreeMap<String, usize>> {
        let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for row in self.rows() {
            let value = match self.get(name, row) {
                None => NO_ANSWER,
                Some(letter) if self.text("scorer", row) == Scorer::Letter.name() => letter,
                Some(_) => FREE_ANSWER,
            };
            *counts.entry(self.text("method", row)).or_default().entry(value).or_default() += 1;
        }
        let own = |counts: BTreeMap<&str, usize>| counts.into_iter().map(|(key, n)| (key.to_owned(), n)).collect();
        counts.into_iter().map(|(method, counts)| (method.to_owned(), own(counts))).collect()
    }

    /// Gold answers of the first method's questions, which are everyone's.
    pub(super) fn gold(&self) -> BTreeMap<String, usize> {
        self.count("gold").remove(self.text("method", 0)).unwrap_or_default()
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        let failure = |row| {
            let text = |name| self.text(name, row).to_owned();
            let error = self.get("error", row)?.to_owned();
            Some(Failure {
                method: text("method"),
                benchmark: text("benchmark"),
                question_id: text("question_id"),
                error,
            })
        };
        self.rows().filter_map(failure).collect()
    }

    pub(super) fn answers(&self) -> Answers {
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let (mut gold, mut graded) = (Vec::new(), Vec::new());
        let mut right: Vec<(String, Vec<Option<f64>>)> = Vec::new();
        for row in self.rows() {
            let key = (self.text("benchmark", row), self.text("question_id", row));
            let place = *places.entry(key).or_insert(gold.len());
            if place == gold.len() {
                gold.push(self.text("gold", row).to_owned());
                graded.push(!EXACT.map(Scorer::name).contains(&self.text("scorer", row)));
            }
            let method = self.text("method", row);
            // Records stand method by method, so the last one is nearly always it.
            let of = match right.iter().rposition(|(name, _)| name == method) {
                Some(of) => of,
                None => {
                    right.push((method.to_owned(), Vec::new()));
                    right.len() - 1
                }
            };
            let answers = &mut right[of].1;
            if answers.len() <= place {
                answers.resize(place + 1, None);
            }
            answers[place] = Some(self.scores[row]);
        }
        let places = places.into_iter().map(|((benchmark, id), place)| ((benchmark.to_owned(), id.to_owned()), place));
        Answers { places: places.collect(), gold, graded, right }
    }
}

impl Answers {
    /// Whether there are none: the run has no evaluation.
    pub(super) fn is_empty(&self) -> bool {
        self.gold.is_empty()
    }

    /// How many questions have graded answers.
    pub(super) fn graded(&self) -> usize {
        self.graded.iter().filter(|graded| **graded).count()
    }

    /// Where a question stands.
    pub(super) fn place(&self, benchmark: &str, id: &str) -> Option<usize> {
        self.places.get(&(benchmark.to_owned(), id.to_owned())).copied()
    }

    /// What a method scored on the question that stands there.
    pub(super) fn score(&self, method: &str, place: usize) -> Option<f64> {
        self.of(method)?.get(place).copied().flatten()
    }

    fn of(&self, method: &str) -> Option<&[Option<f64>]> {
        self.right.iter().find(|(name, _)| name == method).map(|(_, right)| right.as_slice())
    }

    /// C2C against every other method, then the others against each other, in the order given.
    pub(super) fn within(&self, methods: &[String]) -> Vec<Pair> {
        let mut order: Vec<&String> = methods.iter().collect();
        order.sort_by_key(|method| *method != c2c_recipe::Method::C2c.as_str());
        let mut pairs = Vec::new();
        for (place, first) in order.iter().enumerate() {
            for second in &order[place + 1..] {
                let (Some(a), Some(b)) = (self.of(first), self.of(second)) else { continue };
                let both =
                    a.iter().zip(b).zip(&self.graded).filter_map(|((a, b), graded)| Some(((*a)?, (*b)?, *graded)));
                pairs.extend(pair(first, second, both));
            }
        }
        pairs
    }

    /// Each method against the same one of another run, on the questions that both have asked.
    pub(super) fn against(&self, baseline: &Self) -> Result<Vec<Pair>, String> {
        let shared: Vec<(usize, usize)> =
            self.places.iter().filter_map(|(key, own)| Some((*own, *baseline.places.get(key)?))).collect();
        if shared.is_empty() {
            return Err("no question in common with the baseline".to_owned());
        }
        let other_gold = shared.iter().filter(|(own, other)| self.gold[*own] != baseline.gold[*other]).count();
        if other_gold > 0 {
            return Err(format!("{other_gold} questions have another gold answer than in the baseline"));
        }
        let mut pairs = Vec::new();
        for (method, own) in &self.right {
            let Some(other) = baseline.of(method) else { continue };
            let get = |answers: &[Option<f64>], place: usize| answers.get(place).copied().flatten();
            let both = shared.iter().filter_map(|(a, b)| Some((get(own, *a)?, get(other, *b)?, self.graded[*a])));
            pairs.extend(pair(method, method, both));
        }
        Ok(pairs)
    }
}

/// Of scores of both, and whether they are graded.
fn pair(first: &str, second: &str, scores: impl Iterator<Item = (f64, f64, bool)>) -> Option<Pair> {
    let scores: Vec<(f64, f64, bool)> = scores.collect();
    // Without a question in common there is nothing to compare.
    if scores.is_empty() {
        return None;
    }
    let exact = scores.iter().filter(|(.., graded)| !graded);
    let (a, b): (Vec<bool>, Vec<bool>) = exact.map(|(a, b, _)| (*a >= 1.0, *b >= 1.0)).unzip();
    let overlap = Overlap::of(&a, &b).ok().filter(|overlap| overlap.total() > 0);
    let (a, b): (Vec<f64>, Vec<f64>) = scores.iter().map(|(a, b, _)| (*a, *b)).unzip();
    let paired = PairedDifference::of_scores(&a, &b).ok()?;
    Some(Pair { first: first.to_owned(), second: second.to_owned(), overlap, paired })
}
