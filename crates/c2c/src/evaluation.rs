//! Evaluation as both `train` and `eval` do it: questions in, records, figures and a table out.

use std::io::{IsTerminal, Write};

use burn::Dispatch;
use c2c_eval::{EvalPair, EvalProgress, EvalSettings, Evaluation, evaluate, load_questions, select_questions};
use c2c_export::artefact::ResultRow;
use c2c_fuser::C2c;
use c2c_recipe::{EvaluationSettings, Method};
use c2c_text::PairText;
use serde_json::{Map, Value, json};

use crate::exit::{Failure, environment};
use crate::run_dir::RunDir;

/// Answers the questions of a recipe and writes `eval/records.parquet` into the run directory.
pub fn run(
    settings: &EvaluationSettings,
    recipe_seed: u64,
    c2c: &C2c<Dispatch>,
    text: &PairText,
    run: &RunDir,
) -> Result<(Evaluation, Vec<Value>), Failure> {
    let mut questions = Vec::new();
    let mut data = Vec::new();
    for source in &settings.sources {
        let (mut more, fingerprint) = load_questions(source, recipe_seed).map_err(environment)?;
        questions.append(&mut more);
        data.push(json!(fingerprint));
    }
    let questions = select_questions(questions, settings.limit, settings.seed);
    let pair = EvalPair { c2c, text };
    let mut line = ProgressLine::new();
    let evaluation = evaluate(&pair, &questions, &EvalSettings::from(settings), &mut |p| line.show(&p));
    line.end();
    let evaluation = evaluation.map_err(environment)?;
    let records = run.path().join("eval/records.parquet");
    if let Some(parent) = records.parent() {
        std::fs::create_dir_all(parent).map_err(environment)?;
    }
    evaluation.write_parquet(&records).map_err(environment)?;
    Ok((evaluation, data))
}

/// What is printed: the table, and a warning if not all questions were asked.
pub fn table(settings: &EvaluationSettings, evaluation: &Evaluation) -> String {
    let table = evaluation.table();
    match settings.limit {
        Some(limit) => format!("{table}\nPARTIAL: evaluation.limit = {limit}; these are no figures of the whole set\n"),
        None => table,
    }
}

/// The figures of every method, controls apart.
pub fn summary(settings: &EvaluationSettings, evaluation: &Evaluation) -> Map<String, Value> {
    let mut summary = Map::new();
    summary.insert("partial".into(), json!(settings.limit.is_some()));
    let mut controls = Map::new();
    for result in &evaluation.results {
        let figures = json!({
            "accuracy": result.accuracy.accuracy,
            "correct": result.accuracy.correct,
            "total": result.accuracy.total,
            "low": result.accuracy.low,
            "high": result.accuracy.high,
            "ms_per_question": result.ms_per_question,
            "answers": result.answers,
            "failed": result.skipped,
        });
        let to =
            if matches!(result.method, Method::Mismatched | Method::GatesShut) { &mut controls } else { &mut summary };
        to.insert(result.method.to_string(), figures);
    }
    if let Some(equal) = evaluation.gates_shut_bit_equal {
        controls.insert("gates_shut_bit_equal".into(), json!(equal));
    }
    summary.insert("controls".into(), Value::Object(controls));
    let differences: Vec<Value> = evaluation
        .differences
        .iter()
        .map(|(first, second, d)| json!({ "first": first.to_string(), "second": second.to_string(), "paired": d }))
        .collect();
    summary.insert("differences".into(), Value::Array(differences));
    summary
}

/// The rows of the model card.
pub fn card_rows(evaluation: &Evaluation) -> Vec<ResultRow> {
    evaluation
        .results
        .iter()
        .map(|r| ResultRow {
            method: r.method.to_string(),
            correct: r.accuracy.correct,
            total: r.accuracy.total,
            accuracy: r.accuracy.accuracy,
            low: r.accuracy.low,
            high: r.accuracy.high,
            ms_per_question: r.ms_per_question,
        })
        .collect()
}

/// One rewritten line on a terminal, one line a method elsewhere.
struct ProgressLine {
    terminal: bool,
    method: Option<Method>,
}

impl ProgressLine {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), method: None }
    }

    fn show(&mut self, p: &EvalProgress) {
        let text = format!("evaluating {:<11} {:>5}/{}, {} right", p.method.to_string(), p.done, p.total, p.correct);
        if self.terminal {
            if self.method.is_some_and(|m| m != p.method) {
                eprintln!();
            }
            eprint!("\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
        } else if p.done == p.total {
            eprintln!("{text}");
        }
        self.method = Some(p.method);
    }

    fn end(&self) {
        if self.terminal && self.method.is_some() {
            eprintln!();
        }
    }
}
