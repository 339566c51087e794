//! The oracle "cache transformation": training, resuming, measuring and evaluating it with the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::fs;
use std::path::{Path, PathBuf};

use kit::{FOUR_STEPS, fails, only_folder, stdout, succeeds};
use serde_json::Value;

const RECIPE: &str = "recipes/train/pocket-transformation.toml";

/// Four steps with accumulation, a partial last window, an epoch's end, dropout and validation.
fn train(dir: &Path) -> PathBuf {
    let overrides = [format!("output.dir={}", dir.display()), "fuser.dropout=0.1".into()];
    let mut args = vec!["train", RECIPE];
    args.extend(overrides.iter().map(String::as_str).chain(FOUR_STEPS).flat_map(|one| ["-o", one]));
    let said = stdout(&succeeds(&args));
    for word in ["relative error", "values", "c2c", "mismatched"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
    only_folder(dir)
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn figures(dir: &Path) -> [String; 4] {
    ["layers.csv", "points.csv", "map.svg", "ranks.csv"].map(|name| fs::read_to_string(dir.join(name)).unwrap())
}

#[test]
fn a_resumed_run_ends_as_one_that_never_stopped_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path());
    let files = ["fuser/fuser.safetensors", "metrics.jsonl", "checkpoints/step-000004/optimizer.safetensors"];
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(run.join(file)).unwrap()).collect();
    let measured = figures(&run.join("geometry"));
    // As a process leaves it that is killed after its second step.
    fs::remove_dir_all(run.join("checkpoints/step-000004")).unwrap();
    for folder in ["fuser", "fuser-best", "geometry"] {
        let _ = fs::remove_dir_all(run.join(folder));
    }
    succeeds(&["train", "--resume", run.to_str().unwrap()]);
    for (file, whole) in files.iter().zip(&whole) {
        assert!(fs::read(run.join(file)).unwrap() == *whole, "{file} differs");
    }
    assert_eq!(figures(&run.join("geometry")), measured);
    let summary = json(run.join("summary.json"));
    assert_eq!((&summary["steps"], &summary["method"]), (&4.into(), &"transformation".into()));
    let losses: Vec<f64> = fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap())
        .collect();
    assert!(losses.len() == 4 && losses[3] < losses[0], "{losses:?}");
}

#[test]
fn the_result_is_a_fuser_that_verifies_answers_and_is_measured_as_in_its_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path());
    succeeds(&["verify", run.to_str().unwrap()]);
    let config = json(run.join("fuser/fuser_config.json"));
    let parts = serde_json::to_string(&config).unwrap();
    assert!(parts.contains(r#""parts":{"weights":false,"gates":false,"receiver":false}"#), "{parts}");

    let evaluated = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", evaluated.path().display());
    let fuser = run.join("fuser");
    let args = ["eval", "recipes/eval/pocket.toml", "--fuser", fuser.to_str().unwrap(), "-o", &output, "--limit", "8"];
    let methods = ["-o", "evaluation.methods=['receiver','sharer','c2c','mismatched']"];
    succeeds(&[&args[..], &methods].concat());
    let alone = json(only_folder(evaluated.path()).join("summary.json"));
    let behind = json(run.join("summary.json"));
    for method in ["receiver", "sharer", "c2c"] {
        assert!(alone[method]["answers"].is_object(), "{alone}");
        assert_eq!(
            behind[method]["answers"], alone[method]["answers"],
            "{method}: the same fuser on the same questions"
        );
    }

    // Two layers of the map, each token thrice, keys and values.
    let out = dir.path().join("again");
    let again = ["geometry", run.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let said = stdout(&succeeds(&again));
    assert_eq!(figures(&out), figures(&run.join("geometry")));
    succeeds(&[&again[..], &["--layer", "0", "--points", "10", "--limit", "2"]].concat());
    let [layers, points, map, ranks] = figures(&out);
    assert!(said.contains("explained") && layers.lines().count() == 11, "{layers}");
    assert!(said.contains("mean of keys: sharer ") && ranks.lines().count() == 11, "{said}\n{ranks}");
    assert_eq!(points.lines().count(), 1 + 2 * 3 * 10);
    assert!(points.lines().skip(1).all(|line| line.starts_with("0,")) && map.contains("layer 0"), "{points}");
    fails(&["geometry", run.to_str().unwrap(), "--layer", "5"], 3, &["layer 5", "0 to 4"]);
    fails(&["weights", run.to_str().unwrap()], 2, &["fuser", "an ablation without them", "fuser.level"]);
}

#[test]
fn a_plan_counts_what_a_transformation_needs() {
    let plan = |recipe: &str| -> Value {
        let short = r#"data.sources=[{kind="pocket",split="train",places=3,format="plain_cued"}]"#;
        serde_json::from_str(&stdout(&succeeds(&["plan", recipe, "--json", "-o", short]))).unwrap()
    };
    let (mapped, fused) = (plan(RECIPE), plan("recipes/train/pocket-project.toml"));
    assert_eq!(mapped["trained_parameters"], fused["trained_parameters"]);
    assert_eq!(mapped["memory"]["activations"]["logits"], 0);
    assert_ne!(fused["memory"]["activations"]["logits"], 0);
}

#[test]
fn recipes_that_ask_for_more_than_a_transformation_are_refused() {
    fails(&["train", RECIPE, "-o", "fuser.level=gate"], 2, &["fuser.level", "project"]);
    fails(&["train", RECIPE, "-o", "data.prepared=somewhere"], 2, &["data.prepared", "transformation"]);
    fails(&["train", RECIPE, "-o", "single.lora_rank=4"], 2, &["single", "method"]);
    fails(&["train", RECIPE, "--device", "cpu,cpu"], 2, &["several devices", "transformation"]);
    fails(&["data", "prepare", RECIPE, "--out", "nowhere"], 2, &["transformation"]);
    succeeds(&["recipe", "validate", RECIPE, "-o", "fuser.level=project"]);
}
