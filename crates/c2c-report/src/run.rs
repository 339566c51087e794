//! The files of a run, and where to find runs.

use std::path::{Path, PathBuf};

use c2c_eval::{Asked, OLDEST_SUMMARY_FORMAT, SUMMARY_FORMAT};
use c2c_recipe::Method;
use serde_json::Value;

use crate::ReportError;

/// The figures of a run.
pub(crate) const SUMMARY: &str = "summary.json";
/// A row a question and method.
pub(crate) const RECORDS: &str = "eval/records.parquet";
/// What an unfinished evaluation has done so far.
pub(crate) const JOURNAL: &str = "eval/journal.jsonl";
/// The recipe as resolved.
pub(crate) const RECIPE: &str = "recipe.toml";
/// What the figures depend on besides the recipe.
pub(crate) const ENVIRONMENT: &str = "environment.json";
/// A line a training step.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// The logits of all gates, at some of the steps.
pub(crate) const GATES: &str = "gates.jsonl";

/// A run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFiles {
    /// Its path.
    pub dir: PathBuf,
}

impl RunFiles {
    /// The name of its folder.
    pub fn name(&self) -> String {
        let absolute = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        absolute.file_name().map_or_else(|| self.dir.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A JSON file of the run.
    ///
    /// # Errors
    /// A file that can't be read or isn't JSON.
    pub fn json(&self, name: &str) -> Result<Value, ReportError> {
        let path = self.path(name);
        let read = |reason: String| ReportError::Read { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|err| read(err.to_string()))?;
        serde_json::from_str(&text).map_err(|err| read(err.to_string()))
    }

    /// The figures of the run.
    ///
    /// # Errors
    /// As [`RunFiles::json`]; an evaluation that isn't finished, or is one of several shards.
    pub fn summary(&self) -> Result<Value, ReportError> {
        if !self.path(SUMMARY).exists() && self.path(JOURNAL).is_file() {
            return Err(ReportError::Unfinished { path: self.dir.clone() });
        }
        self.json(SUMMARY)
    }

    /// What was asked, from the run's summary.
    ///
    /// # Errors
    /// A run without an evaluation, figures of another version, or facts that aren't well formed.
    pub fn asked(&self, summary: &Value) -> Result<Asked, ReportError> {
        let path = self.path(SUMMARY);
        let has_figures =
            Method::WORDS.iter().any(|word| summary.get(word).is_some()) || summary.get("partial").is_some();
        let refuse =
            |found: String, fix| Err(ReportError::Format { path: path.clone(), found, expected: SUMMARY_FORMAT, fix });
        let Some(asked) = summary.get("evaluation") else {
            return match has_figures {
                true => refuse("none".into(), "they were made by an older program: evaluate again"),
                false => Err(ReportError::NoEvaluation { path: self.dir.clone(), missing: "figures in summary.json" }),
            };
        };
        let known = u64::from(OLDEST_SUMMARY_FORMAT)..=u64::from(SUMMARY_FORMAT);
        match asked.get("format") {
            Some(format) if format.as_u64().is_some_and(|format| known.contains(&format)) => {}
            Some(format) if format.as_u64().is_some_and(|format| format > *known.end()) => {
                return refuse(format.to_string(), "use a newer program");
            }
            Some(format) => return refuse(format.to_string(), "evaluate again"),
            None => return refuse("none".into(), "evaluate again"),
        }
        serde_json::from_value(asked.clone())
            .map_err(|err| ReportError::Read { path: path.clone(), reason: format!("evaluation: {err}") })
    }
}

/// The runs that paths name: run directories, and those directly inside folders that hold some, by name.
///
/// # Errors
/// A path that isn't there, is no run and holds none. All such paths are told, in the order given.
pub fn find_runs(paths: &[PathBuf]) -> Result<Vec<RunFiles>, Vec<ReportError>> {
    let mut runs: Vec<RunFiles> = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        match inside(path) {
            Ok(found) => {
                for run in found {
                    if !runs.contains(&run) {
                        runs.push(run);
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(runs) } else { Err(errors) }
}

fn inside(path: &Path) -> Result<Vec<RunFiles>, ReportError> {
    if is_run(path) {
        return Ok(vec![RunFiles { dir: path.to_owned() }]);
    }
    let read = |err: std::io::Error| ReportError::Read { path: path.to_owned(), reason: err.to_string() };
    if !path.is_dir() {
        return Err(ReportError::NoRun { path: path.to_owned() });
    }
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let folder = entry.map_err(read)?.path();
        if is_run(&folder) {
            folders.push(folder);
        }
    }
    if folders.is_empty() {
        return Err(ReportError::NoRun { path: path.to_owned() });
    }
    folders.sort();
    Ok(folders.into_iter().map(|dir| RunFiles { dir }).collect())
}

/// Whether a folder is a run: one that was begun has its recipe, one that is done its summary.
fn is_run(path: &Path) -> bool {
    path.join(SUMMARY).is_file() || path.join(ENVIRONMENT).is_file()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn runs_are_found_by_themselves_and_in_folders_once_each() {
        let dir = tempfile::tempdir().unwrap();
        for run in ["b", "a", "c/inner"] {
            std::fs::create_dir_all(dir.path().join(run)).unwrap();
        }
        for file in ["b/summary.json", "a/environment.json", "c/inner/summary.json"] {
            std::fs::write(dir.path().join(file), "{}").unwrap();
        }
        let path = |name: &str| dir.path().join(name);
        let names = |paths: &[PathBuf]| find_runs(paths).unwrap().iter().map(RunFiles::name).collect::<Vec<_>>();
        // By name in a folder; in the order given, and none twice; not in folders of folders.
        assert_eq!(names(&[dir.path().to_owned()]), ["a", "b"]);
        assert_eq!(names(&[path("b"), dir.path().to_owned(), path("c")]), ["b", "a", "inner"]);
        let errors = find_runs(&[path("nowhere"), path("b"), path("c/inner/summary.json")]).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().contains("nowhere"), "{}", errors[0]);
    }
}
