//! A table of a report: typed cells that every format is made from.
//!
//! Formats for readers round (percentages to a tenth, times to a hundredth of a millisecond); CSV, Parquet and JSON hold
//! every number in full, shares as fractions of 1.

mod data;
mod text;

use std::collections::HashMap;

/// What a column holds, which says how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, set flush left.
    Text,
    /// A whole number.
    Count,
    /// A fraction of 1, shown in percent.
    Share,
    /// A difference of two such fractions, shown in percentage points with its sign.
    Points,
    /// Milliseconds.
    Milliseconds,
    /// A p-value.
    P,
    /// Any other number, to four digits.
    Number,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in every format: lower case, words joined by underscores.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// A value; its column says what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// In a column of [`Kind::Text`].
    Text(String),
    /// In a column of [`Kind::Count`].
    Count(u64),
    /// In every other column.
    Number(f64),
    /// Nothing to tell.
    Nothing,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

/// A table of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its name: that of its file, and of `--table`.
    pub name: &'static str,
    /// Its heading.
    pub title: String,
    /// What a reader has to know to read it, in a sentence or two.
    pub about: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with a cell a column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(name: &'static str, title: &str, about: &str, columns: &[(&str, Kind)]) -> Self {
        let columns = columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect();
        Self { name, title: title.to_owned(), about: about.to_owned(), columns, rows: Vec::new() }
    }

    /// Without the columns that say the same in every row, or nothing, of those named: they cost width and tell nothing.
    pub(crate) fn without_constant(self, names: &[&str]) -> Self {
        self.without(names, |cells| cells.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// Without the columns that hold nothing, of those named.
    pub(crate) fn without_empty(self, names: &[&str]) -> Self {
        self.without(names, |cells| cells.iter().all(|cell| **cell == Cell::Nothing))
    }

    /// Without the columns that are zero or hold nothing everywhere, of those named.
    pub(crate) fn without_zeros(self, names: &[&str]) -> Self {
        let zero = |cell: &&Cell| matches!(cell, Cell::Nothing | Cell::Count(0)) || **cell == Cell::Number(0.0);
        self.without(names, |cells| cells.iter().all(zero))
    }

    /// With other texts for some, in the columns named.
    pub(crate) fn renamed(mut self, names: &[&str], by: &HashMap<&String, String>) -> Self {
        for (place, _) in self.columns.iter().enumerate().filter(|(_, column)| names.contains(&column.name.as_str())) {
            for cell in self.rows.iter_mut().map(|row| &mut row[place]) {
                if let Cell::Text(text) = cell
                    && let Some(other) = by.get(text)
                {
                    *text = other.clone();
                }
            }
        }
        self
    }

    fn without(mut self, names: &[&str], can_go: impl Fn(&[&Cell]) -> bool) -> Self {
        let goes = |(place, column): (usize, &Column)| {
            let cells: Vec<&Cell> = self.rows.iter().map(|row| &row[place]).collect();
            names.contains(&column.name.as_str()) && can_go(&cells)
        };
        let keep: Vec<bool> = self.columns.iter().enumerate().map(|column| !goes(column)).collect();
        let mut kept = keep.iter();
        self.columns.retain(|_| *kept.next().unwrap_or(&true));
        for row in &mut self.rows {
            let mut kept = keep.iter();
            row.retain(|_| *kept.next().unwrap_or(&true));
        }
        self
    }
}
