//! `c2c eval`: a trained fuser and the two models answer questions.

use std::path::PathBuf;

use c2c_export::artefact::{self, ModelId};
use c2c_fuser::C2c;
use c2c_recipe::{Dtype, ModelRef, Recipe, RecipeKind};
use c2c_text::{AlignStrategy, SectionCut, TokenMode};
use serde_json::json;

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
    let loaded = super::load_recipe(&args.recipe, &overrides)?;
    let Recipe::Eval(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Eval));
    };
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let artefact = artefact::load(&recipe.artefact.path, &device).map_err(environment)?;
    let config = artefact.config;
    let receiver = recipe.receiver.clone().unwrap_or_else(|| named(&config.receiver));
    let sharer = recipe.sharer.clone().unwrap_or_else(|| named(&config.sharer));
    let mode = match (config.alignment.mode.as_str(), config.alignment.strategy.as_str()) {
        ("shared", _) => TokenMode::Shared,
        (_, "spans") => TokenMode::Aligned(AlignStrategy::Spans),
        (_, "first") => TokenMode::Aligned(AlignStrategy::First),
        _ => TokenMode::Aligned(AlignStrategy::Longest),
    };
    let cut = if config.alignment.sections == "paragraph" { SectionCut::Paragraph } else { SectionCut::Message };
    let pair = models::load_pair(&receiver, &sharer, mode, cut, &device)?;
    for (role, expected, found) in [
        ("receiver", &config.receiver, pair.receiver.fingerprint()),
        ("sharer", &config.sharer, pair.sharer.fingerprint()),
    ] {
        let found = found.map_err(environment)?;
        if found.0 != expected.weights_sha256 {
            eprintln!(
                "warning: the {role} isn't the one this fuser was trained with (weights sha256 {found}, trained with {})",
                expected.weights_sha256
            );
        }
    }
    let run = RunDir::create(&loaded, args.device.device)?;
    let c2c = C2c::new(pair.receiver, pair.sharer, artefact.fuser).map_err(environment)?;
    let (result, data) = evaluation::run(&recipe.evaluation, recipe.seed, &c2c, &pair.text, &run)?;
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": loaded.hash(),
        "fuser_sha256": config.weights_sha256,
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

/// The model that the artefact names.
fn named(id: &ModelId) -> ModelRef {
    ModelRef {
        model: id.name.clone(),
        path_hint: PathBuf::from(&id.name),
        dtype: if id.dtype == "bf16" { Dtype::Bf16 } else { Dtype::F32 },
    }
}
