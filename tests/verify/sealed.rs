//! What `c2c verify` knows of a run besides its figures: the seal, the recipe, what only the source or the records say,
//! and what can't be verified at all.

use std::path::Path;

use c2c_eval::Record;
use c2c_recipe::Method;
use serde_json::{Value, json};

use super::kit::{c2c, root, stderr, stdout, succeeds};
use super::{RUNS, caught, copy, json_of, records_caught, write_json};

/// Of these facts the run has no second witness but its seal.
#[test]
fn facts_that_no_record_gives_are_sealed() {
    let changed = |file: &str, pointer: &str, value: Value| {
        let (dir, run) = copy(&RUNS.eval);
        let mut facts = json_of(&run.join(file));
        match facts.pointer_mut(pointer) {
            Some(old) => *old = value,
            None => drop(facts.as_object_mut().unwrap().insert(pointer.to_owned(), value)),
        }
        write_json(&run.join(file), &facts);
        (dir, run)
    };
    let cases = [
        ("summary.json", "/models/receiver_sha256", json!("00")),
        ("summary.json", "/models/sharer_sha256", json!("00")),
        ("summary.json", "/evaluation_data/0/source", json!("elsewhere")),
        ("summary.json", "reviewed", json!(true)),
        ("environment.json", "/device", json!("cuda")),
        ("environment.json", "/c2c", json!("9.9.9")),
    ];
    for (file, pointer, value) in cases {
        let (_dir, run) = changed(file, pointer, value);
        caught(&run, &[&format!("{file}: sha256: found "), "as in seal.json"]);
    }
    // What left rows out is in the fingerprint of the questions, too.
    let mut print = json_of(&RUNS.eval.join("summary.json"))["evaluation_data"][0].clone();
    print["left_out"] = json!({ "expert": 3 });
    let (_dir, run) = changed("summary.json", "/evaluation_data/0", print);
    caught(&run, &["summary.json: evaluation_data[0]: found "]);
    let (_dir, run) = copy(&RUNS.eval);
    std::fs::remove_file(run.join("seal.json")).unwrap();
    caught(&run, &["seal.json: file: found nothing"]);
}

#[test]
fn a_run_without_its_recipe_is_not_verified() {
    let (_dir, run) = copy(&RUNS.train);
    std::fs::remove_file(run.join("recipe.toml")).unwrap();
    let mut summary = json_of(&run.join("summary.json"));
    summary["partial"] = json!(false);
    summary["evaluation"]["partial_because"] = json!([]);
    write_json(&run.join("summary.json"), &summary);
    std::fs::remove_file(run.join("seal.json")).unwrap();
    caught(&run, &["recipe.toml: file: found nothing", "seal.json: file: found nothing"]);
}

#[test]
fn what_shut_gates_did_stands_in_the_records() {
    let shut = |records: &mut Vec<Record>| {
        let record = records.iter_mut().find(|record| record.method == Method::GatesShut).unwrap();
        record.bit_equal = Some(false);
    };
    records_caught(shut, false, &["controls.gates_shut_bit_equal: found true, expected false"]);
    let unsaid = |records: &mut Vec<Record>| {
        records
            .iter_mut()
            .filter(|record| record.method == Method::GatesShut)
            .for_each(|record| record.bit_equal = None);
    };
    records_caught(unsaid, true, &["bit_equal: found nothing"]);
}

#[test]
fn subjects_and_letters_are_those_of_the_questions() {
    let id = |records: &[Record]| records[5].question_id.clone();
    let subject = |records: &mut Vec<Record>| {
        let id = id(records);
        records.iter_mut().filter(|record| record.question_id == id).for_each(|r| r.subject = Some("alchemy".into()));
    };
    records_caught(subject, true, &[": subject: found alchemy, expected ", "as in the source"]);
    let classes = |records: &mut Vec<Record>| {
        let id = id(records);
        records.iter_mut().filter(|record| record.question_id == id).for_each(|r| r.classes = vec!["x".into()]);
    };
    records_caught(classes, true, &[": classes: found x"]);
    records_caught(
        |records| records[5].letter_logprobs = vec![-0.5, -1.0],
        true,
        &[": letter_logprobs: found 2, expected 0"],
    );
}

#[test]
fn what_cannot_be_verified_is_refused_by_name() {
    let refused = |run: &Path, code: i32, words: &[&str]| {
        let output = c2c(&["verify", run.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{words:?}\n{}", stderr(&output));
    };
    let (_dir, run) = copy(&RUNS.eval);
    let path = run.join("summary.json");
    let summary = json_of(&path);
    // Of before there were categories, which these questions have none of.
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"format\": 3,"), "{text}");
    std::fs::write(&path, text.replace("\"format\": 3,", "\"format\": 1,")).unwrap();
    std::fs::remove_file(run.join("seal.json")).unwrap();
    let verified = stdout(&succeeds(&["verify", run.to_str().unwrap()]));
    assert!(
        verified.contains("recipe and settings as recorded") && verified.contains("before runs were sealed"),
        "{verified}"
    );
    let mut newer = summary.clone();
    newer["evaluation"]["format"] = json!(99);
    write_json(&path, &newer);
    refused(&run, 3, &["format 99", "newer program"]);
    let mut older = summary.clone();
    older.as_object_mut().unwrap().remove("evaluation");
    write_json(&path, &older);
    refused(&run, 3, &["format none", "older program"]);
    // Figures taken away while their records are there.
    write_json(&path, &json!({ "steps": 3 }));
    caught(&run, &["summary.json: evaluation: found nothing"]);
    refused(Path::new("/nowhere"), 2, &["/nowhere"]);
    refused(&root().join("docs"), 2, &["is no run directory"]);
}
