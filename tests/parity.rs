//! `c2c parity` through the binary.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn c2c(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(env!("CARGO_BIN_EXE_c2c")).current_dir(root).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The only file `parity.json` below a folder of runs.
fn figures(runs: &Path) -> Value {
    let run = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    serde_json::from_slice(&std::fs::read(run.join("parity.json")).unwrap()).unwrap()
}

#[test]
fn bf16_on_the_cpu_chooses_what_f32_chooses_and_the_card_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let fuser = dir.path().join("fuser");
    let exported = c2c(&["export", "exports/pocket", "--out", fuser.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let runs = dir.path().join("runs");
    let output = format!("output.dir={:?}", runs.display().to_string());
    let out = c2c(&[
        "parity",
        "recipes/eval/pocket.toml",
        "--on",
        "cpu",
        "--limit",
        "3",
        "--new-tokens",
        "4",
        "--card",
        "--fuser",
        fuser.to_str().unwrap(),
        "-o",
        &output,
    ]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let printed = text(&out.stdout);
    assert!(printed.starts_with("against the CPU in f32, 3 prompts, 12 positions"), "{printed}");
    assert!(printed.lines().any(|line| line.starts_with("cpu") && line.ends_with("agrees")), "{printed}");

    let figures = figures(&runs);
    let compared = &figures["compared"][0];
    assert_eq!((&compared["device"], &compared["dtype"]), (&"cpu".into(), &"bf16".into()));
    assert_eq!(compared["parity"]["keys"].as_array().unwrap().len(), 5, "a figure for each layer");
    let distance = compared["parity"]["logits"]["max"].as_f64().unwrap();
    assert!(distance > 0.0, "bf16 rounds");
    let card = std::fs::read_to_string(fuser.join("README.md")).unwrap();
    assert!(card.contains("## Agreement of devices\n") && card.contains("| cpu | bf16 |"), "{card}");
    // The fuser with its new card is still a fuser.
    let again = c2c(&["export", fuser.to_str().unwrap(), "--out", dir.path().join("copy").to_str().unwrap()]);
    assert!(again.status.success(), "{}", text(&again.stderr));
}

#[test]
fn comparing_the_cpu_with_itself_is_refused() {
    let out = c2c(&["parity", "recipes/eval/pocket.toml", "--on", "cpu", "--dtype", "f32"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("nothing to compare"), "{}", text(&out.stderr));
}
