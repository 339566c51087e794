//! Paths of a recipe: `~/`, relative to what, and tidied.

use std::path::{Component, Path, PathBuf};

/// A leading `~/` replaced by the user's home folder. Stays as it is where there is none.
pub(crate) fn expand(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// The folder that a recipe's paths start from: the written `base_dir` (itself relative to the recipe's folder), or
/// the recipe's folder. Absolute.
pub(crate) fn base(recipe: &Path, written: Option<&str>) -> PathBuf {
    let absolute = std::path::absolute(recipe).unwrap_or_else(|_| recipe.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    match written {
        Some(written) => tidy(&folder.join(expand(written))),
        None => tidy(folder),
    }
}

/// A file or folder: below `base` if it is there, else below the current directory if it is there, else below `base`,
/// so that a message about its absence names the place where it belongs.
pub(crate) fn file(base: &Path, text: &str) -> PathBuf {
    existing(base, text).unwrap_or_else(|| tidy(&base.join(expand(text))))
}

/// A model: a folder as for [`file`] if it is there, else the text itself, which may be a hub id.
pub(crate) fn model(base: &Path, text: &str) -> PathBuf {
    existing(base, text).unwrap_or_else(|| expand(text))
}

fn existing(base: &Path, text: &str) -> Option<PathBuf> {
    let path = expand(text);
    let below = tidy(&base.join(&path));
    if below.exists() {
        return Some(below);
    }
    // An absolute path has been tried already.
    (path.is_relative() && path.exists()).then(|| std::path::absolute(&path).map_or(path, |path| tidy(&path)))
}

/// Takes `.` and `..` out of a path, unless a symbolic link on the way makes that lead elsewhere.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            Component::ParentDir if tidied.has_root() => {}
            other => tidied.push(other),
        }
    }
    match (path.canonicalize(), tidied.canonicalize()) {
        (Ok(one), Ok(other)) if one != other => path.to_owned(),
        (Ok(_), Err(_)) => path.to_owned(),
        _ => tidied,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn tidy_takes_dots_out() {
        assert_eq!(tidy(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(tidy(Path::new("/../a")), Path::new("/a"));
        assert_eq!(tidy(Path::new("../a/../b")), Path::new("../b"));
    }

    #[cfg(unix)]
    #[test]
    fn tidy_keeps_dots_behind_a_link_that_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("far/inner")).unwrap();
        std::fs::write(dir.join("far/file"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("far/inner"), dir.join("link")).unwrap();
        let path = dir.join("link/../file");
        assert_eq!(tidy(&path), path);
        assert_eq!(file(&dir, "link/../file"), path);
    }

    #[test]
    fn model_is_a_folder_if_there_is_one_else_as_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("models/one")).unwrap();
        std::fs::create_dir_all(dir.path().join("recipes")).unwrap();
        let base = dir.path().join("recipes");
        assert_eq!(model(&base, "../models/one"), dir.path().join("models/one"));
        assert_eq!(model(&base, "Owner/Name"), Path::new("Owner/Name"));
        // Tests run in the crate's folder.
        assert_eq!(model(&base, "src"), std::env::current_dir().unwrap().join("src"));
        assert_eq!(file(&base, "data.jsonl"), base.join("data.jsonl"));
    }

    #[test]
    fn home_is_expanded() {
        if let Some(home) = std::env::home_dir() {
            assert_eq!(expand("~/models"), home.join("models"));
            assert_eq!(model(Path::new("/nowhere"), "~/no such folder"), home.join("no such folder"));
        }
        assert_eq!(expand("~name/x"), Path::new("~name/x"));
    }
}
