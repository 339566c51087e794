//! Tables of accuracies across benchmarks, and within them by category.

use super::Report;
use super::tables::{row, table};
use crate::{Cell, Column, Kind, Table};

/// Columns of averages that aren't over questions.
pub(super) const MEANS: [&str; 2] = ["mean_of_subjects", "mean_of_categories"];

/// The columns of the overview that are no benchmark's.
const OWN: [&str; 4] = ["run", "partial", "method", MEAN];
const MEAN: &str = "mean_of_benchmarks";

/// A column a benchmark, which is how papers tell results; nothing of one benchmark, of which the other tables say all.
pub(super) fn overview(report: &Report) -> Table {
    let about = "Accuracy (of graded answers the mean score), a column a benchmark, each question counting once. `mean_of_benchmarks` counts each \
                 benchmark once, of runs that have asked all of them.";
    let mut table = table("overview", "Accuracy, a column a benchmark", about, &[("method", Kind::Text)]);
    let mut benchmarks: Vec<&str> = Vec::new();
    for group in report.runs().iter().flat_map(|run| &run.groups) {
        if !benchmarks.contains(&group.benchmark.as_str()) {
            benchmarks.push(&group.benchmark);
        }
    }
    if benchmarks.len() < 2 {
        return table;
    }
    // A file of questions may be called anything.
    let column = |name: &&str| if OWN.contains(name) { format!("{name} (benchmark)") } else { (*name).to_owned() };
    table.columns.extend(benchmarks.iter().map(|name| Column { name: column(name), kind: Kind::Share }));
    table.columns.push(Column { name: MEAN.to_owned(), kind: Kind::Share });
    for run in report.runs() {
        let told = &run.told;
        for method in &run.methods {
            let accuracy = |benchmark: &&str| {
                let own = told.iter().find(|told| told.method == *method && told.benchmark == *benchmark);
                own.map(|told| told.averages.all.micro.accuracy)
            };
            let accuracies: Vec<Option<f64>> = benchmarks.iter().map(accuracy).collect();
            let all: Option<Vec<f64>> = accuracies.iter().copied().collect();
            let mut cells = row(run, [method.as_str().into()]);
            cells.extend(accuracies.into_iter().map(Cell::from));
            cells.push(all.map(|all| c2c_eval::stats::mean::mean(&all)).into());
            table.rows.push(cells);
        }
    }
    table
}

pub(super) fn categories(report: &Report) -> Table {
    let about = "Accuracy by the categories in which the authors of MMLU, C-Eval and LongBench put their subjects. `accuracy`, with Wilson's 95 % \
                 interval, counts each question once (micro average), `mean_of_subjects` each of so many `subjects` once (macro average). \
                 MMLU's authors tell the former, those of C-Eval and LongBench the latter.";
    let columns = [
        ("method", Kind::Text),
        ("benchmark", Kind::Text),
        ("category", Kind::Text),
        ("subjects", Kind::Count),
        ("n", Kind::Count),
        ("correct", Kind::Count),
        ("accuracy", Kind::Share),
        ("low", Kind::Share),
        ("high", Kind::Share),
        ("mean_of_subjects", Kind::Share),
    ];
    let mut table = table("accuracy_by_category", "Accuracy by category", about, &columns);
    for run in &report.runs {
        for told in &run.told {
            for category in &told.averages.categories {
                let average = &category.average;
                let micro = average.micro;
                let mut cells = row(run, [told.method.as_str().into(), told.benchmark.as_str().into()]);
                cells.extend([category.name.into(), average.subjects.into(), micro.total.into(), micro.correct.into()]);
                cells.extend([micro.accuracy, micro.low, micro.high, average.macro_].map(Cell::from));
                table.rows.push(cells);
            }
        }
    }
    table
}
