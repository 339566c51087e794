//! Several Sharers from a recipe or the command line, through the real binary: what one of them alone is, going on, shards,
//! verification, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::path::{Path, PathBuf};

use c2c_eval::{Phases, Record, read_records};
use c2c_recipe::Method;
use kit::{fails, only_folder, root, stderr, stdout, succeeds};
use serde_json::{Value, json};

const RECIPE: &str = "recipes/eval/pocket-several.toml";

/// Runs `c2c eval` on few questions in small batches, in a folder of its own; gives the run directory.
fn eval(output: &Path, recipe: &str, more: &[&str]) -> PathBuf {
    let output = format!("output.dir={}", output.display());
    let few = ["-o", "evaluation.limit=24", "-o", "evaluation.batch_size=4", "-o", &output];
    let done = succeeds(&[&["eval", recipe], &few[..], more].concat());
    let said = stderr(&done);
    let run = said.lines().find_map(|line| line.strip_prefix("run directory ")).unwrap();
    PathBuf::from(run)
}

/// Records of a method without their times, as if `c2c` had answered.
fn answers(run: &Path, method: Method) -> Vec<Record> {
    let records = read_records(run.join("eval/records.parquet")).unwrap().into_iter();
    let of = records.filter(|record| record.method == method);
    let untimed = |record: Record| Record { milliseconds: 0.0, phases: Phases::default(), ..record };
    of.map(|record| Record { method: Method::C2c, ..untimed(record) }).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn verified(run: &Path) -> String {
    let said = stdout(&succeeds(&["verify", run.to_str().unwrap()]));
    assert!(said.contains(": verified") && !said.contains("not checked"), "{said}");
    said
}

/// A copy of the second fuser, which a test may change.
fn second_fuser(dir: &Path) -> PathBuf {
    let copy = dir.join("second");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(root().join("exports/pocket-narrow")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn two_links_are_asked_reported_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let run = eval(dir.path(), RECIPE, &["-o", "evaluation.mode=logits"]);
    let records = read_records(run.join("eval/records.parquet")).unwrap();
    assert_eq!(records.len(), 6 * 24);
    let (c2c, several) = (answers(&run, Method::C2c), answers(&run, Method::Several));
    assert!(several.iter().all(|record| record.error.is_none() && record.letter_logprobs.len() == 4));
    assert!(several.iter().zip(&c2c).all(|(all, one)| all.prompt_sha256 != one.prompt_sha256));
    assert!(several.iter().zip(&c2c).all(|(all, one)| all.letter_logprobs != one.letter_logprobs));
    let summary = json_of(&run.join("summary.json"));
    assert_eq!(summary["several"]["total"], json!(24));
    let phases = &summary["several"]["ms_by_phase"];
    assert!(["sharer_prefill", "receiver_prefill", "fusion"].iter().all(|part| phases[part].as_f64() > Some(0.0)));
    let differences = summary["differences"].as_array().unwrap();
    let compared: Vec<&Value> = differences.iter().filter(|d| d["first"] == "several").map(|d| &d["second"]).collect();
    assert_eq!(compared, ["c2c", "receiver", "sharer", "mismatched", "several_mismatched"]);
    let config = json_of(&root().join("exports/pocket-narrow/fuser_config.json"));
    assert_eq!(
        summary["further_sharers"],
        json!([{
            "fuser_sha256": config["weights_sha256"], "sharer_sha256": config["sharer"]["weights_sha256"],
        }])
    );
    assert!(verified(&run).contains("the fuser of sharer 2's weights by hash"), "{}", verified(&run));
    let report = stdout(&succeeds(&["report", run.to_str().unwrap()]));
    // Behind the mark of few questions.
    let cells = |line: &str| line.split_whitespace().skip(1).take(3).map(str::to_owned).collect::<Vec<_>>();
    let correct = summary["several"]["correct"].to_string();
    assert!(report.lines().any(|line| cells(line) == ["several", "24", &correct]), "{report}");
    assert!(report.lines().any(|line| cells(line) == ["c2c", "several", "24"]), "{report}");
}

#[test]
fn one_link_of_several_is_that_link_alone() {
    let dir = tempfile::tempdir().unwrap();
    for mode in ["generate", "logits"] {
        let mode = format!("evaluation.mode={mode}");
        let of = |more: &[&str]| eval(dir.path(), RECIPE, &[&["-o", &mode], more].concat());
        let first = of(&["-o", "several.use=1", "-o", "several.order=parallel"]);
        assert_eq!(answers(&first, Method::Several), answers(&first, Method::C2c), "{mode}");
        assert!(json_of(&first.join("summary.json")).get("further_sharers").is_none());
        verified(&first);
        let second = of(&["-o", "several.use=2"]);
        let alone = eval(dir.path(), "recipes/eval/pocket.toml", &["--fuser", "exports/pocket-narrow", "-o", &mode]);
        assert_eq!(answers(&second, Method::Several), answers(&alone, Method::C2c), "{mode}");
        verified(&second);
    }
}

/// The Sharer knows the answers and the Receiver doesn't: with another question before the Sharer, what one link or both
/// have gained is lost.
#[test]
fn nothing_is_gained_from_another_question() {
    let dir = tempfile::tempdir().unwrap();
    for order in ["sequential", "parallel"] {
        let order = format!("several.order={order}");
        let more = ["-o", &order, "-o", "evaluation.limit=144", "-o", "evaluation.batch_size=32"];
        let run = eval(dir.path(), RECIPE, &more);
        let summary = json_of(&run.join("summary.json"));
        let accuracy = |figures: &Value| figures["accuracy"].as_f64().unwrap();
        for (method, control) in [("c2c", "mismatched"), ("several", "several_mismatched")] {
            let (with, without) = (accuracy(&summary[method]), accuracy(&summary["controls"][control]));
            assert!(with >= 0.9 && without <= 0.4, "{order}: {method} {with}, {control} {without}");
        }
        // Both links cut a prompt alike, so that one and both read the same other question.
        let partners =
            |method| -> Vec<Option<String>> { answers(&run, method).into_iter().map(|r| r.partner).collect() };
        assert!(partners(Method::Several).iter().all(Option::is_none));
        assert_eq!(partners(Method::SeveralMismatched), partners(Method::Mismatched));
        assert!(partners(Method::Mismatched).iter().all(Option::is_some));
        verified(&run);
    }
}

#[test]
fn fusers_on_the_command_line_are_those_of_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let fusers = ["--fuser", "exports/pocket", "--fuser", "exports/pocket-narrow", "--fusion-order", "parallel"];
    // The second fuser names a folder that isn't there, but the weights of the first one's sharer.
    let logits = ["-o", "evaluation.mode=logits"];
    let typed = eval(dir.path(), "recipes/eval/pocket.toml", &[&fusers[..], &logits].concat());
    let written = eval(dir.path(), RECIPE, &[&["-o", "several.order=parallel"], &logits[..]].concat());
    assert_eq!(answers(&typed, Method::Several), answers(&written, Method::Several));
    let recipe = std::fs::read_to_string(typed.join("recipe.toml")).unwrap();
    // With its control, since the recipe asks that of `c2c`.
    let methods = "methods = [\"receiver\", \"sharer\", \"c2c\", \"mismatched\", \"gates_shut\", \"several\", \"several_mismatched\"]";
    assert!(recipe.contains(methods) && recipe.contains("order = \"parallel\""), "{recipe}");
    verified(&typed);
    let unread = succeeds(&[
        "eval",
        RECIPE,
        "--limit",
        "2",
        "-o",
        "evaluation.methods=[\"c2c\"]",
        "-o",
        &format!("output.dir={}", dir.path().join("unread").display()),
    ]);
    assert!(stderr(&unread).contains("[several] is not read"), "{}", stderr(&unread));
}

#[test]
fn cut_short_and_in_shards_it_ends_as_if_nothing_had_happened() {
    let dir = tempfile::tempdir().unwrap();
    let whole = eval(&dir.path().join("whole"), RECIPE, &[]);
    let mut shards = Vec::new();
    for shard in ["1/2", "2/2"] {
        let run = eval(&dir.path().join(shard.replace('/', "of")), RECIPE, &["--shard", shard]);
        // As if the process had been killed in the middle of its last line but some.
        let journal = run.join("eval/journal.jsonl");
        let text = std::fs::read_to_string(&journal).unwrap();
        let kept: Vec<&str> = text.split_inclusive('\n').collect();
        let units = kept.len() - 2;
        let cut = format!("{}{}", kept[..=units / 2].concat(), &kept[units / 2 + 1][..40]);
        std::fs::write(&journal, cut).unwrap();
        let again = succeeds(&["eval", "--resume", run.to_str().unwrap()]);
        assert!(stderr(&again).contains("several"), "{}", stderr(&again));
        shards.push(run);
    }
    let merged = dir.path().join("merged");
    let paths: Vec<&str> = shards.iter().map(|run| run.to_str().unwrap()).collect();
    succeeds(&[&["merge"], &paths[..], &["--out", merged.to_str().unwrap()]].concat());
    for method in [Method::C2c, Method::Several] {
        assert_eq!(answers(&merged, method), answers(&whole, method));
    }
    assert_eq!(json_of(&merged.join("summary.json"))["further_sharers"].as_array().unwrap().len(), 1);
    verified(&merged);
}

#[test]
fn another_second_fuser_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let second = second_fuser(dir.path());
    let fuser = format!("several.links[0].fuser={}", second.display());
    let run = eval(&dir.path().join("run"), RECIPE, &["-o", &fuser]);
    assert_eq!(only_folder(&dir.path().join("run")), run);
    verified(&run);
    let weights = second.join("fuser.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let run = run.to_str().unwrap();
    fails(&["verify", run], 1, &[]);
    let said = stdout(&kit::c2c(&["verify", run]));
    assert!(said.contains("second/fuser.safetensors") && said.contains("sha256"), "{said}");
}

#[test]
fn links_that_do_not_fit_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let second = second_fuser(dir.path());
    let config = second.join("fuser_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"sections\": \"message\"", "\"sections\": \"paragraph\"")).unwrap();
    let fuser = second.to_str().unwrap();
    let args = ["eval", "recipes/eval/pocket.toml", "--fuser", "exports/pocket", "--fuser", fuser];
    fails(&args, 2, &["several.links[0].fuser", "alignment.sections = \"paragraph\"", "the Fuser of sharer 1"]);
    fails(&["eval", RECIPE, "-o", "several.use=3"], 2, &["several.use", "1 and 2", "3 is none"]);
    fails(&["eval", RECIPE, "-o", "several="], 2, &["several.links", "missing"]);
    fails(&["eval", RECIPE, "-o", "several.links[0].fuser=nowhere"], 3, &["nowhere"]);
    let other = ["eval", RECIPE, "-o", "several.links[0].sharer=../../datasets/pocket/receiver"];
    fails(&other, 3, &["several.links[0]", "pocket-narrow", "sharer 2 isn't the one that"]);
}
