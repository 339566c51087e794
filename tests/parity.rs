//! `c2c parity` through the binary.

#![allow(clippy::unwrap_used, missing_docs)]

mod kit;

use kit::{command, fails, only_folder, root, stderr, stdout, succeeded, succeeds};
use serde_json::Value;

#[test]
fn bf16_on_the_cpu_chooses_what_f32_chooses_and_the_card_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let fuser = dir.path().join("fuser");
    succeeds(&["export", "exports/pocket", "--out", fuser.to_str().unwrap()]);
    let runs = dir.path().join("runs");
    let output = format!("output.dir={:?}", runs.display().to_string());
    let out = succeeds(&[
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
    let printed = stdout(&out);
    assert!(printed.starts_with("against the CPU in f32, 3 prompts, 12 positions"), "{printed}");
    assert!(printed.lines().any(|line| line.starts_with("cpu") && line.ends_with("agrees")), "{printed}");

    let figures = std::fs::read(only_folder(&runs).join("parity.json")).unwrap();
    let figures: Value = serde_json::from_slice(&figures).unwrap();
    let compared = &figures["compared"][0];
    assert_eq!((&compared["device"], &compared["dtype"]), (&"cpu".into(), &"bf16".into()));
    assert_eq!(compared["parity"]["keys"].as_array().unwrap().len(), 5, "a figure for each layer");
    let distance = compared["parity"]["logits"]["max"].as_f64().unwrap();
    assert!(distance > 0.0, "bf16 rounds");
    let card = std::fs::read_to_string(fuser.join("README.md")).unwrap();
    assert!(card.contains("## Agreement of devices\n") && card.contains("| cpu | bf16 |"), "{card}");
    // The fuser with its new card is still a fuser.
    succeeds(&["export", fuser.to_str().unwrap(), "--out", dir.path().join("copy").to_str().unwrap()]);
}

#[test]
fn comparing_the_cpu_with_itself_is_refused() {
    fails(&["parity", "recipes/eval/pocket.toml", "--on", "cpu", "--dtype", "f32"], 2, &["nothing to compare"]);
}

#[test]
fn a_failed_comparison_leaves_no_run_directory() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let output = format!("output.dir={:?}", runs.display().to_string());
    let args = ["parity", "recipes/eval/pocket.toml", "--on", "cpu", "--fuser", "/no/such/fuser", "-o", &output];
    fails(&args, 3, &["/no/such/fuser/fuser_config.json"]);
    assert!(!runs.exists());
}

#[test]
fn a_fuser_of_the_hub_cache_is_compared_by_its_id_and_its_card_stays() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = dir.path().join("hub/models--lab--fuser/snapshots").join("a".repeat(40));
    std::fs::create_dir_all(&snapshot).unwrap();
    for name in ["fuser_config.json", "fuser.safetensors", "README.md"] {
        std::fs::copy(root().join("exports/pocket").join(name), snapshot.join(name)).unwrap();
    }
    let runs = dir.path().join("runs");
    let output = format!("output.dir={:?}", runs.display().to_string());
    let args = ["parity", "recipes/eval/pocket.toml", "--on", "cpu", "--limit", "1", "--new-tokens", "1"];
    let args = [&args[..], &["--fuser", "lab/fuser", "-o", &output]].concat();
    let run = |args: &[&str]| command(args).env("HF_HUB_CACHE", dir.path().join("hub")).output().unwrap();
    succeeded(&args, run(&args));
    assert!(only_folder(&runs).join("parity.json").is_file());
    let card = || std::fs::read(snapshot.join("README.md")).unwrap();
    let before = card();
    let refused = run(&[&args[..], &["--card"]].concat());
    let said = stderr(&refused);
    assert!(refused.status.code() == Some(2) && said.contains("c2c export") && !said.contains("tracing"), "{said}");
    assert_eq!(card(), before);
}
