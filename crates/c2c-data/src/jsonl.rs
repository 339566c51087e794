//! Reading JSONL files, plain or gzipped, line by line, with a fingerprint of exactly the bytes that were used.
//!
//! A file is recognised as gzip by its first two bytes, not by its name. Blank lines are skipped (and hashed). With a
//! limit, reading stops after the last wanted row, and the fingerprint covers the bytes up to there.

use crate::DataError;
use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line that is read, in bytes: a guard against files that are not JSONL and against gzip bombs.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Identifies the data that a run has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The path as the caller gave it.
    pub source: String,
    /// Rows read.
    pub rows: usize,
    /// SHA-256 (lower-case hexadecimal) of the decompressed bytes that were read.
    pub sha256: String,
    /// The limit on rows, if there was one.
    pub limit: Option<usize>,
}

/// Rows of a file with the file's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The rows, in file order.
    pub rows: Vec<T>,
    /// What was read.
    pub fingerprint: Fingerprint,
}

/// One JSON object of a file, with its place for error messages.
pub(crate) struct Row<'a> {
    path: &'a Path,
    line: usize,
    object: Map<String, Value>,
}

impl Row<'_> {
    /// The value of a field, if the row has it and it is not null.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// The first of several alternative fields that the row has, with its name.
    pub(crate) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &Value)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// A text field that must be there and hold more than white space.
    pub(crate) fn text(&self, names: &[&str]) -> Result<&str, DataError> {
        let (name, value) = self.first(names).ok_or_else(|| self.error(&names.join("` or `"), "a text", "nothing"))?;
        self.as_text(name, value)
    }

    /// The given value as a text with more than white space.
    pub(crate) fn as_text<'v>(&self, field: &str, value: &'v Value) -> Result<&'v str, DataError> {
        match value.as_str() {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.error(field, "a text that is not empty", &describe(value))),
        }
    }

    /// The given value as a list.
    pub(crate) fn as_list<'v>(&self, field: &str, value: &'v Value) -> Result<&'v [Value], DataError> {
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.error(field, "a list", &describe(value)))
    }

    /// An error about a field of this row.
    pub(crate) fn error(&self, field: &str, expected: &str, found: &str) -> DataError {
        DataError::Field {
            path: self.path.to_path_buf(),
            line: self.line,
            field: field.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}

/// A short description of a JSON value for error messages: short scalars as they are, anything else by its kind.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN_CHARS: usize = 40;
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN_CHARS => {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            format!("{start:?}...")
        }
        scalar => scalar.to_string(),
    }
}

/// Reads the rows of a file and turns each into a `T`.
pub(crate) fn read<T>(
    path: &Path,
    limit: Option<usize>,
    parse: impl Fn(&Row<'_>) -> Result<T, DataError>,
) -> Result<Loaded<T>, DataError> {
    let io = |source| DataError::Io { path: path.to_path_buf(), source };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let gzipped = file.fill_buf().map_err(io)?.starts_with(&GZIP_MAGIC);
    if gzipped {
        collect(path, limit, BufReader::new(MultiGzDecoder::new(file)), parse)
    } else {
        collect(path, limit, file, parse)
    }
}

fn collect<T>(
    path: &Path,
    limit: Option<usize>,
    mut reader: impl BufRead,
    parse: impl Fn(&Row<'_>) -> Result<T, DataError>,
) -> Result<Loaded<T>, DataError> {
    let wanted = limit.unwrap_or(usize::MAX);
    let mut hash = Sha256::new();
    let mut rows = Vec::new();
    let mut bytes = Vec::new();
    let mut line = 0;
    while rows.len() < wanted {
        bytes.clear();
        let read = reader
            .by_ref()
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| DataError::Io { path: path.to_path_buf(), source })?;
        if read == 0 {
            break;
        }
        line += 1;
        if read > MAX_LINE_BYTES {
            return Err(DataError::LineTooLong { path: path.to_path_buf(), line, limit: MAX_LINE_BYTES });
        }
        hash.update(&bytes);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let object = serde_json::from_slice(&bytes).map_err(|source| DataError::Json {
            path: path.to_path_buf(),
            line,
            reason: source.to_string(),
        })?;
        rows.push(parse(&Row { path, line, object })?);
    }
    if rows.is_empty() {
        return Err(DataError::Empty { path: PathBuf::from(path), limit });
    }
    let fingerprint = Fingerprint {
        source: path.display().to_string(),
        rows: rows.len(),
        sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        limit,
    };
    Ok(Loaded { rows, fingerprint })
}
