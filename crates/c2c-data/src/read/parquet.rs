//! Parquet rows, read by Polars, some row groups at a time.
//!
//! Columns of types that say nothing about a chat (times, decimals, dictionaries) are left unread.

use polars::prelude::{AnyValue, ArrowDataType, DataFrame, ParquetReader, SerReader};
use serde_json::{Map, Number, Value};
use std::fs::File;
use std::path::Path;

use super::{OnRow, row};
use crate::DataError;

/// Row groups are joined until they have this many rows: published files have groups of 1,000, each a pass over the footer.
const ROWS_AT_ONCE: usize = 8192;

/// Reads the rows of a file; gives how many there were.
pub(super) fn read(path: &Path, limit: usize, on_row: OnRow<'_>) -> Result<usize, DataError> {
    let bad = |reason: String| DataError::Parquet { path: path.to_path_buf(), reason };
    let open = || File::open(path).map_err(|source| DataError::Io { path: path.to_path_buf(), source });
    let mut reader = ParquetReader::new(open()?);
    let metadata = reader.get_metadata().map_err(|error| bad(error.to_string()))?.clone();
    let schema = reader.schema().map_err(|error| bad(error.to_string()))?;
    let columns: Vec<String> =
        schema.iter_values().filter(|field| is_json(field.dtype())).map(|field| field.name.to_string()).collect();
    if columns.is_empty() {
        return Err(bad("it has no column of texts, numbers, lists or objects".to_owned()));
    }
    let total = metadata.num_rows.min(limit);
    let mut groups = metadata.row_groups.iter().map(|group| group.num_rows());
    let mut from = 0;
    while from < total {
        let mut rows = 0;
        while rows < ROWS_AT_ONCE && from + rows < total {
            rows += groups.next().unwrap_or(total - from);
        }
        let rows = rows.min(total - from);
        let frame = ParquetReader::new(open()?)
            .with_columns(Some(columns.clone()))
            .with_slice(Some((from, rows)))
            .finish()
            .map_err(|error| bad(error.to_string()))?;
        each(path, from, &frame, on_row)?;
        from += rows;
    }
    Ok(total)
}

fn each(path: &Path, from: usize, frame: &DataFrame, on_row: OnRow<'_>) -> Result<(), DataError> {
    for index in 0..frame.height() {
        let mut object = Map::with_capacity(frame.width());
        for column in frame.columns() {
            let value = column
                .get(index)
                .map_err(|error| DataError::Parquet { path: path.to_path_buf(), reason: error.to_string() })?;
            object.insert(column.name().to_string(), to_json(&value));
        }
        on_row(Ok(row(path, from + index + 1, object)))?;
    }
    Ok(())
}

/// Whether values of a type have a JSON form.
fn is_json(dtype: &ArrowDataType) -> bool {
    use ArrowDataType as T;
    match dtype {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => true,
        T::Float32 | T::Float64 | T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => true,
        T::List(field) | T::LargeList(field) => is_json(field.dtype()),
        T::Struct(fields) => fields.iter().all(|field| is_json(field.dtype())),
        _ => false,
    }
}

fn to_json(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Boolean(flag) => Value::Bool(*flag),
        AnyValue::String(text) => Value::String((*text).to_owned()),
        AnyValue::StringOwned(text) => Value::String(text.to_string()),
        AnyValue::Int8(number) => Value::from(*number),
        AnyValue::Int16(number) => Value::from(*number),
        AnyValue::Int32(number) => Value::from(*number),
        AnyValue::Int64(number) => Value::from(*number),
        AnyValue::UInt8(number) => Value::from(*number),
        AnyValue::UInt16(number) => Value::from(*number),
        AnyValue::UInt32(number) => Value::from(*number),
        AnyValue::UInt64(number) => Value::from(*number),
        AnyValue::Float32(number) => Number::from_f64(f64::from(*number)).map_or(Value::Null, Value::Number),
        AnyValue::Float64(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        AnyValue::List(series) => Value::Array(series.iter().map(|value| to_json(&value)).collect()),
        AnyValue::Struct(_, _, fields) => {
            let names = fields.iter().map(|field| field.name().to_string());
            Value::Object(names.zip(value._iter_struct_av().map(|value| to_json(&value))).collect())
        }
        AnyValue::StructOwned(owned) => {
            let (values, fields) = (&owned.0, &owned.1);
            let names = fields.iter().map(|field| field.name().to_string());
            Value::Object(names.zip(values.iter().map(to_json)).collect())
        }
        // Null, and types that `is_json` has kept out.
        _ => Value::Null,
    }
}
