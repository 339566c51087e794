//! Evaluation as both `train` and `eval` do it: questions in, records, figures and a table out.

use std::io::{IsTerminal, Write};

use burn::Dispatch;
use c2c_eval::{
    Asked, BenchmarkQuestion, EvalPair, EvalProgress, EvalSettings, Evaluation, benchmark_names, evaluate,
    load_questions, partial_because, select_questions,
};
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
    for (source, name) in settings.sources.iter().zip(benchmark_names(&settings.sources)) {
        let (more, fingerprint) = load_questions(source, recipe_seed, settings.compat.into()).map_err(environment)?;
        questions.extend(more.into_iter().map(|question| BenchmarkQuestion { benchmark: name.clone(), question }));
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
    match partial_because(settings) {
        reasons if reasons.is_empty() => table,
        reasons => format!("{table}\nPARTIAL: {}; these are no figures of the whole set\n", reasons.join(", ")),
    }
}

/// The figures of every method, controls apart.
pub fn summary(settings: &EvaluationSettings, evaluation: &Evaluation) -> Map<String, Value> {
    c2c_eval::summary(&Asked::from(settings), evaluation)
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
