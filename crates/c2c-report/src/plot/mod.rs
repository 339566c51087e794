//! The plots of a report, as SVG.
//!
//! Made to be read by everyone: colours of the Okabe-Ito palette, which colour-blind readers tell apart; a shape of its own
//! for each method, so that colour is never needed; a title and a description for screen readers. What doesn't fit is
//! left out of a plot and its number said in it.

mod answers;
mod caches;
mod canvas;
mod forest;
mod gates;
mod heads;
pub(crate) mod routing;
mod scatter;
mod shares;
mod training;

use crate::ReportError;
use crate::report::{By, Report, RunData};
use crate::report::{fused, sums, tables};
pub use caches::{CacheOf, CachePanel, cache_maps};
use canvas::{Mark, mark_of};
use forest::{Forest, Row};
pub use heads::{HeadPanel, HeadRow, head_fields};

/// A plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plot {
    /// The name of its file.
    pub file: &'static str,
    /// Its heading.
    pub title: String,
    /// The file's contents.
    pub svg: String,
}

/// All plots that have something to show.
pub(crate) fn all(report: &Report) -> Result<Vec<Plot>, ReportError> {
    let mut plots = Vec::new();
    let mut add = |file: &'static str, title: &str, svg: Option<String>| {
        plots.extend(svg.map(|svg| Plot { file, title: title.to_owned(), svg }));
    };
    add("accuracy.svg", "Accuracy", accuracy(report)?);
    add("differences.svg", "Paired differences between methods", differences(report)?);
    add("across_runs.svg", "Paired differences from the baseline", across(report)?);
    add("accuracy_against_ms.svg", "Accuracy against milliseconds", scatter::draw(&sums::trades(report))?);
    add("fused_share.svg", "Accuracy by the share that is fused", shares::draw(&fused::points(report))?);
    add("answers.svg", "Answers", answers::draw(report.runs())?);
    add("training.svg", "Training", training::draw(report.runs())?);
    add("gates.svg", "Gates by layer", gates::draw(report.runs())?);
    Ok(plots)
}

/// A run as a plot names it.
fn label(run: &RunData) -> String {
    if run.partial.is_empty() { run.name.clone() } else { format!("{} ({})", run.name, tables::PARTIAL) }
}

fn accuracy(report: &Report) -> Result<Option<String>, ReportError> {
    let mut rows = Vec::new();
    for run in report.runs() {
        let sums = sums::sums(run, By::Benchmark);
        let several = sums.iter().any(|sum| sum.benchmark != sums[0].benchmark);
        for sum in sums {
            let accuracy = sum.accuracy();
            let benchmark = sum.benchmark.filter(|_| several).map_or_else(String::new, |name| format!(" on {name}"));
            rows.push(Row {
                group: label(run),
                label: format!("{}{benchmark}", sum.method),
                mark: mark_of(&sum.method),
                value: 100.0 * accuracy.accuracy,
                ends: (100.0 * accuracy.low, 100.0 * accuracy.high),
            });
        }
    }
    // What the numbers are depends on how answers are scored.
    let (graded, exact) = report.runs().iter().fold((false, false), |(graded, exact), run| {
        (graded || run.graded > 0, exact || run.graded < run.gold.values().sum::<usize>())
    });
    let axis = match (graded, exact) {
        (false, _) => "right answers, %, with Wilson's 95 % interval",
        (true, false) => "mean score, %, with the 95 % interval of the bootstrap",
        (true, true) => "right answers or mean score, %, with the 95 % interval (Wilson's or the bootstrap's)",
    };
    let forest = Forest { title: "Accuracy", axis, range: Some((0.0, 100.0)), zero: false, signed: false };
    forest.draw(&rows)
}

fn differences(report: &Report) -> Result<Option<String>, ReportError> {
    let rows = report.runs().iter().flat_map(|run| {
        run.pairs.iter().map(|pair| {
            let label_of = format!("{} less {}", pair.first, pair.second);
            paired_row(label(run), label_of, mark_of(&pair.second), &pair.paired)
        })
    });
    let forest = Forest {
        title: "Paired differences between methods",
        axis: "difference of accuracies, points, with the 95 % interval of the paired bootstrap",
        range: None,
        zero: true,
        signed: true,
    };
    forest.draw(&rows.collect::<Vec<_>>())
}

fn across(report: &Report) -> Result<Option<String>, ReportError> {
    let rows = report.runs().iter().flat_map(|run| {
        let row =
            |pair: &crate::report::Pair| paired_row(label(run), pair.first.clone(), mark_of(&pair.first), &pair.paired);
        run.across.iter().map(row)
    });
    let axis = format!("difference from {}, points, with the 95 % interval of the paired bootstrap", report.baseline());
    let forest =
        Forest { title: "Paired differences from the baseline", axis: &axis, range: None, zero: true, signed: true };
    forest.draw(&rows.collect::<Vec<_>>())
}

fn paired_row(group: String, label: String, mark: Mark, paired: &c2c_eval::stats::PairedDifference) -> Row {
    Row { group, label, mark, value: 100.0 * paired.difference, ends: (100.0 * paired.low, 100.0 * paired.high) }
}
