//! Graded answers in figures and reports, and records from before there were any.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;
use std::path::Path;

use c2c_data::Scorer;
use c2c_eval::extract::Compat;
use c2c_eval::score::judge;
use c2c_eval::stats::mean;
use c2c_eval::{Asked, FORMAT_KEY, Record};
use c2c_recipe::Method;
use c2c_report::{Cell, Options, Report, find_runs, seal, verify};
use common::{asked, planted, read_json, write_run};
use polars::prelude::{KeyValueMetadata, ParquetReader, ParquetWriter, SerReader};

const METHODS: [Method; 3] = [Method::Receiver, Method::Sharer, Method::C2c];

/// Records whose answers are words: the receiver says one of the four right ones, the sharer two, C2C all.
fn graded() -> Vec<Record> {
    let words = "red green blue white";
    let mut records = planted(80, [0, 0, 0]);
    for record in &mut records {
        let said = match record.method {
            Method::Receiver => "red",
            Method::Sharer => "red green",
            _ => words,
        };
        (record.scorer, record.choices) = (Scorer::F1, 0);
        (record.gold, record.output) = (words.to_owned(), said.to_owned());
        record.alternatives = vec!["nothing".to_owned()];
        let judged = judge(record, Compat::Fixed);
        (record.answer, record.rule, record.score) = (judged.answer, judged.rule, Some(judged.points));
        record.correct = judged.points >= 1.0;
    }
    records
}

fn cell(dir: &Path, table: &str, method: (&str, &str), column: &str) -> Cell {
    let report = Report::new(&find_runs(&[dir.to_owned()]).unwrap(), &Options::default()).unwrap();
    let table = report.full_tables().into_iter().find(|other| other.name == table).unwrap();
    let place = |name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
    let (key, column) = (place(method.0), place(column));
    table.rows.iter().find(|row| row[key] == Cell::from(method.1)).unwrap()[column].clone()
}

#[test]
fn mean_scores_come_out_and_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), graded(), &asked(&METHODS, &[]));
    let verdict = verify(dir.path()).unwrap();
    assert!(verdict.is_good(), "{:?}", verdict.differences);
    // F1 of one right word of four is 2/5, of two 2/3.
    let summary = read_json(&dir.path().join("summary.json"));
    for (method, score, full) in [("receiver", 0.4, 0), ("sharer", 2.0 / 3.0, 0), ("c2c", 1.0, 80)] {
        let found = summary[method]["accuracy"].as_f64().unwrap();
        assert!((found - score).abs() < 1e-12, "{method}: {found}");
        assert_eq!((&summary[method]["correct"], &summary[method]["graded"]), (&full.into(), &80.into()));
        assert_eq!(summary[method]["answers"]["free"], 80);
        assert_eq!(cell(dir.path(), "answers", ("method", method), "free"), Cell::from(80usize));
    }
    let Cell::Number(found) = cell(dir.path(), "accuracy_by_benchmark", ("method", "receiver"), "accuracy") else {
        panic!("no number")
    };
    assert!((found - 0.4).abs() < 1e-12, "{found}");
    let difference = &summary["differences"][0]["paired"];
    assert!((difference["difference"].as_f64().unwrap() - 0.6).abs() < 1e-12, "{difference}");
    assert_eq!((&difference["only_first"], &difference["only_second"]), (&80.into(), &0.into()));
    assert_eq!(mean::mean(&[0.25, 0.75]), 0.5);
}

#[test]
fn a_changed_score_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = graded();
    records[3].score = Some(0.5);
    write_run(dir.path(), records, &asked(&METHODS, &[]));
    let verdict = verify(dir.path()).unwrap();
    let caught = |field: &str| verdict.differences.iter().any(|difference| difference.field == field);
    assert!(caught("score"), "{:?}", verdict.differences);
}

#[test]
fn runs_with_records_of_version_2_are_verified_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let old = Asked { records_format: 2, ..asked(&METHODS, &[]) };
    write_run(dir.path(), planted(40, [10, 30, 20]), &old);
    assert!(read_json(&dir.path().join("summary.json")).get("benchmarks").is_none());
    let path = dir.path().join("eval/records.parquet");
    let frame = ParquetReader::new(File::open(&path).unwrap()).finish().unwrap();
    let mut frame = frame.drop_many(["scorer", "score", "alternatives", "classes", "letter_logprobs", "bit_equal"]);
    let version = KeyValueMetadata::from_static(vec![(FORMAT_KEY.to_owned(), "2".to_owned())]);
    let file = File::create(&path).unwrap();
    ParquetWriter::new(file).with_key_value_metadata(Some(version)).finish(&mut frame).unwrap();
    seal(dir.path()).unwrap();
    let verdict = verify(dir.path()).unwrap();
    assert!(verdict.is_good(), "{:?}", verdict.differences);
    assert_eq!(cell(dir.path(), "runs", ("methods", "receiver sharer c2c"), "questions"), Cell::from(40usize));
    assert_eq!(cell(dir.path(), "differences", ("second", "receiver"), "n"), Cell::from(40usize));
}

/// Graded answers are hardly ever right to the last digit: to call them wrong would say nothing.
#[test]
fn overlap_is_of_answers_that_are_right_or_wrong() {
    let dir = tempfile::tempdir().unwrap();
    write_run(&dir.path().join("graded"), graded(), &asked(&METHODS, &[]));
    // Half of the questions have letters.
    let letters = planted(80, [20, 60, 80]);
    let both = graded().into_iter().zip(letters).map(|(graded, letter)| {
        let place: usize = letter.question_id[1..].parse().unwrap();
        if place < 40 { letter } else { graded }
    });
    write_run(&dir.path().join("mixed"), both.collect(), &asked(&METHODS, &[]));
    let report = Report::new(&find_runs(&[dir.path().to_owned()]).unwrap(), &Options::default()).unwrap();
    let overlap = report.full_tables().into_iter().find(|table| table.name == "overlap").unwrap();
    let place = |name: &str| overlap.columns.iter().position(|column| column.name == name).unwrap();
    assert!(overlap.rows.iter().all(|row| row[place("run")] == Cell::from("mixed")));
    assert_eq!(overlap.rows.len(), 3);
    assert!(overlap.rows.iter().all(|row| row[place("n")] == Cell::from(40usize)));
    let notes = report.notes().join("\n");
    assert!(notes.contains("graded: the overlap is of answers that are right or wrong; its 80 graded"), "{notes}");
    assert!(notes.contains("mixed: ") && notes.contains("its 40 graded"), "{notes}");
}

#[test]
fn a_source_that_is_there_and_cannot_be_read_is_a_difference() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), planted(40, [10, 30, 20]), &asked(&METHODS, &[]));
    assert!(verify(dir.path()).unwrap().notes.iter().any(|note| note.contains("the questions aren't at")));
    std::fs::write(dir.path().join("gone.jsonl"), "no question\n").unwrap();
    let verdict = verify(dir.path()).unwrap();
    let caught = verdict.differences.iter().find(|difference| difference.field == "evaluation.sources[0]");
    assert!(caught.is_some_and(|caught| caught.found.contains("gone.jsonl:1")), "{verdict:?}");
}
