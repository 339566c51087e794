//! Reading the rows of files, one after the other, with a fingerprint of what was read.
//!
//! The format is recognised by a file's first bytes, not by its name: Parquet, gzip, Zstandard, a JSON list (`[`
//! first), else JSON lines. Only comma-separated values, which have no mark, are told by their ending `.csv`. JSON is
//! read by line or by element with `serde_json`, since a bad row must be told by its place and must not hide the rows
//! behind it; Parquet is read by Polars. Nothing but Parquet's row groups is held in memory.
//!
//! With a limit, reading stops after the last wanted row. The hash then covers the decompressed bytes up to there; of a
//! Parquet file it always covers the file.

mod csv;
mod json;
mod parquet;

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::fingerprint::{FileFingerprint, Fingerprint};
use crate::row::Row;
use crate::{DataError, Input};

pub use json::MAX_LINE_BYTES;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const PARQUET_MAGIC: &[u8] = b"PAR1";

/// Told about every row: the row, or why it is none. An error ends the reading.
pub(crate) type OnRow<'a> = &'a mut dyn FnMut(Result<Row<'_>, DataError>) -> Result<(), DataError>;

/// Reads the rows of all files of an input, at most `limit` of them. The fingerprint's `rows` are those read.
pub(crate) fn each_row(input: &Input, limit: Option<usize>, on_row: OnRow<'_>) -> Result<Fingerprint, DataError> {
    let mut files = Vec::with_capacity(input.files.len());
    let mut read = 0;
    for path in &input.files {
        let left = limit.map_or(usize::MAX, |limit| limit - read);
        if left == 0 && !files.is_empty() {
            break;
        }
        let file = one_file(path, left, on_row)?;
        read += file.rows;
        files.push(file);
    }
    if read == 0 {
        let path = input.files.first().cloned().unwrap_or_else(|| PathBuf::from(&input.name));
        return Err(DataError::Empty { path, limit });
    }
    let sha256 = match files.as_slice() {
        [only] => only.sha256.clone(),
        _ => {
            let lines: String = files.iter().map(|file| format!("{}\n", file.sha256)).collect();
            hex(Sha256::digest(lines))
        }
    };
    if files.len() == 1 {
        files.clear();
    }
    let revision = input.revision.clone();
    Ok(Fingerprint { source: input.name.clone(), rows: read, sha256, limit, revision, files, ..Fingerprint::default() })
}

fn one_file(path: &Path, limit: usize, on_row: OnRow<'_>) -> Result<FileFingerprint, DataError> {
    let io = |source| DataError::Io { path: path.to_path_buf(), source };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let start = file.fill_buf().map_err(io)?;
    // A file that calls itself Parquet and is none is told so, not as a line without JSON.
    let ends_in = |name: &str| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(name));
    let named = ends_in("parquet");
    let (rows, sha256) = if ends_in("csv") {
        (csv::read(path, limit, file, on_row)?, hash_file(path)?)
    } else if named || start.starts_with(PARQUET_MAGIC) {
        (parquet::read(path, limit, on_row)?, hash_file(path)?)
    } else if start.starts_with(GZIP_MAGIC) {
        json::read(path, limit, BufReader::new(MultiGzDecoder::new(file)), on_row)?
    } else if start.starts_with(ZSTD_MAGIC) {
        let decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(io)?;
        json::read(path, limit, BufReader::new(decoder), on_row)?
    } else {
        json::read(path, limit, file, on_row)?
    };
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(FileFingerprint { file, rows, sha256 })
}

fn hash_file(path: &Path) -> Result<String, DataError> {
    let io = |source| DataError::Io { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hex(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A row, for the readers.
fn row(path: &Path, line: usize, object: Map<String, Value>) -> Row<'_> {
    Row { path, root: None, line, object }
}
