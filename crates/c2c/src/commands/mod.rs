//! One file a subcommand.

pub mod bench;
pub mod chat;
pub mod data;
mod data_prepare;
pub mod doctor;
pub mod download;
pub mod eval;
mod eval_recipe;
mod eval_several;
pub mod export;
pub mod geometry;
pub mod import;
pub mod man;
pub mod merge;
pub mod parity;
pub mod plan;
pub mod pretrain;
pub mod push;
pub mod recipe;
pub mod report;
pub mod route;
pub mod train;
mod train_single;
pub mod verify;
pub mod weights;

pub use train::FUSER_DIR;

use std::fmt::Display;
use std::path::Path;

use c2c_recipe::{Loaded, RecipeKind};

use crate::device::DeviceArg;
use crate::exit::{Failure, usage};
use crate::run_dir::RunDir;

/// Shown under `--help`: every variable that is read.
pub const ENVIRONMENT_HELP: &str = "\
Environment:
  HF_HUB_CACHE, HF_HOME  the local hub cache (default ~/.cache/huggingface/hub)
  HF_HUB_OFFLINE         1: use the cache and make no connection; else TRANSFORMERS_OFFLINE
  HF_TOKEN               token for the hub, else the one in HF_TOKEN_PATH or HF_HOME/token;
                         HF_HUB_DISABLE_IMPLICIT_TOKEN=1 sends none
  HF_ENDPOINT            another hub (default https://huggingface.co)
  HTTPS_PROXY, NO_PROXY  as elsewhere, for the hub
  XDG_CACHE_HOME, HOME   compiled GPU kernels are kept in ~/.cache/c2c/kernels
  NO_COLOR               set: no colours
  RAYON_NUM_THREADS      threads of the CPU backend (default: all cores)

Exit codes: 0 done, 1 a check failed, 2 usage or recipe, 3 environment, 130 interrupted, with what was done saved";

/// Loads a recipe with its overrides; all its errors at once are a usage failure.
pub fn load_recipe(path: &Path, overrides: &[String]) -> Result<Loaded, Failure> {
    c2c_recipe::load(path, overrides).map_err(usage)
}

/// A recipe given to the wrong command.
pub fn wrong_kind(path: &Path, loaded: &Loaded, expected: RecipeKind) -> Failure {
    let found = loaded.recipe.kind();
    usage(anyhow::anyhow!("{}: kind = \"{found}\", expected \"{expected}\": run it with `c2c {found}`", path.display()))
}

/// The command line that goes on with a run, as this process was called.
pub fn go_on_command(command: &str, run: &RunDir, device: impl Display) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "c2c".into());
    let run = run.path().to_string_lossy();
    let mut command = format!("{} {command} --resume {}", quoted(&program), quoted(&run));
    let device = device.to_string();
    if device != DeviceArg::Cpu.to_string() {
        command.push_str(&format!(" --device {device}"));
    }
    command
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Errors a line each.
fn lines(errors: &[impl std::fmt::Display]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
