//! What came of routing, as text, tables, JSON and a plot.

use serde_json::{Value, json};

use super::pairs::Pairs;
use super::{Form, Router, Routing};
use crate::{Cell, Kind, Table};

impl Routing {
    /// The routers, the curve, the test run's other methods against it, and every question; a row a form of router, or
    /// several.
    pub fn tables(&self) -> &[Table; 4] {
        &self.tables
    }

    /// The cost-quality curve as SVG: accuracy over the share of calls.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// What a reader has to be told besides: which of the runs are PARTIAL, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// For a terminal: everything but the single questions.
    pub fn text(&self) -> String {
        let [weak, strong] = self.methods;
        let (questions, need) = self.fitted;
        let what = if self.routers.len() == 1 { "Router" } else { "Routers" };
        let head = format!(
            "{what} between {weak} and {strong}: fitted on {questions} questions, of which {need} need {strong}\n"
        );
        let mut parts = vec![head];
        for table in &self.tables[..3] {
            let table = table.clone().without_empty(&["seed"]);
            // Of one router everything is of the same form.
            let table = if table.name == "routers" { table } else { table.without_constant(&["form"]) };
            parts.push(table.text(None));
        }
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        parts.extend((!notes.is_empty()).then_some(notes));
        parts.join("\n")
    }

    /// All of it for programs.
    pub fn json(&self) -> Value {
        let [routers, curve, methods, questions] = &self.tables;
        json!({
            "weak": self.methods[0],
            "strong": self.methods[1],
            "notes": self.notes,
            "fitted_on": self.fitted.0,
            "needing_strong": self.fitted.1,
            "routers": routers.json(),
            "curve": curve.json(),
            "methods": methods.json(),
            "questions": questions.json(),
        })
    }
}

pub(super) fn routers_table(routers: &[Router]) -> Table {
    let about = "The routers. `gap_closed` is the mean over all shares of calls of how much of the gap between the methods is closed, \
                 `order_of_scores` the chance that a question that needs the strong method has a higher score than one that \
                 doesn't: of both, 0.5 is chance. `ms` is what the router takes for a question.";
    let columns = [
        ("form", Kind::Text),
        ("fitted_on_methods", Kind::Text),
        ("penalty", Kind::Number),
        ("seed", Kind::Count),
        ("gap_closed", Kind::Number),
        ("order_of_scores", Kind::Number),
        ("ms", Kind::Number),
    ];
    let mut table =
        Table::new("routers", "Routers (of gap closed and order of scores, 0.5 is chance)", about, &columns);
    for router in routers {
        let methods: Vec<&str> = router.methods.iter().map(|method| method.as_str()).collect();
        table.rows.push(vec![
            router.form.as_str().into(),
            methods.join(" ").into(),
            router.penalty.into(),
            router.seed.map_or(Cell::Nothing, Cell::Count),
            router.recovered.into(),
            router.order.into(),
            router.ms.into(),
        ]);
    }
    table
}

pub(super) fn questions_table(rows: Vec<Vec<Cell>>) -> Table {
    let about = "Every question with its score by each form of router; whoever has a higher one goes to the strong method first.";
    let columns = [
        ("form", Kind::Text),
        ("benchmark", Kind::Text),
        ("question_id", Kind::Text),
        ("score", Kind::Number),
        ("weak_correct", Kind::Count),
        ("strong_correct", Kind::Count),
        ("weak_ms", Kind::Milliseconds),
        ("strong_ms", Kind::Milliseconds),
    ];
    Table { rows, ..Table::new("questions", "Questions", about, &columns) }
}

/// Rows of the table of [`questions_table`].
pub(super) fn question_rows(judged: &Pairs, form: Form, scores: &[f64]) -> Vec<Vec<Cell>> {
    let row = |(question, score): (&super::pairs::Question, &f64)| {
        let [weak, strong] = question.correct.map(usize::from);
        let [weak_ms, strong_ms] = question.milliseconds;
        vec![
            form.as_str().into(),
            question.benchmark.as_str().into(),
            question.id.as_str().into(),
            (*score).into(),
            weak.into(),
            strong.into(),
            weak_ms.into(),
            strong_ms.into(),
        ]
    };
    judged.questions.iter().zip(scores).map(row).collect()
}
