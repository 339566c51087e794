//! `c2c recipe`: look at recipes without loading a model.

use std::path::{Path, PathBuf};

use c2c_recipe::{Fate, RecipeKind, defaults_toml, list};
use serde_json::{Value, json};

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
    /// Convert a recipe of the reference implementation (JSON or YAML), and say what can't be carried over
    Convert {
        /// The recipe
        from: PathBuf,
        /// The new file; without it the new recipe is printed
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Name of the new recipe (default: that of the file)
        #[arg(long)]
        name: Option<String>,
        /// Print the new recipe and what became of each key as JSON
        #[arg(long, conflicts_with = "out")]
        json: bool,
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
        Command::Convert { from, out, name, json } => convert(from, out.as_deref(), name.as_deref(), *json),
        Command::Cp { from, to } => {
            super::load_recipe(from, &[])?;
            if to.exists() {
                return Err(usage(anyhow::anyhow!("{} exists already: choose another name", to.display())));
            }
            std::fs::copy(from, to).map(|_| ()).map_err(|e| environment(anyhow::anyhow!("{}: {e}", to.display())))
        }
    }
}

fn ls(dir: &Path) -> Outcome {
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

fn convert(from: &Path, out: Option<&Path>, name: Option<&str>, json: bool) -> Outcome {
    if let Some(out) = out.filter(|out| out.exists()) {
        return Err(usage(anyhow::anyhow!("{} exists already: choose another name", out.display())));
    }
    // Without a name of its own the new recipe is called as its file.
    let stem = out.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    let converted = c2c_recipe::convert(from, name.or(stem.as_deref())).map_err(usage)?;
    if json {
        let fate = |fate: &Fate| {
            let outcome = fate.outcome.as_str();
            json!({ "key": fate.key, "value": fate.value, "outcome": outcome, "to": fate.to(), "note": fate.note })
        };
        let keys: Vec<Value> = converted.fates.iter().map(fate).collect();
        let report = json!({ "kind": converted.kind, "toml": converted.toml, "keys": keys });
        crate::print(&format!("{report:#}\n"));
        return Ok(());
    }
    match out {
        Some(out) => c2c_lm::write_beside(out, converted.toml.as_bytes()).map_err(environment)?,
        None => crate::print(&converted.toml),
    }
    report(&converted.fates);
    if let Some(out) = out {
        eprintln!("recipe in {}", out.display());
    }
    Ok(())
}

/// What became of the keys, those that matter by name.
fn report(fates: &[Fate]) {
    let of = |wanted: &str| fates.iter().filter(|fate| fate.outcome.as_str() == wanted).collect::<Vec<_>>();
    let (carried, implied, lost) = (of("carried"), of("implied"), of("lost"));
    let different: Vec<&Fate> = carried.iter().copied().filter(|fate| !fate.note.is_empty()).collect();
    eprintln!(
        "{} keys carried over, {} of them with a difference; {} not needed here; {} lost",
        carried.len(),
        different.len(),
        implied.len(),
        lost.len()
    );
    let width = fates.iter().map(|fate| fate.key.len()).max().unwrap_or(0);
    for (title, fates) in [("not carried over", lost), ("different", different), ("not needed", implied)] {
        if !fates.is_empty() {
            eprintln!("{title}:");
        }
        for fate in fates {
            eprintln!("  {:<width$}  {}", fate.key, fate.note);
        }
    }
}

fn show(recipe: Option<&Path>, overrides: &[String], defaults: Option<&str>) -> Outcome {
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
