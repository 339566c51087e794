//! What can be wrong with a data file, said so that the file can be mended.

use std::path::PathBuf;

/// An error met while reading a data file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be opened, read or decompressed.
    #[error("cannot read {}: {source}; check that the path names a complete .jsonl or .jsonl.gz file", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system or the decompressor reports.
        source: std::io::Error,
    },
    /// A line is not one JSON object.
    #[error("{}:{line}: not one JSON object: {reason}; write one object a line", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the JSON parser reports.
        reason: String,
    },
    /// A field is missing or has a value that cannot be used.
    #[error("{}:{line}: field `{field}`: expected {expected}, found {found}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The field, with the position inside a list where there is one (`conversations[2].from`).
        field: String,
        /// What the field may hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A line is longer than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES).
    #[error("{}:{line}: the line is longer than {limit} bytes; is this a JSONL file (one object a line)?", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The longest line that is read, in bytes.
        limit: usize,
    },
    /// The file has no row, or the limit leaves none.
    #[error("{}: no rows (limit: {}); give a file with at least one row and a limit of at least 1",
        path.display(), limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string()))]
    Empty {
        /// The file.
        path: PathBuf,
        /// The limit that was asked for.
        limit: Option<usize>,
    },
}
