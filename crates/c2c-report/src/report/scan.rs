//! One run, scanned lazily and reduced to what reports need.
//!
//! Only the columns that a report reads leave the file, and only the rows that pass the filter. What is kept of a run
//! is counts: its size doesn't depend on how many questions there were, but for the failed ones, for graded scores, and
//! for the run that the others are compared with.

use std::collections::BTreeMap;

use c2c_data::Scorer;
use c2c_eval::{Phases, check_records_format};
use polars::prelude::{
    DataFrame, DataType, Expr, IntoLazy, LazyFrame, NULL, PlRefPath, PolarsResult, ScanArgsParquet, col, len, lit,
};

use super::answers::{Answers, Failure, Pair, Texts};
use super::curve::Curve;
use super::fused::Fused;
use super::gates::Gates;
use super::lengths::{self, Binned};
use super::sums::{Sum, Told, shared};
use super::{By, Filter, Options};
use crate::ReportError;
use crate::run::{ENVIRONMENT, GATES, METRICS, RECORDS, RunFiles};

/// The columns that are read, before those of the parts of the time and, if they are asked for, of lengths.
const COLUMNS: [&str; 11] = [
    "method",
    "benchmark",
    "subject",
    "question_id",
    "gold",
    "answer",
    "correct",
    "error",
    "milliseconds",
    "scorer",
    "score",
];

/// The column that only records of prompts in part have.
pub(super) const FUSED_TOKENS: &str = "fused_tokens";

/// Counts of one method, benchmark and subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub method: String,
    pub benchmark: String,
    pub subject: Option<String>,
    pub n: usize,
    pub correct: usize,
    pub failed: usize,
    /// All scores, if any is between 0 and 1; else the counts say everything.
    pub scores: Vec<f64>,
    /// Sums of the whole time and its parts.
    pub milliseconds: f64,
    pub phases: Phases,
}

/// What is kept of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunData {
    pub name: String,
    /// Why it is no figure of whole benchmarks; empty if it is.
    pub partial: Vec<String>,
    pub device: Option<String>,
    /// In the order in which they answered.
    pub methods: Vec<String>,
    pub groups: Vec<Group>,
    /// The groups by method.
    pub by_method: Vec<Sum>,
    /// The groups by method and benchmark.
    pub by_benchmark: Vec<Sum>,
    /// Their averages, one each.
    pub told: Vec<Told>,
    /// Answers by method and letter.
    pub answers: BTreeMap<String, BTreeMap<String, usize>>,
    /// Right answers by letter.
    pub gold: BTreeMap<String, usize>,
    /// Methods against each other.
    pub pairs: Vec<Pair>,
    /// Each method against the same one of the baseline.
    pub across: Vec<Pair>,
    /// Why there is no comparison with the baseline.
    pub across_note: Option<String>,
    pub failures: Vec<Failure>,
    /// Questions whose answers are graded, not just right or wrong.
    pub graded: usize,
    pub curve: Option<Curve>,
    pub gates: Option<Gates>,
    /// How much of prompts was fused.
    pub fused: Fused,
    /// Accuracies by length, if they were asked for.
    pub lengths: Vec<Binned>,
}

/// Reads a run. `baseline` holds the answers of the run it is to be compared with.
pub(crate) fn scan(
    run: &RunFiles,
    name: &str,
    options: &Options,
    baseline: Option<&Answers>,
) -> Result<(RunData, Answers), ReportError> {
    let summary = run.summary()?;
    let path = run.path(RECORDS);
    let curve = Curve::read(&run.path(METRICS))?;
    let gates = Gates::read(&run.path(GATES))?;
    let environment = run.json(ENVIRONMENT).ok();
    let device = environment.and_then(|facts| Some(facts.get("device")?.as_str()?.to_owned()));
    let asked = match run.asked(&summary) {
        // Its training can be shown all the same.
        Err(ReportError::NoEvaluation { .. }) if curve.is_some() && !path.is_file() => {
            let data = RunData { name: name.to_owned(), device, curve, gates, ..RunData::default() };
            return Ok((data, Answers::default()));
        }
        asked => asked?,
    };
    if !path.is_file() {
        return Err(ReportError::NoEvaluation { path: run.dir.clone(), missing: RECORDS });
    }
    check_records_format(&path)?;
    let read = |err: &dyn std::fmt::Display| ReportError::Read { path: path.clone(), reason: err.to_string() };
    let more: &[&str] = if options.by == By::Length { &lengths::COLUMNS } else { &[] };
    let frame = records(&path, &options.filter, more).map_err(|err| read(&err))?;
    if frame.height() == 0 {
        return Err(ReportError::NothingLeft { path: run.dir.clone() });
    }
    let groups = groups(&frame).map_err(|err| read(&err))?;
    let texts = Texts::of(&frame).map_err(|err| read(&err))?;
    let answers = texts.answers();
    let mut methods: Vec<String> = Vec::new();
    for group in &groups {
        if !methods.contains(&group.method) {
            methods.push(group.method.clone());
        }
    }
    let (across, across_note) = match baseline.map(|baseline| answers.against(baseline)) {
        None => (Vec::new(), None),
        Some(Ok(pairs)) => (pairs, None),
        Some(Err(reason)) => (Vec::new(), Some(reason)),
    };
    let (by_method, by_benchmark, told) = shared(&groups);
    let lengths = match options.by {
        By::Length => lengths::binned(&frame, &answers, &methods).map_err(|err| read(&err))?,
        _ => Vec::new(),
    };
    let data = RunData {
        name: name.to_owned(),
        by_method,
        by_benchmark,
        told,
        partial: asked.partial_because.clone(),
        device,
        groups,
        answers: texts.count("answer"),
        gold: texts.gold(),
        pairs: answers.within(&methods),
        across,
        across_note,
        failures: texts.failures(),
        fused: Fused::of(&summary, &asked, &frame).map_err(|err| read(&err))?,
        graded: answers.graded(),
        curve,
        gates,
        lengths,
        methods,
    };
    Ok((data, answers))
}

fn records(path: &std::path::Path, filter: &Filter, more: &[&str]) -> PolarsResult<DataFrame> {
    let path = PlRefPath::try_from_path(path)?;
    let columns = COLUMNS.iter().chain(&Phases::NAMES).chain(&[FUSED_TOKENS]).chain(more);
    let columns: Vec<Expr> = columns.map(|name| col(*name)).collect();
    let args = ScanArgsParquet { glob: false, ..Default::default() };
    let mut lazy = LazyFrame::scan_parquet(path, args)?;
    // Version 2 of the records knows right and wrong letters only.
    if !lazy.collect_schema()?.contains("score") {
        let of_letters =
            [lit(Scorer::Letter.name()).alias("scorer"), col("correct").cast(DataType::Float64).alias("score")];
        lazy = lazy.with_columns(of_letters);
    }
    // Records of whole prompts don't say how much of them was fused.
    if !lazy.collect_schema()?.contains(FUSED_TOKENS) {
        lazy = lazy.with_column(lit(NULL).cast(DataType::UInt32).alias(FUSED_TOKENS));
    }
    let mut lazy = lazy.select(columns);
    for (name, wanted) in
        [("method", &filter.methods), ("benchmark", &filter.benchmarks), ("subject", &filter.subjects)]
    {
        let any = wanted.iter().map(|value| col(name).eq(lit(value.as_str()))).reduce(|a, b| a.or(b));
        if let Some(any) = any {
            lazy = lazy.filter(any);
        }
    }
    lazy.collect()
}

/// Counts by method, benchmark and subject, in the order of the records. Coarser ones are sums of these.
fn groups(frame: &DataFrame) -> PolarsResult<Vec<Group>> {
    let keys = ["method", "benchmark", "subject"].map(col);
    let mut values = vec![
        len().cast(DataType::UInt32).alias("n"),
        col("correct").sum().cast(DataType::UInt32).alias("right"),
        col("error").is_not_null().sum().cast(DataType::UInt32).alias("failed"),
        col("milliseconds").sum(),
        col("score"),
    ];
    values.extend(Phases::NAMES.map(|name| col(name).sum()));
    let frame = frame.clone().lazy().group_by_stable(keys).agg(values).collect()?;
    let text = |name: &str| -> PolarsResult<Vec<Option<String>>> {
        Ok(frame.column(name)?.str()?.iter().map(|text| text.map(str::to_owned)).collect())
    };
    let count = |name: &str| -> PolarsResult<Vec<usize>> {
        Ok(frame.column(name)?.u32()?.iter().map(|count| count.unwrap_or(0) as usize).collect())
    };
    let time = |name: &str| -> PolarsResult<Vec<f64>> {
        Ok(frame.column(name)?.f64()?.iter().map(|time| time.unwrap_or(0.0)).collect())
    };
    let (methods, benchmarks, subjects) = (text("method")?, text("benchmark")?, text("subject")?);
    let (n, right, failed, milliseconds) = (count("n")?, count("right")?, count("failed")?, time("milliseconds")?);
    let parts = Phases::NAMES.iter().map(|name| time(name)).collect::<PolarsResult<Vec<_>>>()?;
    let scores = frame.column("score")?.list()?;
    let graded = |row: usize| -> PolarsResult<Vec<f64>> {
        let Some(series) = scores.get_as_series(row) else { return Ok(Vec::new()) };
        let scores: Vec<f64> = series.f64()?.iter().map(|score| score.unwrap_or(0.0)).collect();
        let plain = scores.iter().all(|score| *score == 0.0 || *score == 1.0);
        Ok(if plain { Vec::new() } else { scores })
    };
    let graded = (0..frame.height()).map(graded).collect::<PolarsResult<Vec<_>>>()?;
    let group = |row: usize| Group {
        method: methods[row].clone().unwrap_or_default(),
        benchmark: benchmarks[row].clone().unwrap_or_default(),
        subject: subjects[row].clone(),
        n: n[row],
        correct: right[row],
        failed: failed[row],
        scores: graded[row].clone(),
        milliseconds: milliseconds[row],
        phases: Phases::from_values(std::array::from_fn(|part| parts[part][row])),
    };
    Ok((0..frame.height()).map(group).collect())
}
