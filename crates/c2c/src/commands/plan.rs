//! `c2c plan`: what a training run is and costs, before it. Reads configs, tokenizers and data; no weights.

use std::path::PathBuf;

use c2c_hub::Need;
use c2c_lm::{Checkpoint, LmConfig, ModelDtype};
use c2c_recipe::{DataSettings, Loaded, ModelRef, Recipe, RecipeKind, TrainMethod, TrainRecipe, Trainable};
use c2c_text::PairText;
use c2c_train::plan::{ModelFacts, RunPlan};
use c2c_train::{Examples, load_examples};
use serde_json::json;

use crate::exit::{Failure, Outcome, environment};
use crate::{hub, models};

/// Arguments of `c2c plan`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "train")
    recipe: PathBuf,
    /// Change a value of the recipe first, e.g. -o training.batch_size=8
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print JSON; sizes are in bytes
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let loaded = super::load_recipe(&args.recipe, &args.overrides)?;
    let Recipe::Train(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Train));
    };
    // The method `single` trains one model, whatever else the recipe names.
    let sharer = recipe.sharer.as_ref().filter(|_| recipe.method() != TrainMethod::Single);
    let Found { receiver, sharer: other, weights, text, examples } = find(recipe, sharer)?;
    let plan = RunPlan::of(recipe, &receiver, other.as_ref(), &text, &examples).map_err(environment)?;
    if args.json {
        crate::print(&format!("{:#}\n", to_json(recipe, &loaded, &plan)));
    } else {
        crate::print(&to_text(recipe, sharer, weights, &plan));
    }
    Ok(())
}

struct Found {
    receiver: ModelFacts,
    sharer: Option<ModelFacts>,
    /// Whether the weights of all models are there, too.
    weights: bool,
    text: PairText,
    examples: Examples,
}

/// Looks for everything that the run will need; what is missing is told together.
fn find(recipe: &TrainRecipe, sharer: Option<&ModelRef>) -> Result<Found, Failure> {
    let mut missing = Vec::new();
    let mut told = |what: &str, error: String| missing.push(format!("{what}: {error}"));
    let mut model = |role: &str, model: &ModelRef| match facts(model) {
        Ok(facts) => Some(facts),
        Err(errors) => {
            errors.into_iter().for_each(|error| told(role, error));
            None
        }
    };
    let receiver = model("receiver", &recipe.receiver);
    // One that is needed and isn't there has been told.
    let sharer = match sharer {
        Some(sharer) => model("sharer", sharer).map(Some),
        None => Some(None),
    };
    let text = match models::text_of(recipe) {
        Ok(text) => Some(text),
        Err(error) => {
            // A model that isn't there has been told.
            if receiver.is_some() && sharer.is_some() {
                told("tokenizers", error.to_string());
            }
            None
        }
    };
    let examples = text.as_ref().and_then(|text| match load_examples(recipe, text) {
        Ok(examples) => Some(examples),
        Err(error) => {
            let mut by_source = sources(recipe, text);
            if by_source.is_empty() {
                by_source.push(("data".to_owned(), error.to_string()));
            }
            by_source.into_iter().for_each(|(source, error)| told(&source, error));
            None
        }
    });
    match (receiver, sharer, text, examples) {
        (Some(receiver), Some(sharer), Some(text), Some(examples)) if missing.is_empty() => {
            let weights = receiver.1 && sharer.as_ref().is_none_or(|(_, weights)| *weights);
            let sharer = sharer.map(|(facts, _)| facts);
            Ok(Found { receiver: receiver.0, sharer, weights, text, examples })
        }
        _ => Err(environment(anyhow::anyhow!("the run can't begin:\n  {}", missing.join("\n  ")))),
    }
}

/// A model's config, and whether its weights are there; if so, after a look at their headers. Weights are never fetched for
/// a plan, since a run does so itself; those of a local folder have to be there.
fn facts(model: &ModelRef) -> Result<(ModelFacts, bool), Vec<String>> {
    let folder = hub::model(&model.model, &model.path_hint, Need::Text).map_err(|e| vec![e.to_string()])?;
    let config = LmConfig::from_dir(&folder).map_err(|e| e.to_string());
    let looked = folder == model.path_hint || Need::All.is_met(&folder);
    let weights = if looked { Checkpoint::open(&folder).map(|_| ()).map_err(|e| e.to_string()) } else { Ok(()) };
    let dtype = match model.dtype {
        c2c_recipe::Dtype::F32 => ModelDtype::F32,
        c2c_recipe::Dtype::Bf16 => ModelDtype::Bf16,
    };
    match (config, weights) {
        (Ok(config), Ok(())) => Ok((ModelFacts { config, dtype }, looked)),
        (config, weights) => Err([config.err(), weights.err()].into_iter().flatten().collect()),
    }
}

/// What is wrong with each source by itself.
fn sources(recipe: &TrainRecipe, text: &PairText) -> Vec<(String, String)> {
    let alone = |(index, source): (usize, &c2c_recipe::DataSource)| {
        let data = DataSettings { sources: vec![source.clone()], ..recipe.data.clone() };
        let error = load_examples(&TrainRecipe { data, ..recipe.clone() }, text).err()?;
        Some((format!("data.sources[{index}]"), error.to_string()))
    };
    recipe.data.sources.iter().enumerate().filter_map(alone).collect()
}

fn to_json(recipe: &TrainRecipe, loaded: &Loaded, plan: &RunPlan) -> serde_json::Value {
    let mut out = json!(plan);
    out["recipe"] = json!(recipe.name);
    out["recipe_sha256"] = json!(loaded.hash());
    out["epoch"]["padding_share"] = json!(plan.epoch.padding_share());
    out
}

fn to_text(recipe: &TrainRecipe, sharer: Option<&ModelRef>, weights: bool, plan: &RunPlan) -> String {
    let mut out = Lines(String::new());
    let t = &recipe.training;
    out.head(match (weights, sharer) {
        (true, Some(_)) => "models, both found with tokenizers and weights",
        (false, Some(_)) => "models, both found with tokenizers; weights still to be fetched, as `c2c train` does",
        (true, None) => "model, found with tokenizer and weights",
        (false, None) => "model, found with tokenizer; weights still to be fetched, as `c2c train` does",
    });
    let models = [("receiver", Some(&recipe.receiver)), ("sharer", sharer)];
    for ((role, model), parameters) in models.into_iter().zip(&plan.model_parameters) {
        let remark = model.map(|model| format!("{} {}", model.model, model.dtype)).unwrap_or_default();
        out.line(role, &format!("{} parameters", grouped(*parameters)), &remark);
    }
    let trained = format!("{} parameters", grouped(plan.trained_parameters));
    let how = recipe.single_settings().trainable;
    match sharer {
        Some(_) => out.line("fuser", &trained, "trained; the models stay frozen"),
        None => out.line("trained", &trained, &format!("of the receiver, trainable = \"{}\"", how.as_str())),
    }

    out.head("data");
    out.line(
        "read",
        &format!("{} examples", grouped(plan.examples_read)),
        &format!("{} too long, {} refused", plan.too_long, plan.refused),
    );
    out.line("trained on", &format!("{} examples", grouped(plan.train)), "");
    out.line("held out", &format!("{} examples", grouped(plan.validation)), "for the validation loss");
    let e = &plan.epoch;
    let slots = e.prompt + e.reply + e.padding;
    let share = |part: usize| format!("{:.1} %", 100.0 * part as f64 / slots.max(1) as f64);
    out.line(
        "an epoch",
        &format!("{} slots", grouped(slots)),
        &format!("{} batches of {}", grouped(e.batches), t.batch_size),
    );
    out.line("  prompt", &format!("{} tokens", grouped(e.prompt)), &share(e.prompt));
    out.line(
        "  reply",
        &format!("{} tokens", grouped(e.reply)),
        &format!("{}, {} tokens learnt", share(e.reply), grouped(e.supervised)),
    );
    out.line("  padding", &format!("{} slots", grouped(e.padding)), &share(e.padding));

    out.head("length");
    let window = match t.gradient_accumulation {
        1 => "of a batch each".to_owned(),
        batches => format!("of {batches} batches each"),
    };
    out.line("an epoch", &format!("{} steps", grouped(plan.steps_per_epoch)), &window);
    let epochs = if plan.epochs == 1 { "1 epoch begun".to_owned() } else { format!("{} epochs begun", plan.epochs) };
    out.line("the run", &format!("{} steps", grouped(plan.steps)), &epochs);

    let m = &plan.memory;
    let a = &m.activations;
    out.head("memory while training, an estimate (formulas: docs/prepare.md)");
    match sharer {
        Some(sharer) => {
            out.line("receiver", &bytes(m.receiver), &format!("weights in {}", recipe.receiver.dtype));
            out.line("sharer", &bytes(m.sharer), &format!("weights in {}", sharer.dtype));
            out.line("fuser", &bytes(m.fuser), "f32");
        }
        None if how == Trainable::Lora => {
            out.line("receiver", &bytes(m.receiver), &format!("weights in {}", recipe.receiver.dtype));
            out.line("adapters", &bytes(m.fuser), "f32");
        }
        None => out.line("receiver", &bytes(m.receiver), "weights in f32, in which they are trained"),
    }
    let gradients = match t.gradient_accumulation {
        1 if sharer.is_some() => "of a batch, f32; half of it on a GPU in bf16",
        1 => "of a batch, f32",
        _ => "of a batch and accumulated, f32",
    };
    out.line("gradients", &bytes(m.gradients), gradients);
    out.line("optimiser", &bytes(m.optimizer), "AdamW's two moments, f32");
    out.line("activations", &bytes(a.total()), "of the batch of the first epoch that needs most");
    if sharer.is_some() {
        out.line("  contexts", &bytes(a.contexts), "caches of both models");
        out.line("  fuser", &bytes(a.fuser), "");
        out.line("  reply", &bytes(a.reply), "the receiver's pass over the last section");
    } else {
        out.line("  layers", &bytes(a.reply), "the receiver's pass over the whole chat");
    }
    out.line("  logits", &bytes(a.logits), "");
    out.line("sum", &bytes(m.total), "");

    let f = &plan.files;
    let c = &recipe.checkpoint;
    out.head("disk");
    let kept = if sharer.is_some() { "fuser and optimiser, f32" } else { "what is trained and optimiser, f32" };
    out.line("checkpoint", &bytes(f.checkpoint), kept);
    out.line(
        "checkpoints",
        &bytes(f.checkpoints),
        &format!(
            "at most: {} newest{}, and the one being written",
            c.keep_last,
            if c.keep_best { ", the best" } else { "" }
        ),
    );
    let export = if sharer.is_some() { "the trained fuser, f32" } else { "the whole model, f32" };
    out.line("export", &bytes(f.export), export);

    let Some(p) = &plan.prepared else { return out.0 };
    out.head("prepared caches (c2c data prepare)");
    out.line("bf16", &bytes(p.bf16), "");
    out.line("f32", &bytes(p.f32), "");
    out.line(
        "saved",
        &format!("{} FLOP", scaled(p.flops_saved as f64)),
        "an epoch: what both models compute before the fusion",
    );
    out.line(
        "pays above",
        &format!("{:.2} GB/s", p.break_even_gb_per_tflop),
        "read from storage for each TFLOP/s that the device reaches, bf16",
    );
    out.0
}

/// A table of names, figures and remarks.
struct Lines(String);

impl Lines {
    fn head(&mut self, text: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0.push_str(&format!("{gap}{text}\n"));
    }

    fn line(&mut self, name: &str, figure: &str, remark: &str) {
        let line = format!("  {name:<13}{figure:>26}   {remark}");
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }
}

/// `1,234,567`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// `1.23 GB`, in powers of 1000.
pub fn bytes(n: u64) -> String {
    if n < 1000 { format!("{n} B") } else { format!("{}B", scaled(n as f64)) }
}

fn scaled(n: f64) -> String {
    let mut n = n;
    for unit in ["", "k", "M", "G", "T", "P"] {
        if n < 999.5 {
            return format!("{n:.*} {unit}", usize::from(n < 100.0 && !unit.is_empty()));
        }
        n /= 1000.0;
    }
    format!("{n:.0} E")
}
