//! One run, scanned lazily and reduced to what reports need.
//!
//! Only the columns that a report reads leave the file, and only the rows that pass the filter. What is kept of a run is
//! counts: its size doesn't depend on how many questions there were, but for the failed ones, and for the run that the
//! others are compared with.

use std::collections::{BTreeMap, HashMap};

use c2c_eval::stats::{Overlap, PairedDifference};
use c2c_eval::{NO_ANSWER, Phases, check_records_format};
use polars::prelude::{
    Column, DataFrame, DataType, Expr, IntoLazy, LazyFrame, PlRefPath, PolarsResult, ScanArgsParquet, col, len, lit,
};

use super::curve::Curve;
use super::{Filter, Options};
use crate::ReportError;
use crate::run::{ENVIRONMENT, METRICS, RECORDS, RunFiles, SUMMARY};

/// The columns that are read, before those of the parts of the time.
const COLUMNS: [&str; 9] =
    ["method", "benchmark", "subject", "question_id", "gold", "answer", "correct", "error", "milliseconds"];

/// Counts of one method, benchmark and subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub method: String,
    pub benchmark: String,
    pub subject: Option<String>,
    pub n: usize,
    pub correct: usize,
    pub failed: usize,
    /// Sums of the whole time and its parts.
    pub milliseconds: f64,
    pub phases: Phases,
}

/// Two methods, or one method in two runs, on the same questions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub first: String,
    pub second: String,
    pub overlap: Overlap,
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

/// What is kept of a run.
#[derive(Debug, Clone)]
pub(crate) struct RunData {
    pub name: String,
    /// Why it is no figure of whole benchmarks; empty if it is.
    pub partial: Vec<String>,
    pub device: Option<String>,
    /// In the order in which they answered.
    pub methods: Vec<String>,
    pub groups: Vec<Group>,
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
    pub curve: Option<Curve>,
}

/// Which questions a run's methods answered right, question by question.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Benchmark and identifier.
    places: HashMap<(String, String), usize>,
    gold: Vec<String>,
    /// By method: right, wrong, or not asked.
    right: Vec<(String, Vec<Option<bool>>)>,
}

/// Reads a run. `baseline` holds the answers of the run it is to be compared with.
pub(crate) fn scan(
    run: &RunFiles,
    name: &str,
    options: &Options,
    baseline: Option<&Answers>,
) -> Result<(RunData, Answers), ReportError> {
    let summary = run.json(SUMMARY)?;
    let asked = run.asked(&summary)?;
    let path = run.path(RECORDS);
    if !path.is_file() {
        return Err(ReportError::NoEvaluation { path: run.dir.clone(), missing: RECORDS });
    }
    check_records_format(&path)?;
    let read = |err: &dyn std::fmt::Display| ReportError::Read { path: path.clone(), reason: err.to_string() };
    let frame = records(&path, &options.filter).map_err(|err| read(&err))?;
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
    let environment = run.json(ENVIRONMENT).ok();
    let data = RunData {
        name: name.to_owned(),
        partial: asked.partial_because.clone(),
        device: environment.and_then(|facts| Some(facts.get("device")?.as_str()?.to_owned())),
        groups,
        answers: texts.count("answer"),
        gold: texts.gold(),
        pairs: answers.within(&methods),
        across,
        across_note,
        failures: texts.failures(),
        curve: Curve::read(&run.path(METRICS))?,
        methods,
    };
    Ok((data, answers))
}

fn records(path: &std::path::Path, filter: &Filter) -> PolarsResult<DataFrame> {
    let path = PlRefPath::try_from_path(path)?;
    let columns: Vec<Expr> = COLUMNS.iter().chain(&Phases::NAMES).map(|name| col(*name)).collect();
    let args = ScanArgsParquet { glob: false, ..Default::default() };
    let mut lazy = LazyFrame::scan_parquet(path, args)?.select(columns);
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
    let group = |row: usize| Group {
        method: methods[row].clone().unwrap_or_default(),
        benchmark: benchmarks[row].clone().unwrap_or_default(),
        subject: subjects[row].clone(),
        n: n[row],
        correct: right[row],
        failed: failed[row],
        milliseconds: milliseconds[row],
        phases: Phases::from_values(std::array::from_fn(|part| parts[part][row])),
    };
    Ok((0..frame.height()).map(group).collect())
}

/// The columns that are read question by question.
struct Texts<'a> {
    columns: HashMap<&'static str, Vec<Option<&'a str>>>,
    correct: Vec<bool>,
}

impl<'a> Texts<'a> {
    fn of(frame: &'a DataFrame) -> PolarsResult<Self> {
        let mut columns = HashMap::new();
        for name in ["method", "benchmark", "question_id", "gold", "answer", "error"] {
            let column: &Column = frame.column(name)?;
            columns.insert(name, column.str()?.iter().collect());
        }
        let correct = frame.column("correct")?.bool()?.iter().map(|right| right.unwrap_or(false)).collect();
        Ok(Self { columns, correct })
    }

    fn get(&self, name: &'static str, row: usize) -> Option<&'a str> {
        self.columns.get(name).and_then(|column| column[row])
    }

    fn text(&self, name: &'static str, row: usize) -> &'a str {
        self.get(name, row).unwrap_or_default()
    }

    fn rows(&self) -> std::ops::Range<usize> {
        0..self.correct.len()
    }

    fn count(&self, name: &'static str) -> BTreeMap<String, BTreeMap<String, usize>> {
        let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for row in self.rows() {
            let value = self.get(name, row).unwrap_or(NO_ANSWER);
            *counts.entry(self.text("method", row)).or_default().entry(value).or_default() += 1;
        }
        let own = |counts: BTreeMap<&str, usize>| counts.into_iter().map(|(key, n)| (key.to_owned(), n)).collect();
        counts.into_iter().map(|(method, counts)| (method.to_owned(), own(counts))).collect()
    }

    /// Gold answers of the first method's questions, which are everyone's.
    fn gold(&self) -> BTreeMap<String, usize> {
        self.count("gold").remove(self.text("method", 0)).unwrap_or_default()
    }

    fn failures(&self) -> Vec<Failure> {
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

    fn answers(&self) -> Answers {
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let mut gold = Vec::new();
        let mut right: Vec<(String, Vec<Option<bool>>)> = Vec::new();
        for row in self.rows() {
            let key = (self.text("benchmark", row), self.text("question_id", row));
            let place = *places.entry(key).or_insert(gold.len());
            if place == gold.len() {
                gold.push(self.text("gold", row).to_owned());
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
            answers[place] = Some(self.correct[row]);
        }
        let places = places.into_iter().map(|((benchmark, id), place)| ((benchmark.to_owned(), id.to_owned()), place));
        Answers { places: places.collect(), gold, right }
    }
}

impl Answers {
    fn of(&self, method: &str) -> Option<&[Option<bool>]> {
        self.right.iter().find(|(name, _)| name == method).map(|(_, right)| right.as_slice())
    }

    /// C2C against every other method, then the others against each other, in the order given.
    fn within(&self, methods: &[String]) -> Vec<Pair> {
        let mut order: Vec<&String> = methods.iter().collect();
        order.sort_by_key(|method| *method != c2c_recipe::Method::C2c.as_str());
        let mut pairs = Vec::new();
        for (place, first) in order.iter().enumerate() {
            for second in &order[place + 1..] {
                let (Some(a), Some(b)) = (self.of(first), self.of(second)) else { continue };
                let both = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
                pairs.extend(pair(first, second, both));
            }
        }
        pairs
    }

    /// Each method against the same one of another run, on the questions that both have asked.
    fn against(&self, baseline: &Self) -> Result<Vec<Pair>, String> {
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
            let get = |answers: &[Option<bool>], place: usize| answers.get(place).copied().flatten();
            let both = shared.iter().filter_map(|(a, b)| Some((get(own, *a)?, get(other, *b)?)));
            pairs.extend(pair(method, method, both));
        }
        Ok(pairs)
    }
}

fn pair(first: &str, second: &str, answers: impl Iterator<Item = (bool, bool)>) -> Option<Pair> {
    let (a, b): (Vec<bool>, Vec<bool>) = answers.unzip();
    let overlap = Overlap::of(&a, &b).ok()?;
    // Without a question in common there is nothing to compare.
    let paired = overlap.paired().ok()?;
    Some(Pair { first: first.to_owned(), second: second.to_owned(), overlap, paired })
}
