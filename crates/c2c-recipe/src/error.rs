//! What can be wrong with a recipe, and how it is told.
//!
//! A recipe never fails with its first mistake: problems are gathered, sorted by line and shown together, one a line, in
//! the `file:line: key: message` form that editors and terminals turn into links.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong with a recipe.
///
/// `Display` gives `key: message`; [`RecipeErrors`] puts the file and the line before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the recipe file, counted from 1. `None` when no line is to blame: a required section that is missing,
    /// a value given by an override, a file that can't be read.
    pub line: Option<usize>,
    /// The key as it would be typed, dotted: `optimizer.learning_rate`, `data.sources[0].path`. Empty when the
    /// problem is the file itself.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.key, self.message) }
    }
}

/// Everything that is wrong with one recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct RecipeErrors {
    /// The recipe file, as it was given.
    pub file: PathBuf,
    /// The problems by line; those without a line come last. Never empty.
    pub problems: Vec<Problem>,
}

impl RecipeErrors {
    pub(crate) fn new(file: impl Into<PathBuf>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Self { file: file.into(), problems }
    }

    /// A problem of the file as a whole.
    pub(crate) fn of_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        let problem = Problem { line: None, key: String::new(), message: message.into() };
        Self::new(file, vec![problem])
    }

    fn text(&self) -> String {
        let file = self.file.display();
        let lines: Vec<String> = self
            .problems
            .iter()
            .map(|problem| match problem.line {
                Some(line) => format!("{file}:{line}: {problem}"),
                None => format!("{file}: {problem}"),
            })
            .collect();
        lines.join("\n")
    }
}
