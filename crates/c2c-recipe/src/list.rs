//! All recipes below a folder.

use std::path::{Path, PathBuf};

use crate::error::RecipeErrors;
use crate::load::load;
use crate::sections::RecipeKind;

/// A recipe file of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The file; of a folder that can't be read, the folder.
    pub path: PathBuf,
    /// What the recipe is, or what is wrong with it.
    pub outcome: Result<Summary, RecipeErrors>,
}

/// A recipe in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is for.
    pub kind: RecipeKind,
    /// Its short name.
    pub name: String,
    /// Its one line; may be empty.
    pub description: String,
}

/// Every `*.toml` below a folder, sorted by path. Links to folders are not followed. A file with errors is listed with
/// them, and so is a folder that can't be read.
pub fn list(dir: &Path) -> Vec<Listed> {
    let mut listed = Vec::new();
    walk(dir, &mut listed);
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    listed
}

fn walk(dir: &Path, listed: &mut Vec<Listed>) {
    let entries = std::fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            let outcome = Err(RecipeErrors::of_file(dir, format!("the folder can't be read: {error}")));
            return listed.push(Listed { path: dir.to_owned(), outcome });
        }
    };
    for entry in entries {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, listed);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            let outcome = load(&path, &[]).map(|loaded| Summary {
                kind: loaded.recipe.kind(),
                name: loaded.recipe.name().to_owned(),
                description: loaded.recipe.description().to_owned(),
            });
            listed.push(Listed { path, outcome });
        }
    }
}
