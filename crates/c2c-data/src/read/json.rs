//! JSON rows: one object a line, or the objects of one list.
//!
//! Blank lines are skipped (and hashed). A line that is no object is a bad row and the next line is read; in a list
//! only an element that is no object is, since nothing can be read behind a syntax error.

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{BufRead, Read};
use std::path::Path;

use super::{OnRow, hex, row};
use crate::DataError;
use crate::row::describe;

/// The longest line that is read, in bytes: a guard against files that are not JSONL and against compression bombs.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Reads the rows of a stream; gives how many there were, and the hash of what was read.
pub(super) fn read(
    path: &Path,
    limit: usize,
    mut reader: impl BufRead,
    on_row: OnRow<'_>,
) -> Result<(usize, String), DataError> {
    let start = reader.fill_buf().map_err(|source| DataError::Io { path: path.to_path_buf(), source })?;
    if start.trim_ascii_start().first() == Some(&b'[') {
        elements(path, limit, reader, on_row)
    } else {
        lines(path, limit, reader, on_row)
    }
}

fn lines(path: &Path, limit: usize, mut reader: impl BufRead, on_row: OnRow<'_>) -> Result<(usize, String), DataError> {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    let (mut rows, mut line) = (0, 0);
    while rows < limit {
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
        rows += 1;
        on_row(match serde_json::from_slice(&bytes) {
            Ok(object) => Ok(row(path, line, object)),
            Err(error) => Err(DataError::Json { path: path.to_path_buf(), line, reason: error.to_string() }),
        })?;
    }
    Ok((rows, hex(hash.finalize())))
}

/// The end of the reading before the end of the list: serde can only be left by an error.
const ENOUGH: &str = "enough rows";

fn elements(path: &Path, limit: usize, reader: impl BufRead, on_row: OnRow<'_>) -> Result<(usize, String), DataError> {
    let mut hashed = Hashed { reader, hash: Sha256::new(), pending: Vec::with_capacity(HASHED_AT_ONCE) };
    let mut list = List { path, limit, rows: 0, failed: None, on_row };
    let mut json = serde_json::Deserializer::from_reader(&mut hashed);
    let outcome = json.deserialize_seq(&mut list).and_then(|()| json.end());
    let (rows, failed) = (list.rows, list.failed.take());
    drop(json);
    if let Some(error) = failed {
        return Err(error);
    }
    match outcome {
        Err(error) if rows < limit && error.is_io() => {
            Err(DataError::Io { path: path.to_path_buf(), source: error.into() })
        }
        Err(error) if rows < limit => Err(DataError::JsonList { path: path.to_path_buf(), reason: error.to_string() }),
        _ => Ok((rows, hashed.finish())),
    }
}

struct List<'a> {
    path: &'a Path,
    limit: usize,
    rows: usize,
    failed: Option<DataError>,
    on_row: OnRow<'a>,
}

impl<'de> Visitor<'de> for &mut List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(value) = list.next_element::<Value>()? {
            self.rows += 1;
            let element = match value {
                Value::Object(object) => Ok(row(self.path, self.rows, object)),
                other => Err(DataError::Json {
                    path: self.path.to_path_buf(),
                    line: self.rows,
                    reason: format!("the list's element is {}", describe(&other)),
                }),
            };
            if let Err(error) = (self.on_row)(element) {
                self.failed = Some(error);
                return Err(A::Error::custom(ENOUGH));
            }
            if self.rows >= self.limit {
                return Err(A::Error::custom(ENOUGH));
            }
        }
        Ok(())
    }
}

/// serde_json asks for one byte at a time; they are hashed in larger pieces.
const HASHED_AT_ONCE: usize = 1 << 14;

struct Hashed<R> {
    reader: R,
    hash: Sha256,
    pending: Vec<u8>,
}

impl<R: BufRead> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.pending.extend_from_slice(&buffer[..read]);
        if self.pending.len() >= HASHED_AT_ONCE {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
        Ok(read)
    }
}

impl<R> Hashed<R> {
    fn finish(mut self) -> String {
        self.hash.update(&self.pending);
        hex(self.hash.finalize())
    }
}
