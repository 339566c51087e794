//! Runs that fuse different shares of their prompts: told apart by `c2c verify`, side by side in table and plot.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use c2c_eval::{Asked, Record};
use c2c_recipe::{FusedFrom, Method};
use c2c_report::{Cell, Options, Report, Table, find_runs, verify};
use common::{asked, planted, write_run};

const METHODS: [Method; 3] = [Method::Receiver, Method::Sharer, Method::C2c];

/// A run of 40 questions in which C2C is right on so many, with a share; `tokens` says how many were fused.
fn run(dir: &Path, name: &str, right: usize, share: Option<f64>, from: Option<FusedFrom>, tokens: Option<u32>) {
    let mut records = planted(40, [10, 36, right]);
    for (place, record) in records.iter_mut().enumerate().filter(|(_, record)| record.method == Method::C2c) {
        // In the mean as many as said.
        record.fused_tokens =
            tokens.map(|tokens| if place % 2 == 0 { tokens - tokens.min(1) } else { tokens + tokens.min(1) });
    }
    let asked = Asked { fused_share: share, fused_from: from, ..asked(&METHODS, &[]) };
    write_run(&dir.join(name), records, &asked);
}

fn report(dir: &Path) -> Report {
    Report::new(&find_runs(&[dir.to_owned()]).unwrap(), &Options::default()).unwrap()
}

fn table(report: &Report) -> Option<Table> {
    report.full_tables().into_iter().find(|table| table.name == "fused_share")
}

/// Two ends, nothing, and all of it by a run of before there were shares.
fn sweep(dir: &Path) {
    run(dir, "a", 30, Some(0.5), Some(FusedFrom::Back), Some(14));
    run(dir, "b", 20, Some(0.5), None, Some(14));
    run(dir, "c", 36, None, None, None);
    run(dir, "d", 10, Some(0.0), Some(FusedFrom::Back), Some(0));
    run(dir, "e", 15, Some(0.25), Some(FusedFrom::Front), Some(6));
}

#[test]
fn shares_stand_side_by_side_from_nothing_to_all() {
    let dir = tempfile::tempdir().unwrap();
    sweep(dir.path());
    let report = report(dir.path());
    let table = table(&report).unwrap();
    let cells = |columns: &[&str]| -> Vec<Vec<Cell>> {
        let place = |name: &&str| table.columns.iter().position(|column| column.name == **name).unwrap();
        let places: Vec<usize> = columns.iter().map(place).collect();
        table.rows.iter().map(|row| places.iter().map(|place| row[*place].clone()).collect()).collect()
    };
    let row = |run: &str, from: Option<&str>, share: f64, tokens: Option<f64>, right: usize| -> Vec<Cell> {
        let accuracy = right as f64 / 40.0;
        vec![run.into(), "c2c".into(), from.into(), share.into(), tokens.into(), 40usize.into(), accuracy.into()]
    };
    assert_eq!(
        cells(&["run", "method", "from", "share", "fused_tokens", "n", "accuracy"]),
        [
            row("d", None, 0.0, Some(0.0), 10),
            row("e", Some("front"), 0.25, Some(6.0), 15),
            row("b", Some("front"), 0.5, Some(14.0), 20),
            row("a", Some("back"), 0.5, Some(14.0), 30),
            row("c", None, 1.0, None, 36),
        ]
    );
    let (low, high) = c2c_eval::stats::wilson_interval(20, 40);
    assert_eq!(cells(&["low", "high"])[2], [Cell::from(low), Cell::from(high)]);
    assert!(report.notes().iter().all(|note| !note.contains("fused in part")), "{:?}", report.notes());
    for run in ["a", "b", "c", "d", "e"] {
        let verdict = verify(&dir.path().join(run)).unwrap();
        assert!(verdict.is_good(), "{run}: {:?}", verdict.differences);
    }
}

#[test]
fn the_plot_has_a_line_from_each_end_and_both_models_alone() {
    let dir = tempfile::tempdir().unwrap();
    sweep(dir.path());
    let out = tempfile::tempdir().unwrap();
    let files = report(dir.path()).write(out.path()).unwrap();
    let named = |name: &str| files.iter().any(|file| file.ends_with(name));
    assert!(named("fused_share.svg") && named("tables/fused_share.csv"), "{files:?}");
    assert!(std::fs::read_to_string(out.path().join("report.md")).unwrap().contains("](fused_share.svg)"));
    let svg = std::fs::read_to_string(out.path().join("fused_share.svg")).unwrap();
    for words in
        ["<title>", "fused from the front", "fused from the back", "receiver alone", "sharer alone", "c2c of planted"]
    {
        assert!(svg.contains(words), "no `{words}` in\n{svg}");
    }
    // Nothing and all belong to both lines: of the front four points, of the back three.
    let longest = |colour: &str| {
        let lines = svg.lines().filter(|line| line.contains("<polyline") && line.contains(colour));
        let points = |line: &str| line.split("points=").nth(1).unwrap().matches(',').count();
        lines.map(points).max().unwrap()
    };
    assert_eq!((longest("#0072B2"), longest("#CC79A7")), (4, 3), "{svg}");
}

#[test]
fn one_share_alone_is_told_in_a_note() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "a", 30, Some(0.5), Some(FusedFrom::Back), Some(14));
    run(dir.path(), "b", 31, Some(0.5), Some(FusedFrom::Back), Some(14));
    let report = report(dir.path());
    assert_eq!(table(&report), None);
    let note = "a: fused in part: 0.5 of the tokens that would be, from the back";
    assert!(report.notes().iter().any(|found| found == note), "{:?}", report.notes());
    // Whole prompts have neither table nor note nor plot.
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), "c", 36, None, None, None);
    run(whole.path(), "d", 36, Some(1.0), None, Some(14));
    let report = self::report(whole.path());
    assert!(table(&report).is_none() && report.notes().is_empty(), "{:?}", report.notes());
    let out = tempfile::tempdir().unwrap();
    report.write(out.path()).unwrap();
    assert!(!out.path().join("fused_share.svg").exists());
}

#[test]
fn a_share_that_was_changed_afterwards_is_caught() {
    let caught = |change: &dyn Fn(&Path), words: &str| {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "a", 30, Some(0.5), Some(FusedFrom::Back), Some(14));
        run(dir.path(), "w", 30, None, None, None);
        change(dir.path());
        let differences = ["a", "w"].map(|run| verify(&dir.path().join(run)).unwrap().differences).concat();
        let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains(words)), "no `{words}` in {told:#?}");
    };
    let summary = |path: &Path, change: &dyn Fn(&mut serde_json::Value)| {
        let path = path.join("summary.json");
        let mut summary = common::read_json(&path);
        change(&mut summary["evaluation"]);
        common::write_json(&path, &summary);
    };
    caught(
        &|dir| summary(&dir.join("a"), &|asked| asked["fused_share"] = 0.75.into()),
        "summary.json: evaluation.fused_share: found 0.75, expected 0.5, as in recipe.toml",
    );
    caught(
        &|dir| summary(&dir.join("a"), &|asked| drop(asked.as_object_mut().unwrap().remove("fused_from"))),
        "summary.json: evaluation.fused_from: found nothing, expected \"back\", as in recipe.toml",
    );
    // A run of whole prompts that says it was one of a share.
    caught(
        &|dir| summary(&dir.join("w"), &|asked| asked["fused_share"] = 0.5.into()),
        "summary.json: evaluation.fused_share: found 0.5, expected nothing, as in recipe.toml",
    );
    let records = |dir: &Path, name: &str, change: &dyn Fn(&mut Record)| {
        let run = dir.join(name);
        let mut records = c2c_eval::read_records(run.join("eval/records.parquet")).unwrap();
        records.iter_mut().filter(|record| record.method == Method::C2c).take(1).for_each(change);
        let asked: Asked =
            serde_json::from_value(common::read_json(&run.join("summary.json"))["evaluation"].clone()).unwrap();
        write_run(&run, records, &asked);
    };
    caught(
        &|dir| records(dir, "a", &|record| record.fused_tokens = Some(16)),
        "c2c stones/q0: fused_tokens: found 16, expected at most 15, 0.5 of 30 tokens",
    );
    caught(
        &|dir| records(dir, "a", &|record| record.fused_tokens = None),
        "fused_tokens: found nothing, expected how many tokens were fused",
    );
    caught(
        &|dir| records(dir, "w", &|record| record.fused_tokens = Some(3)),
        "fused_tokens: found 3, expected nothing, as no share was asked of this method",
    );
}
