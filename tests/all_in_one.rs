//! A Fuser that is an all-in-one network, from its recipe to its answers, with the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::fs;
use std::path::{Path, PathBuf};

use kit::{FOUR_STEPS, fails, only_folder, stdout, succeeds};
use serde_json::Value;

const RECIPE: &str = "recipes/train/pocket-all-in-one.toml";
/// What the recipe hasn't: gates of channels and weights of heads, both made, beside a Receiver's cache that is scaled.
const MADE: [&str; 8] = [
    "fuser.initial_gate_logit=0",
    "all_in_one.gate_granularity=value",
    "all_in_one.gate_features=projected_both",
    "all_in_one.weight_granularity=head",
    "all_in_one.weight_features=receiver_value",
    "all_in_one.receiver=blended",
    "all_in_one.swiglu=false",
    "all_in_one.activation=silu",
];

fn overridden<'a>(overrides: &[&'a str]) -> Vec<&'a str> {
    overrides.iter().flat_map(|one| ["-o", *one]).collect()
}

/// Trains four steps with dropout and gate noise.
fn train(dir: &Path, more: &[&str]) -> PathBuf {
    let output = format!("output.dir={}", dir.display());
    let args = [&["train", RECIPE, "-o", &output, "-o", "fuser.dropout=0.1"][..], &overridden(&FOUR_STEPS)].concat();
    succeeds(&[args, overridden(more)].concat());
    only_folder(dir)
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The summary of an evaluation of this folder.
fn evaluated(fuser: &Path) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().display());
    let args = ["eval", "recipes/eval/pocket.toml", "--fuser", fuser.to_str().unwrap(), "-o", &output, "--limit", "8"];
    let methods = ["-o", "evaluation.methods=['receiver','c2c','gates_shut']"];
    succeeds(&[&args[..], &methods].concat());
    json(only_folder(dir.path()).join("summary.json"))
}

#[test]
fn a_resumed_run_ends_as_one_that_never_stopped_to_the_byte() {
    for more in [&[][..], &MADE] {
        let dir = tempfile::tempdir().unwrap();
        let run = train(dir.path(), more);
        let files = ["fuser/fuser.safetensors", "metrics.jsonl", "checkpoints/step-000004/optimizer.safetensors"];
        let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(run.join(file)).unwrap()).collect();
        // As a process leaves it that is killed after its second step.
        fs::remove_dir_all(run.join("checkpoints/step-000004")).unwrap();
        for folder in ["fuser", "fuser-best"] {
            let _ = fs::remove_dir_all(run.join(folder));
        }
        succeeds(&["train", "--resume", run.to_str().unwrap()]);
        for (file, whole) in files.iter().zip(&whole) {
            assert!(fs::read(run.join(file)).unwrap() == *whole, "{file} differs with {more:?}");
        }
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let losses: Vec<f64> = metrics
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap())
            .collect();
        assert_eq!(losses.len(), 4, "{losses:?}");
    }
}

#[test]
fn what_was_trained_is_exported_read_again_and_answers_alike() {
    for more in [&[][..], &MADE] {
        let dir = tempfile::tempdir().unwrap();
        let run = train(dir.path(), more);
        succeeds(&["verify", run.to_str().unwrap()]);
        fails(&["weights", run.to_str().unwrap()], 2, &["no dynamic weights of heads", "an all-in-one network"]);
        let fuser = run.join("fuser");
        let [theirs, ours] = ["published", "ours"].map(|name| dir.path().join(name));
        succeeds(&["export", run.to_str().unwrap(), "--out", theirs.to_str().unwrap(), "--format", "pytorch"]);
        let args = json(theirs.join("final/projector_0.json"));
        assert_eq!(args["class"], "AllInOneProjector");
        let made = !more.is_empty();
        assert_eq!(args["init_args"]["gate_depends_on_input"], made);
        let models = ["--receiver", "datasets/pocket/receiver", "--sharer", "datasets/pocket/sharer"];
        succeeds(&[&["import", theirs.to_str().unwrap(), "--out", ours.to_str().unwrap()], &models[..]].concat());
        // The same tensors, to the bit, of the same choices.
        let mut tensors = [&fuser, &ours].map(|dir| {
            let bytes = fs::read(dir.join("fuser.safetensors")).unwrap();
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            (json(dir.join("fuser_config.json"))["fuser"]["all_in_one"].clone(), bytes[header..].to_vec())
        });
        assert!(tensors[0].1 == tensors[1].1 && tensors[0].0 == tensors[1].0, "{:?}", tensors[1].0.take());

        let (behind, alone) = (json(run.join("summary.json")), evaluated(&fuser));
        assert!(alone["c2c"]["total"] == 8 && alone["c2c"]["answers"].is_object(), "{alone}");
        assert_eq!(alone["c2c"]["answers"], behind["c2c"]["answers"], "as behind training");
        assert_eq!(evaluated(&ours)["c2c"]["answers"], alone["c2c"]["answers"], "the one that went out and came back");
        assert_eq!(alone["controls"]["gates_shut_bit_equal"], true, "{alone}");
    }
}

#[test]
fn a_plan_counts_the_parameters_that_a_run_writes() {
    for more in [&[][..], &MADE] {
        let short = r#"data.sources=[{kind="pocket",split="train",places=3,format="plain_cued"}]"#;
        let plan = [vec!["plan", RECIPE, "--json", "-o", short], overridden(more)].concat();
        let plan: Value = serde_json::from_str(&stdout(&succeeds(&plan))).unwrap();
        let planned = plan["trained_parameters"].as_u64().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let run = train(dir.path(), more);
        let bytes = fs::read(run.join("fuser/fuser.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(planned * 4, bytes.len() as u64 - header);
        let memory = &plan["memory"]["activations"];
        assert!(memory["fuser"].as_u64().unwrap() > 0, "{memory}");
    }
}

#[test]
fn choices_that_do_not_go_together_are_refused_before_anything_is_loaded() {
    let with = |more: &[&str], words: &[&str]| fails(&[vec!["train", RECIPE], overridden(more)].concat(), 2, words);
    with(&["fuser.zero_init=true"], &["fuser.zero_init", "leave this out"]);
    with(&["fuser.network=paper"], &["all_in_one", "network = \"all_in_one\""]);
    with(&["all_in_one.weight_granularity=heads"], &["weight_granularity", "did you mean \"head\"?"]);
    let vast = ["-o", "all_in_one.max_tokens=9223372036854775807", "-o", "all_in_one.gate_granularity=token"];
    for command in ["plan", "train"] {
        fails(&[&[command, RECIPE], &vast[..]].concat(), 3, &["all_in_one.max_tokens", "at most 16777216"]);
    }
    // All at once.
    with(&["fuser.level=fuse", "all_in_one.gate_granularity=head_merged"], &["fuser.level", "gate_features"]);
}
