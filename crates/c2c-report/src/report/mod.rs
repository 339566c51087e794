//! Any number of runs, read and compared.

mod answers;
mod benchmarks;
mod curve;
pub(crate) mod fused;
mod gates;
mod lengths;
mod names;
mod scan;
pub(crate) mod sums;
pub(crate) mod tables;
mod write;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use c2c_eval::Phases;

use crate::run::RunFiles;
use crate::{ReportError, Table};
pub(crate) use answers::Pair;
pub(crate) use curve::Curve;
pub(crate) use gates::Gates;
pub(crate) use scan::RunData;

/// How fine the table of accuracies is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// A row a run and method.
    Method,
    /// A row a run, method and benchmark.
    #[default]
    Benchmark,
    /// A row a run, method, benchmark and subject.
    Subject,
    /// A row a run, benchmark, bin of lengths and method; the lengths are read for it alone.
    Length,
}

/// Which records count; an empty list takes all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Methods.
    pub methods: Vec<String>,
    /// Benchmarks.
    pub benchmarks: Vec<String>,
    /// Subjects.
    pub subjects: Vec<String>,
}

/// How a report is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How fine the table of accuracies is.
    pub by: By,
    /// Which records count.
    pub filter: Filter,
    /// The run that the others are compared with; the first one if none is named.
    pub baseline: Option<String>,
}

/// A run that is not in the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub name: String,
    pub path: PathBuf,
    pub reason: String,
    /// It can be read, but the filters leave none of its records.
    pub filtered: bool,
}

/// Runs, read and reduced to what tables and plots show.
#[derive(Debug)]
pub struct Report {
    runs: Vec<RunData>,
    broken: Vec<Broken>,
    baseline: String,
    by: By,
    filter: Filter,
}

impl Report {
    /// Reads the runs. Those that can't be read are kept aside with the reason.
    ///
    /// # Errors
    ///
    /// No run that can be read; a baseline that isn't among the runs, or can't be read itself.
    pub fn new(runs: &[RunFiles], options: &Options) -> Result<Self, ReportError> {
        let names = names::unique(runs);
        let first = baseline(runs, &names, options)?;
        let scanned = |place: usize, baseline: Option<&answers::Answers>| {
            scan::scan(&runs[place], &names[place], options, baseline)
        };
        let broken = |place: usize, error: ReportError| Broken {
            name: names[place].clone(),
            path: runs[place].dir.clone(),
            filtered: matches!(error, ReportError::NothingLeft { .. }),
            reason: error.to_string(),
        };

        // Without a baseline of choice, the first run with an evaluation is it.
        let mut faults: HashMap<usize, Broken> = HashMap::new();
        let mut base = None;
        let mut only_trained = None;
        for place in first.map_or(0..runs.len(), |place| place..place + 1) {
            match scanned(place, None) {
                Ok((data, answers)) if answers.is_empty() => {
                    only_trained.get_or_insert((place, data, answers));
                }
                Ok((data, answers)) => {
                    base = Some((place, data, answers));
                    break;
                }
                Err(error) if first.is_some() => return Err(error),
                Err(error) => {
                    faults.insert(place, broken(place, error));
                }
            }
        }
        let Some((base_place, base_data, base_answers)) = base.or(only_trained) else {
            if faults.values().all(|fault| fault.filtered) {
                return Err(ReportError::AllFiltered { count: runs.len() });
            }
            let mut faults: Vec<(usize, Broken)> = faults.into_iter().collect();
            faults.sort_by_key(|(place, _)| *place);
            let reasons =
                faults.iter().map(|(_, fault)| format!("  {}: {}", fault.name, fault.reason)).collect::<Vec<_>>();
            return Err(ReportError::NothingToReport { count: runs.len(), reasons: reasons.join("\n") });
        };
        let outcomes = in_parallel(runs.len(), |place| {
            if place == base_place {
                return Ok(base_data.clone());
            }
            if let Some(fault) = faults.get(&place) {
                return Err(fault.clone());
            }
            scanned(place, Some(&base_answers)).map(|(data, _)| data).map_err(|error| broken(place, error))
        });
        let mut report = Self {
            runs: Vec::new(),
            broken: Vec::new(),
            baseline: names[base_place].clone(),
            by: options.by,
            filter: options.filter.clone(),
        };
        for outcome in outcomes {
            match outcome {
                Ok(run) => report.runs.push(run),
                Err(fault) => report.broken.push(fault),
            }
        }
        Ok(report)
    }

    /// All tables that have something to tell, as a reader wants them: runs by short names, and without columns that say the
    /// same in every row.
    pub fn tables(&self) -> Vec<Table> {
        let mut can_go = vec!["baseline", "benchmark", "subject"];
        // These say something even where they say the same in every row of a table.
        for (column, needed) in [
            ("run", self.runs.len() > 1),
            ("partial", self.runs.iter().any(|run| !run.partial.is_empty())),
            ("failed", self.runs.iter().any(|run| !run.failures.is_empty())),
        ] {
            can_go.extend((!needed).then_some(column));
        }
        let names: Vec<String> = self.runs.iter().map(|run| run.name.clone()).collect();
        let short: HashMap<&String, String> = names.iter().zip(names::short(&names)).collect();
        let narrow = |table: Table| {
            let table = table.without_constant(&can_go).without_empty(&benchmarks::MEANS).without_zeros(&Phases::NAMES);
            table.renamed(&["run", "baseline"], &short)
        };
        tables::all(self, self.by).into_iter().map(narrow).collect()
    }

    /// The same tables with all their columns, for programs.
    pub fn full_tables(&self) -> Vec<Table> {
        tables::all(self, self.by)
    }

    /// What a reader has to be told besides the tables: which results are PARTIAL, what was filtered, which runs are
    /// broken. A line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for run in self.runs.iter().filter(|run| !run.partial.is_empty()) {
            let reasons = run.partial.join(", ");
            notes.push(format!("PARTIAL: {}: {reasons}; these are no figures of the whole set", run.name));
        }
        let filters = [
            ("method", &self.filter.methods),
            ("benchmark", &self.filter.benchmarks),
            ("subject", &self.filter.subjects),
        ];
        for (key, values) in filters.iter().filter(|(_, values)| !values.is_empty()) {
            notes.push(format!("only records of {key} {}", values.join(", ")));
        }
        notes.extend(fused::notes(self));
        for run in &self.runs {
            if run.methods.is_empty() {
                notes.push(format!("{} has no evaluation: only its training is shown", run.name));
            }
            if let Some(reason) = &run.across_note {
                notes.push(format!("{} is not compared with {}: {reason}", run.name, self.baseline));
            }
            if self.by == By::Length && run.lengths.is_empty() && !run.methods.is_empty() {
                let least = 2 * lengths::QUESTIONS;
                notes.push(format!(
                    "{} has no accuracy by length: no benchmark of it has {least} answered questions in bins of different length",
                    run.name
                ));
            }
            if run.graded > 0 && run.methods.len() > 1 {
                notes.push(format!(
                    "{}: the overlap is of answers that are right or wrong; its {} graded questions aren't in it",
                    run.name, run.graded
                ));
            }
        }
        for run in self.broken.iter().filter(|run| run.filtered) {
            notes.push(format!("{} is in no table: none of its records passes the filters", run.name));
        }
        for run in self.broken.iter().filter(|run| !run.filtered) {
            notes.push(format!("BROKEN, in no table: {} ({}): {}", run.name, run.path.display(), run.reason));
        }
        notes
    }

    pub(crate) fn runs(&self) -> &[RunData] {
        &self.runs
    }

    /// The name of the run that the others are compared with.
    pub fn baseline(&self) -> &str {
        &self.baseline
    }
}

fn baseline(runs: &[RunFiles], names: &[String], options: &Options) -> Result<Option<usize>, ReportError> {
    let Some(wanted) = &options.baseline else { return Ok(None) };
    let place = names.iter().position(|name| name == wanted);
    let place = place.or_else(|| runs.iter().position(|run| run.dir == std::path::Path::new(wanted)));
    let place = place.or_else(|| names::short(names).iter().position(|name| name == wanted));
    let known = || names.join(", ");
    place.map(Some).ok_or_else(|| ReportError::NoBaseline { found: wanted.clone(), known: known() })
}

/// `task` of each place, by as many threads as there are cores, in the order of the places.
///
/// Threads of our own: a worker of a rayon pool that waits for Polars' pool takes up the next run meanwhile, and so on
/// until its stack is full.
fn in_parallel<T: Send>(places: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(places.max(1));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(places));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= places {
                        break;
                    }
                    let outcome = task(place);
                    // A thread that panics ends the scope with its panic; the results of the others are of no use then.
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((place, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
