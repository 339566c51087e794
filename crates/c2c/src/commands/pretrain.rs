//! `c2c pretrain`: the models of the embedded pair.

use std::path::PathBuf;

use burn::{Dispatch, DispatchDevice};
use c2c_recipe::{Recipe, RecipeKind};
use c2c_train::pretrain::pretrain;

use crate::DeviceOption;
use crate::exit::{Outcome, environment};

/// Arguments of `c2c pretrain`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "pretrain")
    recipe: PathBuf,
    /// Folder for the model; an existing model there is replaced [default: the recipe's name in its output.dir]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the weights of an earlier run instead of random ones
    #[arg(long, value_name = "DIR")]
    start: Option<PathBuf>,
    /// Change a value of the recipe, e.g. -o training.steps=100
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let loaded = super::load_recipe(&args.recipe, &args.overrides)?;
    let Recipe::Pretrain(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Pretrain));
    };
    let out = args.out.clone().unwrap_or_else(|| recipe.output.dir.join(&recipe.name));
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let device = DispatchDevice::autodiff(device);
    pretrain::<Dispatch>(recipe, args.start.as_deref(), &out, &device, |p| {
        eprintln!(
            "step {:>5}/{}  loss {:.4}  lr {:.2e}  replies right {:5.1} %  {:6.1} s",
            p.step,
            p.total,
            p.loss,
            p.learning_rate,
            100.0 * p.reply_accuracy,
            p.seconds
        );
    })
    .map_err(environment)?;
    crate::print(&format!("{}\n", out.display()));
    Ok(())
}
