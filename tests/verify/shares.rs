//! Evaluations that fuse a share of each prompt: seen in everything that a run says of itself, and in a report of several.

use std::path::{Path, PathBuf};

use c2c_eval::read_records;
use c2c_recipe::Method;
use serde_json::{Value, json};

use super::kit::{fails, only_folder, stdout, succeeds};
use super::{caught, copy, json_of, write_json};

/// An evaluation of a few questions with more settings, and what it printed.
fn eval(into: &Path, more: &[&str]) -> (PathBuf, String) {
    let dir = format!("output.dir={}", into.display());
    let few = ["eval", "recipes/eval/pocket.toml", "-o", &dir, "--limit", "24"];
    let overrides: Vec<&str> = more.iter().flat_map(|setting| ["-o", setting]).collect();
    let said = stdout(&succeeds(&[&few[..], &overrides].concat()));
    (only_folder(into), said)
}

#[test]
fn a_share_is_part_of_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str, more: &[&str]| eval(&dir.path().join(name), more);
    let (back, said) = of("back", &["evaluation.fused_share=0.5", "evaluation.fused_from=back"]);
    assert!(said.contains("fused in part: 0.5 of the tokens that would be, from the back"), "{said}");
    let asked = &json_of(&back.join("summary.json"))["evaluation"];
    assert_eq!((&asked["fused_share"], &asked["fused_from"]), (&json!(0.5), &json!("back")));
    let text = stdout(&succeeds(&["verify", back.to_str().unwrap()]));
    assert!(text.contains(": verified") && text.contains("recipe and settings"), "{text}");

    // Nothing fused is the Receiver, all of it the run without a share.
    let (none, _) = of("none", &["evaluation.fused_share=0"]);
    let (all, _) = of("all", &["evaluation.fused_share=1"]);
    let (plain, said) = of("plain", &[]);
    assert!(!said.contains("fused in part"), "{said}");
    let outputs = |run: &Path, method: Method| -> Vec<String> {
        let records = read_records(run.join("eval/records.parquet")).unwrap();
        records.into_iter().filter(|record| record.method == method).map(|record| record.output).collect()
    };
    assert_eq!(outputs(&none, Method::C2c), outputs(&plain, Method::GatesShut));
    assert_eq!(outputs(&all, Method::C2c), outputs(&plain, Method::C2c));
    // What this fuser hands over stands at the end of its prompts, so it takes the front to see that a part isn't the whole.
    let (front, _) = of("front", &["evaluation.fused_share=0.5"]);
    assert_ne!(outputs(&front, Method::C2c), outputs(&plain, Method::C2c));
    assert!(json_of(&plain.join("summary.json"))["evaluation"].get("fused_share").is_none());
    let prompts = |run: &Path| json_of(&run.join("summary.json"))["records"]["prompts_sha256"].clone();
    assert_eq!(prompts(&all), prompts(&plain));

    // Side by side they are told apart.
    let out = dir.path().join("report");
    let runs = [&back, &none, &all].map(|run| run.to_str().unwrap());
    let table = ["--format", "json", "--out", out.to_str().unwrap()];
    let report: Value = serde_json::from_str(&stdout(&succeeds(&[&["report"][..], &runs, &table].concat()))).unwrap();
    let rows = report["tables"]["fused_share"].as_array().unwrap();
    let c2c: Vec<&Value> = rows.iter().filter(|row| row["method"] == "c2c").collect();
    let column = |name: &str| c2c.iter().map(|row| row[name].clone()).collect::<Vec<Value>>();
    assert_eq!(column("share"), [json!(0.0), json!(0.5), json!(1.0)]);
    assert_eq!(column("from"), [Value::Null, json!("back"), Value::Null]);
    let tokens: Vec<f64> = column("fused_tokens").iter().map(|mean| mean.as_f64().unwrap()).collect();
    assert!(tokens[0] == 0.0 && 0.0 < tokens[1] && tokens[1] < tokens[2], "{tokens:?}");
    let svg = std::fs::read_to_string(out.join("fused_share.svg")).unwrap();
    assert!(svg.contains("PARTIAL") && svg.contains("c2c of pocket"), "{svg}");
    // Alone, a run says it itself.
    let alone = stdout(&succeeds(&["report", runs[0]]));
    assert!(alone.contains("fused in part: 0.5 of the tokens that would be, from the back"), "{alone}");

    // What was changed afterwards is caught by name.
    let (_copy, changed) = copy(&back);
    let mut summary = json_of(&changed.join("summary.json"));
    summary["evaluation"].as_object_mut().unwrap().remove("fused_share");
    write_json(&changed.join("summary.json"), &summary);
    caught(&changed, &["evaluation.fused_share: found nothing, expected 0.5, as in recipe.toml", "fused_tokens"]);
}

#[test]
fn shards_of_different_shares_make_no_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |name: &str, part: &str, more: &[&str]| {
        let into = dir.path().join(name);
        let output = format!("output.dir={}", into.display());
        let eval = ["eval", "recipes/eval/pocket.toml", "-o", &output, "--limit", "24", "--shard", part];
        succeeds(&[&eval[..], more].concat());
        only_folder(&into)
    };
    let half = ["-o", "evaluation.fused_share=0.5"];
    let first = shard("first", "1/2", &half);
    let quarter = ["-o", "evaluation.fused_share=0.25", "-o", "evaluation.fused_from=back"];
    let other = shard("other", "2/2", &quarter);
    let merged = dir.path().join("merged");
    let merge = |second: &Path| {
        ["merge", first.to_str().unwrap(), second.to_str().unwrap(), "--out", merged.to_str().unwrap()]
            .map(str::to_owned)
    };
    let args = merge(&other);
    let words = ["recipe_sha256", "fused_share: 0.25, not 0.5", "fused_from: back, not front"];
    fails(&args.each_ref().map(String::as_str), 2, &words);
    // A shard is gone on with as it was begun, too.
    let resume = ["eval", "--resume", first.to_str().unwrap(), "-o", "evaluation.fused_share=0.25"];
    fails(&resume, 2, &["evaluation.fused_share = 0.25, not 0.5"]);
    // Those of one share make the undivided evaluation.
    let args = merge(&shard("second", "2/2", &half));
    succeeds(&args.each_ref().map(String::as_str));
    let text = stdout(&succeeds(&["verify", merged.to_str().unwrap()]));
    assert!(text.contains(": verified"), "{text}");
    let (whole, _) = eval(&dir.path().join("whole"), &["evaluation.fused_share=0.5"]);
    let fused = |run: &Path| -> Vec<Option<u32>> {
        read_records(run.join("eval/records.parquet")).unwrap().iter().map(|record| record.fused_tokens).collect()
    };
    assert_eq!(fused(&merged), fused(&whole));
}

#[test]
fn the_card_of_a_fuser_that_was_asked_in_part_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().display());
    let short = ["training.max_steps=2", "evaluation.limit=8", "evaluation.fused_share=0.25", &output];
    let overrides: Vec<&str> = short.iter().flat_map(|setting| ["-o", *setting]).collect();
    succeeds(&[&["train", "recipes/train/pocket.toml"][..], &overrides].concat());
    let run = only_folder(dir.path());
    let card = std::fs::read_to_string(run.join("fuser/README.md")).unwrap();
    assert!(card.contains("Fused in part: 0.25 of the tokens that would be, from the front."), "{card}");
    succeeds(&["verify", run.to_str().unwrap()]);
}
