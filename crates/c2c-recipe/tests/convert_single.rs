//! The reference's fine-tunes of one model, written here from their description, turned into the method `single`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_recipe::{
    Converted, DataKind, Dtype, FateOutcome, LoraTarget, Method, Recipe, RecipeErrors, TrainMethod, TrainRecipe,
    Trainable, convert, load,
};

/// A recipe with these lines in its `training`.
fn source(training: &str) -> String {
    let text = r#"{
  "model": { "baseline_model": "Qwen/Qwen3-0.6B", "attn_implementation": "sdpa", "is_do_alignment": false },
  "training": { TRAINING
    "learning_rate": 1e-4, "weight_decay": 0.01, "num_epochs": 3, "max_length": 2048, "device": "cuda",
    "scheduler_type": "linear", "warmup_ratio": 0.1, "max_grad_norm": 1.0, "gradient_accumulation_steps": 4,
    "per_device_train_batch_size": 4, "num_processes": 8, "freeze": [], "seed": 42, "pad_to_multiple_of": 8
  },
  "output": { "output_dir": "out", "save_steps": 50, "eval_steps": 25,
    "wandb_config": { "project": "p", "mode": "offline", "run_name": "r" } },
  "data": { "type": "MMLUChatDataset", "train_ratio": 0.8,
    "kwargs": { "split": "test", "num_samples": 1000, "max_word_count": 2048 } }
}"#;
    text.replace("TRAINING", training)
}

const LORA: &str = r#""lora": { "r": 8, "lora_alpha": 24, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.05,
    "bias": "none", "task_type": "CAUSAL_LM", "use_rslora": true },"#;
const PARTIAL: &str = r#""partial_training": { "method": "layer_wise", "ratio": 0.25 },"#;

fn converted(text: &str) -> Result<Converted, RecipeErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("baseline.json");
    std::fs::write(&path, text).unwrap();
    convert(&path, None)
}

fn refused(training: &str) -> String {
    converted(&source(training)).unwrap_err().to_string()
}

/// The new recipe, loaded as a user would.
fn loaded(converted: &Converted) -> Recipe {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.toml");
    std::fs::write(&path, &converted.toml).unwrap();
    load(&path, &[]).unwrap_or_else(|errors| panic!("{errors}")).recipe
}

fn train(training: &str) -> (TrainRecipe, Converted) {
    let converted = converted(&source(training)).unwrap_or_else(|errors| panic!("{errors}"));
    match loaded(&converted) {
        Recipe::Train(recipe) => (recipe, converted),
        other => panic!("{other:?}"),
    }
}

/// The outcome and the note of a key.
fn fate<'a>(converted: &'a Converted, key: &str) -> (&'a FateOutcome, &'a str) {
    let fate = converted.fates.iter().find(|fate| fate.key == key).unwrap_or_else(|| panic!("nothing about {key}"));
    (&fate.outcome, &fate.note)
}

#[test]
fn a_full_fine_tune_arrives_with_every_key_answered_for() {
    let (recipe, converted) = train("");
    assert_eq!((recipe.method(), recipe.sharer.is_none()), (TrainMethod::Single, true));
    assert_eq!((recipe.receiver.model.as_str(), recipe.receiver.dtype), ("Qwen/Qwen3-0.6B", Dtype::Bf16));
    assert_eq!(recipe.single_settings().trainable, Trainable::Full);
    let t = &recipe.training;
    assert_eq!((t.batch_size, t.gradient_accumulation, t.epochs, t.max_length), (4, 4, 3, 2048));
    assert_eq!((t.evaluate_every, t.validation_fraction), (Some(25), 0.2));
    let data = &recipe.data.sources[0];
    assert_eq!((data.kind, data.split.as_deref(), data.limit), (DataKind::Mmlu, Some("test"), Some(1000)));
    // The reference counts in the tokens of this very model.
    let counted = FateOutcome::Carried("data.sources[0].max_tokens".into());
    assert_eq!(fate(&converted, "data.kwargs.max_word_count"), (&counted, ""));
    fn leaves(value: &serde_json::Value) -> usize {
        value.as_object().map_or(1, |object| object.values().map(leaves).sum())
    }
    assert_eq!(converted.fates.len(), leaves(&serde_json::from_str(&source("")).unwrap()));
    for key in ["training.freeze", "model.is_do_alignment", "training.pad_to_multiple_of", "training.num_processes"] {
        assert_eq!(*fate(&converted, key).0, FateOutcome::Implied, "{key}");
    }
    assert!(fate(&converted, "model.baseline_model").1.contains("f32"), "said where it differs");
    assert!(converted.toml.contains("#   model.baseline_model -> receiver.model: "), "{}", converted.toml);
}

#[test]
fn adapters_arrive_with_their_sizes() {
    let (recipe, converted) = train(LORA);
    let single = recipe.single_settings();
    assert_eq!((single.trainable, single.lora_rank, single.lora_alpha), (Trainable::Lora, 8, 24.0));
    assert_eq!((single.lora_dropout, single.lora_targets), (0.05, vec![LoraTarget::Query, LoraTarget::Value]));
    assert_eq!(*fate(&converted, "training.lora.use_rslora").0, FateOutcome::Lost);
    assert_eq!(*fate(&converted, "training.lora.task_type").0, FateOutcome::Implied);
    // The defaults of both are the same.
    let single = train(r#""lora": { "r": 16 },"#).0.single_settings();
    assert_eq!((single.lora_alpha, single.lora_dropout, single.lora_targets.len()), (32.0, 0.1, 7));
}

#[test]
fn the_last_layers_arrive_as_a_share() {
    let (recipe, converted) = train(PARTIAL);
    let single = recipe.single_settings();
    assert_eq!((single.trainable, single.last_share), (Trainable::Partial, Some(0.25)));
    assert!(fate(&converted, "training.partial_training.method").1.contains("final norm"));
    let (recipe, _) = train(r#""partial_training": { "method": "layer_wise" },"#);
    assert_eq!(recipe.single_settings().last_share, Some(0.6));
}

#[test]
fn what_only_the_reference_can_mean_is_refused_by_key() {
    let words = |training: &str, words: &[&str]| {
        let message = refused(training);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    };
    words(r#""partial_training": { "method": "parameter_wise" },"#, &["partial_training.method", "single.parts"]);
    words(r#""partial_training": { "ratio": 0.5 },"#, &["partial_training.method", "missing"]);
    words(&format!("{LORA}{PARTIAL}"), &["partial_training", "which of the two"]);
    words(&LORA.replace("none", "all"), &["training.lora.bias", "never trained"]);
    words(&LORA.replace("v_proj", "w_proj"), &["training.lora.target_modules", "w_proj", "down_proj"]);
    words(&PARTIAL.replace("0.25", "1.5"), &["single.last_share"]);
}

#[test]
fn chats_of_several_turns_are_said_to_be_learnt_otherwise() {
    let chats = source("").replace("MMLUChatDataset", "OpenHermesChatDataset");
    let converted = converted(&chats).unwrap();
    assert!(fate(&converted, "data.type").1.contains("last reply"), "{:?}", fate(&converted, "data.type"));
    assert_eq!(fate(&train("").1, "data.type").1, "");
}

#[test]
fn an_evaluation_of_one_model_asks_the_receiver_alone() {
    let text = "
model:
  model_name: local/baseline/final
  generation_config: {do_sample: false, max_new_tokens: 64}
  rosetta_config: {base_model: a/b, teacher_model: c/d, checkpoints_dir: e}
eval: {dataset: openbookqa, answer_method: generate, use_template: true}
output: {output_dir: results}
";
    let converted = converted(text).unwrap_or_else(|errors| panic!("{errors}"));
    let Recipe::Eval(recipe) = loaded(&converted) else { panic!("no eval recipe") };
    assert_eq!(recipe.receiver.unwrap().model, "local/baseline/final");
    assert!(recipe.artefact.is_none() && recipe.sharer.is_none());
    assert_eq!(recipe.evaluation.methods, [Method::Receiver]);
    assert_eq!(*fate(&converted, "model.rosetta_config.base_model").0, FateOutcome::Implied);
}
