//! `c2c train`: recipe in, run directory with a trained fuser and its evaluation out.

use std::path::{Path, PathBuf};

use burn::{Dispatch, DispatchDevice};
use c2c_data::Fingerprint;
use c2c_eval::EvalModels;
use c2c_export::artefact::{self, AlignmentInfo, ArtefactInfo, ModelId, TrainingInfo};
use c2c_fuser::{C2c, PairModels};
use c2c_recipe::{EvaluationSettings, Loaded, ModelRef, Recipe, RecipeKind, TrainMethod, TrainRecipe};
use c2c_train::checkpoint::Best;
use c2c_train::{
    BestFuser, CheckpointError, ExampleCounts, PairMaterial, RunOptions, TrainError, Trained, train_transformation,
};
use serde_json::{Value, json};

use super::{go_on_command, train_single};
use crate::device::{DeviceArg, DeviceList};
use crate::evaluation::{self, Facts, Questions};
use crate::exit::{Failure, Outcome, environment, usage};
use crate::measured::held_out;
use crate::render::{LineRenderer, PlainProgress};
use crate::run_dir::RunDir;
use crate::signals::Signals;
use crate::{geometry, models};

/// The folder of the trained fuser, in a run directory.
pub const FUSER_DIR: &str = "fuser";
/// The folder of the fuser of lowest validation loss, in a run directory.
const BEST_DIR: &str = "fuser-best";

/// Arguments of `c2c train`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "train"); with --resume it may be left out
    #[arg(required_unless_present = "resume")]
    recipe: Option<PathBuf>,
    /// Go on with an interrupted or killed run, from its newest good checkpoint
    #[arg(long, value_name = "RUN_DIR")]
    resume: Option<PathBuf>,
    /// Change a value of the recipe, e.g. -o optimizer.learning_rate=3e-4
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Show Burn's full-screen dashboard instead of a progress line
    #[arg(long)]
    tui: bool,
    // Not a doc comment: rustdoc would read the brackets as links.
    #[arg(
        long,
        value_name = "DEVICE,..",
        default_value = "cpu",
        help = "Where to compute: cpu, cuda[:n] or wgpu[:n]; several, as in cuda:0,cuda:1, share each step"
    )]
    device: DeviceList,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let (resumed, loaded, from) = load(args)?;
    let Recipe::Train(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&from, &loaded, RecipeKind::Train));
    };
    let (device, more) = args.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let resume = resumed.is_some();
    let begin = || {
        let run = match resumed {
            Some(run) => {
                run.note_session(&args.device, &loaded.hash())?;
                run
            }
            None => {
                let run = RunDir::create(&loaded, &args.device, "")?;
                let sharer = recipe.sharer.iter().map(|sharer| ("sharer", sharer));
                run.note_models(&[("receiver", &recipe.receiver)].into_iter().chain(sharer).collect::<Vec<_>>())?;
                run
            }
        };
        eprintln!("run directory {}", run.path().display());
        let again = go_on_command("train", &run, &args.device);
        Ok::<_, Failure>((run, again))
    };
    crate::hub::data(&recipe.data.sources)?;
    let questions = Questions::of_training(recipe)?;
    let method = recipe.method();
    if method != TrainMethod::Fuser {
        if !more.is_empty() {
            let why = "several devices share the steps of a Fuser's training only; name one for the method";
            return Err(usage(anyhow::anyhow!("--device {}: {why} `{method}`", args.device)));
        }
        if args.tui {
            eprintln!("note: the dashboard shows runs of a fuser only; here is a progress line");
        }
    }
    let sharer = match (method, &recipe.sharer) {
        (TrainMethod::Single, _) => {
            eprintln!("receiver {}, on {}", recipe.receiver.model, args.device);
            return train_single::run((recipe, &loaded), questions, (&device, args.device.first()), resume, begin);
        }
        (_, Some(sharer)) => sharer,
        (_, None) => return Err(usage(anyhow::anyhow!("{}: no sharer", from.display()))),
    };
    eprintln!("receiver {}, sharer {}, on {}", recipe.receiver.model, sharer.model, args.device);
    let (mode, cut) = (models::token_mode(&recipe.alignment), models::section_cut(&recipe.alignment));
    let pair = models::load_pair(&recipe.receiver, sharer, mode, cut, &device)?;
    let material = PairMaterial::of_pair(recipe, &pair).map_err(environment)?;
    let (run, again) = begin()?;
    tell_data(&run, material.material().sources(), material.material().counts())?;
    let signals = Signals::handle(format!("stopped; go on with:\n  {again}"));
    let devices: Vec<DispatchDevice> = [device].into_iter().chain(more).map(DispatchDevice::autodiff).collect();
    let trained = signals.while_working(|interrupter| {
        let mut options = RunOptions {
            interrupter,
            renderer: (!args.tui).then(|| Box::new(LineRenderer::new()) as _),
            observer: Box::new(|_| {}),
            notes: Box::new(|note| eprintln!("{note}")),
            resume,
        };
        let hash = loaded.hash();
        if method == TrainMethod::Transformation {
            let mut progress = PlainProgress::new(recipe.training.max_steps);
            options.observer = Box::new(move |facts| progress.show(facts));
            return train_transformation::<Dispatch>(recipe, &hash, &pair, &material, &devices[0], run.path(), options);
        }
        c2c_train::train::<Dispatch>(recipe, &hash, &pair, &material, &devices, run.path(), options)
    });
    let trained = trained.map_err(|error| failure(error, &again))?;
    let asked = recipe.evaluation.as_ref().zip(questions.as_ref());
    finish(args.device.first(), &loaded, (recipe, sharer), asked, (pair, material), trained, &run, (&signals, &again))
}

/// The run to go on with, if any; the recipe; and the file that it is from.
fn load(args: &Args) -> Result<(Option<RunDir>, Loaded, PathBuf), Failure> {
    let Some(dir) = &args.resume else {
        // The parser asks for a recipe if there is nothing to resume.
        let recipe = args.recipe.clone().unwrap_or_default();
        return Ok((None, super::load_recipe(&recipe, &args.overrides)?, recipe));
    };
    let (run, was) = RunDir::open(dir)?;
    let was = match (was, &args.recipe) {
        (Ok(was), _) => was,
        // The checkpoint knows the hash of its recipe.
        (Err(_), Some(recipe)) => {
            eprintln!("{} cannot be read; going on by {}", dir.join("recipe.toml").display(), recipe.display());
            return Ok((Some(run), super::load_recipe(recipe, &args.overrides)?, recipe.clone()));
        }
        (Err(errors), None) => {
            return Err(usage(anyhow::anyhow!(
                "{errors}\nname the recipe that the run was started with, and its overrides, before --resume"
            )));
        }
    };
    let from = args.recipe.clone().unwrap_or_else(|| was.path.clone());
    let loaded = super::load_recipe(&from, &args.overrides)?;
    let differences = loaded.differences(&was);
    if differences.is_empty() {
        return Ok((Some(run), loaded, from));
    }
    Err(usage(anyhow::anyhow!(
        "a resumed run keeps its recipe, {}; this would change it:\n  {}\nleave that out, or start a new run without --resume",
        was.path.display(),
        differences.join("\n  ")
    )))
}

/// What was trained until an error is not lost; a recipe that doesn't fit is a matter of usage.
pub(super) fn failure(error: TrainError, again: &str) -> Failure {
    match error {
        TrainError::Checkpoint(CheckpointError::Recipe { .. }) => usage(error),
        TrainError::Io { .. } | TrainError::Checkpoint(CheckpointError::Write { .. }) => {
            environment(anyhow::anyhow!("{error}\nonce that is put right, go on with:\n  {again}"))
        }
        _ => environment(error),
    }
}

/// Writes `data.json` and tells what was left out: before the first step, so that a run that is killed has it too.
pub(super) fn tell_data(run: &RunDir, data: &[Fingerprint], counts: &ExampleCounts) -> Result<(), Failure> {
    run.write_json("data.json", &json!({ "sources": data, "examples": counts }))?;
    for source in data.iter().filter(|source| !source.bad.is_empty()) {
        eprintln!("{}: bad rows left out: {}, listed in data.json", source.source, source.bad.count);
    }
    if counts.too_long > 0 {
        let (n, listed) = (counts.too_long, counts.too_long_listed.len());
        let first = if listed < n { format!("the first {listed} ") } else { String::new() };
        eprintln!("longer than training.max_length and left out: {n}, {first}listed in data.json");
    }
    for reason in &counts.refusals {
        eprintln!("left out: {reason}");
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "a run has this many sides")]
fn finish(
    device: DeviceArg,
    loaded: &Loaded,
    (recipe, sharer): (&TrainRecipe, &ModelRef),
    asked: Option<(&EvaluationSettings, &Questions)>,
    (pair, material): (PairModels<Dispatch>, PairMaterial),
    trained: Trained<Dispatch>,
    run: &RunDir,
    (signals, again): (&Signals, &str),
) -> Outcome {
    let info = |steps| artefact_info(recipe, sharer, loaded, &pair, &trained, steps);
    let fuser_dir = run.path().join(FUSER_DIR);
    // Only a run that was interrupted before has one there already.
    artefact::save(&trained.fuser, &info(trained.steps), &[], &fuser_dir, true).map_err(environment)?;
    let best = match &trained.best {
        None => None,
        Some(BestFuser { best, .. }) if best.step == trained.steps => Some((best, FUSER_DIR)),
        Some(BestFuser { best, fuser }) => {
            artefact::save(fuser, &info(best.step), &[], &run.path().join(BEST_DIR), true).map_err(environment)?;
            Some((best, BEST_DIR))
        }
    };
    if let Some((best, dir)) = best {
        tell_best(best, "fuser", &run.path().join(dir));
    }
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": loaded.hash(),
        "steps": trained.steps,
        "planned_steps": trained.planned_steps,
        "train_seconds": trained.train_seconds,
        "last_step": trained.last,
        "best": best.map(|(best, dir)| json!({
            "step": best.step,
            "validation_loss": best.validation_loss,
            "fuser": dir,
        })),
        "examples": trained.counts,
        "frozen": { "receiver_sha256": trained.receiver, "sharer_sha256": trained.sharer },
        "fuser": FUSER_DIR,
    });
    if trained.interrupted {
        run.write_json("summary.json", &summary)?;
        return Err(stopped_in_training((trained.steps, trained.planned_steps), "fuser", &fuser_dir, again));
    }
    eprintln!("trained {} steps in {:.1} s; both models unchanged", trained.steps, trained.train_seconds);
    if recipe.method() == TrainMethod::Transformation {
        let examples = held_out(&material, None);
        let found = geometry::measured(recipe, (&pair, &trained.fuser), examples, (None, geometry::POINTS))?;
        crate::print(&geometry::write(&found, &run.path().join(geometry::GEOMETRY_DIR))?);
        summary["method"] = json!(recipe.method());
        summary["geometry"] = json!({ "examples": found.examples, "tokens": found.tokens, "layers": found.branches });
    }
    if let Some((settings, questions)) = asked {
        let facts = Facts {
            recipe_sha256: loaded.hash(),
            fuser_sha256: Some(artefact::read_config(&fuser_dir).map_err(environment)?.weights_sha256),
            receiver_sha256: trained.receiver.to_string(),
            sharer_sha256: Some(trained.sharer.to_string()),
            further_sharers: Vec::new(),
            device,
        };
        let c2c = C2c::new(pair.receiver, pair.sharer, trained.fuser).map_err(environment)?;
        let models = (EvalModels::Pair(&c2c), &pair.text);
        let ended = evaluation::after_training((settings, questions), facts, models, run, signals)?;
        let Some((result, figures)) = ended else {
            // Figures of the training alone, so that the run is one without an evaluation until it goes on.
            run.write_json("summary.json", &summary)?;
            return Err(stopped_in_evaluation(trained.steps, again));
        };
        let card = evaluation::card_asked(&figures);
        artefact::update_card(&fuser_dir, &evaluation::card_rows(&result), &card).map_err(environment)?;
        if let Some(object) = summary.as_object_mut() {
            object.extend(figures);
        }
        crate::print(&evaluation::table(settings, &result));
    }
    end(recipe, run, &summary, "fuser", &fuser_dir)
}

/// Writes the figures of a run that is done and says where everything is.
pub(super) fn end(recipe: &TrainRecipe, run: &RunDir, summary: &Value, what: &str, dir: &Path) -> Outcome {
    run.write_json("summary.json", summary)?;
    match &recipe.evaluation {
        Some(_) => evaluation::conclude(run)?,
        None => c2c_report::seal(run.path()).map_err(environment)?,
    }
    eprintln!("{what} in {}, figures in {}", dir.display(), run.path().join("summary.json").display());
    Ok(())
}

/// What is said of the step with the lowest validation loss, and of the folder with what it left.
pub(super) fn tell_best(best: &Best, what: &str, dir: &Path) {
    let (loss, step) = (best.validation_loss, best.step);
    eprintln!("lowest validation loss {loss:.4} at step {step}: that {what} is in {}", dir.display());
}

/// The failure of a run that was stopped while it trained.
pub(super) fn stopped_in_training((steps, planned): (usize, usize), what: &str, dir: &Path, again: &str) -> Failure {
    Failure::Interrupted(format!(
        "interrupted after {steps} of {planned} steps, which are saved; the {what} so far is in {}\ngo on with:\n  {again}",
        dir.display()
    ))
}

/// The failure of a run that was stopped while it was evaluated.
pub(super) fn stopped_in_evaluation(steps: usize, again: &str) -> Failure {
    Failure::Interrupted(format!(
        "trained {steps} steps and interrupted in the evaluation, which is saved so far\ngo on with:\n  {again}"
    ))
}

fn artefact_info(
    recipe: &TrainRecipe,
    sharer: &ModelRef,
    loaded: &Loaded,
    pair: &PairModels<Dispatch>,
    trained: &Trained<Dispatch>,
    steps: usize,
) -> ArtefactInfo {
    let id = |model: &c2c_recipe::ModelRef, config: &c2c_lm::LmConfig, sha: &c2c_lm::Fingerprint| {
        ModelId::new(&model.model, model.dtype.as_str(), config, sha.to_string())
    };
    let c = trained.fuser.config();
    ArtefactInfo {
        layer_mapping: c2c_train::layer_mapping(recipe),
        receiver: id(&recipe.receiver, pair.receiver.config(), &trained.receiver),
        sharer: id(sharer, pair.sharer.config(), &trained.sharer),
        alignment: AlignmentInfo {
            mode: recipe.alignment.mode.to_string(),
            strategy: recipe.alignment.strategy.to_string(),
            sections: recipe.alignment.sections.to_string(),
        },
        training: TrainingInfo {
            recipe_name: recipe.name.clone(),
            recipe_hash: loaded.hash(),
            steps,
            seed: recipe.seed,
            final_temperature: c2c_fuser::anneal(c.initial_temperature, c.final_temperature, c.anneal_steps, steps),
            data: trained.data.iter().map(|d| json!(d)).collect(),
        },
    }
}
