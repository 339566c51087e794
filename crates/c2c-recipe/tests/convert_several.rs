//! Evaluation recipes of the reference implementation with several Sharers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_recipe::{Converted, Dtype, EvalRecipe, FateOutcome, FusionOrder, Method, Recipe, RecipeErrors, convert, load};

const EVAL: &str = "
model:
  model_name: Rosetta
  rosetta_config:
    base_model: Qwen/Qwen3-0.6B
    teacher_model: {z_small: Qwen/Qwen2.5-0.5B-Instruct, a_maths: Qwen/Qwen2.5-Math-1.5B}
    checkpoints_dir: [local/small, local/maths]
    multi_source_fusion_mode: parallel
    is_do_alignment: false
eval: {dataset: openbookqa, answer_method: logits}
";

fn converted(text: &str) -> Result<Converted, RecipeErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.yaml");
    std::fs::write(&path, text).unwrap();
    convert(&path, None)
}

fn recipe(converted: &Converted) -> EvalRecipe {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.toml");
    std::fs::write(&path, &converted.toml).unwrap();
    match load(&path, &[]).unwrap_or_else(|errors| panic!("{errors}")).recipe {
        Recipe::Eval(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sharers_and_fusers_arrive_in_their_order() {
    let converted = converted(EVAL).unwrap();
    let recipe = recipe(&converted);
    // In the order of the file, not of the names: sequential fusion depends on it.
    assert_eq!(recipe.sharer.as_ref().unwrap().model, "Qwen/Qwen2.5-0.5B-Instruct");
    assert_eq!(recipe.artefact.as_ref().unwrap().path_as_written, "local/small");
    let several = recipe.several.as_ref().unwrap();
    let [link] = several.links.as_slice() else { panic!("{several:?}") };
    assert_eq!(
        (link.path_as_written.as_str(), link.sharer.as_deref()),
        ("local/maths", Some("Qwen/Qwen2.5-Math-1.5B"))
    );
    assert_eq!((link.dtype, several.order), (Some(Dtype::Bf16), FusionOrder::Parallel));
    // With its control.
    assert!(
        [Method::Several, Method::SeveralMismatched].iter().all(|method| recipe.evaluation.methods.contains(method))
    );
    assert!(converted.fates.iter().all(|fate| fate.outcome != FateOutcome::Lost), "{:#?}", converted.fates);
    let to = |key: &str| converted.fates.iter().find(|fate| fate.key.ends_with(key)).unwrap().to().unwrap();
    assert_eq!(to("a_maths"), "several.links[0].sharer");
    assert_eq!(to("multi_source_fusion_mode"), "several.order");
    assert!(converted.toml.contains("has to be imported first"), "{}", converted.toml);
}

#[test]
fn one_sharer_by_name_is_one_sharer() {
    let one = EVAL.replace(", a_maths: Qwen/Qwen2.5-Math-1.5B", "").replace(", local/maths", "");
    let recipe = recipe(&converted(&one).unwrap());
    assert!(recipe.several.is_none() && !recipe.evaluation.methods.contains(&Method::Several));
    assert_eq!(recipe.artefact.unwrap().path_as_written, "local/small");
}

#[test]
fn what_does_not_add_up_is_refused() {
    let refused = |from: &str, to: &str| converted(&EVAL.replace(from, to)).unwrap_err().to_string();
    let told = refused(", local/maths", "");
    assert!(told.contains("checkpoints_dir") && told.contains("1 Fuser for 2 Sharers"), "{told}");
    let told = refused("{z_small: Qwen/Qwen2.5-0.5B-Instruct, a_maths: Qwen/Qwen2.5-Math-1.5B}", "[a/b, c/d]");
    assert!(told.contains("teacher_model") && told.contains("by names of their own"), "{told}");
    let told = refused("parallel", "mixed");
    assert!(told.contains("several.order") && told.contains("\"mixed\""), "{told}");
    let told = refused("    checkpoints_dir: [local/small, local/maths]\n", "");
    assert!(told.contains("checkpoints_dir") && told.contains("missing"), "{told}");
}
