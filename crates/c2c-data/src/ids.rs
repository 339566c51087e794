//! Identifiers of questions, each of which names one question.
//!
//! Records are put together by identifier: two questions of one name would be counted as two in an evaluation and as one
//! where two methods or runs are compared.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::DataError;
use crate::row::Row;

/// The identifiers so far, each with its place.
#[derive(Default)]
pub(crate) struct Ids(HashMap<String, (PathBuf, usize)>);

impl Ids {
    /// Takes an identifier that the source itself has given.
    ///
    /// # Errors
    /// Another row has it.
    pub(crate) fn take(&mut self, row: &Row<'_>, id: &str) -> Result<(), DataError> {
        if let Some((path, line)) = self.0.get(id) {
            return Err(DataError::SameId {
                path: row.path.to_path_buf(),
                line: row.line,
                id: id.to_owned(),
                first: path.clone(),
                first_line: *line,
            });
        }
        self.0.insert(id.to_owned(), (row.path.to_path_buf(), row.line));
        Ok(())
    }

    /// Takes an identifier that was made of a row's place, with a number behind it if another row has it: rows of several
    /// files may have one place in their subject.
    pub(crate) fn make(&mut self, row: &Row<'_>, id: String) -> String {
        let free = |id: &String| !self.0.contains_key(id);
        let numbered = (2..).map(|number| format!("{id}#{number}"));
        // One of endless many is free.
        let id = std::iter::once(id.clone()).chain(numbered).find(free).unwrap_or(id);
        self.0.insert(id.clone(), (row.path.to_path_buf(), row.line));
        id
    }
}
