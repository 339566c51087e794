//! `c2c eval`: a trained fuser and the two models answer questions.

use std::path::PathBuf;

use c2c_export::artefact::{self, ModelId};
use c2c_fuser::C2c;
use c2c_recipe::{AlignmentSettings, ModelRef, Recipe, RecipeKind};
use serde_json::{Map, json};

use crate::exit::{Failure, Outcome, environment};
use crate::run_dir::RunDir;
use crate::{DeviceOption, evaluation, models};

/// Arguments of `c2c eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "eval")
    recipe: PathBuf,
    /// Change a value of the recipe, e.g. -o evaluation.limit=40
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The trained fuser; the same as -o artefact.path=DIR
    #[arg(long, value_name = "DIR")]
    fuser: Option<PathBuf>,
    /// Ask only this many questions, drawn by seed, and mark the results PARTIAL; the same as -o evaluation.limit=N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let mut overrides = args.overrides.clone();
    if let Some(dir) = &args.fuser {
        let dir = std::path::absolute(dir).map_err(environment)?;
        overrides.push(format!("artefact.path={}", dir.display()));
    }
    if let Some(limit) = args.limit {
        overrides.push(format!("evaluation.limit={limit}"));
    }
    let loaded = super::load_recipe(&args.recipe, &overrides)?;
    let Recipe::Eval(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Eval));
    };
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let artefact = artefact::load(&recipe.artefact.path, &device).map_err(environment)?;
    let config = artefact.config;
    let receiver = model_of(recipe.receiver.as_ref(), &config.receiver)?;
    let sharer = model_of(recipe.sharer.as_ref(), &config.sharer)?;
    let alignment: AlignmentSettings = known(json!(config.alignment), "alignment")?;
    let (mode, cut) = (models::token_mode(&alignment), models::section_cut(&alignment));
    let pair = models::load_pair(&receiver, &sharer, mode, cut, &device)?;
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

/// The model of the recipe, else the one that the artefact names.
pub(crate) fn model_of(recipe: Option<&ModelRef>, id: &ModelId) -> Result<ModelRef, Failure> {
    if let Some(model) = recipe {
        return Ok(model.clone());
    }
    // Of an imported fuser it isn't known; f32 holds the weights of any file exactly.
    let dtype = known(json!(id.dtype.as_deref().unwrap_or("f32")), "dtype")?;
    Ok(ModelRef { model: id.name.clone(), path_hint: PathBuf::from(&id.name), dtype })
}

/// A value of the artefact in the recipe's own words.
pub(crate) fn known<T: serde::de::DeserializeOwned>(value: serde_json::Value, key: &str) -> Result<T, Failure> {
    let text = value.to_string();
    serde_json::from_value(value)
        .map_err(|e| environment(anyhow::anyhow!("{}: {key} = {text}: {e}", artefact::CONFIG_FILE)))
}
