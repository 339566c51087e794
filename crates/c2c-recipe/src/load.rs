//! From a file and overrides to a resolved recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use toml::Value;

use crate::error::{Problem, RecipeErrors};
use crate::overrides::Override;
use crate::recipe::Recipe;
use crate::{check, cross, node, render, schema, written};

/// Largest recipe file that is read. The shipped ones are below 4 KiB; what is larger is some other file.
pub const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// A recipe that has been loaded: checked, filled and resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The file, as it was given.
    pub path: PathBuf,
    /// Its text, as written. Overrides are not in it; they are in [`Loaded::resolved_toml`].
    pub source: String,
    /// What it means.
    pub recipe: Recipe,
}

/// Loads a recipe.
///
/// Each override is `section.key=value` (see [`Override`]); of several for one key the last counts.
///
/// # Errors
/// Everything that is wrong with the recipe and with the overrides, together.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, RecipeErrors> {
    checked(path, read(path)?, overrides)
}

/// Loads the text of a recipe that would lie at `path`, where nothing needs to be.
///
/// # Errors
/// As [`load`].
pub fn load_text(path: &Path, text: &str, overrides: &[String]) -> Result<Loaded, RecipeErrors> {
    checked(path, text.to_owned(), overrides)
}

fn checked(path: &Path, source: String, overrides: &[String]) -> Result<Loaded, RecipeErrors> {
    let mut problems = Vec::new();
    let mut root = node::parse_document(&source).map_err(|problem| RecipeErrors::new(path, vec![problem]))?;
    for typed in overrides {
        if let Err(problem) = Override::parse(typed).and_then(|one| one.apply(&mut root)) {
            problems.push(problem);
        }
    }
    let mut checked = check::check(&root);
    problems.append(&mut checked.problems);
    problems.extend(cross::check(&checked));
    if !problems.is_empty() {
        return Err(RecipeErrors::new(path, problems));
    }
    let recipe =
        written::resolve(checked.kind, checked.table, path).map_err(|message| RecipeErrors::of_file(path, message))?;
    if let Err(error) = render::table_of(&recipe) {
        let message = format!("can't be written out, {error}; is the name of its folder, or of a folder above, UTF-8?");
        return Err(RecipeErrors::of_file(path, message));
    }
    Ok(Loaded { path: path.to_owned(), source, recipe })
}

/// What doesn't decide a run's result.
const NOT_HASHED: &[&str] = &["base_dir", "output.dir", "checkpoint", "data.prefetch"];

/// Every key that is hashed, dotted, with its value as it is written out.
fn keys(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    // Loading has tried this; a recipe that a program has changed since shows up as one key.
    let table = match render::table_of(recipe) {
        Ok(table) => table,
        Err(error) => return BTreeMap::from([("recipe".to_owned(), error.to_string())]),
    };
    for section in schema::sections(recipe.kind()).iter().filter(|section| !NOT_HASHED.contains(&section.name)) {
        let values =
            if section.name.is_empty() { Some(&table) } else { table.get(section.name).and_then(Value::as_table) };
        for key in section.keys.iter().filter(|key| !NOT_HASHED.contains(&key.path)) {
            if let Some(value) = values.and_then(|values| values.get(key.name())) {
                keys.insert(key.path.to_owned(), render::in_full(key.kind, value));
            }
        }
    }
    keys
}

pub(crate) fn read(path: &Path) -> Result<String, RecipeErrors> {
    let refuse = |message: String| RecipeErrors::of_file(path, message);
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file; give the path of a recipe".to_owned(),
            _ => format!("can't be read: {error}"),
        };
        refuse(hint)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_RECIPE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_RECIPE_BYTES {
        return Err(refuse(format!("larger than {MAX_RECIPE_BYTES} bytes; this is no recipe")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let message = "not UTF-8 text; a recipe is a TOML file in UTF-8".to_owned();
        RecipeErrors::new(path, vec![Problem { line: Some(line), key: String::new(), message }])
    })
}

impl Loaded {
    /// The recipe with every key written out, defaults and overrides included: a recipe by itself, which loads to the
    /// same from any folder. (Only paths that were found from the current directory need that directory again.)
    pub fn resolved_toml(&self) -> String {
        render::recipe(&self.recipe, &[])
    }

    /// Hash of everything that decides the run's result: SHA-256, in hex, of [`Loaded::resolved_toml`] without
    /// `base_dir` and `output.dir`, which only say where things lie, without `[checkpoint]`, which says what is saved on
    /// the way, and without `data.prefetch`, which says when batches are made. Paths of models and data count as written.
    pub fn hash(&self) -> String {
        let text = render::recipe(&self.recipe, NOT_HASHED);
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What decides the result and differs from another recipe: a line a key, `optimizer.learning_rate = 0.002, not
    /// 0.001`. Empty exactly if the hashes are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (keys(&self.recipe), keys(&other.recipe));
        let all: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let unset = "unset".to_owned();
        all.into_iter()
            .filter_map(|key| {
                let (ours, theirs) = (ours.get(key).unwrap_or(&unset), theirs.get(key).unwrap_or(&unset));
                (ours != theirs).then(|| format!("{key} = {ours}, not {theirs}"))
            })
            .collect()
    }
}
