//! End to end: the real binary in a scratch folder.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::path::Path;
use std::process::Command;

use kit::{fails, only_folder, root, stderr, stdout, succeeds};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

#[test]
fn doctor_checks_the_backends_of_this_build() {
    let report: Value = serde_json::from_str(&stdout(&succeeds(&["doctor", "--json"]))).unwrap();
    assert_eq!(report["devices"][0]["device"], "cpu");
    assert_eq!(report["devices"][0]["works"], true);
    assert!(stdout(&succeeds(&["doctor"])).contains("cpu      ok"));
}

#[test]
fn every_shipped_recipe_is_listed_and_valid() {
    let listed = stdout(&succeeds(&["recipe", "ls"]));
    for name in ["pocket.toml", "smollm2-135m+qwen2.5-coder-0.5b.toml", "pocket-sharer.toml"] {
        assert!(listed.contains(name), "{listed}");
    }
    assert!(!listed.contains("invalid"), "{listed}");
    let shown = stdout(&succeeds(&["recipe", "show", "recipes/train/pocket.toml"]));
    assert!(shown.contains("learning_rate") && shown.contains("epsilon"), "{shown}");
    let checked = succeeds(&["recipe", "validate", "recipes/train/pocket.toml", "recipes/eval/pocket.toml"]);
    assert_eq!(stdout(&checked).lines().count(), 2);
}

#[test]
fn all_errors_of_a_recipe_come_at_once_with_line_and_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    let text = std::fs::read_to_string(root().join("recipes/train/pocket.toml")).unwrap();
    let text = text
        .replace("learning_rate =", "lerning_rate =")
        .replace("batch_size = 32\ngradient", "batch_size = \"x\"\ngradient");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    fails(
        &["train", path],
        2,
        &["bad.toml:", "optimizer.lerning_rate", "optimizer.learning_rate", "training.batch_size"],
    );
    fails(&["recipe", "validate", path], 2, &["optimizer.lerning_rate"]);
    fails(&["train", "recipes/train/nowhere.toml"], 2, &["recipes/train/nowhere.toml"]);
    let override_ = ["train", "recipes/train/pocket.toml", "-o", "training.max_step=3"];
    fails(&override_, 2, &["training.max_step", "training.max_steps"]);
    fails(&["train", "recipes/eval/pocket.toml"], 2, &["eval", "train"]);
}

#[test]
fn a_backend_that_is_not_built_in_and_an_unknown_device_are_named() {
    if cfg!(not(feature = "cuda")) {
        fails(&["train", "recipes/train/pocket.toml", "--device", "cuda"], 3, &["cuda", "--features cuda"]);
    }
    fails(&["train", "recipes/train/pocket.toml", "--device", "tpu"], 2, &["tpu", "cpu, cuda[:n] or wgpu[:n]"]);
}

#[test]
fn a_model_that_is_not_there_is_named_with_the_way_to_get_it() {
    let args = ["train", "recipes/train/pocket.toml", "-o", "receiver.model=nobody/nothing"];
    let output = Command::new(env!("CARGO_BIN_EXE_c2c"))
        .args(args)
        .current_dir(root())
        .env("HF_HUB_CACHE", "/nonexistent")
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("c2c download nobody/nothing"), "{}", stderr(&output));
}

#[test]
fn questions_that_are_not_there_end_a_training_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().display());
    let missing = "evaluation.sources=[{kind = \"multiple_choice\", path = \"nowhere.jsonl\"}]";
    for recipe in ["recipes/train/pocket.toml", "recipes/train/pocket-single.toml"] {
        fails(&["train", recipe, "-o", &output, "-o", missing], 3, &["nowhere.jsonl"]);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no run was begun");
}

#[test]
fn a_short_run_trains_exports_and_evaluates_to_the_same_figures() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let output_dir = format!("output.dir={}", runs.display());
    let short = ["-o", &output_dir, "-o", "training.max_steps=3", "-o", "evaluation.limit=12"];
    succeeds(&[&["train", "recipes/train/pocket.toml"], &short[..]].concat());
    let run = only_folder(&runs);
    for file in
        ["recipe.toml", "environment.json", "data.json", "metrics.jsonl", "eval/records.parquet", "fuser/README.md"]
    {
        assert!(run.join(file).is_file(), "{file}");
    }
    let summary = json(&run.join("summary.json"));
    assert_eq!(summary["steps"], 3);
    assert_eq!(summary["partial"], true, "12 of 288 questions");
    assert!(summary["train_seconds"].as_f64().unwrap() > 0.0);
    for figures in [&summary["receiver"], &summary["sharer"], &summary["c2c"], &summary["controls"]["mismatched"]] {
        assert_eq!(figures["total"], 12, "{summary}");
        for key in ["accuracy", "correct", "low", "high", "ms_per_question"] {
            assert!(figures[key].is_number(), "{key} in {figures}");
        }
    }
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 3);
    // The gates of both branches of the Receiver's five layers, where the run was validated: at its end.
    let gates = std::fs::read_to_string(run.join("gates.jsonl")).unwrap();
    assert_eq!(gates.lines().count(), 1);
    let gates: serde_json::Value = serde_json::from_str(&gates).unwrap();
    let open = ["keys", "values"].map(|branch| gates[branch].as_array().unwrap().clone()).concat();
    assert!(gates["step"] == 3 && open.len() == 10, "{gates}");
    let share = open.iter().filter(|logit| logit.as_f64().unwrap() > 0.0).count() as f64 / 10.0;
    assert_eq!(summary["last_step"]["gates_open"], share);

    let run_arg = run.to_str().unwrap();
    let table = stdout(&succeeds(&["report", run_arg, "--table", "gates", "--format", "csv"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 6, "a heading and five layers: {table}");
    assert!(lines[0].ends_with("layer,first_step,keys_first,values_first,last_step,keys_last,values_last,open"));
    let first: Vec<f64> = lines[1].split(',').skip(4).take(2).map(|cell| cell.parse().unwrap()).collect();
    for (place, logit) in first.iter().enumerate() {
        assert!((open[5 * place].as_f64().unwrap() - logit).abs() < 1e-5, "{table} {gates}");
    }
    let drawn = dir.path().join("report");
    succeeds(&["report", run_arg, "--out", drawn.to_str().unwrap()]);
    let svg = std::fs::read_to_string(drawn.join("gates.svg")).unwrap();
    // Four fields of the legend and ten gates.
    assert!(svg.contains("Gates by layer") && svg.matches("<rect").count() >= 14, "{svg}");

    let exported = dir.path().join("exported");
    let (run_text, exported_text) = (run.to_str().unwrap(), exported.to_str().unwrap());
    succeeds(&["export", run_text, "--out", exported_text]);
    fails(&["export", run_text, "--out", exported_text], 3, &["exists"]);
    let same = |name: &str| {
        std::fs::read(run.join("fuser").join(name)).unwrap() == std::fs::read(exported.join(name)).unwrap()
    };
    assert!(same("fuser.safetensors") && same("fuser_config.json"));

    let evals = dir.path().join("evals");
    let eval_dir = format!("output.dir={}", evals.display());
    succeeds(&[
        "eval",
        "recipes/eval/pocket.toml",
        "--fuser",
        exported_text,
        "-o",
        &eval_dir,
        "-o",
        "evaluation.limit=12",
        "-o",
        "receiver.model=../../datasets/pocket/receiver",
        "-o",
        "sharer.model=../../datasets/pocket/sharer",
    ]);
    let again = json(&only_folder(&evals).join("summary.json"));
    for method in ["receiver", "sharer", "c2c"] {
        assert_eq!(again[method]["answers"], summary[method]["answers"], "{method}");
        assert_eq!(again[method]["correct"], summary[method]["correct"], "{method}");
    }
    fails(&["export", dir.path().to_str().unwrap(), "--out", "x"], 2, &["fuser_config.json"]);
}

#[test]
fn two_runs_of_one_recipe_learn_the_same_fuser() {
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, seed: &str| {
        let runs = dir.path().join(name);
        let output_dir = format!("output.dir={}", runs.display());
        let args = ["train", "recipes/train/pocket.toml", "-o", &output_dir, "-o", "training.max_steps=2", "-o", seed];
        succeeds(&[&args[..], &["-o", "evaluation.limit=1", "-o", "evaluation.methods=[\"c2c\"]"]].concat());
        std::fs::read(only_folder(&runs).join("fuser/fuser.safetensors")).unwrap()
    };
    let first = train("a", "seed=1");
    assert!(first == train("b", "seed=1"), "one seed, two fusers");
    assert!(first != train("c", "seed=2"), "two seeds, one fuser");
}

/// What the project claims: the committed fuser carries the sharer's knowledge to places that it was never trained on.
#[test]
fn the_committed_pocket_fuser_communicates() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("output.dir={}", dir.path().display());
    let methods = "evaluation.methods=[\"receiver\", \"sharer\", \"c2c\", \"mismatched\", \"gates_shut\"]";
    succeeds(&["eval", "recipes/eval/pocket.toml", "-o", &output_dir, "-o", methods]);
    let summary = json(&only_folder(dir.path()).join("summary.json"));
    let accuracy = |figures: &Value| figures["accuracy"].as_f64().unwrap();
    assert_eq!(summary["c2c"]["total"], 288);
    let receiver = accuracy(&summary["receiver"]);
    assert!((0.2..=0.35).contains(&receiver), "receiver {receiver}");
    assert!(accuracy(&summary["sharer"]) >= 0.9, "sharer {}", summary["sharer"]);
    assert!(accuracy(&summary["c2c"]) >= 0.8, "c2c {}", summary["c2c"]);
    let mismatched = accuracy(&summary["controls"]["mismatched"]);
    assert!(mismatched <= 0.4, "mismatched {mismatched}");
    assert_eq!(summary["controls"]["gates_shut_bit_equal"], true);
}

const POCKET: [&str; 5] =
    ["bench", "--receiver", "datasets/pocket/receiver", "--sharer", "datasets/pocket/sharer/config.json"];

#[test]
fn a_benchmark_times_every_row_and_gives_its_floor() {
    let small = [
        "--context",
        "8,16",
        "--decode-context",
        "8",
        "--train",
        "2,8,4",
        "--fuser-width",
        "32",
        "--repeats",
        "1",
        "--batch",
        "3",
    ];
    let report: Value = serde_json::from_str(&stdout(&succeeds(&[&POCKET[..], &small, &["--json"]].concat()))).unwrap();
    assert_eq!(report["device"], "cpu");
    assert!(report["limits"]["flops_per_second"].as_f64().unwrap() > 0.0);
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["work"].as_str().unwrap()).collect();
    let expected = [
        "receiver prefill 8",
        "sharer prefill 8",
        "fusers on 8 tokens",
        "C2C prefill 8",
        "C2C prefill 3 x 8",
        "receiver prefill 16",
        "sharer prefill 16",
        "fusers on 16 tokens",
        "C2C prefill 16",
        "C2C prefill 3 x 16",
        "decode a token after 8 fused",
        "decode 3 tokens after 3 x 8 fused",
        "training step 2 x (8 + 4)",
    ];
    assert_eq!(names, expected);
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert!(number("median_ms") > 0.0 && number("floor_ms") > 0.0, "{row}");
        assert!((number("times_floor") - number("median_ms") / number("floor_ms")).abs() < 1e-6, "{row}");
        assert!(number("best_ms") <= number("median_ms") && number("median_ms") <= number("worst_ms"), "{row}");
    }
    let table = stdout(&succeeds(&[&POCKET[..], &small, &["--only", "fusers on 8"]].concat()));
    assert!(table.contains("fusers on 8 tokens") && !table.contains("prefill"), "{table}");
}

#[test]
fn a_benchmark_refuses_what_it_cannot_do_by_name() {
    fails(&["bench", "--train", "4,512"], 2, &["--train", "2 numbers", "ROWS,CONTEXT,RESPONSE"]);
    fails(&["bench", "--context", "1"], 2, &["1 token", "at least 2"]);
    fails(&["bench", "--batch", "0"], 2, &["--batch", "0 prompts", "1 or more"]);
    fails(&["bench", "--dtype", "f64"], 2, &["f64", "bf16 or f32"]);
    fails(&["bench", "--receiver", "nowhere/config.json"], 2, &["nowhere/config.json"]);
    fails(&["bench", "--receiver", "README.md"], 2, &["README.md"]);
    fails(&[&POCKET[..], &["--only", "no such row"]].concat(), 2, &["--only"]);
    fails(&[&POCKET[..], &["--fuser-width", "0"]].concat(), 2, &["hidden_dim"]);
}

#[test]
fn a_row_of_a_benchmark_that_fails_leaves_the_others() {
    // Of contexts of 512 tokens.
    let args = ["--context", "8,600", "--decode-context", "8", "--train", "2,8,4", "--fuser-width", "32"];
    let args = [&POCKET[..], &args, &["--repeats", "1", "--json"]].concat();
    let output = kit::c2c(&args);
    kit::failed(&args, &output, 1, &["4 of 10 rows failed", "C2C prefill 600", "receiver prefill 8: first"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    for row in report["rows"].as_array().unwrap() {
        let name = row["work"].as_str().unwrap();
        let reason = row["error"].as_str().unwrap_or_default();
        assert_eq!(reason.contains("context of 512"), name.contains("600"), "{row}");
        assert_eq!(row["median_ms"].is_number(), reason.is_empty(), "{row}");
        #[cfg(target_os = "linux")]
        assert_eq!(row["memory_gib"].as_f64().is_some_and(|held| held > 0.01), reason.is_empty(), "{row}");
    }
    let args = [&args[..args.len() - 1], &["--only", "prefill"]].concat();
    let output = kit::c2c(&args);
    kit::failed(&args, &output, 1, &["3 of 6 rows failed"]);
    let table = stdout(&output);
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("sharer prefill 600").contains("failed: 600 positions"), "{table}");
    assert!(line("sharer prefill 8 ").split_whitespace().count() == 10, "{table}");
}

#[test]
fn completions_and_help_are_there() {
    assert!(stdout(&succeeds(&["completions", "bash"])).contains("c2c"));
    let help = stdout(&succeeds(&["--help"]));
    for word in ["train", "eval", "export", "recipe", "doctor", "HF_HUB_CACHE", "Exit codes"] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let page = stdout(&succeeds(&["man"]));
    assert!(page.starts_with(".ie") && page.contains("c2c\\-chat(1)") && page.contains("HF_HUB_CACHE"), "{page}");
    let page = stdout(&succeeds(&["man", "recipe", "ls"]));
    assert!(page.contains(".TH c2c-recipe-ls 1") && page.contains("\"c2c 0.1.0\""), "{page}");
    fails(&["man", "recipe", "list"], 2, &["`list`", "ls", "show", "validate"]);
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    succeeds(&["man", "--out", pages.to_str().unwrap()]);
    for name in ["c2c.1", "c2c-chat.1", "c2c-train.1", "c2c-recipe-ls.1"] {
        assert!(std::fs::read_to_string(pages.join(name)).unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_the_fuser_so_far_and_exits_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("output.dir={}", dir.path().display());
    let mut child = Command::new(env!("CARGO_BIN_EXE_c2c"))
        .args(["train", "recipes/train/pocket.toml", "-o", &output_dir, "-o", "training.max_steps=100000"])
        .current_dir(root())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = || {
        let run = std::fs::read_dir(dir.path()).ok()?.next()?.ok()?.path();
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).ok()?;
        (!metrics.is_empty()).then_some(run)
    };
    // Generous: the machine may be busy. A run that never begins fails here.
    let run = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        begun()
    });
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let run = run.expect("the run has begun");
    let summary = json(&run.join("summary.json"));
    assert!(summary["steps"].as_u64().unwrap() >= 1);
    assert!(summary.get("c2c").is_none(), "an interrupted run isn't evaluated");
    succeeds(&["export", run.to_str().unwrap(), "--out", dir.path().join("saved").to_str().unwrap()]);
}

#[test]
fn a_device_that_is_not_there_is_told_before_any_work() {
    // Of a backend that this build lacks, of one that it has whatever the machine does.
    for (device, built_in) in [("cuda:97", cfg!(feature = "cuda")), ("wgpu:97", cfg!(feature = "wgpu"))] {
        let told = if built_in { format!("{device} can't be used") } else { "this build has no".to_owned() };
        for args in [
            &["parity", "recipes/eval/pocket.toml", "--on", device][..],
            &["bench", "--device", device],
            &["eval", "recipes/eval/pocket.toml", "--device", device],
        ] {
            let output = kit::c2c(args);
            kit::failed(args, &output, 3, &[&told]);
            let said = stderr(&output);
            assert!(!said.contains("tracing") && !said.contains("memory"), "{args:?}\n{said}");
        }
    }
}
