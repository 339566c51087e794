//! `c2c train`: recipe in, run directory with a trained fuser and its evaluation out.

use std::path::PathBuf;
use std::time::Instant;

use burn::train::Interrupter;
use burn::{Dispatch, DispatchDevice};
use c2c_export::artefact::{self, AlignmentInfo, ArtefactInfo, ModelId, TrainingInfo};
use c2c_fuser::{C2c, PairModels};
use c2c_recipe::{Loaded, Recipe, RecipeKind, TrainRecipe};
use c2c_train::{RunOptions, Trained};
use serde_json::json;

use crate::exit::{Failure, Outcome, environment};
use crate::render::LineRenderer;
use crate::run_dir::RunDir;
use crate::{DeviceOption, evaluation, models};

/// Arguments of `c2c train`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "train")
    recipe: PathBuf,
    /// Change a value of the recipe, e.g. -o optimizer.learning_rate=3e-4
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Show Burn's full-screen dashboard instead of a progress line
    #[arg(long)]
    tui: bool,
    #[command(flatten)]
    device: DeviceOption,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let loaded = super::load_recipe(&args.recipe, &args.overrides)?;
    let Recipe::Train(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Train));
    };
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    eprintln!("receiver {}, sharer {}, on {}", recipe.receiver.model, recipe.sharer.model, args.device.device);
    let (mode, cut) = (models::token_mode(&recipe.alignment), models::section_cut(&recipe.alignment));
    let pair = models::load_pair(&recipe.receiver, &recipe.sharer, mode, cut, &device)?;
    let run = RunDir::create(&loaded, args.device.device)?;
    eprintln!("run directory {}", run.path().display());

    let interrupter = Interrupter::new();
    let on_signal = interrupter.clone();
    // A second handler in one process can't be set; then the default one ends the run, which is no loss.
    let _ = ctrlc::set_handler(move || on_signal.stop(Some("interrupted")));
    let mut metrics = run.json_lines("metrics.jsonl")?;
    let options = RunOptions {
        interrupter,
        renderer: (!args.tui).then(|| Box::new(LineRenderer::new()) as _),
        observer: Box::new(move |facts| metrics(&json!(facts))),
    };
    let autodiff = DispatchDevice::autodiff(device.clone());
    let work = run.path().join("burn");
    let trained = c2c_train::train::<Dispatch>(recipe, &pair, &autodiff, &work, options).map_err(environment)?;
    // Burn only leaves files there when its own loggers are on.
    let _ = std::fs::remove_dir(&work);
    finish(recipe, &loaded, pair, trained, &run)
}

fn finish(
    recipe: &TrainRecipe,
    loaded: &Loaded,
    pair: PairModels<Dispatch>,
    trained: Trained<Dispatch>,
    run: &RunDir,
) -> Outcome {
    run.write_json("data.json", &json!({ "sources": trained.data, "examples": trained.counts }))?;
    for source in trained.data.iter().filter(|source| !source.bad.is_empty()) {
        eprintln!("{}: bad rows left out: {}, listed in data.json", source.source, source.bad.count);
    }
    for reason in &trained.counts.refusals {
        eprintln!("left out: {reason}");
    }
    let info = artefact_info(recipe, loaded, &pair, &trained);
    let fuser_dir = run.path().join("fuser");
    artefact::save(&trained.fuser, &info, &[], &fuser_dir, false).map_err(environment)?;
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": loaded.hash(),
        "steps": trained.steps,
        "planned_steps": trained.planned_steps,
        "train_seconds": trained.train_seconds,
        "last_step": trained.last,
        "examples": trained.counts,
        "frozen": { "receiver_sha256": trained.receiver, "sharer_sha256": trained.sharer },
        "fuser": "fuser",
    });
    if trained.interrupted {
        run.write_json("summary.json", &summary)?;
        return Err(Failure::Interrupted(format!(
            "interrupted after {} of {} steps; the fuser so far is in {}",
            trained.steps,
            trained.planned_steps,
            fuser_dir.display()
        )));
    }
    eprintln!("trained {} steps in {:.1} s; both models unchanged", trained.steps, trained.train_seconds);
    if let Some(settings) = &recipe.evaluation {
        let start = Instant::now();
        let c2c = C2c::new(pair.receiver, pair.sharer, trained.fuser).map_err(environment)?;
        let (result, data) = evaluation::run(settings, recipe.seed, &c2c, &pair.text, run)?;
        artefact::update_card(&fuser_dir, &evaluation::card_rows(&result)).map_err(environment)?;
        if let Some(object) = summary.as_object_mut() {
            object.extend(evaluation::summary(settings, &result));
            object.insert("evaluation_seconds".into(), json!(start.elapsed().as_secs_f64()));
            object.insert("evaluation_data".into(), json!(data));
        }
        crate::print(&evaluation::table(settings, &result));
    }
    run.write_json("summary.json", &summary)?;
    eprintln!("fuser in {}, figures in {}", fuser_dir.display(), run.path().join("summary.json").display());
    Ok(())
}

fn artefact_info(
    recipe: &TrainRecipe,
    loaded: &Loaded,
    pair: &PairModels<Dispatch>,
    trained: &Trained<Dispatch>,
) -> ArtefactInfo {
    let id = |model: &c2c_recipe::ModelRef, config: &c2c_lm::LmConfig, sha: &c2c_lm::Fingerprint| {
        ModelId::new(&model.model, model.dtype.as_str(), config, sha.to_string())
    };
    let c = trained.fuser.config();
    ArtefactInfo {
        layer_mapping: c2c_train::layer_mapping(recipe),
        receiver: id(&recipe.receiver, pair.receiver.config(), &trained.receiver),
        sharer: id(&recipe.sharer, pair.sharer.config(), &trained.sharer),
        alignment: AlignmentInfo {
            mode: recipe.alignment.mode.to_string(),
            strategy: recipe.alignment.strategy.to_string(),
            sections: recipe.alignment.sections.to_string(),
        },
        training: TrainingInfo {
            recipe_name: recipe.name.clone(),
            recipe_hash: loaded.hash(),
            steps: trained.steps,
            seed: recipe.seed,
            final_temperature: c2c_fuser::anneal(
                c.initial_temperature,
                c.final_temperature,
                c.anneal_steps,
                trained.steps,
            ),
            data: trained.data.iter().map(|d| json!(d)).collect(),
        },
    }
}
