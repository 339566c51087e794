//! Recipes of the reference implementation (thu-nics/C2C), JSON or YAML, turned into recipes of this program.
//!
//! Every key of the source is accounted for: it is carried over, or listed with the reason why it isn't
//! ([`Converted::fates`]). A fine-tune of one model becomes a recipe of the method `single`. A recipe whose very purpose
//! can't be kept (a projector that isn't here, training with several Sharers) is refused instead of turned into a different experiment.
//! What comes out has been loaded and checked.

mod data;
mod eval;
mod keys;
mod projector;
mod single;
mod train;
mod two_stage;

use std::path::Path;

use serde_json::Value as Json;

use crate::error::{Problem, RecipeErrors};
use crate::sections::RecipeKind;
use crate::{load, render};

use keys::Keys;
pub use keys::{Fate, Outcome};

/// A converted recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// What it is for.
    pub kind: RecipeKind,
    /// The recipe, with what wasn't carried over as comments at its top.
    pub toml: String,
    /// What became of each key of the source, in its order.
    pub fates: Vec<Fate>,
}

/// Converts a recipe file.
///
/// `name` becomes the recipe's name; without one it is the file's, or that of its folder for a `config.json`.
///
/// # Errors
/// A file that is neither JSON nor YAML, or no recipe of the reference; a recipe whose purpose can't be kept; values that
/// a recipe of this program may not hold. All of them at once.
pub fn convert(path: &Path, name: Option<&str>) -> Result<Converted, RecipeErrors> {
    let text = load::read(path)?;
    let source = parse(path, &text)?;
    let mut keys = Keys::new(&source);
    let name = name.map_or_else(|| name_of(path), str::to_owned);
    let has = |section: &str| source.get(section).is_some_and(Json::is_object);
    let (kind, mut table) = match (has("training"), has("eval")) {
        (true, _) => (RecipeKind::Train, train::convert(&mut keys)),
        (false, true) => (RecipeKind::Eval, eval::convert(&mut keys)),
        (false, false) => {
            let message =
                "no recipe of the reference implementation: it has neither a `training` nor an `eval` section";
            return Err(RecipeErrors::of_file(path, message));
        }
    };
    let (fates, refusals) = keys.finish();
    if !refusals.is_empty() {
        let problem = |(key, message): (String, String)| Problem { line: None, key, message };
        return Err(RecipeErrors::new(path, refusals.into_iter().map(problem).collect()));
    }
    let from = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    table.insert("kind".into(), kind.as_str().into());
    table.insert("name".into(), name.into());
    table.insert("description".into(), format!("Converted from {from}").into());
    let toml = format!("{}\n{}", header(&from, kind, &fates), render::written(kind, &table));
    load::load_text(path, &toml, &[]).map_err(|errors| {
        // The lines are those of the new recipe, which nobody has seen.
        let problems = errors.problems.into_iter().map(|problem| Problem { line: None, ..problem });
        RecipeErrors::new(path, problems.collect())
    })?;
    Ok(Converted { kind, toml, fates })
}

/// JSON, else YAML, of which JSON is almost a part: the reference's tools write YAML into files called `.json`.
fn parse(path: &Path, text: &str) -> Result<Json, RecipeErrors> {
    let parsed = match serde_json::from_str(text) {
        Ok(json) => Ok(json),
        Err(error) if text.trim_start().starts_with('{') => Err(format!("not JSON: {error}")),
        Err(_) => {
            serde_saphyr::from_str(text).map_err(|error| format!("neither JSON nor YAML: {}", first_line(&error)))
        }
    };
    match parsed {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err(RecipeErrors::of_file(path, "no recipe: expected sections with keys")),
        Err(message) => Err(RecipeErrors::of_file(path, message)),
    }
}

fn first_line(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// A name that is good as a folder's.
fn name_of(path: &Path) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = match (stem(path).as_str(), absolute.parent()) {
        // The published ones are all called config.json, each in a folder of its own.
        ("config", Some(folder)) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        (stem, _) => stem.to_owned(),
    };
    let good = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '-' };
    let name: String = name.chars().map(good).take(100).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "converted".to_owned() } else { name.to_owned() }
}

fn header(from: &str, kind: RecipeKind, fates: &[Fate]) -> String {
    let mut text = format!(
        "# Converted from {from}, a recipe of the reference implementation, by `c2c recipe convert`.\n\
         # Command:  c2c {kind} THIS_FILE\n"
    );
    let mut list = |title: &str, line: &dyn Fn(&Fate) -> Option<String>| {
        let lines: String = fates.iter().filter_map(line).map(|line| format!("#   {line}\n")).collect();
        if !lines.is_empty() {
            text.push_str(&format!("#\n# {title}:\n{lines}"));
        }
    };
    let lost = |fate: &Fate| format!("{} = {}: {}", fate.key, fate.value, fate.note);
    list("Not carried over", &|fate| (fate.outcome == Outcome::Lost).then(|| lost(fate)));
    list("Carried over, with a difference", &|fate| {
        let to = fate.to().filter(|_| !fate.note.is_empty())?;
        Some(format!("{} -> {to}: {}", fate.key, fate.note))
    });
    text
}
