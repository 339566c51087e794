//! `c2c verify` and `c2c report` on real runs: what is honest passes, what was tampered with is caught by name.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;
#[path = "verify/sealed.rs"]
mod sealed;
#[path = "verify/shares.rs"]
mod shares;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use c2c_eval::stats::Interval;
use c2c_eval::{Asked, Evaluation, Record, read_records, summary};
use c2c_recipe::Method;
use kit::{c2c, stderr, stdout, succeeds};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

/// A run of each kind, made once: an evaluation of all questions, and a short training with an evaluation of a few.
struct Runs {
    _dir: tempfile::TempDir,
    eval: PathBuf,
    train: PathBuf,
}

static RUNS: LazyLock<Runs> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let make = |kind: &str, more: &[&str]| {
        let runs = dir.path().join(kind);
        let recipe = format!("recipes/{kind}/pocket.toml");
        let output_dir = format!("output.dir={}", runs.display());
        succeeds(&[&[kind, &recipe, "-o", &output_dir], more].concat());
        std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path()
    };
    let eval = make("eval", &[]);
    let train = make("train", &["-o", "training.max_steps=4", "-o", "evaluation.limit=12"]);
    Runs { _dir: dir, eval, train }
});

/// A copy of a run, under its own name, so that it can be changed.
fn copy(run: &Path) -> (tempfile::TempDir, PathBuf) {
    fn copy_all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => copy_all(&entry.path(), &to.join(entry.file_name())),
                false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join(run.file_name().unwrap());
    copy_all(run, &to);
    (dir, to)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, format!("{value:#}\n")).unwrap();
}

/// Writes other records into a run. With `forge`, the summary is made anew from them, as a careful forger would.
fn replace_records(run: &Path, records: Vec<Record>, forge: bool) {
    let mut summary_json = json_of(&run.join("summary.json"));
    let asked: Asked = serde_json::from_value(summary_json["evaluation"].clone()).unwrap();
    let equal = summary_json["controls"]["gates_shut_bit_equal"].as_bool();
    let evaluation = match forge {
        true => Evaluation::of(records, &asked.methods, equal).unwrap(),
        false => Evaluation {
            records,
            results: vec![],
            differences: vec![],
            gates_shut_bit_equal: None,
            interval: Interval::default(),
        },
    };
    evaluation.write_parquet(run.join("eval/records.parquet")).unwrap();
    if forge {
        summary_json.as_object_mut().unwrap().extend(summary(&asked, &evaluation));
        write_json(&run.join("summary.json"), &summary_json);
    }
}

/// The run with its records changed is refused, with these words.
fn records_caught(change: impl FnOnce(&mut Vec<Record>), forge: bool, words: &[&str]) {
    let (_dir, run) = copy(&RUNS.eval);
    let mut records = read_records(run.join("eval/records.parquet")).unwrap();
    change(&mut records);
    replace_records(&run, records, forge);
    caught(&run, words);
}

fn caught(run: &Path, words: &[&str]) {
    let output = c2c(&["verify", run.to_str().unwrap(), "--all"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{words:?}\n{text}\n{}", stderr(&output));
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}\n{text}");
    assert!(stderr(&output).contains("1 of 1 runs not verified"), "{}", stderr(&output));
}

#[test]
fn honest_runs_are_verified() {
    for run in [&RUNS.eval, &RUNS.train] {
        let text = stdout(&succeeds(&["verify", run.to_str().unwrap()]));
        for words in
            [": verified", "made again", "weights by hash", "recipe and settings", "gold answers of", "of its seal"]
        {
            assert!(text.contains(words), "no `{words}` in\n{text}");
        }
        assert!(!text.contains("not checked"), "{text}");
    }
    let facts = json_of(&RUNS.eval.join("environment.json"));
    let commit = facts["commit"].as_str().unwrap();
    assert!(commit == "unknown" || commit.len() == 40, "{facts}");
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    assert!(facts["cpu"].as_str().is_some_and(|cpu| !cpu.is_empty()), "{facts}");
    let verdicts: Value =
        serde_json::from_str(&stdout(&succeeds(&["verify", "--json", RUNS.eval.to_str().unwrap()]))).unwrap();
    assert_eq!((&verdicts[0]["good"], &verdicts[0]["differences"]), (&json!(true), &json!([])));
}

#[test]
fn a_changed_record_is_caught_even_with_a_forged_summary() {
    let wrong = |records: &[Record]| records.iter().position(|r| r.method == Method::Receiver && !r.correct).unwrap();
    for forge in [false, true] {
        // A wrong answer called right; called another letter; given another reply.
        records_caught(
            |records| {
                let place = wrong(records);
                records[place].correct = true;
            },
            forge,
            &["records.parquet: receiver pocket-test/", ": correct: found true, expected false"],
        );
        records_caught(
            |records| {
                let place = wrong(records);
                records[place].answer = Some(records[place].gold.clone());
            },
            forge,
            &[": answer: found "],
        );
        // A question twice, another gold letter for one method.
        records_caught(
            |records| {
                let first = records[3].question_id.clone();
                records[4].question_id = first;
            },
            forge,
            &["question_id: found twice, expected once"],
        );
        records_caught(
            |records| {
                let place = records.iter().position(|record| record.method == Method::C2c).unwrap();
                records[place].gold = if records[place].gold == "A" { "B" } else { "A" }.to_owned();
            },
            forge,
            &["records.parquet: c2c pocket-test/", ": gold: found "],
        );
        // Times that can't be, and a control that read its own question.
        records_caught(|records| records[0].milliseconds = 1e-6, forge, &["milliseconds", "at least its parts"]);
        records_caught(
            |records| {
                let record = records.iter_mut().find(|record| record.method == Method::Mismatched).unwrap();
                record.partner = Some(record.question_id.clone());
            },
            forge,
            &["partner", "another question"],
        );
    }
    // A question less for one method, and for all of them; two questions in another order.
    let missing = "question_id: found nothing, expected a record, as receiver has";
    records_caught(|records| drop(records.remove(300)), false, &["records.parquet: sharer", missing]);
    let without = |records: &mut Vec<Record>| {
        let (gone, other) = (records[3].question_id.clone(), records[9].question_id.clone());
        records.retain(|record| record.question_id != gone);
        let partners = records.iter_mut().filter_map(|record| record.partner.as_mut());
        partners.filter(|partner| **partner == gone).for_each(|partner| *partner = other.clone());
    };
    records_caught(without, true, &["questions: found 287, expected 288"]);
    let swapped = |records: &mut Vec<Record>| records.swap(300, 301);
    records_caught(swapped, false, &["sharer: order: found another, expected that of the first method"]);
    // What no rule can see: the hash of all records sees it.
    records_caught(|records| records[7].prompt_tokens += 1, false, &["summary.json: records.sha256"]);
    records_caught(|records| records[7].milliseconds *= 2.0, false, &["records.sha256", "receiver.ms_per_question"]);
}

#[test]
fn gold_letters_changed_everywhere_are_caught_by_the_source() {
    // Consistent in all methods, with right and wrong made anew and a forged summary.
    let change = |records: &mut Vec<Record>| {
        let id = records[5].question_id.clone();
        for record in records.iter_mut().filter(|record| record.question_id == id) {
            record.gold = if record.gold == "A" { "B" } else { "A" }.to_owned();
            record.correct = record.answer.as_ref() == Some(&record.gold);
        }
    };
    records_caught(change, true, &[": gold: found ", "as in the source"]);
}

#[test]
fn a_changed_summary_is_caught_value_by_value() {
    let cases: [(&str, Value); 16] = [
        ("/c2c/accuracy", json!(0.9895833333333335)),
        ("/c2c/correct", json!(288)),
        ("/receiver/low", json!(0.2)),
        ("/sharer/ms_per_question", json!(0.001)),
        ("/c2c/ms_by_phase/fusion", json!(0.0)),
        ("/receiver/answers/A", json!(1)),
        ("/controls/mismatched/failed", json!(1)),
        ("/controls/gates_shut_bit_equal", json!(false)),
        ("/recipe", json!("another")),
        ("/differences/0/paired/low", json!(0.9)),
        ("/differences/0/paired/p_value", json!(0.5)),
        ("/partial", json!(true)),
        ("/evaluation/seed", json!(41)),
        ("/evaluation_data/0/sha256", json!("00")),
        ("/recipe_sha256", json!("00")),
        ("/fuser_sha256", json!("00")),
    ];
    for (pointer, value) in cases {
        let (_dir, run) = copy(&RUNS.eval);
        let path = run.join("summary.json");
        let mut summary = json_of(&path);
        *summary.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        write_json(&path, &summary);
        // The name of the value stands in the line, but for the fuser, whose file is named.
        let key = pointer.trim_start_matches('/').split('/').next().unwrap();
        caught(&run, &[if key == "fuser_sha256" { "fuser.safetensors: sha256" } else { key }]);
    }
    let (_dir, run) = copy(&RUNS.eval);
    let mut summary = json_of(&run.join("summary.json"));
    summary.as_object_mut().unwrap().remove("sharer");
    write_json(&run.join("summary.json"), &summary);
    caught(&run, &["summary.json: sharer: found nothing"]);
}

#[test]
fn changed_files_of_a_run_are_caught() {
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let (_dir, run) = copy(&RUNS.train);
    flip(&run.join("fuser/fuser.safetensors"));
    caught(&run, &["fuser/fuser.safetensors: sha256: found "]);

    let (_dir, run) = copy(&RUNS.train);
    let mut config = json_of(&run.join("fuser/fuser_config.json"));
    config["receiver"]["weights_sha256"] = json!("00");
    write_json(&run.join("fuser/fuser_config.json"), &config);
    caught(&run, &["fuser/fuser_config.json: receiver.weights_sha256: found 00"]);

    let (_dir, run) = copy(&RUNS.eval);
    let bytes = std::fs::read(run.join("eval/records.parquet")).unwrap();
    std::fs::write(run.join("eval/records.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    caught(&run, &["eval/records.parquet: file: found "]);

    let (_dir, run) = copy(&RUNS.eval);
    let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    let changed = recipe.replace("max_new_tokens = 8", "max_new_tokens = 9");
    assert_ne!(changed, recipe);
    std::fs::write(run.join("recipe.toml"), changed).unwrap();
    let name = "the run directory's name: hash";
    caught(
        &run,
        &["summary.json: recipe_sha256", "environment.json: recipe_sha256", name, "evaluation.max_new_tokens"],
    );
}

#[test]
fn a_run_without_an_evaluation_is_checked_as_far_as_it_goes() {
    let (_dir, run) = copy(&RUNS.train);
    std::fs::remove_dir_all(run.join("eval")).unwrap();
    std::fs::remove_file(run.join("seal.json")).unwrap();
    let mut summary = json_of(&run.join("summary.json"));
    let figures = ["partial", "receiver", "sharer", "c2c", "controls", "differences", "evaluation"];
    figures.iter().for_each(|key| drop(summary.as_object_mut().unwrap().remove(*key)));
    write_json(&run.join("summary.json"), &summary);
    let text = stdout(&succeeds(&["verify", run.to_str().unwrap()]));
    assert!(text.contains("weights by hash") && text.contains("not checked: figures"), "{text}");
    let shown = stdout(&succeeds(&["report", run.to_str().unwrap()]));
    assert!(shown.contains("Training") && shown.contains("has no evaluation"), "{shown}");
}

#[test]
fn real_answers_against_shuffled_gold_are_chance() {
    let mut records = read_records(RUNS.eval.join("eval/records.parquet")).unwrap();
    records.retain(|record| record.method == Method::Sharer);
    let n = records.len() as f64;
    let right = |records: &[Record]| records.iter().filter(|r| r.answer.as_ref() == Some(&r.gold)).count() as f64 / n;
    assert!(right(&records) > 0.9, "the sharer knows the answers");
    let mut gold: Vec<String> = records.iter().map(|record| record.gold.clone()).collect();
    gold.shuffle(&mut ChaCha8Rng::seed_from_u64(3));
    let share = |letter: &str, of: &dyn Fn(&Record) -> Option<String>| {
        records.iter().filter(|record| of(record).as_deref() == Some(letter)).count() as f64 / n
    };
    let chance: f64 = ["A", "B", "C", "D"]
        .iter()
        .map(|l| share(l, &|r| r.answer.clone()) * share(l, &|r| Some(r.gold.clone())))
        .sum();
    records.iter_mut().zip(gold).for_each(|(record, gold)| record.gold = gold);
    let sigma = (chance * (1.0 - chance) / n).sqrt();
    assert!((right(&records) - chance).abs() <= 3.0 * sigma, "{} against {chance}", right(&records));
}

#[test]
fn a_report_of_several_runs_marks_what_is_partial_and_names_what_is_broken() {
    let (_dir, broken) = copy(&RUNS.eval);
    std::fs::write(broken.join("eval/records.parquet"), "no records").unwrap();
    let out = tempfile::tempdir().unwrap();
    let paths = [&RUNS.eval, &RUNS.train, &broken].map(|run| run.to_str().unwrap());
    let out_text = out.path().to_str().unwrap();
    let shown = stdout(&succeeds(&[&["report"][..], &paths, &["--out", out_text]].concat()));
    for words in ["PARTIAL", "evaluation.limit = 12", "BROKEN", "Paired differences from the baseline", "Training"] {
        assert!(shown.contains(words), "no `{words}` in\n{shown}");
    }
    let markdown = std::fs::read_to_string(out.path().join("report.md")).unwrap();
    assert!(markdown.contains("> PARTIAL: ") && markdown.contains("> BROKEN") && markdown.contains("](accuracy.svg)"));
    for file in
        ["accuracy.svg", "differences.svg", "across_runs.svg", "accuracy_against_ms.svg", "answers.svg", "training.svg"]
    {
        let svg = std::fs::read_to_string(out.path().join(file)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{file}");
        assert!(svg.contains("<title>") && svg.contains("PARTIAL"), "{file}");
    }
    // Every row of the partial run is marked for programs, no row of the whole one.
    let csv = std::fs::read_to_string(out.path().join("tables/accuracy_by_method.csv")).unwrap();
    let train = RUNS.train.file_name().unwrap().to_str().unwrap();
    for line in csv.lines().skip(1) {
        assert_eq!(line.contains(",PARTIAL,"), line.starts_with(&format!("{train},")), "{line}");
    }
    assert!(csv.lines().count() > 5);
    assert!(std::fs::read(out.path().join("tables/differences.parquet")).unwrap().starts_with(b"PAR1"));

    // The figures are the summary's own.
    let table = ["report", paths[0], "--format", "json", "--by", "method"];
    let report: Value = serde_json::from_str(&stdout(&succeeds(&table))).unwrap();
    let summary = json_of(&RUNS.eval.join("summary.json"));
    let rows = report["tables"]["accuracy_by_method"].as_array().unwrap();
    let c2c_row = rows.iter().find(|row| row["method"] == "c2c").unwrap();
    for key in ["accuracy", "low", "high"] {
        assert_eq!(c2c_row[key], summary["c2c"][key], "{key}");
    }
    let first = &report["tables"]["differences"][0];
    assert_eq!((&first["first"], &first["second"]), (&json!("c2c"), &json!("receiver")));
    for (key, paired) in [("points", "difference"), ("low", "low"), ("high", "high"), ("p", "p_value")] {
        assert_eq!(first[key], summary["differences"][0]["paired"][paired], "{key}");
    }
}

#[test]
fn filters_formats_and_mistakes() {
    let run = RUNS.eval.to_str().unwrap();
    let filtered = stdout(&succeeds(&["report", run, "--method", "c2c", "--method", "sharer", "--format", "csv"]));
    assert_eq!(filtered.lines().count(), 3, "{filtered}");
    let one = stdout(&succeeds(&["report", run, "--table", "answers", "--format", "markdown"]));
    assert!(one.starts_with("## Answers") && one.contains("| gold |"), "{one}");
    let few = stdout(&succeeds(&["report", run, "--rows", "2"]));
    assert!(few.contains("and 3 more rows"), "{few}");
    let parquet = succeeds(&["report", run, "--format", "parquet"]).stdout;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    for (args, code, word) in [
        (vec!["--table", "nothing"], 2, "accuracy_by_benchmark"),
        (vec!["--method", "prophet"], 2, "receiver"),
        (vec!["--baseline", "nobody"], 2, "no run is called `nobody`"),
        (vec!["--benchmark", "nothing"], 3, "passes the filters"),
    ] {
        let output = c2c(&[&["report", run][..], &args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?} {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{args:?} {}", stderr(&output));
    }
}

#[test]
fn a_limit_marks_the_results() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("output.dir={}", dir.path().display());
    let shown = succeeds(&["eval", "recipes/eval/pocket.toml", "-o", &output_dir, "--limit", "8"]);
    assert!(stdout(&shown).contains("PARTIAL: evaluation.limit = 8"), "{}", stdout(&shown));
    let run = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let summary = json_of(&run.join("summary.json"));
    assert_eq!((&summary["partial"], &summary["c2c"]["total"]), (&json!(true), &json!(8)));
    succeeds(&["verify", run.to_str().unwrap()]);
}

#[test]
fn baselines_are_recorded_verified_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("output.dir={}", dir.path().display());
    let recipe = "recipes/eval/pocket-baselines.toml";
    let shown = stdout(&succeeds(&["eval", recipe, "-o", &output_dir, "--limit", "24"]));
    let baselines = [Method::T2t, Method::T2tC2c, Method::FewShot, Method::Oracle];
    for method in baselines {
        let word = method.as_str();
        assert!(shown.lines().any(|line| line.starts_with(&format!("{word} "))), "{word}\n{shown}");
        assert!(shown.contains(&format!("c2c less {word}: ")), "{word}\n{shown}");
    }
    let run = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let verified = stdout(&succeeds(&["verify", run.to_str().unwrap()]));
    assert!(!verified.contains("not checked"), "{verified}");
    let records = read_records(run.join("eval/records.parquet")).unwrap();
    for record in &records {
        assert_eq!(record.message.is_some(), record.method.writes_text(), "{record:?}");
        assert_eq!(record.phases.sharer_decode > 0.0, record.method.writes_text(), "{record:?}");
    }
    let report = stdout(&succeeds(&["report", run.to_str().unwrap()]));
    for word in ["t2t_c2c", "oracle", "sharer decode ms"] {
        assert!(report.contains(word), "no `{word}` in\n{report}");
    }
    let out = dir.path().join("report");
    succeeds(&["report", run.to_str().unwrap(), "--out", out.to_str().unwrap()]);

    // What verify sees of them.
    let caught = |change: &dyn Fn(&Path), words: &[&str]| {
        let (_dir, run) = copy(&run);
        change(&run);
        self::caught(&run, words);
    };
    let change_record = |change: fn(&mut Record)| {
        move |run: &Path| {
            let mut records = read_records(run.join("eval/records.parquet")).unwrap();
            change(records.iter_mut().find(|record| record.method == Method::T2t).unwrap());
            replace_records(run, records, true);
        }
    };
    caught(&change_record(|record| record.message = None), &["t2t pocket-test/", "message: found nothing"]);
    caught(&change_record(|record| record.message_tokens = 17), &["message_tokens: found 17, expected at most 16"]);
    let change_summary = |pointer: &'static str, value: Value| {
        move |run: &Path| {
            let mut summary = json_of(&run.join("summary.json"));
            *summary.pointer_mut(pointer).unwrap() = value.clone();
            write_json(&run.join("summary.json"), &summary);
        }
    };
    caught(&change_summary("/examples_data/0/sha256", json!("00")), &["examples_data: found"]);
    caught(&change_summary("/evaluation/baselines/few_shot_examples", json!(4)), &["evaluation.baselines"]);
}

#[test]
fn a_router_is_fitted_on_one_run_and_judged_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("output.dir={}", dir.path().display());
    let sources = "evaluation.sources=[{ kind = 'pocket', split = 'train', places = 20 }]";
    let methods = "evaluation.methods=['receiver', 'sharer']";
    succeeds(&["eval", "recipes/eval/pocket.toml", "-o", &output_dir, "-o", sources, "-o", methods]);
    let train = kit::only_folder(dir.path());
    let (train, test) = (train.to_str().unwrap(), RUNS.eval.to_str().unwrap());
    let out = dir.path().join("out");
    let shown = stdout(&succeeds(&["route", train, test, "--out", out.to_str().unwrap()]));
    for words in ["Router between receiver and sharer: fitted on 120 questions", "gap closed", "mismatched"] {
        assert!(shown.contains(words), "no `{words}` in\n{shown}");
    }
    for file in ["routers.csv", "curve.csv", "curve.svg", "methods.parquet", "questions.parquet", "routing.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    // At its ends the curve is the two methods of the test run.
    let routing = json_of(&out.join("routing.json"));
    let summary = json_of(&RUNS.eval.join("summary.json"));
    assert_eq!(routing["curve"][0]["correct"], summary["receiver"]["correct"]);
    assert_eq!(routing["curve"][10]["correct"], summary["sharer"]["correct"]);
    assert_eq!(routing["questions"].as_array().unwrap().len(), 288);
    let printed: Value = serde_json::from_str(&stdout(&succeeds(&["route", train, test, "--json"]))).unwrap();
    assert_eq!(printed["questions"], routing["questions"]);
    let both = stdout(&succeeds(&["route", train, test, "--form", "logistic,mf", "--seed", "7", "--json"]));
    let both: Value = serde_json::from_str(&both).unwrap();
    assert_eq!((&both["routers"][0]["form"], &both["routers"][1]["seed"]), (&json!("logistic"), &json!(7)));
    assert_eq!(both["questions"].as_array().unwrap()[..288], printed["questions"].as_array().unwrap()[..]);
    kit::fails(&["route", train, test, "--form", "forest"], 2, &["logistic", "mf"]);
    kit::fails(&["route", test, test], 2, &["288 questions", "different splits"]);
    kit::fails(&["route", train, test, "--strong", "c2c"], 2, &["`c2c` hasn't answered"]);
    kit::fails(&["route", train, test, "--strong", "receiver"], 2, &["name two methods"]);
    kit::fails(&["route", train, test, "--strong", "prophet"], 2, &["expected one of receiver"]);
}
