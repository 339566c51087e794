//! `c2c eval`: a trained fuser and the two models answer questions.

use c2c_fuser::C2c;
use c2c_recipe::Recipe;
use serde_json::{Map, json};

use super::eval_recipe::{EvalRecipeArgs, model_of, open};
use crate::exit::{Failure, Outcome, environment};
use crate::run_dir::RunDir;
use crate::{DeviceOption, evaluation};

/// Arguments of `c2c eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    recipe: EvalRecipeArgs,
    /// Ask only this many questions, drawn by seed, and mark the results PARTIAL; the same as -o evaluation.limit=N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let limit = args.limit.map(|limit| format!("evaluation.limit={limit}"));
    let loaded = args.recipe.load(limit)?;
    let Recipe::Eval(recipe) = &loaded.recipe else {
        return Err(args.recipe.wrong_kind(&loaded));
    };
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let (artefact, pair) = open(recipe, None, &device)?;
    let config = artefact.config;
    let mut fingerprints = Map::new();
    for (role, expected, found) in [
        ("receiver", &config.receiver, pair.receiver.fingerprint()),
        ("sharer", &config.sharer, pair.sharer.fingerprint()),
    ] {
        let found = found.map_err(environment)?;
        match &expected.weights_sha256 {
            Some(expected) if found.0 != *expected => eprintln!(
                "warning: the {role} isn't the one this fuser was trained with (weights sha256 {found}, trained with {expected})"
            ),
            Some(_) => {}
            None => eprintln!(
                "note: this imported fuser doesn't say which {role} it was trained with; weights sha256 {found} are used"
            ),
        }
        fingerprints.insert(format!("{role}_sha256"), json!(found));
    }
    let run = RunDir::create(&loaded, args.device.device)?;
    run.note_models(
        &model_of(recipe.receiver.as_ref(), &config.receiver)?,
        &model_of(recipe.sharer.as_ref(), &config.sharer)?,
    )?;
    let c2c = C2c::new(pair.receiver, pair.sharer, artefact.fuser).map_err(environment)?;
    let (result, data) = evaluation::run(&recipe.evaluation, recipe.seed, &c2c, &pair.text, &run)?;
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": loaded.hash(),
        "fuser_sha256": config.weights_sha256,
        "models": fingerprints,
        "evaluation_data": data,
    });
    if let Some(object) = summary.as_object_mut() {
        object.extend(evaluation::summary(&recipe.evaluation, &result));
    }
    run.write_json("summary.json", &summary)?;
    crate::print(&evaluation::table(&recipe.evaluation, &result));
    eprintln!("figures in {}", run.path().join("summary.json").display());
    if result.gates_shut_bit_equal == Some(false) {
        return Err(Failure::Check(anyhow::anyhow!("with all gates shut the logits differ from the receiver's")));
    }
    Ok(())
}
