//! The tables of a report.

use std::collections::BTreeSet;

use c2c_eval::{NO_ANSWER, Phases};

use super::benchmarks::{MEANS, categories, overview};
use super::fused::fused_share;
use super::gates;
use super::lengths::by_length;
use super::sums::{Told, sums, trades};
use super::{By, Pair, Report, RunData};
use crate::{Cell, Column, Kind, Table};

/// The mark of results that are no figures of whole benchmarks.
pub(crate) const PARTIAL: &str = "PARTIAL";

pub(super) fn all(report: &Report, by: By) -> Vec<Table> {
    let tables = [
        runs(report),
        accuracy(report, by),
        overview(report),
        categories(report),
        differences(report),
        across(report),
        overlap(report),
        answers(report),
        tradeoff(report),
        fused_share(report),
        failures(report),
        training(report),
        gates::table(report),
        broken(report),
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

fn mark(run: &RunData) -> Cell {
    if run.partial.is_empty() { Cell::Nothing } else { PARTIAL.into() }
}

pub(super) fn row<const N: usize>(run: &RunData, cells: [Cell; N]) -> Vec<Cell> {
    let mut row = vec![run.name.as_str().into(), mark(run)];
    row.extend(cells);
    row
}

const RUN: [(&str, Kind); 2] = [("run", Kind::Text), ("partial", Kind::Text)];

pub(super) fn table(name: &'static str, title: &str, about: &str, columns: &[(&str, Kind)]) -> Table {
    Table::new(name, title, about, &[&RUN, columns].concat())
}

fn runs(report: &Report) -> Table {
    let about = "The runs that were read. A run marked PARTIAL has left questions out for the reason given.";
    let columns = [
        ("questions", Kind::Count),
        ("methods", Kind::Text),
        ("benchmarks", Kind::Text),
        ("device", Kind::Text),
        ("left_out_by", Kind::Text),
    ];
    let mut table = table("runs", "Runs", about, &columns);
    for run in &report.runs {
        let benchmarks: BTreeSet<&str> = run.groups.iter().map(|group| group.benchmark.as_str()).collect();
        let left_out = (!run.partial.is_empty()).then(|| run.partial.join(", "));
        let cells = [
            run.gold.values().sum::<usize>().into(),
            run.methods.join(" ").into(),
            benchmarks.into_iter().collect::<Vec<_>>().join(" ").into(),
            run.device.clone().into(),
            left_out.into(),
        ];
        table.rows.push(row(run, cells));
    }
    table
}

pub(super) fn accuracy(report: &Report, by: By) -> Table {
    let (name, title) = match by {
        By::Method => ("accuracy_by_method", "Accuracy by method"),
        By::Benchmark => ("accuracy_by_benchmark", "Accuracy by method and benchmark"),
        By::Subject => ("accuracy_by_subject", "Accuracy by method, benchmark and subject"),
        By::Length => return by_length(report),
    };
    let about = "`low` and `high` are the ends of Wilson's 95 % interval. Of graded answers (LongBench) `accuracy` is the mean score, with a \
                 bootstrapped interval, and `correct` counts full scores. Failed questions count as wrong. Times are means over the \
                 questions that were answered; what the parts leave of `ms` went into putting batches together. `mean_of_subjects` counts \
                 each subject once (macro average), `mean_of_categories` each category once; `accuracy` counts each question once (micro \
                 average).";
    let mut columns = vec![("method", Kind::Text)];
    columns.extend((by != By::Method).then_some(("benchmark", Kind::Text)));
    columns.extend((by == By::Subject).then_some(("subject", Kind::Text)));
    let numbers = [("n", Kind::Count), ("correct", Kind::Count), ("failed", Kind::Count)];
    columns.extend(numbers.into_iter().chain(["accuracy", "low", "high"].map(|name| (name, Kind::Share))));
    if by == By::Benchmark {
        columns.extend(MEANS.map(|name| (name, Kind::Share)));
    }
    columns.push(("ms", Kind::Milliseconds));
    columns.extend(Phases::NAMES.map(|name| (name, Kind::Milliseconds)));
    let mut table = table(name, title, about, &columns);
    for run in &report.runs {
        let told = if by == By::Benchmark { &run.told[..] } else { &[] };
        for (place, sum) in sums(run, by).into_iter().enumerate() {
            let accuracy = sum.accuracy();
            let mut cells = row(run, [sum.method.as_str().into()]);
            cells.extend((by != By::Method).then(|| sum.benchmark.clone().into()));
            cells.extend((by == By::Subject).then(|| sum.subject.clone().into()));
            cells.extend([sum.n.into(), sum.correct.into(), sum.failed.into()]);
            cells.extend([accuracy.accuracy, accuracy.low, accuracy.high].map(Cell::from));
            // Both stand in the order of the records.
            cells.extend(told.get(place).into_iter().flat_map(|told| {
                [Told::mean_of_subjects(&told.averages.all), told.averages.mean_of_categories()].map(Cell::from)
            }));
            cells.push(sum.ms().into());
            cells.extend(sum.parts());
            table.rows.push(cells);
        }
    }
    table
}

const PAIRED: [(&str, Kind); 7] = [
    ("n", Kind::Count),
    ("points", Kind::Points),
    ("low", Kind::Points),
    ("high", Kind::Points),
    ("only_first", Kind::Count),
    ("only_second", Kind::Count),
    ("p", Kind::P),
];

fn paired(pair: &Pair) -> [Cell; 7] {
    let paired = &pair.paired;
    [
        paired.total.into(),
        paired.difference.into(),
        paired.low.into(),
        paired.high.into(),
        paired.only_first.into(),
        paired.only_second.into(),
        paired.p_value.into(),
    ]
}

fn differences(report: &Report) -> Table {
    let about = "Accuracy of the first method less that of the second, on the same questions, with the 95 % interval of the paired \
                 bootstrap; how many questions only one of them answered right (of graded answers, which one answered better); McNemar's exact \
                 two-sided p-value.";
    let columns = [&[("first", Kind::Text), ("second", Kind::Text)][..], &PAIRED].concat();
    let mut table = table("differences", "Paired differences between methods", about, &columns);
    for run in &report.runs {
        for pair in &run.pairs {
            let mut cells = row(run, [pair.first.as_str().into(), pair.second.as_str().into()]);
            cells.extend(paired(pair));
            table.rows.push(cells);
        }
    }
    table
}

fn across(report: &Report) -> Table {
    let about = "Accuracy of a run less that of the baseline by the same method, on the questions that both have asked. `first` is \
                 the run, `second` the baseline; otherwise as the differences between methods.";
    let columns = [&[("baseline", Kind::Text), ("method", Kind::Text)][..], &PAIRED].concat();
    let title = format!("Paired differences from the baseline, {}", report.baseline);
    let mut table = table("across_runs", &title, about, &columns);
    for run in &report.runs {
        for pair in &run.across {
            let mut cells = row(run, [report.baseline.as_str().into(), pair.first.as_str().into()]);
            cells.extend(paired(pair));
            table.rows.push(cells);
        }
    }
    table
}

fn overlap(report: &Report) -> Table {
    let about = "How two methods' right answers lie to each other; graded answers aren't in it. `either` is what an oracle would reach that always picked the \
                 method that is right.";
    let columns = [
        ("first", Kind::Text),
        ("second", Kind::Text),
        ("n", Kind::Count),
        ("both", Kind::Count),
        ("only_first", Kind::Count),
        ("only_second", Kind::Count),
        ("neither", Kind::Count),
        ("either", Kind::Share),
    ];
    let mut table = table("overlap", "Overlap of right answers", about, &columns);
    for run in &report.runs {
        for pair in &run.pairs {
            let Some(o) = pair.overlap else { continue };
            let counts = [o.total(), o.both, o.only_first, o.only_second, o.neither];
            let mut cells = row(run, [pair.first.as_str().into(), pair.second.as_str().into()]);
            cells.extend(counts.map(Cell::from));
            cells.push((o.either() as f64 / o.total() as f64).into());
            table.rows.push(cells);
        }
    }
    table
}

/// The letters that occur in any run, as answers or as gold, then that of no answer.
pub(crate) fn letters(runs: &[RunData]) -> Vec<String> {
    let answered = runs.iter().flat_map(|run| run.answers.values().flat_map(|counts| counts.keys()));
    let gold = runs.iter().flat_map(|run| run.gold.keys());
    let letters: BTreeSet<&String> = answered.chain(gold).filter(|letter| *letter != NO_ANSWER).collect();
    letters.into_iter().cloned().chain([NO_ANSWER.to_owned()]).collect()
}

/// The name of the row of gold answers.
pub(crate) const GOLD: &str = "gold";

fn answers(report: &Report) -> Table {
    let about = "How often each letter was answered, against how often it is the right one. A method that likes one letter shows here.";
    let letters = letters(&report.runs);
    let mut table = table("answers", "Answers", about, &[("method", Kind::Text)]);
    table.columns.extend(letters.iter().map(|letter| Column { name: letter.clone(), kind: Kind::Count }));
    for run in report.runs.iter().filter(|run| !run.methods.is_empty()) {
        let of = |method: &str| if method == GOLD { Some(&run.gold) } else { run.answers.get(method) };
        for method in run.methods.iter().map(String::as_str).chain([GOLD]) {
            let mut cells = row(run, [method.into()]);
            cells.extend(
                letters.iter().map(|l| Cell::from(of(method).and_then(|counts| counts.get(l)).copied().unwrap_or(0))),
            );
            table.rows.push(cells);
        }
    }
    table
}

fn tradeoff(report: &Report) -> Table {
    let about = "All methods from the fastest on. `best` marks those that no faster one equals in accuracy.";
    let columns = [
        ("method", Kind::Text),
        ("ms", Kind::Milliseconds),
        ("accuracy", Kind::Share),
        ("low", Kind::Share),
        ("high", Kind::Share),
        ("best", Kind::Text),
    ];
    let mut table = table("accuracy_against_ms", "Accuracy against milliseconds", about, &columns);
    for trade in trades(report) {
        let accuracy = trade.sum.accuracy();
        let best = trade.best.then_some("best");
        let method = trade.sum.method.as_str().into();
        let shares = [accuracy.accuracy, accuracy.low, accuracy.high].map(Cell::from);
        let mut cells = row(trade.run, [method, trade.ms.into()]);
        cells.extend(shares);
        cells.push(best.into());
        table.rows.push(cells);
    }
    table
}

fn failures(report: &Report) -> Table {
    let about = "Questions that were not answered. They count as wrong.";
    let columns = ["method", "benchmark", "question_id", "error"].map(|name| (name, Kind::Text));
    let mut table = table("failures", "Failed questions", about, &columns);
    for run in &report.runs {
        for failure in &run.failures {
            let texts = [&failure.method, &failure.benchmark, &failure.question_id, &failure.error];
            table.rows.push(row(run, texts.map(|text| text.as_str().into())));
        }
    }
    table
}

fn training(report: &Report) -> Table {
    let about = "`last_loss` is the mean over the last tenth of the steps; `gates_open` the share of open gates after the last one.";
    let columns = [
        ("steps", Kind::Count),
        ("seconds", Kind::Number),
        ("tokens", Kind::Count),
        ("first_loss", Kind::Number),
        ("last_loss", Kind::Number),
        ("gates_open", Kind::Share),
    ];
    let mut table = table("training", "Training", about, &columns);
    for run in &report.runs {
        if let Some(curve) = &run.curve {
            let cells = [
                curve.steps.into(),
                curve.seconds.into(),
                Cell::Count(curve.tokens),
                curve.first_loss.into(),
                curve.last_loss.into(),
                curve.gates_open.into(),
            ];
            table.rows.push(row(run, cells));
        }
    }
    table
}

fn broken(report: &Report) -> Table {
    let about = "Runs that could not be read. They are in no other table.";
    let columns = [("run", Kind::Text), ("path", Kind::Text), ("reason", Kind::Text)];
    let mut table = Table::new("broken", "Broken runs", about, &columns);
    for run in report.broken.iter().filter(|run| !run.filtered) {
        let path = run.path.display().to_string();
        table.rows.push(vec![run.name.as_str().into(), path.into(), run.reason.as_str().into()]);
    }
    table
}
