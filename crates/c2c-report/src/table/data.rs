//! Tables for programs: CSV, Parquet and JSON, every number in full.

use std::io::Write;

use polars::prelude::{Column as Series, CsvWriter, DataFrame, ParquetWriter, SerWriter};
use serde_json::{Map, Value, json};

use super::{Cell, Kind, Table};
use crate::ReportError;

impl Table {
    /// Writes the table as CSV with a header.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write_csv(&self, to: impl Write) -> Result<(), ReportError> {
        let mut frame = self.frame()?;
        CsvWriter::new(to).finish(&mut frame).map_err(|err| self.failed("CSV", &err))
    }

    /// Writes the table as Parquet.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write_parquet(&self, to: impl Write) -> Result<(), ReportError> {
        let mut frame = self.frame()?;
        ParquetWriter::new(to).finish(&mut frame).map(|_| ()).map_err(|err| self.failed("Parquet", &err))
    }

    /// The rows as objects.
    pub fn json(&self) -> Value {
        let value = |cell: &Cell| match cell {
            Cell::Text(text) => json!(text),
            Cell::Count(count) => json!(count),
            Cell::Number(number) => json!(number),
            Cell::Nothing => Value::Null,
        };
        let object = |row: &Vec<Cell>| -> Map<String, Value> {
            self.columns.iter().zip(row).map(|(column, cell)| (column.name.clone(), value(cell))).collect()
        };
        self.rows.iter().map(|row| Value::Object(object(row))).collect()
    }

    fn frame(&self) -> Result<DataFrame, ReportError> {
        let columns = self.columns.iter().enumerate().map(|(place, column)| {
            let cells = self.rows.iter().map(|row| &row[place]);
            let name = column.name.as_str().into();
            match column.kind {
                Kind::Text => {
                    let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.clone()) } else { None };
                    Series::new(name, cells.map(text).collect::<Vec<Option<String>>>())
                }
                Kind::Count => {
                    let count = |cell: &Cell| if let Cell::Count(count) = cell { Some(*count) } else { None };
                    Series::new(name, cells.map(count).collect::<Vec<Option<u64>>>())
                }
                _ => {
                    let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
                    Series::new(name, cells.map(number).collect::<Vec<Option<f64>>>())
                }
            }
        });
        DataFrame::new(self.rows.len(), columns.collect()).map_err(|err| self.failed("a frame", &err))
    }

    fn failed(&self, format: &str, reason: &dyn std::fmt::Display) -> ReportError {
        ReportError::Encode { what: format!("{format} of table `{}`", self.name), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use polars::prelude::{ParquetReader, SerReader};

    fn table() -> Table {
        let columns = [("method", Kind::Text), ("n", Kind::Count), ("accuracy", Kind::Share)];
        let mut table = Table::new("accuracy", "Accuracy", "", &columns);
        table.rows.push(vec!["a, \"b\"".into(), 3usize.into(), (1.0 / 3.0).into()]);
        table.rows.push(vec![Cell::Nothing, Cell::Nothing, Cell::Nothing]);
        table
    }

    #[test]
    fn csv_quotes_and_keeps_every_digit() {
        let mut csv = Vec::new();
        table().write_csv(&mut csv).unwrap();
        let text = String::from_utf8(csv).unwrap();
        assert_eq!(text, "method,n,accuracy\n\"a, \"\"b\"\"\",3,0.3333333333333333\n,,\n");
    }

    #[test]
    fn parquet_and_json_hold_the_same() {
        let mut bytes = Vec::new();
        table().write_parquet(&mut bytes).unwrap();
        let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().unwrap();
        assert_eq!((frame.height(), frame.width()), (2, 3));
        assert_eq!(frame.column("n").unwrap().u64().unwrap().get(0), Some(3));
        assert_eq!(frame.column("accuracy").unwrap().f64().unwrap().get(0), Some(1.0 / 3.0));
        let expected = json!([
            { "method": "a, \"b\"", "n": 3, "accuracy": 1.0 / 3.0 },
            { "method": null, "n": null, "accuracy": null },
        ]);
        assert_eq!(table().json(), expected);
    }
}
