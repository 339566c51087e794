//! `c2c train` with `method = "single"`: the receiver alone is tuned; a model folder comes out.

use std::path::Path;

use burn::{Dispatch, DispatchDevice};
use c2c_eval::EvalModels;
use c2c_lm::{Lm, copy_companions};
use c2c_recipe::{EvaluationSettings, Loaded, TrainRecipe};
use c2c_train::single::{SingleTrained, loaded_dtype, train_single};
use c2c_train::{Material, RunOptions};
use serde_json::json;

use super::train::{end, failure, stopped_in_evaluation, stopped_in_training, tell_best, tell_data};
use crate::device::DeviceArg;
use crate::evaluation::{self, Facts, Questions};
use crate::exit::{Failure, Outcome, environment};
use crate::models::{self, Alone};
use crate::render::PlainProgress;
use crate::run_dir::RunDir;
use crate::signals::Signals;

/// The folder of the tuned model, in a run directory.
const MODEL_DIR: &str = "model";
/// The folder of the model of lowest validation loss.
const BEST_DIR: &str = "model-best";
/// The adapters of `model`, in PEFT's layout.
const ADAPTER_DIR: &str = "adapter";
/// Those of `model-best`.
const BEST_ADAPTER_DIR: &str = "adapter-best";

/// Trains, saves, and evaluates if the recipe wants it. `begin` makes or opens the run directory, once nothing is left that
/// could be refused, and tells how to go on with the run.
pub fn run(
    (recipe, loaded): (&TrainRecipe, &Loaded),
    questions: Option<Questions>,
    (device, named): (&DispatchDevice, DeviceArg),
    resume: bool,
    begin: impl FnOnce() -> Result<(RunDir, String), Failure>,
) -> Outcome {
    let alone = models::find(&recipe.receiver, device)?;
    let dtype = loaded_dtype(&recipe.single_settings(), alone.computed);
    let model = Lm::<Dispatch>::from_dir(&alone.folder, dtype, device).map_err(environment)?;
    let material = Material::of_receiver(recipe, &model, alone.tokenizer.clone()).map_err(environment)?;
    let (run, again) = begin()?;
    tell_data(&run, material.sources(), material.counts())?;
    let signals = Signals::handle(format!("stopped; go on with:\n  {again}"));
    let autodiff = DispatchDevice::autodiff(device.clone());
    let trained = signals.while_working(|interrupter| {
        let mut progress = PlainProgress::new(recipe.training.max_steps);
        let options = RunOptions {
            interrupter,
            renderer: None,
            observer: Box::new(move |facts| progress.show(facts)),
            notes: Box::new(|note| eprintln!("{note}")),
            resume,
        };
        let hash = loaded.hash();
        train_single::<Dispatch>(recipe, &hash, model, alone.computed, &material, &autodiff, run.path(), options)
    });
    let trained = trained.map_err(|error| failure(error, &again))?;
    let asked = recipe.evaluation.as_ref().zip(questions.as_ref());
    finish((recipe, loaded), asked, &alone, trained, &run, (&signals, &again), (device, named))
}

fn finish(
    (recipe, loaded): (&TrainRecipe, &Loaded),
    asked: Option<(&EvaluationSettings, &Questions)>,
    alone: &Alone,
    trained: SingleTrained<Dispatch>,
    run: &RunDir,
    (signals, again): (&Signals, &str),
    (device, named): (&DispatchDevice, DeviceArg),
) -> Outcome {
    let save = |model: Lm<Dispatch>, dir: &str, adapter: &str| {
        if let Some(lora) = &trained.lora {
            let dir = made(run, adapter)?;
            model.save_adapters(&dir, &recipe.receiver.model, lora).map_err(environment)?;
        }
        let dir = made(run, dir)?;
        copy_companions(&alone.folder, &dir).map_err(environment)?;
        model.merged().save_weights(&dir).map_err(environment)
    };
    save(trained.model.clone(), MODEL_DIR, ADAPTER_DIR)?;
    let best = match &trained.best {
        None => None,
        Some((best, _)) if best.step == trained.steps => Some((best, MODEL_DIR)),
        Some((best, model)) => {
            save(model.clone(), BEST_DIR, BEST_ADAPTER_DIR)?;
            Some((best, BEST_DIR))
        }
    };
    if let Some((best, dir)) = best {
        tell_best(best, "model", &run.path().join(dir));
    }
    let model_dir = run.path().join(MODEL_DIR);
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": loaded.hash(),
        "method": recipe.method(),
        "trainable": recipe.single_settings().trainable,
        "trained_parameters": trained.trained_parameters,
        "steps": trained.steps,
        "planned_steps": trained.planned_steps,
        "train_seconds": trained.train_seconds,
        "last_step": trained.last,
        "best": best.map(|(best, dir)| json!({
            "step": best.step,
            "validation_loss": best.validation_loss,
            "model": dir,
        })),
        "examples": trained.counts,
        "receiver_sha256": trained.receiver,
        "model": MODEL_DIR,
        "adapter": trained.lora.as_ref().map(|_| ADAPTER_DIR),
    });
    if trained.interrupted {
        run.write_json("summary.json", &summary)?;
        return Err(stopped_in_training((trained.steps, trained.planned_steps), "model", &model_dir, again));
    }
    let (steps, seconds, count) = (trained.steps, trained.train_seconds, trained.trained_parameters);
    eprintln!("trained {count} parameters {steps} steps in {seconds:.1} s");
    if let Some((settings, questions)) = asked {
        // Read from its folder: what is judged is what a user gets.
        let model = alone.weights(&model_dir, device)?;
        let text = models::text_of(recipe)?;
        let facts = Facts {
            recipe_sha256: loaded.hash(),
            fuser_sha256: None,
            receiver_sha256: model.fingerprint().map_err(environment)?.to_string(),
            sharer_sha256: None,
            further_sharers: Vec::new(),
            device: named,
        };
        let models = (EvalModels::Receiver(&model), &text);
        let ended = evaluation::after_training((settings, questions), facts, models, run, signals)?;
        let Some((result, figures)) = ended else {
            run.write_json("summary.json", &summary)?;
            return Err(stopped_in_evaluation(trained.steps, again));
        };
        if let Some(object) = summary.as_object_mut() {
            object.extend(figures);
        }
        crate::print(&evaluation::table(settings, &result));
    }
    end(recipe, run, &summary, "model", &model_dir)
}

/// A folder of the run, made if it isn't there.
fn made(run: &RunDir, name: &str) -> Result<std::path::PathBuf, Failure> {
    let dir: &Path = &run.path().join(name);
    std::fs::create_dir_all(dir).map_err(|e| environment(anyhow::anyhow!("cannot make {}: {e}", dir.display())))?;
    Ok(dir.to_owned())
}
