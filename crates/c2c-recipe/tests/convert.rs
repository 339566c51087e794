//! Recipes of the reference implementation, written here from their description, turned into ours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_recipe::{
    AlignmentMode, AlignmentStrategy, AnswerMode, Converted, DataKind, Dtype, FateOutcome, LayerMapping, PromptFormat,
    Recipe, RecipeErrors, ScheduleKind, TrainRecipe, convert, load,
};

const TRAIN: &str = r#"{
  "model": {
    "base_model": "Qwen/Qwen3-0.6B", "teacher_model": "Qwen/Qwen2.5-0.5B-Instruct",
    "is_do_alignment": false, "alignment_strategy": "longest", "include_response": false,
    "multi_source_fusion_mode": "sequential", "mapping": "k_nearest", "attn_implementation": "sdpa",
    "projector": { "type": "C2CProjector", "params": {
      "hidden_dim": 512, "intermediate_dim": 768, "num_layers": 4, "dropout": 0.2, "zero_init": true,
      "initial_temperature": 0.9, "final_temperature": 0.01, "anneal_steps": 100, "dtype": "bfloat16" } }
  },
  "training": {
    "learning_rate": 3e-4, "weight_decay": 0.02, "num_epochs": 2, "max_length": 1024, "device": "cuda",
    "scheduler_type": "cosine", "warmup_ratio": 0.05, "max_grad_norm": 0.5, "gradient_accumulation_steps": 4,
    "per_device_train_batch_size": 2, "num_processes": 8, "freeze": ["teacher", "base"], "seed": 7
  },
  "output": { "output_dir": "out", "save_steps": 500, "eval_steps": 100,
    "wandb_config": { "project": "p", "mode": "offline", "entity": "e", "run_name": "r" } },
  "data": { "type": "OpenHermesChatDataset", "train_ratio": 0.95,
    "kwargs": { "split": "train", "num_samples": 500000, "max_word_count": 2048, "min_conversation_turns": 2 } },
  "notes": null
}"#;

const EVAL: &str = "
model:
  model_name: Rosetta
  rosetta_config:
    base_model: Qwen/Qwen3-0.6B
    teacher_model: Qwen/Qwen2.5-0.5B-Instruct
    checkpoints_dir: local/final
    is_do_alignment: false
  generation_config: {do_sample: false, max_new_tokens: 64, temperature: 0.7}
eval:
  dataset: ai2-arc
  gpu_ids: [0, 1]
  answer_method: generate
  use_cot: true
  use_template: true
  sample_interval: 2
  limit: 100
output:
  output_dir: local/results
";

/// Converts a text in a file of this name.
fn converted_in(name: &str, text: &str) -> Result<Converted, RecipeErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    convert(&path, None)
}

fn converted(text: &str) -> Converted {
    converted_in("a.json", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(text: &str) -> String {
    converted_in("a.yaml", text).unwrap_err().to_string()
}

/// The new recipe, loaded as a user would.
fn loaded(converted: &Converted) -> Recipe {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.toml");
    std::fs::write(&path, &converted.toml).unwrap();
    load(&path, &[]).unwrap_or_else(|errors| panic!("{errors}")).recipe
}

fn train(text: &str) -> TrainRecipe {
    match loaded(&converted(text)) {
        Recipe::Train(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

/// The outcome and the note of a key.
fn fate<'a>(converted: &'a Converted, key: &str) -> (&'a FateOutcome, &'a str) {
    let fate = converted.fates.iter().find(|fate| fate.key == key).unwrap_or_else(|| panic!("nothing about {key}"));
    (&fate.outcome, &fate.note)
}

#[test]
fn every_value_of_a_training_recipe_arrives() {
    let recipe = train(TRAIN);
    assert_eq!((recipe.name.as_str(), recipe.seed), ("a", 7));
    assert_eq!((recipe.receiver.model.as_str(), recipe.receiver.dtype), ("Qwen/Qwen3-0.6B", Dtype::Bf16));
    assert_eq!(
        (recipe.sharer.as_ref().unwrap().model.as_str(), recipe.sharer.as_ref().unwrap().dtype),
        ("Qwen/Qwen2.5-0.5B-Instruct", Dtype::Bf16)
    );
    assert_eq!((recipe.alignment.mode, recipe.alignment.strategy), (AlignmentMode::Shared, AlignmentStrategy::Longest));
    let fuser = &recipe.fuser;
    assert_eq!((fuser.layer_mapping, fuser.hidden_dim, fuser.intermediate_dim), (LayerMapping::KNearest, 512, 768));
    assert_eq!((fuser.num_layers, fuser.dropout, fuser.zero_init, fuser.anneal_steps), (4, 0.2, true, Some(100)));
    assert_eq!((fuser.initial_temperature, fuser.final_temperature), (0.9, 0.01));
    assert_eq!((recipe.optimizer.learning_rate, recipe.optimizer.weight_decay), (3e-4, 0.02));
    assert_eq!(recipe.optimizer.max_grad_norm, 0.5);
    assert_eq!((recipe.schedule.kind, recipe.schedule.warmup_ratio), (ScheduleKind::Cosine, 0.05));
    let training = &recipe.training;
    assert_eq!((training.batch_size, training.gradient_accumulation, training.epochs), (2, 4, 2));
    assert_eq!((training.max_length, training.evaluate_every, training.validation_fraction), (1024, Some(100), 0.05));
    let source = &recipe.data.sources[0];
    assert_eq!(
        (source.kind, source.limit, source.split.as_deref()),
        (DataKind::OpenHermes, Some(500_000), Some("train"))
    );
    assert_eq!((source.options.max_tokens, source.options.min_turns), (Some(2048), Some(2)));
    assert_eq!(recipe.output.dir.to_str(), Some("out"));
}

#[test]
fn every_key_is_answered_for_and_what_is_lost_stands_in_the_file() {
    let converted = converted(TRAIN);
    fn leaves(value: &serde_json::Value) -> usize {
        value.as_object().map_or(1, |object| object.values().map(leaves).sum())
    }
    assert_eq!(converted.fates.len(), leaves(&serde_json::from_str(TRAIN).unwrap()));
    assert!(matches!(fate(&converted, "training.freeze").0, FateOutcome::Implied));
    assert_eq!(*fate(&converted, "training.learning_rate").0, FateOutcome::Carried("optimizer.learning_rate".into()));
    assert_eq!(*fate(&converted, "notes").0, FateOutcome::Implied);
    for key in ["output.wandb_config.project", "model.projector.params.dtype", "model.attn_implementation"] {
        let (outcome, note) = fate(&converted, key);
        assert!(*outcome == FateOutcome::Lost && !note.is_empty(), "{key}");
        assert!(converted.toml.contains(&format!("#   {key} = ")), "{key} in\n{}", converted.toml);
    }
    let more = converted_in("a.json", &TRAIN.replacen("\"model\": {", "\"model\": { \"colour\": \"red\",", 1)).unwrap();
    let (outcome, note) = fate(&more, "model.colour");
    assert!(*outcome == FateOutcome::Lost && note.contains("not a key"), "{note}");
}

#[test]
fn defaults_of_the_reference_are_written_where_ours_differ() {
    let short = r#"{"model": {"base_model": "a/b", "teacher_model": "c/d", "mapping": "last_aligned",
        "projector": {"type": "c2cprojector"}}, "training": {"scheduler_type": "constant", "warmup_ratio": 0.1},
        "data": {"type": "mmluchatdataset"}}"#;
    let recipe = train(short);
    assert_eq!((recipe.alignment.mode, recipe.alignment.strategy), (AlignmentMode::Shared, AlignmentStrategy::First));
    assert_eq!((recipe.fuser.anneal_steps, recipe.training.gradient_accumulation), (Some(1929), 1));
    assert_eq!((recipe.schedule.kind, recipe.schedule.warmup_ratio), (ScheduleKind::Constant, 0.0));
    assert_eq!(recipe.data.sources[0].split.as_deref(), Some("train"));
}

/// The source of a recipe with this data section.
fn source(data: &str) -> (c2c_recipe::DataSource, Converted) {
    let (before, rest) = TRAIN.split_once("{ \"type\": \"OpenHermes").unwrap();
    let after = rest.split_once("},\n  \"notes\"").unwrap().1;
    let converted = converted(&format!("{before}{data},\n  \"notes\"{after}"));
    let Recipe::Train(recipe) = loaded(&converted) else { panic!("no train recipe") };
    (recipe.data.sources[0].clone(), converted)
}

#[test]
fn every_data_set_of_the_reference_has_its_kind() {
    let (generated, _) = source(
        r#"{"type": "LLMGeneratedChatDataset", "kwargs": {"data_path": "answers", "num_samples": 10, "max_word_count": 768}}"#,
    );
    assert_eq!((generated.kind, generated.limit), (DataKind::Generated, None), "filtered before it is cut");
    let options = &generated.options;
    assert_eq!((options.take, options.max_tokens, options.max_prompt_tokens), (Some(10), Some(768), Some(384)));
    assert_eq!(generated.path_as_written.as_deref(), Some("answers"));
    let (mmlu, _) =
        source(r#"{"type": "MMLUChatDataset", "kwargs": {"split": "auxiliary_train", "num_samples": 15000}}"#);
    assert_eq!((mmlu.kind, mmlu.limit, mmlu.split.as_deref()), (DataKind::Mmlu, Some(15_000), Some("auxiliary_train")));
    assert_eq!(source(r#"{"type": "OpenBookChatDataset", "kwargs": {}}"#).0.kind, DataKind::OpenBookQa);
    assert_eq!(source(r#"{"type": "MMLUCotChatDataset", "kwargs": {}}"#).0.kind, DataKind::MmluProCot);
    let (long, converted) = source(
        r#"{"type": "LongBenchChatDataset", "kwargs": {"use_longbench_e": false, "filter_mod4": false, "max_length": 900, "language": "en"}}"#,
    );
    assert_eq!(
        (long.kind, long.options.config.as_deref(), long.split.as_deref()),
        (DataKind::LongBench, Some("standard"), Some("all"))
    );
    assert_eq!(long.options.cut_middle, Some(900));
    assert_eq!(*fate(&converted, "data.kwargs.language").0, FateOutcome::Implied);
    let (long, _) = source(r#"{"type": "LongBenchChatDataset", "kwargs": {"dataset_name": "qasper"}}"#);
    assert_eq!((long.options.config.as_deref(), long.split.as_deref()), (Some("qasper_e"), Some("train")));
    assert_eq!(long.options.cut_middle, Some(14_000));
}

#[test]
fn yaml_says_the_same_as_json() {
    let yaml = "
model: {base_model: a/b, teacher_model: {only: c/d}, mapping: last_aligned, projector: {type: C2CProjector}}
training: # PyYAML reads the rate as a text
  learning_rate: 1e-4
  freeze: [teacher, base]
data: {type: OpenHermesChatDataset, kwargs: {num_samples: 5}}
";
    let json = r#"{"model": {"base_model": "a/b", "teacher_model": {"only": "c/d"}, "mapping": "last_aligned",
        "projector": {"type": "C2CProjector"}}, "training": {"learning_rate": "1e-4", "freeze": ["teacher", "base"]},
        "data": {"type": "OpenHermesChatDataset", "kwargs": {"num_samples": 5}}}"#;
    let body = |converted: Converted| {
        converted.toml.split_once("description").unwrap().1.split_once('\n').unwrap().1.to_owned()
    };
    let from_yaml = body(converted_in("a.yaml", yaml).unwrap());
    assert_eq!(from_yaml, body(converted_in("b.json", json).unwrap()));
    assert!(from_yaml.contains("learning_rate = 1e-4"), "{from_yaml}");
    // Published recipes are called config.json, may be YAML, and take the name of their folder.
    let published = converted_in("qwen3+qwen2.5_Fuser/config.json", yaml).unwrap();
    assert!(published.toml.contains("name = \"qwen3+qwen2.5_Fuser\""), "{}", published.toml);
}

#[test]
fn an_evaluation_arrives() {
    let converted = converted_in("eval.yaml", EVAL).unwrap();
    let Recipe::Eval(recipe) = loaded(&converted) else { panic!("no eval recipe") };
    assert_eq!(recipe.artefact.unwrap().path_as_written, "local/final");
    assert_eq!(recipe.receiver.unwrap().model, "Qwen/Qwen3-0.6B");
    let evaluation = recipe.evaluation;
    assert_eq!((evaluation.prompt, evaluation.max_new_tokens), (PromptFormat::C2cCot, 64));
    let source = &evaluation.sources[0];
    assert_eq!((source.kind, source.limit, source.options.sample_interval), (DataKind::Arc, Some(100), Some(2)));
    assert_eq!(converted.fates.len(), 16, "{:?}", converted.fates);
    assert_eq!(*fate(&converted, "model.generation_config.temperature").0, FateOutcome::Implied);
    assert_eq!(*fate(&converted, "eval.gpu_ids").0, FateOutcome::Implied);
}

#[test]
fn every_benchmark_and_both_modes_of_the_reference_arrive() {
    let benchmarks =
        ["mmlu-redux", "mmmlu", "gpqa", "openbookqa", "ai2-arc", "mmlu-pro", "ceval", "math-500", "gsm8k", "longbench"];
    for name in benchmarks {
        let converted = converted_in("eval.yaml", &EVAL.replace("ai2-arc", name)).unwrap();
        let Recipe::Eval(recipe) = loaded(&converted) else { panic!("no eval recipe") };
        let source = &recipe.evaluation.sources[0];
        let by_subject = ["mmlu-redux", "mmmlu", "ceval", "longbench"].contains(&name);
        assert_eq!(
            (source.limit, source.options.limit_per_subject),
            if by_subject { (None, Some(100)) } else { (Some(100), None) }
        );
    }
    let logits = EVAL.replace(
        "answer_method: generate",
        "answer_method: logits\n  response_text: It is\n  subjects: [anatomy, virology]",
    );
    let Recipe::Eval(recipe) = loaded(&converted_in("eval.yaml", &logits.replace("ai2-arc", "mmlu-redux")).unwrap())
    else {
        panic!("no eval recipe")
    };
    assert_eq!(
        (recipe.evaluation.mode, recipe.evaluation.response_text.as_deref()),
        (Some(AnswerMode::Logits), Some("It is"))
    );
    assert_eq!(recipe.evaluation.sources[0].options.subjects, Some(vec!["anatomy".to_owned(), "virology".to_owned()]));
}

#[test]
fn a_recipe_whose_purpose_would_change_is_refused_with_every_reason() {
    let other = TRAIN.replace("C2CProjector", "ReplaceProjector").replace("\"base\"], \"seed\"", "\"x\"], \"seed\"");
    let message = refused(&other);
    for word in ["ReplaceProjector", "model.projector.type", "training.freeze", "unfrozen"] {
        assert!(message.contains(word), "{message}");
    }
    let two = TRAIN.replace("\"Qwen/Qwen2.5-0.5B-Instruct\"", "{\"one\": \"a/b\", \"two\": \"c/d\"}");
    assert!(refused(&two).contains("one Receiver and one Sharer"), "{}", refused(&two));
    let other = TRAIN.replace("OpenHermesChatDataset", "OtherDataset");
    assert!(refused(&other).contains("OtherDataset") && refused(&other).contains("MMLUChatDataset"));
    assert!(refused(&EVAL.replace("ai2-arc", "hellaswag")).contains("is unknown"));
    assert!(refused(&EVAL.replace("model_name: Rosetta", "other: x")).contains("model.model_name"));
    assert!(refused(&EVAL.replace("generate", "guess")).contains("eval.answer_method"));
}

/// A training recipe with this ablation.
fn ablation(params: &str) -> String {
    TRAIN
        .replace("C2CProjector", "AblationProjector")
        .replace("\"dtype\": \"bfloat16\"", &format!("\"dtype\": \"bfloat16\"{params}"))
}

#[test]
fn ablations_are_levels_of_the_fuser() {
    use c2c_recipe::FuserLevel::{Fuse, Gate, Project};
    for (params, level) in [
        ("", Gate),
        (", \"ablation_level\": 0", Gate),
        (", \"ablation_level\": 3", Project),
        (", \"ablation_level\": 4", Fuse),
        (", \"use_gates\": false", Fuse),
        (", \"ablation_level\": 0, \"use_gates\": true", Gate),
    ] {
        let recipe = train(&ablation(params));
        assert_eq!((recipe.fuser.level, recipe.fuser.hidden_dim), (Some(level), 512), "{params}");
    }
    for (params, word) in
        [("1", "without head weights, with Gates"), ("2", "without Gates and with the"), ("7", "0 to 4")]
    {
        let message = refused(&ablation(&format!(", \"ablation_level\": {params}")));
        assert!(message.contains("ablation_level") && message.contains(word), "{message}");
    }
}

/// Without held-out examples there is nothing to evaluate on; the check of the new recipe would name keys nobody wrote.
#[test]
fn evaluations_of_nothing_are_lost_with_the_reason() {
    let converted = converted(&TRAIN.replace("\"train_ratio\": 0.95", "\"train_ratio\": 1.0"));
    let Recipe::Train(recipe) = loaded(&converted) else { panic!("no train recipe") };
    assert_eq!((recipe.training.validation_fraction, recipe.training.evaluate_every), (0.0, None));
    let (outcome, note) = fate(&converted, "output.eval_steps");
    assert!(*outcome == FateOutcome::Lost && note.contains("train_ratio"), "{note}");
}

#[test]
fn the_strategy_of_an_evaluation_is_lost_where_it_is_read() {
    let with = |aligned: bool| {
        let to = format!("is_do_alignment: {aligned}, alignment_strategy: longest}}\n  generation_config");
        let yaml = EVAL.replace("is_do_alignment: false\n  generation_config", &to);
        let yaml = yaml.replace("rosetta_config:\n    base_model", "rosetta_config: {base_model");
        converted_in(
            "eval.yaml",
            &yaml
                .replace("0.6B\n    ", "0.6B, ")
                .replace("Instruct\n    ", "Instruct, ")
                .replace("final\n    ", "final, "),
        )
        .unwrap()
    };
    let aligned = with(true);
    let key = "model.rosetta_config.alignment_strategy";
    let (outcome, note) = fate(&aligned, key);
    assert!(*outcome == FateOutcome::Lost && note.contains("of its training"), "{note}");
    assert!(aligned.toml.contains(&format!("#   {key} = \"longest\"")), "{}", aligned.toml);
    assert_eq!(*fate(&with(false), key).0, FateOutcome::Implied);
}

#[test]
fn a_share_of_the_prompt_arrives_with_its_end() {
    use c2c_recipe::FusedFrom;
    let (share, end) = ("eval.kv_cache_proportion", "eval.kv_cache_order_mode");
    let with = |keys: &str| EVAL.replace("  gpu_ids", &format!("{keys}\n  gpu_ids"));
    let evaluation = |text: &str| {
        let converted = converted_in("eval.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
        let Recipe::Eval(recipe) = loaded(&converted) else { panic!("no eval recipe") };
        ((recipe.evaluation.fused_share, recipe.evaluation.fused_from), converted)
    };
    let (found, converted) = evaluation(&with("  kv_cache_proportion: 0.25\n  kv_cache_order_mode: back"));
    assert_eq!(found, (Some(0.25), Some(FusedFrom::Back)));
    assert_eq!(fate(&converted, share), (&FateOutcome::Carried("evaluation.fused_share".into()), ""));
    assert_eq!(fate(&converted, end), (&FateOutcome::Carried("evaluation.fused_from".into()), ""));
    // An end that isn't written is the front in both; nothing at all is a share, too.
    assert_eq!(evaluation(&with("  kv_cache_proportion: 0")).0, (Some(0.0), None));
    // All of the prompt is what is fused here anyway, from whichever end.
    for all in ["1.0", "1"] {
        let text = with(&format!("  kv_cache_proportion: {all}\n  kv_cache_order_mode: back"));
        let (found, converted) = evaluation(&text);
        assert_eq!(found, (None, None));
        assert!([share, end].iter().all(|key| *fate(&converted, key).0 == FateOutcome::Implied));
    }
    // The reference doesn't read it where tokens are aligned.
    let aligned = with("  kv_cache_proportion: 0.5").replace("is_do_alignment: false", "is_do_alignment: true");
    let (found, converted) = evaluation(&aligned);
    assert_eq!(found, (Some(0.5), None));
    assert!(fate(&converted, share).1.contains("where tokens are aligned"), "{}", fate(&converted, share).1);
    // One model fuses nothing.
    let alone = with("  kv_cache_proportion: 0.5").replace("model_name: Rosetta", "model_name: a/b");
    let (found, converted) = evaluation(&alone);
    assert_eq!((found, fate(&converted, share).0), ((None, None), &FateOutcome::Implied));
    // What is wrong with a value is told by the key that it would have here.
    for (text, key) in [("1.5", "evaluation.fused_share"), ("half", "evaluation.fused_share")] {
        let message = refused(&with(&format!("  kv_cache_proportion: {text}")));
        assert!(message.contains(key), "{message}");
    }
    let message = refused(&with("  kv_cache_proportion: 0.5\n  kv_cache_order_mode: middle"));
    assert!(message.contains("evaluation.fused_from"), "{message}");
}

#[test]
fn values_that_no_recipe_may_hold_are_told_by_key() {
    let message = refused(
        &TRAIN.replace("\"dropout\": 0.2", "\"dropout\": 1.5").replace("\"num_epochs\": 2", "\"num_epochs\": \"two\""),
    );
    assert!(message.contains("fuser.dropout: expected a number") && message.contains("training.epochs"), "{message}");
}

#[test]
fn files_that_are_no_recipe_are_told_so() {
    assert!(refused("{\"model\": ").contains("not JSON"));
    assert!(refused("a: [1\nb: 2").contains("neither JSON nor YAML"));
    assert!(refused("just words").contains("no recipe"));
    assert!(refused("other: {x: 1}").contains("`training`"));
    assert!(convert(std::path::Path::new("/no/such.json"), None).unwrap_err().to_string().contains("no such file"));
}
