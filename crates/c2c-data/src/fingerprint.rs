//! What a run has read: which bytes, which rows of them, and what was left out.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bad rows that are listed in full; all are counted.
pub const LISTED_BAD_ROWS: usize = 100;

/// Identifies the data that a run has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The path as the caller gave it, or `hub:` and the hub id.
    pub source: String,
    /// Rows that were used.
    pub rows: usize,
    /// SHA-256 (lower-case hexadecimal) of the decompressed bytes that were read; of a Parquet file, of the whole file.
    /// Of several files: of their hashes in [`Fingerprint::files`], one a line.
    pub sha256: String,
    /// The limit on rows, if there was one.
    pub limit: Option<usize>,
    /// The commit of a data set from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The files, if there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileFingerprint>,
    /// The filters and draws, in the order in which they were applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Rows that were read and left out, by the key that did it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, usize>,
    /// Rows that can't be used.
    #[serde(default, skip_serializing_if = "BadRows::is_empty")]
    pub bad: BadRows,
}

/// One of several files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFingerprint {
    /// The file's name.
    pub file: String,
    /// Rows read, used or not.
    pub rows: usize,
    /// SHA-256 as in [`Fingerprint::sha256`].
    pub sha256: String,
}

/// Rows that can't be used: all counted, the first [`LISTED_BAD_ROWS`] with their place and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRows {
    /// How many.
    pub count: usize,
    /// The first ones: file, line, field, what was expected and found.
    pub listed: Vec<String>,
}

impl BadRows {
    /// Whether all rows were good.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Counts one more, and lists it while there is room.
    pub fn push(&mut self, reason: String) {
        self.count += 1;
        if self.listed.len() < LISTED_BAD_ROWS {
            self.listed.push(reason);
        }
    }
}

/// Rows of a file with the file's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The rows, in file order.
    pub rows: Vec<T>,
    /// What was read.
    pub fingerprint: Fingerprint,
}
