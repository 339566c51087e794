//! Routers on runs whose questions say who knows them, and on runs whose questions don't.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use c2c_recipe::Method;
use c2c_report::{Cell, Form, ReportError, Routing, RunFiles};
use common::{LETTERS, Planted, asked, record, write_run, wrong};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

const METHODS: [Method; 3] = [Method::Receiver, Method::Sharer, Method::C2c];

/// A run of questions about stones, which the receiver knows, and about kings, which only the sharer knows; or, with `told`
/// false, of questions whose words say nothing.
fn run(dir: &Path, name: &str, n: usize, told: bool, seed: u64) -> PathBuf {
    let run = dir.join(name);
    std::fs::create_dir_all(&run).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut rows, mut records) = (Vec::new(), vec![Vec::new(), Vec::new(), Vec::new()]);
    for index in 0..n {
        let hard = rng.random_bool(0.5);
        let topic = match told {
            true => ["What is the hardness of stone", "Who was king of"][usize::from(hard)],
            false => ["What is the hardness of stone", "Who was king of"][rng.random_range(0..2)],
        };
        let id = format!("{name}-{index}");
        let question = format!("{topic} {}?", rng.random_range(0..1_000_000));
        rows.push(json!({ "id": id, "question": question, "choices": ["a", "b", "c", "d"], "answer": index % 4 }));
        let planted = Planted { benchmark: "questions".into(), id, subject: None, gold: LETTERS[index % 4] };
        let answer = |right: bool| if right { planted.gold } else { wrong(planted.gold) };
        for (place, (right, ms)) in [(!hard, 1.0), (true, 5.0), (index % 4 != 0, 2.0)].into_iter().enumerate() {
            records[place].push(record(METHODS[place], &planted, answer(right), ms));
        }
    }
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(run.join("questions.jsonl"), lines).unwrap();
    let recipe = "kind = 'eval'\nname = 'x'\n[artefact]\npath = 'fuser'\n[evaluation]\n\
                  sources = [{ kind = 'multiple_choice', path = 'questions.jsonl' }]\n";
    std::fs::write(run.join("recipe.toml"), recipe).unwrap();
    write_run(&run, records.concat(), &asked(&METHODS, &[]));
    run
}

const FORMS: [Form; 2] = [Form::Logistic, Form::Factors];

fn routing(train: &Path, test: &Path, seed: u64) -> Result<Routing, ReportError> {
    let files = |dir: &Path| RunFiles { dir: dir.to_owned() };
    Routing::new(&files(train), &files(test), [Method::Receiver, Method::Sharer], &FORMS, seed)
}

fn number(cell: &Cell) -> f64 {
    match cell {
        Cell::Number(number) => *number,
        Cell::Count(count) => *count as f64,
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_the_question_tells_who_knows_the_router_learns_it() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = (run(dir.path(), "train", 400, true, 1), run(dir.path(), "test", 200, true, 2));
    let routing = routing(&train, &test, 42).unwrap();
    assert_eq!(routing.fitted.0, 400);
    let [routers, curves, methods, questions] = routing.tables();
    assert_eq!((routers.rows.len(), curves.rows.len(), questions.rows.len()), (2, 22, 400));
    for (place, (form, router)) in FORMS.iter().zip(&routing.routers).enumerate() {
        assert_eq!(router.form, *form);
        assert!(router.order.unwrap() > 0.999, "{router:?}");
        // All of the gap is closed by half of the calls: three quarters on average, for any router the most there is.
        assert!((router.recovered.unwrap() - 0.75).abs() < 0.03, "{router:?}");
        let curve = &curves.rows[11 * place..11 * (place + 1)];
        assert!(curve.iter().all(|row| row[0] == Cell::from(form.as_str())));
        assert_eq!(number(&curve[6][5]), 1.0, "with 60 % of calls everything is right: {:?}", curve[6]);
        assert_eq!(curve.iter().map(|row| number(&row[4])).fold(0.0, f64::max), 200.0);
        // Ends: each method alone, with its own time and the router's.
        assert!((number(&curve[0][11]) - 1.0 - router.ms).abs() < 1e-9);
        assert!((number(&curve[10][11]) - 5.0 - router.ms).abs() < 1e-9);
        let methods = &methods.rows[3 * place..3 * (place + 1)];
        let c2c = &methods[2];
        assert_eq!(number(&c2c[2]), 0.75);
        // From half right to three quarters right takes a quarter of the calls.
        assert!((number(&c2c[4]) - 0.25).abs() < 0.06, "{c2c:?}");
    }
    assert_eq!(routing.routers[1].methods, METHODS);
    assert_eq!((routing.routers[0].seed, routing.routers[1].seed), (None, Some(42)));
    assert_eq!(routing.json()["curve"].as_array().unwrap().len(), 22);
    assert!(routing.svg().starts_with("<svg") && routing.svg().contains("router, mf"));
    let text = routing.text();
    for words in
        ["Routers between receiver and sharer: fitted on 400 questions", "mf        receiver sharer c2c", "gap closed"]
    {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
}

#[test]
fn where_it_does_not_tell_routing_is_chance() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = (run(dir.path(), "train", 400, false, 3), run(dir.path(), "test", 600, false, 4));
    let routing = routing(&train, &test, 42).unwrap();
    // The standard error of the area under the curve of two halves of 300 (Mann and Whitney).
    let sigma = (601.0_f64 / (12.0 * 300.0 * 300.0)).sqrt();
    for router in &routing.routers {
        assert!((router.order.unwrap() - 0.5).abs() < 4.0 * sigma, "{router:?}");
        assert!((router.recovered.unwrap() - 0.5).abs() < 2.0 * sigma, "{router:?}");
    }
    // The same records and the same seed give the same routers; only their time differs. Another seed is another beginning
    // for the form that draws.
    let scores = |routing: &Routing| routing.tables()[3].rows.clone();
    assert_eq!(scores(&routing), scores(&self::routing(&train, &test, 42).unwrap()));
    let other = scores(&self::routing(&train, &test, 43).unwrap());
    assert_eq!(scores(&routing)[..600], other[..600]);
    assert_ne!(scores(&routing)[600..], other[600..]);
}

#[test]
fn a_router_is_not_judged_on_what_it_was_fitted_on() {
    let dir = tempfile::tempdir().unwrap();
    let train = run(dir.path(), "train", 20, true, 5);
    let error = routing(&train, &train, 42).unwrap_err();
    assert!(matches!(error, ReportError::Leak { shared: 20, .. }), "{error}");
    let test = run(dir.path(), "test", 20, true, 6);
    let files = |dir: &Path| RunFiles { dir: dir.to_owned() };
    let error = Routing::new(&files(&train), &files(&test), [Method::Receiver, Method::T2t], &FORMS, 42).unwrap_err();
    assert!(error.to_string().contains("`t2t` hasn't answered"), "{error}");
    std::fs::remove_file(test.join("questions.jsonl")).unwrap();
    assert!(routing(&train, &test, 42).unwrap_err().to_string().contains("questions.jsonl"));
}

#[test]
fn partial_runs_are_said_to_be_and_graded_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = (run(dir.path(), "train", 80, true, 1), run(dir.path(), "test", 40, true, 2));
    assert!(routing(&train, &test, 1).unwrap().notes().is_empty());
    let change = |run: &Path, change: &dyn Fn(&mut serde_json::Value)| {
        let path = run.join("summary.json");
        let mut summary = common::read_json(&path);
        change(&mut summary);
        common::write_json(&path, &summary);
    };
    change(&test, &|summary| summary["evaluation"]["partial_because"] = json!(["evaluation.limit = 40"]));
    let found = routing(&train, &test, 1).unwrap();
    let note = "PARTIAL: test: evaluation.limit = 40; these are no figures of the whole set";
    assert_eq!(found.notes(), [note]);
    assert!(found.text().ends_with(&format!("\n{note}\n")), "{}", found.text());
    assert_eq!(found.json()["notes"][0], note);

    let mut records = c2c_eval::read_records(test.join("eval/records.parquet")).unwrap();
    for record in &mut records {
        (record.scorer, record.score) = (c2c_data::Scorer::Rouge, Some(0.5));
    }
    write_run(&test, records, &asked(&METHODS, &[]));
    let error = routing(&train, &test, 1).unwrap_err();
    assert!(matches!(&error, ReportError::Graded { graded: 40, .. }), "{error}");
    assert!(error.to_string().contains("40 questions have graded answers"), "{error}");
}
