//! Comma-separated values: an object a record, its keys the names of the first line, all values texts.

use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

use super::{OnRow, row};
use crate::DataError;

/// Reads the rows of a stream; gives how many there were. Rows are counted from 1, the line of names apart: a record
/// may span lines.
pub(super) fn read(path: &Path, limit: usize, reader: impl Read, on_row: OnRow<'_>) -> Result<usize, DataError> {
    let bad = |error: csv::Error| DataError::Csv { path: path.to_path_buf(), reason: error.to_string() };
    let mut reader = csv::Reader::from_reader(reader);
    let names = reader.headers().map_err(bad)?.clone();
    let mut rows = 0;
    for record in reader.records() {
        if rows == limit {
            break;
        }
        let record = match record {
            Ok(record) => record,
            // The reader stands behind such a record: the others are as good as they were.
            Err(error) if is_of_one_record(&error) => {
                rows += 1;
                let reason = error.to_string();
                on_row(Err(DataError::CsvRow { path: path.to_path_buf(), row: rows, reason }))?;
                continue;
            }
            Err(error) => return Err(bad(error)),
        };
        rows += 1;
        // A column without a name numbers the rows.
        let pairs = names.iter().zip(&record).filter(|(name, _)| !name.is_empty());
        let object: Map<String, Value> =
            pairs.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned()))).collect();
        on_row(Ok(row(path, rows, object)))?;
    }
    Ok(rows)
}

/// Whether an error is that of one record: too few or too many values, or a text that isn't UTF-8.
fn is_of_one_record(error: &csv::Error) -> bool {
    matches!(error.kind(), csv::ErrorKind::UnequalLengths { .. } | csv::ErrorKind::Utf8 { .. })
}
