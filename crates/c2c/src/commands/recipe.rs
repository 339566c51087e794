//! `c2c recipe`: look at recipes without loading a model.

use std::path::PathBuf;

use c2c_recipe::{RecipeKind, defaults_toml, list};

use crate::exit::{Failure, Outcome, environment, usage};

/// Arguments of `c2c recipe`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List the recipes below a folder
    Ls {
        /// The folder
        #[arg(default_value = "recipes")]
        dir: PathBuf,
    },
    /// Check recipes; every error of each is printed
    Validate {
        /// The recipes
        #[arg(required = true)]
        recipes: Vec<PathBuf>,
        /// Change a value first
        #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// Print a recipe as it resolves, every default filled in
    Show {
        /// The recipe
        #[arg(required_unless_present = "defaults")]
        recipe: Option<PathBuf>,
        /// Change a value first
        #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// Print all keys and defaults of a kind instead: train, eval or pretrain
        #[arg(long, value_name = "KIND", conflicts_with = "recipe")]
        defaults: Option<String>,
    },
    /// Copy a recipe to change it
    Cp {
        /// The recipe
        from: PathBuf,
        /// The new file
        to: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Ls { dir } => ls(dir),
        Command::Validate { recipes, overrides } => validate(recipes, overrides),
        Command::Show { recipe, overrides, defaults } => show(recipe.as_deref(), overrides, defaults.as_deref()),
        Command::Cp { from, to } => {
            super::load_recipe(from, &[])?;
            if to.exists() {
                return Err(usage(anyhow::anyhow!("{} exists already: choose another name", to.display())));
            }
            std::fs::copy(from, to).map(|_| ()).map_err(|e| environment(anyhow::anyhow!("{}: {e}", to.display())))
        }
    }
}

fn ls(dir: &std::path::Path) -> Outcome {
    let listed = list(dir);
    let width = listed.iter().map(|l| l.path.display().to_string().len()).max().unwrap_or(0);
    let mut bad = 0;
    for item in &listed {
        let path = item.path.display().to_string();
        match &item.outcome {
            Ok(s) => crate::print(&format!("{path:<width$}  {:<8}  {}\n", s.kind.to_string(), s.description)),
            Err(errors) => {
                bad += 1;
                crate::print(&format!("{path:<width$}  invalid   {} errors\n", errors.problems.len()));
            }
        }
    }
    if bad > 0 {
        return Err(usage(anyhow::anyhow!("{bad} of {} recipes are invalid: see `c2c recipe validate`", listed.len())));
    }
    Ok(())
}

fn validate(recipes: &[PathBuf], overrides: &[String]) -> Outcome {
    let mut errors = Vec::new();
    for path in recipes {
        match c2c_recipe::load(path, overrides) {
            Ok(loaded) => {
                let text = format!("{}: ok, kind {}, sha256 {}\n", path.display(), loaded.recipe.kind(), loaded.hash());
                crate::print(&text);
            }
            Err(e) => errors.push(e.to_string()),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::Usage(anyhow::anyhow!(errors.join("\n")))) }
}

fn show(recipe: Option<&std::path::Path>, overrides: &[String], defaults: Option<&str>) -> Outcome {
    if let Some(kind) = defaults {
        let all = [RecipeKind::Train, RecipeKind::Eval, RecipeKind::Pretrain];
        let Some(kind) = all.into_iter().find(|k| k.as_str() == kind) else {
            return Err(usage(anyhow::anyhow!("unknown kind `{kind}`: expected train, eval or pretrain")));
        };
        crate::print(&defaults_toml(kind));
        return Ok(());
    }
    if let Some(path) = recipe {
        crate::print(&super::load_recipe(path, overrides)?.resolved_toml());
    }
    Ok(())
}
