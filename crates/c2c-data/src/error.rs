//! What can be wrong with a data file, said so that the file can be mended.

use std::path::PathBuf;

/// An error met while reading a data file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be opened, read or decompressed.
    #[error("cannot read {}: {source}; check that the path names a complete file", path.display())]
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
        /// The line, or in a Parquet file or a JSON list the row, counted from 1.
        line: usize,
        /// The field, with the position inside a list where there is one (`conversations[2].from`).
        field: String,
        /// What the field may hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// Two rows of questions have one identifier.
    #[error("{}:{line}: the identifier `{id}` is also that of {}:{first_line}; give each question one of its own, or leave out one of the files",
        path.display(), first.display())]
    SameId {
        /// The file of the later row.
        path: PathBuf,
        /// Its line or row, counted from 1.
        line: usize,
        /// The identifier.
        id: String,
        /// The file of the earlier row.
        first: PathBuf,
        /// Its line or row.
        first_line: usize,
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
    /// A file is no Parquet, or of columns that can't be read.
    #[error("{}: not a Parquet file that can be read: {reason}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What Polars reports.
        reason: String,
    },
    /// A JSON file is broken, or no list of objects.
    #[error("{}: expected a JSON list of objects, or one object a line: {reason}", path.display())]
    JsonList {
        /// The file.
        path: PathBuf,
        /// What the JSON parser reports.
        reason: String,
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
    /// Rows were read, but none is left.
    #[error("{name}: none of {read} rows can be used: {bad} bad, {filtered} left out by filters{first}")]
    NoneLeft {
        /// The source.
        name: String,
        /// Rows read.
        read: usize,
        /// Bad rows.
        bad: usize,
        /// Rows left out by filters.
        filtered: usize,
        /// The first bad row, with a separator before it; empty if there is none.
        first: String,
    },
    /// A filter names a column that no row has.
    #[error("{name}: the filter `{filter}` names the column `{column}`, which no row has; the first row has {found}")]
    NoColumn {
        /// The source.
        name: String,
        /// `equal` or `contain`.
        filter: &'static str,
        /// The column.
        column: String,
        /// The columns of the first row.
        found: String,
    },
    /// A subject is wanted that no row has.
    #[error("{name}: no row of the subject `{subject}`; found {found}")]
    NoSubject {
        /// The source.
        name: String,
        /// The subject.
        subject: String,
        /// The subjects that there are.
        found: String,
    },
    /// A table of comma-separated values isn't well formed.
    #[error("{}: not a table of comma-separated values: {reason}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader reports, with the line.
        reason: String,
    },
    /// A record of comma-separated values is none.
    #[error("{}:{row}: not a record of this table: {reason}; give each record one value a column, in UTF-8", path.display())]
    CsvRow {
        /// The file.
        path: PathBuf,
        /// The record, counted from 1 behind the line of names.
        row: usize,
        /// What the reader reports.
        reason: String,
    },
    /// A folder has no file that fits.
    #[error("{}: no {what}; found {found}", folder.display())]
    NoFiles {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        what: String,
        /// What is there.
        found: String,
    },
    /// A source is neither a path nor a data set of the hub cache.
    #[error("data `{name}` not found: neither at {} nor in the hub cache {}{}", path.display(), cache.display(),
        download.as_ref().map_or_else(String::new, |line| format!("; fetch it with `{line}`")))]
    NotFound {
        /// The path or hub id as written.
        name: String,
        /// Where it was looked for as a path.
        path: PathBuf,
        /// Where it was looked for as a hub id.
        cache: PathBuf,
        /// The command that fetches it, if the name can be a hub id.
        download: Option<String>,
    },
    /// The tokenizer failed where a filter needed it.
    #[error("cannot count the tokens of {place}: {reason}")]
    Tokens {
        /// The row.
        place: String,
        /// What the tokenizer reports.
        reason: String,
    },
}
