//! `c2c eval`: a trained fuser and the two models answer questions, or one model alone does.

use burn::{Dispatch, DispatchDevice};
use c2c_eval::EvalModels;
use c2c_fuser::C2c;
use c2c_lm::Lm;
use c2c_recipe::{EvalRecipe, Loaded, Recipe};
use c2c_text::{PairText, TokenMode};
use serde_json::{Map, json};

use super::eval_recipe::{EvalRecipeArgs, open};
use crate::device::DeviceArg;
use crate::exit::{Failure, Outcome, environment, usage};
use crate::run_dir::RunDir;
use crate::{DeviceOption, evaluation, models};

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
    let Some(fuser) = &recipe.artefact else {
        return alone(recipe, &loaded, &device, args.device.device);
    };
    let (artefact, pair) = open(recipe, fuser, None, &device)?;
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
    let c2c = C2c::new(pair.receiver, pair.sharer, artefact.fuser).map_err(environment)?;
    let (result, data) = evaluation::run(&recipe.evaluation, recipe.seed, EvalModels::Pair(&c2c), &pair.text, &run)?;
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

/// One model without a fuser.
fn alone(recipe: &EvalRecipe, loaded: &Loaded, device: &DispatchDevice, named: DeviceArg) -> Outcome {
    let Some(receiver) = &recipe.receiver else {
        return Err(usage(anyhow::anyhow!("{}: neither an artefact nor a receiver", loaded.path.display())));
    };
    let found = models::find(receiver, device)?;
    let model = Lm::<Dispatch>::from_dir(&found.folder, found.computed, device).map_err(environment)?;
    let sha = model.fingerprint().map_err(environment)?;
    let text = PairText::new(found.tokenizer.clone(), found.tokenizer, TokenMode::Shared).map_err(environment)?;
    let run = RunDir::create(loaded, named)?;
    let settings = &recipe.evaluation;
    let (result, data) = evaluation::run(settings, recipe.seed, EvalModels::Receiver(&model), &text, &run)?;
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": loaded.hash(),
        "models": { "receiver_sha256": sha },
        "evaluation_data": data,
    });
    if let Some(object) = summary.as_object_mut() {
        object.extend(evaluation::summary(settings, &result));
    }
    run.write_json("summary.json", &summary)?;
    crate::print(&evaluation::table(settings, &result));
    eprintln!("figures in {}", run.path().join("summary.json").display());
    Ok(())
}
