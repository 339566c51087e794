//! Counts put together, as coarse as a table or a plot wants them.

use c2c_eval::Phases;
use c2c_eval::stats::Accuracy;

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
    milliseconds: f64,
    phases: Phases,
}

impl Sum {
    pub(crate) fn accuracy(&self) -> Accuracy {
        Accuracy::new(self.correct, self.n)
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

/// The counts of a run, as fine as asked for, in the order of its records.
pub(crate) fn sums(run: &RunData, by: By) -> Vec<Sum> {
    let mut sums: Vec<Sum> = Vec::new();
    for group in &run.groups {
        let benchmark = (by != By::Method).then(|| group.benchmark.clone());
        let subject = if by == By::Subject { group.subject.clone() } else { None };
        let same = |sum: &Sum| sum.method == group.method && sum.benchmark == benchmark && sum.subject == subject;
        let place = sums.iter().rposition(same).unwrap_or_else(|| {
            sums.push(Sum { method: group.method.clone(), benchmark, subject, ..Sum::default() });
            sums.len() - 1
        });
        let sum = &mut sums[place];
        sum.n += group.n;
        sum.correct += group.correct;
        sum.failed += group.failed;
        sum.milliseconds += group.milliseconds;
        sum.phases = [sum.phases, group.phases].into_iter().sum();
    }
    sums
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
