//! End to end: fusers that come and go, with the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::path::Path;
use std::process::Output;

use kit::{FOUR_STEPS, command, failed, only_folder, root, stderr, succeeded};
use serde_json::Value;

/// Runs `c2c` with an empty hub cache.
fn c2c(args: &[&str]) -> Output {
    c2c_with_cache(args, Path::new("/nonexistent"))
}

fn c2c_with_cache(args: &[&str], cache: &Path) -> Output {
    command(args).env("HF_HUB_CACHE", cache).output().unwrap()
}

fn succeeds(args: &[&str]) -> String {
    stderr(&succeeded(args, c2c(args)))
}

fn fails(args: &[&str], code: i32, words: &[&str]) {
    failed(args, &c2c(args), code, words);
}

fn weights(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("fuser.safetensors")).unwrap()
}

const POCKET: [&str; 4] = ["--receiver", "datasets/pocket/receiver", "--sharer", "datasets/pocket/sharer"];

#[test]
fn a_fuser_goes_to_pytorch_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    let (there_text, back_text) = (there.to_str().unwrap(), back.to_str().unwrap());
    let said = succeeds(&["export", "exports/pocket", "--out", there_text, "--format", "pytorch"]);
    assert!(said.contains("`spans`"), "{said}");
    assert!(there.join("final/projector_4.pt").is_file());
    let said = succeeds(&[&["import", there_text, "--out", back_text], &POCKET[..]].concat());
    assert!(said.contains("open gates: 5 of 5 for keys, 5 of 5 for values") && said.contains("unknown"), "{said}");
    assert!(weights(&back) == weights(&root().join("exports/pocket")), "the same bytes");
    // With the same bytes, the figures in the card are still those of this Fuser.
    let card = std::fs::read_to_string(back.join("README.md")).unwrap();
    let config: Value = serde_json::from_slice(&std::fs::read(back.join("fuser_config.json")).unwrap()).unwrap();
    let whose = format!("has sha256 `{}`; the values here are the same.", config["weights_sha256"].as_str().unwrap());
    assert!(card.contains("## Results") && card.contains(&whose) && card.contains("285 of 288"), "{card}");
    fails(&[&["import", there_text, "--out", back_text], &POCKET[..]].concat(), 3, &["exists"]);

    // What the layout doesn't say has to be said, and may not be contradicted.
    let again = dir.path().join("again");
    let import = ["import", there_text, "--out", again.to_str().unwrap()];
    let shared = [&import[..], &POCKET[..], &["--alignment", "shared"]].concat();
    fails(&shared, 2, &["--alignment shared", "aligned, spans"]);
    fails(&import, 3, &["receiver's config.json", "--receiver"]);
    std::fs::remove_file(there.join("config.json")).unwrap();
    fails(&import, 2, &["--receiver"]);
    fails(&[&import[..], &POCKET[..]].concat(), 2, &["--alignment"]);
    succeeds(&[&import[..], &POCKET[..], &["--alignment", "first"]].concat());
    let config: Value = serde_json::from_slice(&std::fs::read(again.join("fuser_config.json")).unwrap()).unwrap();
    assert_eq!(config["alignment"]["strategy"], "first");
    let swapped =
        ["--receiver", "datasets/pocket/sharer", "--sharer", "datasets/pocket/receiver", "--alignment", "first"];
    fails(
        &[&["import", there_text, "--out", "/nonexistent/x"], &swapped[..]].concat(),
        3,
        &["layer `4`, expected 0 to 3"],
    );
}

#[test]
fn a_fuser_in_the_hub_cache_is_found_and_one_that_is_not_there_can_be_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = dir.path().join("cache/models--lab--fusers/snapshots/abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    let published = snapshot.join("pocket_Fuser");
    succeeds(&["export", "exports/pocket", "--out", published.to_str().unwrap(), "--format", "pytorch"]);
    let out = dir.path().join("out");
    let import = |source: &str, args: &[&str]| {
        let args = [&["import", source, "--out", out.to_str().unwrap()], args].concat();
        let output = c2c_with_cache(&args, &dir.path().join("cache"));
        (output.status.code(), stderr(&output))
    };
    let (code, said) = import("lab/fusers", &POCKET);
    assert!(code == Some(2) && said.contains("name one of them:\n  lab/fusers/pocket_Fuser"), "{said}");
    let (code, said) = import("lab/fusers/pocket_Fuser", &POCKET);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = import("lab/fusers/other", &POCKET);
    assert!(code == Some(3) && said.contains("c2c download lab/fusers/other"), "{said}");
    let (code, said) = import("lab/fusers/../../secret", &POCKET);
    assert!(code == Some(2) && said.contains("no hub id"), "{said}");
    let (code, said) = import("lab/fusers/pocket_Fuser", &["--receiver", "lab/model"]);
    assert!(code == Some(3) && said.contains("c2c download lab/model"), "{said}");
}

#[test]
fn a_graph_comes_with_the_card_of_its_fuser() {
    let dir = tempfile::tempdir().unwrap();
    let onnx = dir.path().join("onnx");
    let export = ["export", "exports/pocket", "--out", onnx.to_str().unwrap(), "--format", "onnx"];
    succeeds(&export);
    let read = |dir: &Path| std::fs::read_to_string(dir.join("README.md")).unwrap();
    let (card, own) = (read(&onnx), read(&root().join("exports/pocket")));
    let section = |card: &str, heading: &str| {
        let (_, rest) = card.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{heading}: {card}"));
        rest.split_once("\n## ").map_or(rest, |(body, _)| body).to_owned()
    };
    for heading in ["Pair", "Training data", "Gates"] {
        assert_eq!(section(&card, heading), section(&own, heading), "{heading}");
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(root().join("exports/pocket/fuser_config.json")).unwrap()).unwrap();
    let whose = format!("has sha256 `{}`; the values here are the same.", config["weights_sha256"].as_str().unwrap());
    let results = section(&card, "Results");
    assert!(results.contains(&whose) && results.ends_with(&section(&own, "Results")), "{results}");
    let used = section(&card, "Use");
    for words in [
        "| input | `sharer_key` | `[sharer_layers, batch, 4, tokens, 32]` |",
        "| output | `fused_value` | `[5, batch, 2, tokens, 32]` |",
        "fuser.onnx\")",
        "\"receiver_value\": rng.standard_normal(receiver, dtype=np.float32)",
    ] {
        assert!(used.contains(words), "{words} in\n{used}");
    }
    assert!(!card.contains("fuser.onnx.data"), "the weights of a small Fuser lie in the graph");

    // What is written is replaced as a whole, and nothing else is.
    fails(&export, 3, &["exists already"]);
    succeeds(&[&export[..], &["--overwrite"]].concat());
    assert_eq!(read(&onnx), card);
    let other = ["export", "exports/pocket", "--out", export[3], "--overwrite"];
    fails(&other, 3, &["fuser.onnx"]);
}

#[test]
fn rounded_and_pruned_fusers_are_evaluated_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("bf16", &["--dtype", "bf16"][..]),
        ("int8", &["--int8"]),
        ("f16-pruned", &["--dtype", "f16", "--prune-closed-gates"]),
    ] {
        let fuser = dir.path().join(name);
        let fuser_text = fuser.to_str().unwrap();
        let said = succeeds(&[&["export", "exports/pocket", "--out", fuser_text], options].concat());
        assert!(said.contains("against the f32 fuser") && said.contains("fused values  mean"), "{said}");
        assert!(weights(&fuser).len() * 19 < weights(&root().join("exports/pocket")).len() * 10);
        let runs = dir.path().join(format!("{name}-runs"));
        let output_dir = format!("output.dir={}", runs.display());
        let mut args = vec!["eval", "recipes/eval/pocket.toml", "--fuser", fuser_text, "-o", &output_dir];
        args.extend(["-o", "evaluation.limit=40", "-o", "evaluation.methods=[\"c2c\"]"]);
        succeeds(&args);
        let run = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
        let summary: Value = serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap();
        assert!(summary["c2c"]["accuracy"].as_f64().unwrap() >= 0.9, "{name}: {}", summary["c2c"]);
    }
    let out = dir.path().join("x");
    let export = ["export", "exports/pocket", "--out", out.to_str().unwrap()];
    fails(&[&export[..], &["--int8", "--dtype", "bf16"]].concat(), 2, &["--int8", "--dtype"]);
    fails(&[&export[..], &["--int8", "--format", "pytorch"]].concat(), 2, &["int8", "safetensors"]);
    fails(&[&export[..], &["--prune-closed-gates", "--format", "burnpack"]].concat(), 2, &["--prune-closed-gates"]);
    let twice = dir.path().join("int8");
    fails(&["export", twice.to_str().unwrap(), "--out", export[3], "--dtype", "f16"], 2, &["rounded to int8 before"]);
}

#[test]
fn the_card_of_a_training_claims_what_is_known_and_pruning_without_gates_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let output = format!("output.dir={}", runs.display());
    let mut args = vec!["train", "recipes/train/pocket-project.toml", "-o", &output];
    FOUR_STEPS.iter().for_each(|set| args.extend(["-o", set]));
    succeeds(&args);
    let run = only_folder(&runs);
    let card = std::fs::read_to_string(run.join("fuser/README.md")).unwrap();
    assert!(card.contains("\n**PARTIAL**: evaluation.limit = 8; these are no figures of the whole set.\n"), "{card}");
    assert!(card.contains("\nQuestions: pocket world 42, split test"), "{card}");
    assert!(!card.contains("not trained on") && !card.contains("license"), "{card}");

    let run = run.to_str().unwrap();
    let said = succeeds(&["push", run, "--to", "lab/fuser", "--dry-run"]);
    assert!(said.contains("README.md names no license; add `license: ID`"), "{said}");
    let out = dir.path().join("out");
    let said = succeeds(&["export", run, "--out", out.to_str().unwrap(), "--prune-closed-gates"]);
    assert!(said.contains("left out nothing: this fuser is an ablation without gates"), "{said}");
}
