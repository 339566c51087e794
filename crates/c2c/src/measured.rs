//! What `c2c geometry` and `c2c weights` measure: the Fuser of a run, its two models, and the examples that are held out.

use std::path::{Path, PathBuf};

use burn::Dispatch;
use c2c_export::artefact;
use c2c_fuser::{Fuser, FuserError, PairModels};
use c2c_recipe::{Recipe, RecipeKind, TrainRecipe};
use c2c_report::{Column, Kind, Table};
use c2c_train::geometry::Part;
use c2c_train::{PairMaterial, TrainExample};

use crate::commands::{FUSER_DIR, wrong_kind};
use crate::exit::{Failure, environment, usage};
use crate::run_dir::{RECIPE_FILE, RunDir};
use crate::{DeviceOption, models};

/// The arguments that say what is measured.
#[derive(clap::Args, Debug)]
pub struct MeasuredArgs {
    /// The run directory of a trained fuser
    run: PathBuf,
    /// Another fuser between the same models (default: RUN/fuser)
    #[arg(long, value_name = "DIR")]
    fuser: Option<PathBuf>,
    /// Read at most this many of the held-out examples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    device: DeviceOption,
}

/// A Fuser with all that it takes to see it at work.
pub struct Measured {
    /// The recipe of the run.
    pub recipe: TrainRecipe,
    /// Both models.
    pub pair: PairModels<Dispatch>,
    /// The Fuser between them.
    pub fuser: Fuser<Dispatch>,
    material: PairMaterial,
    limit: Option<usize>,
}

impl MeasuredArgs {
    /// A folder in the run, or the one that was named.
    pub fn out(&self, named: &Option<PathBuf>, folder: &str) -> PathBuf {
        named.clone().unwrap_or_else(|| self.run.join(folder))
    }

    /// Loads all of it. `what` is what can't be done where only one model was trained; `check` refuses fusers that have
    /// nothing of the kind before their models are loaded.
    pub fn open(
        &self,
        what: &str,
        check: impl FnOnce(&Fuser<Dispatch>) -> Result<(), FuserError>,
    ) -> Result<Measured, Failure> {
        let (run, loaded) = RunDir::open(&self.run)?;
        let loaded = loaded.map_err(usage)?;
        let Recipe::Train(recipe) = &loaded.recipe else {
            return Err(wrong_kind(&run.path().join(RECIPE_FILE), &loaded, RecipeKind::Train));
        };
        let sharer = models::sharer(recipe, what)?;
        let device = self.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
        crate::hub::data(&recipe.data.sources)?;
        let dir = self.fuser.clone().unwrap_or_else(|| run.path().join(FUSER_DIR));
        let fuser = artefact::load(&dir, &device).map_err(environment)?.fuser;
        check(&fuser).map_err(|e| usage(anyhow::Error::from(e).context(dir.display().to_string())))?;
        let (mode, cut) = (models::token_mode(&recipe.alignment), models::section_cut(&recipe.alignment));
        let pair = models::load_pair(&recipe.receiver, sharer, mode, cut, &device)?;
        fuser.check_models(&pair.receiver, &pair.sharer).map_err(usage)?;
        let material = PairMaterial::of_pair(recipe, &pair).map_err(environment)?;
        Ok(Measured { recipe: recipe.clone(), pair, fuser, material, limit: self.limit })
    }
}

impl Measured {
    /// The examples that are held out, or all if none is; at most as many as were asked for.
    pub fn examples(&self) -> &[TrainExample] {
        held_out(&self.material, self.limit)
    }
}

/// The examples of a run that are held out, or all if none is; at most so many.
pub fn held_out(material: &PairMaterial, limit: Option<usize>) -> &[TrainExample] {
    let examples = material.material().held_out();
    &examples[..limit.unwrap_or(examples.len()).min(examples.len())]
}

/// Keys or values as a table says it.
pub fn part(part: Part) -> &'static str {
    match part {
        Part::Key => "keys",
        Part::Value => "values",
    }
}

/// Columns of a table.
pub fn columns(columns: &[(&str, Kind)]) -> Vec<Column> {
    columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect()
}

/// Makes a folder for figures.
pub fn make(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|e| environment(anyhow::anyhow!("cannot make {}: {e}", dir.display())))
}

/// Writes a table as CSV, named as it is.
pub fn put_csv(dir: &Path, name: &str, table: &Table) -> Result<(), Failure> {
    let mut csv = Vec::new();
    table.write_csv(&mut csv).map_err(environment)?;
    put(dir.join(name), &csv)
}

/// Writes a file beside its place and renames it.
pub fn put(path: PathBuf, bytes: &[u8]) -> Result<(), Failure> {
    c2c_lm::write_beside(&path, bytes).map_err(environment)
}
