//! Counts put together, as coarse as a table or a plot wants them.

use c2c_eval::stats::Accuracy;
use c2c_eval::{Average, Averages, Phases};

use super::scan::Group;
use super::{By, Report, RunData};
use crate::Cell;

/// Counts that belong in one row, whatever they were counted by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sum {
    pub method: String,
    pub benchmark: Option<String>,
    pub subject: Option<String>,
    pub n: usize,
    pub correct: usize,
    pub failed: usize,
    /// The share of right answers; with graded ones the mean score.
    accuracy: Option<Accuracy>,
    milliseconds: f64,
    phases: Phases,
}

impl Sum {
    /// The share of right answers; with graded ones the mean score.
    pub(crate) fn accuracy(&self) -> Accuracy {
        self.accuracy.unwrap_or_else(|| Accuracy::new(self.correct, self.n))
    }

    fn add(&mut self, group: &Group) {
        self.n += group.n;
        self.correct += group.correct;
        self.failed += group.failed;
        self.milliseconds += group.milliseconds;
        self.phases = [self.phases, group.phases].into_iter().sum();
    }

    /// Mean over the questions that were answered, as in a run's own summary; none if there were none.
    pub(crate) fn ms(&self) -> Option<f64> {
        let answered = self.n - self.failed;
        (answered > 0).then(|| self.milliseconds / answered as f64)
    }

    pub(super) fn parts(&self) -> [Cell; 5] {
        let answered = self.n - self.failed;
        self.phases.values().map(|part| (answered > 0).then(|| part / answered as f64).into())
    }
}

/// Right and wrong answers as scores.
fn counted(correct: usize, n: usize) -> Vec<f64> {
    (0..n).map(|place| if place < correct { 1.0 } else { 0.0 }).collect()
}

/// The counts of a run, as fine as asked for, in the order of its records.
pub(crate) fn sums(run: &RunData, by: By) -> Vec<Sum> {
    match by {
        // Accuracies by length aren't sums of groups; the rest of a report is told by method then.
        By::Method | By::Length => run.by_method.clone(),
        By::Benchmark => run.by_benchmark.clone(),
        By::Subject => sums_of(&run.groups, by),
    }
}

/// What tables and plots have in common, made once for all: intervals of graded scores take their time.
pub(super) fn shared(groups: &[Group]) -> (Vec<Sum>, Vec<Sum>, Vec<Told>) {
    let told = told_of(groups);
    // Both stand in the order of the records.
    let with_average =
        |((sum, _), told): ((Sum, Vec<&Group>), &Told)| Sum { accuracy: Some(told.averages.all.micro), ..sum };
    let by_benchmark: Vec<Sum> = counted_by(groups, By::Benchmark).into_iter().zip(&told).map(with_average).collect();
    let one_each = by_benchmark.iter().all(|sum| sum.benchmark == by_benchmark[0].benchmark);
    let by_method = if one_each {
        by_benchmark.iter().map(|sum| Sum { benchmark: None, ..sum.clone() }).collect()
    } else {
        sums_of(groups, By::Method)
    };
    (by_method, by_benchmark, told)
}

fn sums_of(groups: &[Group], by: By) -> Vec<Sum> {
    let with_accuracy = |(sum, groups): (Sum, Vec<&Group>)| {
        let graded = groups.iter().any(|group| !group.scores.is_empty());
        let all = || groups.iter().flat_map(|group| scores(group)).collect::<Vec<f64>>();
        Sum { accuracy: graded.then(|| Accuracy::of_scores(&all())), ..sum }
    };
    counted_by(groups, by).into_iter().map(with_accuracy).collect()
}

/// Counts that belong together, with what they are of.
fn counted_by(groups: &[Group], by: By) -> Vec<(Sum, Vec<&Group>)> {
    let mut sums: Vec<(Sum, Vec<&Group>)> = Vec::new();
    for group in groups {
        let benchmark = (by != By::Method).then(|| group.benchmark.clone());
        let subject = if by == By::Subject { group.subject.clone() } else { None };
        let same = |(sum, _): &(Sum, Vec<&Group>)| {
            sum.method == group.method && sum.benchmark == benchmark && sum.subject == subject
        };
        let place = sums.iter().rposition(same).unwrap_or_else(|| {
            sums.push((Sum { method: group.method.clone(), benchmark, subject, ..Sum::default() }, Vec::new()));
            sums.len() - 1
        });
        sums[place].0.add(group);
        sums[place].1.push(group);
    }
    sums
}

/// The scores of a group.
fn scores(group: &Group) -> Vec<f64> {
    match group.scores.is_empty() {
        true => counted(group.correct, group.n),
        false => group.scores.clone(),
    }
}

/// A method of a run on a benchmark, with the averages in which benchmarks are told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub method: String,
    pub benchmark: String,
    pub averages: Averages,
}

impl Told {
    /// The macro average; none where it is the mean of one subject.
    pub(crate) fn mean_of_subjects(average: &Average) -> Option<f64> {
        (average.subjects > 1).then_some(average.macro_)
    }
}

/// The averages of a run by method and benchmark, in the order of its records.
fn told_of(groups: &[Group]) -> Vec<Told> {
    let told = |(sum, of): (Sum, Vec<&Group>)| {
        let all = of.iter().flat_map(|group| scores(group).into_iter().map(|score| (group.subject.as_deref(), score)));
        let benchmark = sum.benchmark.unwrap_or_default();
        Told { averages: Averages::of(&benchmark, all), method: sum.method, benchmark }
    };
    counted_by(groups, By::Benchmark).into_iter().map(told).collect()
}

/// A method of a run with what it reaches and what it takes.
pub(crate) struct Trade<'a> {
    pub run: &'a RunData,
    pub sum: Sum,
    pub ms: f64,
    /// No other is at least as accurate in less time.
    pub best: bool,
}

/// All methods of all runs, fastest first.
pub(crate) fn trades(report: &Report) -> Vec<Trade<'_>> {
    let mut trades: Vec<Trade<'_>> = report
        .runs
        .iter()
        .flat_map(|run| sums(run, By::Method).into_iter().map(move |sum| (run, sum)))
        .filter_map(|(run, sum)| Some(Trade { ms: sum.ms()?, run, sum, best: false }))
        .collect();
    // The more accurate one of equally fast ones first, so that the other is not taken for better.
    let accuracy = |trade: &Trade<'_>| trade.sum.accuracy().accuracy;
    trades.sort_by(|a, b| a.ms.total_cmp(&b.ms).then(accuracy(b).total_cmp(&accuracy(a))));
    let mut reached = f64::NEG_INFINITY;
    for trade in &mut trades {
        let found = trade.sum.accuracy().accuracy;
        trade.best = found > reached;
        reached = reached.max(found);
    }
    trades
}
