//! The baseline "Single": training, resuming and evaluating one model alone, with the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::fs;
use std::path::{Path, PathBuf};

use kit::{FOUR_STEPS, fails, only_folder, root, stdout, succeeds};
use serde_json::Value;

/// Four steps with accumulation, a partial last window, an epoch's end, validation and, for adapters, dropout.
fn train(dir: &Path, trainable: &str) -> PathBuf {
    let overrides = [
        format!("output.dir={}", dir.display()),
        format!("single.trainable={trainable}"),
        "single.lora_rank=4".into(),
        "single.first_layer=1".into(),
    ];
    let mut args = vec!["train", "recipes/train/pocket-single.toml"];
    args.extend(overrides.iter().map(String::as_str).chain(FOUR_STEPS).flat_map(|one| ["-o", one]));
    let output = succeeds(&args);
    assert!(stdout(&output).contains("receiver "), "{}", stdout(&output));
    only_folder(dir)
}

fn summary(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_resumed_run_ends_as_one_that_never_stopped_to_the_byte() {
    for trainable in ["full", "lora", "partial"] {
        let dir = tempfile::tempdir().unwrap();
        let run = train(dir.path(), trainable);
        let files = ["model/model.safetensors", "metrics.jsonl", "checkpoints/step-000004/optimizer.safetensors"];
        let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(run.join(file)).unwrap()).collect();
        // As a process leaves it that is killed after its second step.
        fs::remove_dir_all(run.join("checkpoints/step-000004")).unwrap();
        for folder in ["model", "model-best", "adapter", "adapter-best"] {
            let _ = fs::remove_dir_all(run.join(folder));
        }
        succeeds(&["train", "--resume", run.to_str().unwrap()]);
        for (file, whole) in files.iter().zip(&whole) {
            assert!(fs::read(run.join(file)).unwrap() == *whole, "{trainable}: {file} differs");
        }
        assert_eq!(summary(&run)["steps"], 4);
        assert_eq!(summary(&run)["trainable"], trainable);
    }
}

#[test]
fn the_result_is_a_model_folder_that_answers_alone_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "lora");
    let (from, model) = (root().join("datasets/pocket/receiver"), run.join("model"));
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(fs::read(model.join(name)).unwrap(), fs::read(from.join(name)).unwrap(), "{name}");
    }
    let adapter: Value = serde_json::from_slice(&fs::read(run.join("adapter/adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&adapter["r"], &adapter["lora_alpha"], &adapter["peft_type"]), (&4.into(), &32.into(), &"LORA".into()));
    let evaluated = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", evaluated.path().display());
    let receiver = format!("receiver.model={}", model.display());
    let args = ["eval", "recipes/eval/pocket-receiver.toml", "-o", &receiver, "-o", &output, "--limit", "8"];
    succeeds(&args);
    let (trained, alone) = (summary(&run), summary(&only_folder(evaluated.path())));
    assert_eq!(trained["methods"], alone["methods"], "the same model on the same questions");
    succeeds(&["verify", run.to_str().unwrap()]);
    succeeds(&["verify", only_folder(evaluated.path()).to_str().unwrap()]);
}

#[test]
fn recipes_that_ask_too_much_of_one_model_are_refused() {
    let single = "recipes/train/pocket-single.toml";
    fails(&["train", single, "-o", "evaluation.methods=['receiver','c2c']"], 2, &["evaluation.methods", "single"]);
    fails(&["train", single, "-o", "single.trainable=parital"], 2, &["single.trainable", "partial"]);
    let layers = ["train", single, "-o", "single.first_layer=3", "-o", "single.last_layer=2"];
    fails(&layers, 2, &["single.last_layer", "first_layer"]);
    // Refused when the data are read, before there is a run.
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}/runs", dir.path().display());
    let partial = ["-o", "single.trainable=partial", "-o", "single.last_layer=9", "-o", &output];
    fails(&[&["train", single], &partial[..]].concat(), 3, &["last layer 9", "0 to 4"]);
    fails(&["train", single, "-o", "training.max_length=8", "-o", &output], 3, &["no training example"]);
    assert!(!dir.path().join("runs").exists(), "a refused run leaves no folder behind");
    fails(&["train", "recipes/train/pocket.toml", "-o", "single.lora_rank=4"], 2, &["single", "method"]);
    fails(&["train", single, "-o", "method=fuser"], 2, &["sharer.model", "missing"]);
    let alone = "recipes/eval/pocket-receiver.toml";
    fails(
        &["eval", alone, "-o", "evaluation.methods=['receiver','c2c']"],
        2,
        &["artefact.path", "`c2c` needs a Fuser"],
    );
    fails(
        &["eval", alone, "-o", "evaluation.methods=['receiver','sharer']"],
        2,
        &["sharer.model", "`sharer` needs it"],
    );
    fails(&["parity", alone], 2, &["artefact", "--fuser"]);
}

/// Two models without a fuser answer as they do beside one.
#[test]
fn baselines_of_two_models_need_no_fuser() {
    let evaluate = |recipe: &str, more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let output = format!("output.dir={}", dir.path().display());
        succeeds(&[&["eval", recipe, "-o", &output, "--limit", "24"], more].concat());
        let run = only_folder(dir.path());
        succeeds(&["verify", run.to_str().unwrap()]);
        summary(&run)
    };
    let methods = "evaluation.methods=['receiver','sharer','t2t']";
    let fused = evaluate("recipes/eval/pocket-baselines.toml", &["-o", methods]);
    let sharer = format!("sharer.model={}", root().join("datasets/pocket/sharer").display());
    let template = "evaluation.t2t_prompt='''\n{question}\n\nChoices:\n{choices}\n\nThe correct answer is'''";
    let more = ["-o", methods, "-o", &sharer, "-o", template, "-o", "evaluation.t2t_max_new_tokens=16"];
    let unfused = evaluate("recipes/eval/pocket-receiver.toml", &more);
    for method in ["receiver", "sharer", "t2t"] {
        for key in ["correct", "total", "answers", "failed"] {
            assert_eq!(fused[method][key], unfused[method][key], "{method} {key}");
        }
    }
    assert_eq!(fused["records"]["prompts_sha256"], unfused["records"]["prompts_sha256"]);
    assert_eq!(fused["models"], unfused["models"]);
    assert!(unfused.get("fuser_sha256").is_none() && fused.get("fuser_sha256").is_some());
}
