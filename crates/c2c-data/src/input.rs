//! Finding the files of a source: a file, a folder of files, or a data set in the local hub cache.
//!
//! Nothing is downloaded here: a data set that isn't there is an error that says how to fetch it. In a folder, files are
//! chosen by configuration and split, as their names and folders tell them:
//! `all/auxiliary_train-00000-of-00001.parquet` is a file of the configuration `all` and of the split
//! `auxiliary_train`, and `law_val.csv` is one of `val`.

use std::path::{Path, PathBuf};

use c2c_hub::cache_dir;

use crate::DataError;

/// Where a source's data is, as a recipe says it.
#[derive(Debug, Clone, Default)]
pub struct Place<'a> {
    /// The path or hub id as written.
    pub written: &'a str,
    /// The path that it means here, which need not exist.
    pub path: PathBuf,
    /// Commit or branch of a hub id; `None` is `main`.
    pub revision: Option<&'a str>,
    /// Configuration whose files are wanted.
    pub config: Option<&'a str>,
    /// The configuration that is taken if none is wanted and files name it.
    pub usual_config: Option<&'a str>,
    /// Whether files of LongBench-E are wanted, whose names end in `_e`, or those of the standard set.
    pub extended: Option<bool>,
    /// Split whose files are wanted.
    pub split: Option<&'a str>,
    /// The split that is taken if none is wanted and files name it.
    pub usual_split: Option<&'a str>,
}

/// The files of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What the source is called in fingerprints.
    pub name: String,
    /// The files, in the order in which they are read.
    pub files: Vec<PathBuf>,
    /// The commit, for a data set of the hub cache.
    pub revision: Option<String>,
}

impl Input {
    /// One file, without looking whether it is there.
    pub fn file(path: &Path) -> Self {
        Self { name: path.display().to_string(), files: vec![path.to_owned()], revision: None }
    }

    /// The innermost folder that all files lie in; `None` for one file.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        let (first, others) = self.files.split_first()?;
        let mut root = others.first().and(first.parent())?;
        while !others.iter().all(|file| file.starts_with(root)) {
            root = root.parent()?;
        }
        Some(root.to_owned())
    }

    /// Finds the files of a place.
    ///
    /// # Errors
    /// Nothing is there, or nothing of that configuration, split or format; the message says what there is.
    pub fn locate(place: &Place<'_>) -> Result<Self, DataError> {
        if place.path.is_file() {
            return Ok(Self::file(&place.path));
        }
        if place.path.is_dir() {
            let files = choose(&place.path, place)?;
            return Ok(Self { name: place.path.display().to_string(), files, revision: None });
        }
        let (snapshot, revision) = snapshot(place)?;
        let files = choose(&snapshot, place)?;
        Ok(Self { name: format!("hub:{}", place.written), files, revision: Some(revision) })
    }
}

/// Endings of files that are read.
const ENDINGS: &[&str] = &["parquet", "csv", "jsonl", "json", "ndjson", "jsonl.gz", "json.gz", "jsonl.zst", "json.zst"];
/// Files that Hugging Face's libraries put beside the data.
const NOT_DATA: &[&str] = &["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

impl Place<'_> {
    /// The hub id that this is, if it is no path and can be one.
    pub fn hub_id(&self) -> Option<&str> {
        (!self.path.exists() && is_hub_id(self.written)).then_some(self.written)
    }

    /// Those of the files of a data set that [`Input::locate`] would take, so that only they are fetched. `whole` is what
    /// the data set is called in errors.
    ///
    /// # Errors
    /// As [`Input::locate`].
    pub fn choose(&self, whole: &Path, files: impl IntoIterator<Item = PathBuf>) -> Result<Vec<PathBuf>, DataError> {
        let hidden = |path: &PathBuf| path.iter().any(|part| part.to_string_lossy().starts_with('.'));
        pick(whole, files.into_iter().filter(|path| !hidden(path)).collect(), self)
    }
}

fn choose(folder: &Path, place: &Place<'_>) -> Result<Vec<PathBuf>, DataError> {
    let mut all = Vec::new();
    walk(folder, PathBuf::new(), &mut all);
    Ok(pick(folder, all, place)?.into_iter().map(|path| folder.join(path)).collect())
}

fn pick(folder: &Path, mut all: Vec<PathBuf>, place: &Place<'_>) -> Result<Vec<PathBuf>, DataError> {
    all.sort();
    let no_files = |what: String| DataError::NoFiles { folder: folder.to_owned(), what, found: shown(&all) };
    let mut files: Vec<&PathBuf> = all.iter().filter(|path| is_data(path)).collect();
    if files.is_empty() {
        let ends = |ending: &str| all.iter().any(|path| path.extension().is_some_and(|other| other == ending));
        if ends("zip") {
            return Err(no_files("files but an archive; unzip it and give the folder as the source's `path`".into()));
        }
        if ends("arrow") {
            let way = "write them as Parquet, `datasets.load_from_disk(FOLDER).to_parquet(FILE)`, and give that file";
            return Err(no_files(format!("files but Arrow ones, which are not read; {way}")));
        }
        return Err(no_files(
            "files that can be read (.parquet, .csv, .jsonl, .json, the latter two also .gz or .zst)".into(),
        ));
    }
    if let Some(extended) = place.extended {
        files.retain(|path| names(path).any(|part| part.ends_with("_e")) == extended);
        if files.is_empty() {
            let set = if extended { "e" } else { "standard" };
            return Err(no_files(format!("files of LongBench's configuration `{set}`")));
        }
    }
    for (what, wanted, usual) in
        [("configuration", place.config, place.usual_config), ("split", place.split, place.usual_split)]
    {
        let Some(name) = wanted.or(usual) else { continue };
        let mut of_name: Vec<&PathBuf> =
            files.iter().copied().filter(|path| names(path).any(|part| part == name)).collect();
        if of_name.is_empty() && what == "split" {
            of_name = files.iter().copied().filter(|path| ends_in_split(path, name)).collect();
        }
        // A data set of one split may be one file that names none: there the usual split is that file, also in so many words.
        let unsplit = || what == "split" && usual == Some(name) && !files.iter().any(|path| names_a_split(path));
        match (of_name.is_empty(), wanted) {
            (false, _) => files = of_name,
            (true, Some(name)) if !unsplit() => return Err(no_files(format!("files of the {what} `{name}`"))),
            // The usual one is only a guess; a folder without it is taken as it is.
            (true, _) => {}
        }
    }
    let parquet = files.iter().filter(|path| ending(path) == "parquet").count();
    if parquet != 0 && parquet != files.len() {
        return Err(no_files("files of one format; name one file, or keep the formats in two folders".into()));
    }
    Ok(files.into_iter().cloned().collect())
}

fn walk(folder: &Path, inner: PathBuf, all: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder.join(&inner)) else { return };
    for entry in entries.flatten() {
        let path = inner.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // Files of the hub cache are links; links to folders aren't followed, so that no loop is.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(folder, path, all);
        } else {
            all.push(path);
        }
    }
}

/// The ending of a file name in lower case, `jsonl.gz` for compressed ones.
fn ending(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let known = ENDINGS.iter().filter(|ending| name.ends_with(&format!(".{ending}"))).max_by_key(|ending| ending.len());
    known.map_or_else(String::new, |ending| (*ending).to_owned())
}

fn is_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    !ending(path).is_empty() && !NOT_DATA.contains(&name.as_str())
}

/// The words of a path that may name a configuration or a split: its folders, and the parts of the file's name.
fn names(path: &Path) -> impl Iterator<Item = String> {
    let text = path.to_string_lossy().into_owned();
    let mut words: Vec<String> = text.split(['/', '\\', '-', '.']).map(str::to_owned).collect();
    // `ARC-Challenge`, and `gpqa_diamond` of `gpqa_diamond.csv`.
    words.extend(text.split(['/', '\\']).map(str::to_owned));
    words.into_iter()
}

/// The names that splits usually have.
const SPLITS: &[&str] = &["train", "auxiliary_train", "test", "validation", "valid", "val", "dev", "eval"];

/// Whether a path tells what split its rows are of.
fn names_a_split(path: &Path) -> bool {
    names(path).any(|part| SPLITS.contains(&part.as_str())) || SPLITS.iter().any(|split| ends_in_split(path, split))
}

/// Whether a file's name ends in a split behind an underscore: `law_val.csv`. `auxiliary_train` is a split of its own.
fn ends_in_split(path: &Path, split: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(['.', '-']).next().unwrap_or_default();
    stem != "auxiliary_train" && stem.strip_suffix(split).is_some_and(|rest| rest.ends_with('_'))
}

fn shown(all: &[PathBuf]) -> String {
    const SHOWN: usize = 8;
    let some: Vec<String> = all.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match all.len() {
        0 => "nothing".to_owned(),
        n if n > SHOWN => format!("{}, and {} more", some.join(", "), n - SHOWN),
        _ => some.join(", "),
    }
}

/// The snapshot of a data set in the hub cache, and its commit.
fn snapshot(place: &Place<'_>) -> Result<(PathBuf, String), DataError> {
    let cache = cache_dir();
    let missing = || DataError::NotFound {
        name: place.written.to_owned(),
        path: place.path.clone(),
        cache: cache.clone(),
        download: download(place),
    };
    if !is_hub_id(place.written) {
        return Err(missing());
    }
    let repo = cache.join(format!("datasets--{}", place.written.replace('/', "--")));
    let wanted = place.revision.unwrap_or("main");
    let commit = match std::fs::read_to_string(repo.join("refs").join(wanted)) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => wanted.to_owned(),
    };
    let folder = repo.join("snapshots").join(&commit);
    if folder.is_dir() { Ok((folder, commit)) } else { Err(missing()) }
}

/// The command that fetches a data set; `None` if the name can be no hub id.
fn download(place: &Place<'_>) -> Option<String> {
    is_hub_id(place.written).then(|| {
        let revision = place.revision.map(|revision| format!("@{revision}")).unwrap_or_default();
        format!("c2c download datasets/{}{revision}", place.written)
    })
}

fn is_hub_id(text: &str) -> bool {
    let part = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(good)
    };
    let looks_like_a_file = is_data(Path::new(text));
    !looks_like_a_file && text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn located(folder: &tempfile::TempDir, place: Place<'_>) -> Result<Vec<String>, DataError> {
        let place = Place { path: folder.path().to_owned(), ..place };
        let input = Input::locate(&place)?;
        let relative = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        Ok(input.files.iter().map(relative).collect())
    }

    #[test]
    fn configuration_and_split_choose_among_the_files() {
        let mmlu = folder(&[
            "README.md",
            "dataset_infos.json",
            "all/auxiliary_train-00000-of-00001.parquet",
            "all/test-00000-of-00001.parquet",
            "anatomy/test-00000-of-00001.parquet",
            ".git/config.json",
        ]);
        let usual = Place { usual_config: Some("all"), usual_split: Some("auxiliary_train"), ..Place::default() };
        assert_eq!(located(&mmlu, usual.clone()).unwrap(), ["all/auxiliary_train-00000-of-00001.parquet"]);
        let test = Place { split: Some("test"), ..usual.clone() };
        assert_eq!(located(&mmlu, test).unwrap(), ["all/test-00000-of-00001.parquet"]);
        let train = Place { split: Some("train"), ..usual };
        let error = located(&mmlu, train).unwrap_err().to_string();
        assert!(error.contains("split `train`") && error.contains("anatomy/test"), "{error}");
    }

    #[test]
    fn a_folder_without_splits_is_read_whole_and_shards_in_order() {
        let shards = folder(&["data/b.parquet", "data/a.parquet"]);
        let place = Place { usual_split: Some("train"), ..Place::default() };
        assert_eq!(located(&shards, place).unwrap(), ["data/a.parquet", "data/b.parquet"]);
        let mixed = folder(&["a.parquet", "b.jsonl"]);
        assert!(located(&mixed, Place::default()).unwrap_err().to_string().contains("one format"));
        let arrow = folder(&["data-00000-of-00001.arrow", "state.json"]);
        assert!(located(&arrow, Place::default()).unwrap_err().to_string().contains("to_parquet"));
        let zip = folder(&["LongBench.py", "data.zip"]);
        assert!(located(&zip, Place::default()).unwrap_err().to_string().contains("unzip it"));
    }

    #[test]
    fn the_usual_split_may_be_written_where_no_file_names_one() {
        let train = |usual| Place { split: Some("train"), usual_split: Some(usual), ..Place::default() };
        let hermes = folder(&["README.md", "openhermes2_5.json"]);
        assert_eq!(located(&hermes, train("train")).unwrap(), ["openhermes2_5.json"]);
        // Another than the usual one is no guess, and files of a split are never taken for another's.
        assert!(located(&hermes, train("auxiliary_train")).unwrap_err().to_string().contains("split `train`"));
        let test = folder(&["test.jsonl"]);
        assert!(located(&test, train("train")).unwrap_err().to_string().contains("split `train`"));
    }

    #[test]
    fn splits_behind_underscores_are_told_apart() {
        let flat = folder(&["law_dev.csv", "law_test.csv", "law_val.csv", "physician_dev.csv", "physician_val.csv"]);
        let usual = Place { usual_split: Some("val"), ..Place::default() };
        assert_eq!(located(&flat, usual.clone()).unwrap(), ["law_val.csv", "physician_val.csv"]);
        assert_eq!(located(&flat, Place { split: Some("test"), ..usual.clone() }).unwrap(), ["law_test.csv"]);
        let error = located(&flat, Place { split: Some("train"), ..usual }).unwrap_err().to_string();
        assert!(error.contains("split `train`"), "{error}");
        // A folder that is named by the split goes before.
        let named = folder(&["dev/law_dev.csv", "val/law.csv", "x_val.csv"]);
        assert_eq!(located(&named, Place { split: Some("val"), ..Place::default() }).unwrap(), ["val/law.csv"]);
    }

    #[test]
    fn longbench_e_is_told_by_the_names_of_its_files() {
        let folder = folder(&["data/qasper.jsonl", "data/qasper_e.jsonl", "data/trec_e.jsonl"]);
        let place = |extended| Place { extended: Some(extended), ..Place::default() };
        assert_eq!(located(&folder, place(true)).unwrap(), ["data/qasper_e.jsonl", "data/trec_e.jsonl"]);
        assert_eq!(located(&folder, place(false)).unwrap(), ["data/qasper.jsonl"]);
    }

    #[test]
    fn hub_ids_are_told_from_paths() {
        for id in ["teknium/OpenHermes-2.5", "cais/mmlu"] {
            assert!(is_hub_id(id), "{id}");
        }
        for path in ["data.jsonl", "/data/x", "a/b/c", "../x", "data/rows.jsonl.gz", "x"] {
            assert!(!is_hub_id(path), "{path}");
        }
    }
}
