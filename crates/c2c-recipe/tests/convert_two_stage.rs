//! Text between two models, of the reference implementation's evaluations.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_recipe::{Converted, EvalRecipe, FateOutcome, Method, Recipe, RecipeErrors, convert, load};

const TEXT: &str = "
model:
  model_name: two_stage
  answer_model_path: Qwen/Qwen3-0.6B
  context_model_path: Qwen/Qwen3-4B
  background_prompt: 'In one clear sentence, describe the most essential background knowledge needed to answer the question: {question}'
  generation_config: {do_sample: false, max_new_tokens: 64}
eval: {dataset: openbookqa, answer_method: generate, communication_max_new_tokens: 128}
";

const FUSED: &str = "
model:
  model_name: two_stage_rosetta
  context_model_path: Qwen/Qwen2.5-0.5B-Instruct
  rosetta_checkpoint_dir: local/main/
eval: {dataset: openbookqa, answer_method: generate, response_max_new_tokens: 32}
";

fn converted(text: &str) -> Result<Converted, RecipeErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.yaml");
    std::fs::write(&path, text).unwrap();
    convert(&path, None)
}

fn recipe(text: &str) -> EvalRecipe {
    let converted = converted(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(converted.fates.iter().all(|fate| fate.outcome != FateOutcome::Lost), "{:#?}", converted.fates);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.toml");
    std::fs::write(&path, &converted.toml).unwrap();
    match load(&path, &[]).unwrap_or_else(|errors| panic!("{errors}")).recipe {
        Recipe::Eval(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_between_two_models_is_t2t_without_a_fuser() {
    let recipe = recipe(TEXT);
    assert!(recipe.artefact.is_none());
    assert_eq!(recipe.receiver.unwrap().model, "Qwen/Qwen3-0.6B");
    assert_eq!(recipe.sharer.unwrap().model, "Qwen/Qwen3-4B");
    let evaluation = recipe.evaluation;
    assert_eq!(evaluation.methods, [Method::Receiver, Method::Sharer, Method::T2t]);
    let text = evaluation.baselines.unwrap();
    assert_eq!((text.t2t_prompt.as_str(), text.t2t_max_new_tokens), ("essential", 128));
    assert_eq!(evaluation.max_new_tokens, 64);
}

/// Its name holds `rosetta`, and it is no plain evaluation of a Fuser.
#[test]
fn text_answered_by_a_fuser_is_t2t_c2c() {
    let recipe = recipe(FUSED);
    assert_eq!(recipe.artefact.unwrap().path_as_written, "local/main/final");
    assert_eq!(recipe.sharer.unwrap().model, "Qwen/Qwen2.5-0.5B-Instruct");
    let evaluation = recipe.evaluation;
    assert_eq!(evaluation.methods, [Method::Receiver, Method::Sharer, Method::C2c, Method::T2tC2c]);
    let text = evaluation.baselines.unwrap();
    assert_eq!((text.t2t_prompt.as_str(), text.t2t_max_new_tokens), ("background", 1024));
    assert_eq!(evaluation.max_new_tokens, 32);
}

#[test]
fn what_is_missing_is_told_by_its_own_key_alone() {
    let refused = |text: &str, without: &str| {
        let text: String =
            text.lines().filter(|line| !line.contains(without)).map(|line| format!("{line}\n")).collect();
        converted(&text).unwrap_err().to_string()
    };
    for (text, key) in [(TEXT, "answer_model_path"), (TEXT, "context_model_path"), (FUSED, "rosetta_checkpoint_dir")] {
        let told = refused(text, key);
        assert!(told.contains(&format!("model.{key}: missing")) && !told.contains("checkpoints_dir"), "{told}");
    }
}
