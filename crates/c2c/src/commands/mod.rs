//! One file a subcommand.

pub mod pretrain;

use std::path::Path;

use c2c_recipe::Loaded;

use crate::exit::{Failure, usage};

/// Shown under `--help`: every variable that is read.
pub const ENVIRONMENT_HELP: &str = "\
Environment:
  HF_HUB_CACHE, HF_HOME  where models named by hub id are looked up (default ~/.cache/huggingface/hub)
  NO_COLOR               no colour in tables
  RAYON_NUM_THREADS      threads of the CPU backend (default: all cores)";

/// Loads a recipe with its overrides; all its errors at once are a usage failure.
pub fn load_recipe(path: &Path, overrides: &[String]) -> Result<Loaded, Failure> {
    c2c_recipe::load(path, overrides).map_err(usage)
}
