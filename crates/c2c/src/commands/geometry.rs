//! `c2c geometry`: where the caches of a run's Fuser lie in the Receiver's space.

use std::path::PathBuf;

use c2c_export::artefact;
use c2c_recipe::{Recipe, RecipeKind};
use c2c_train::PairMaterial;

use crate::exit::{Outcome, environment, usage};
use crate::run_dir::{RECIPE_FILE, RunDir};
use crate::{DeviceOption, geometry, models};

/// Arguments of `c2c geometry`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The run directory of a trained fuser
    run: PathBuf,
    /// Another folder for the figures (default: RUN/geometry)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Another fuser between the same models (default: RUN/fuser)
    #[arg(long, value_name = "DIR")]
    fuser: Option<PathBuf>,
    /// The receiver's layer in the map, from 0 (default: the last)
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Tokens in the map, drawn by the recipe's seed
    #[arg(long, value_name = "N", default_value_t = geometry::POINTS)]
    points: usize,
    /// Read at most this many of the held-out examples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let (run, loaded) = RunDir::open(&args.run)?;
    let loaded = loaded.map_err(usage)?;
    let Recipe::Train(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&run.path().join(RECIPE_FILE), &loaded, RecipeKind::Train));
    };
    let sharer = models::sharer(recipe, "caches are compared")?;
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    crate::hub::data(&recipe.data.sources)?;
    let dir = args.fuser.clone().unwrap_or_else(|| run.path().join(super::train::FUSER_DIR));
    let fuser = artefact::load(&dir, &device).map_err(environment)?.fuser;
    let (mode, cut) = (models::token_mode(&recipe.alignment), models::section_cut(&recipe.alignment));
    let pair = models::load_pair(&recipe.receiver, sharer, mode, cut, &device)?;
    fuser.check_models(&pair.receiver, &pair.sharer).map_err(usage)?;
    let material = PairMaterial::of_pair(recipe, &pair).map_err(environment)?;
    let found = geometry::of_run(recipe, (&pair, &fuser), &material, (args.layer, args.points, args.limit))?;
    let out = args.out.clone().unwrap_or_else(|| run.path().join(geometry::GEOMETRY_DIR));
    crate::print(&geometry::write(&found, &out)?);
    eprintln!("figures in {}", out.display());
    Ok(())
}
