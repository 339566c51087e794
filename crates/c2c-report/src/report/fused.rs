//! Runs that fuse a share of their prompts, side by side: the paper's progressive behaviour.

use std::collections::BTreeMap;

use c2c_eval::Asked;
use c2c_eval::stats::Accuracy;
use c2c_recipe::{FusedFrom, Method};
use polars::prelude::{DataFrame, DataType, IntoLazy, PolarsResult, col};
use serde_json::Value;

use super::scan::FUSED_TOKENS;
use super::sums::sums;
use super::tables::{row, table};
use super::{By, Report, RunData};
use crate::{Kind, Table};

/// What is kept of a run about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fused {
    /// From 0 to 1.
    share: Option<f64>,
    from: FusedFrom,
    /// In words, if not all of a prompt was fused.
    words: Option<String>,
    /// Mean of the tokens that were fused, by method, where the records say it.
    tokens: BTreeMap<String, f64>,
    /// The recipe's name, and the hashes of the fuser and of the questions: runs that agree in them are points of one line.
    line: [String; 3],
}

impl Fused {
    pub(super) fn of(summary: &Value, asked: &Asked, records: &DataFrame) -> PolarsResult<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // A run that has trained its fuser doesn't name its weights, but all that they were made by.
        let fuser = if summary["fuser"].is_null() { &summary["fuser_sha256"] } else { &summary["recipe_sha256"] };
        let line = [&summary["recipe"], fuser, &summary["records"]["questions_sha256"]].map(text);
        let (share, from) = (asked.fused_share, asked.fused_from.unwrap_or_default());
        Ok(Self { share, from, words: asked.fused_in_part(), tokens: means(records)?, line })
    }

    /// How much was fused, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.share.unwrap_or(1.0)
    }

    /// From which end; neither where nothing or all of a prompt was fused.
    pub(crate) fn from(&self) -> Option<FusedFrom> {
        (0.0 < self.share() && self.share() < 1.0).then_some(self.from)
    }

    /// What a reader has to be told of a run that fused a part.
    pub(super) fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }

    pub(crate) fn line(&self) -> &[String; 3] {
        &self.line
    }
}

/// Mean of the tokens that were fused, by method.
fn means(records: &DataFrame) -> PolarsResult<BTreeMap<String, f64>> {
    let mean = col(FUSED_TOKENS).cast(DataType::Float64).mean();
    let frame = records.clone().lazy().group_by([col("method")]).agg([mean]).collect()?;
    let (methods, means) = (frame.column("method")?.str()?, frame.column(FUSED_TOKENS)?.f64()?);
    let of = |(method, mean): (Option<&str>, Option<f64>)| Some((method?.to_owned(), mean?));
    Ok(methods.iter().zip(means.iter()).filter_map(of).collect())
}

/// A method that fuses, in a run.
pub(crate) struct Point<'a> {
    pub run: &'a RunData,
    pub method: String,
    pub accuracy: Accuracy,
}

impl Point<'_> {
    pub(crate) fn is_control(&self) -> bool {
        method(&self.method).is_some_and(Method::is_control)
    }
}

/// All methods that fuse of all runs with an evaluation, method by method: from nothing over shares from the front and then
/// from the back to all of a prompt. Nothing unless runs differ in what they fuse.
pub(crate) fn points(report: &Report) -> Vec<Point<'_>> {
    let mut points: Vec<Point<'_>> = Vec::new();
    let mut methods: Vec<String> = Vec::new();
    for run in report.runs() {
        for sum in sums(run, By::Method) {
            if !method(&sum.method).is_some_and(Method::needs_fuser) {
                continue;
            }
            if !methods.contains(&sum.method) {
                methods.push(sum.method.clone());
            }
            points.push(Point { run, accuracy: sum.accuracy(), method: sum.method });
        }
    }
    let what = |point: &Point<'_>| (point.run.fused.share(), point.run.fused.from());
    if points.windows(2).all(|pair| what(&pair[0]) == what(&pair[1])) {
        return Vec::new();
    }
    let place = |point: &Point<'_>| {
        let (share, from) = what(point);
        let end = match from {
            None if share == 0.0 => 0,
            Some(FusedFrom::Front) => 1,
            Some(FusedFrom::Back) => 2,
            None => 3,
        };
        (methods.iter().position(|method| *method == point.method), end)
    };
    points.sort_by(|a, b| place(a).cmp(&place(b)).then(what(a).0.total_cmp(&what(b).0)));
    points
}

fn method(name: &str) -> Option<Method> {
    serde_json::from_value(Value::from(name)).ok()
}

pub(super) fn fused_share(report: &Report) -> Table {
    let about = "Runs that fuse different shares of their prompts. `share` of the tokens that would be fused were, the first ones or the \
                 last ones; `fused_tokens` is how many that were in the mean, where the records say it. `low` and `high` as in the table of \
                 accuracies.";
    let columns = [
        ("method", Kind::Text),
        ("from", Kind::Text),
        ("share", Kind::Share),
        ("fused_tokens", Kind::Number),
        ("n", Kind::Count),
        ("accuracy", Kind::Share),
        ("low", Kind::Share),
        ("high", Kind::Share),
    ];
    let mut table = table("fused_share", "Accuracy by the share that is fused", about, &columns);
    for Point { run, method, accuracy } in points(report) {
        let fused = &run.fused;
        let cells = [
            method.as_str().into(),
            fused.from().map(FusedFrom::as_str).into(),
            fused.share().into(),
            fused.tokens.get(&method).copied().into(),
            accuracy.total.into(),
            accuracy.accuracy.into(),
            accuracy.low.into(),
            accuracy.high.into(),
        ];
        table.rows.push(row(run, cells));
    }
    table
}

/// A note on each run that fused a part, where no table tells it.
pub(super) fn notes(report: &Report) -> Vec<String> {
    if !points(report).is_empty() {
        return Vec::new();
    }
    let note = |run: &RunData| Some(format!("{}: fused in part: {}", run.name, run.fused.words()?));
    report.runs().iter().filter_map(note).collect()
}
