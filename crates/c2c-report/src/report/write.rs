//! A report as text, Markdown, JSON, or a folder of files.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{By, Report, tables};
use crate::plot;
use crate::{ReportError, Table};

/// Rows of a table in `report.md`; the files beside it hold all.
const MARKDOWN_ROWS: usize = 200;

impl Report {
    /// For a terminal. At most `max_rows` rows a table.
    pub fn text(&self, max_rows: Option<usize>) -> String {
        let notes: String = self.notes().iter().map(|note| format!("{note}\n")).collect();
        let tables: Vec<String> = self.tables().iter().map(|table| table.text(max_rows)).collect();
        let parts = [tables.join("\n"), notes];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// In Markdown. At most `max_rows` rows a table.
    pub fn markdown(&self, max_rows: Option<usize>) -> String {
        self.markdown_with(max_rows, &[])
    }

    fn markdown_with(&self, max_rows: Option<usize>, plots: &[plot::Plot]) -> String {
        let mut text =
            format!("# Report of {} {}\n", self.runs.len(), if self.runs.len() == 1 { "run" } else { "runs" });
        for note in self.notes() {
            text.push_str(&format!("\n> {note}\n"));
        }
        for plot in plots {
            text.push_str(&format!("\n![{}]({})\n", plot.title, plot.file));
        }
        for table in self.tables() {
            text.push_str(&format!("\n{}", table.markdown(max_rows)));
        }
        text
    }

    /// All tables with all columns, and the notes.
    pub fn json(&self) -> Value {
        let tables: Map<String, Value> =
            self.full_tables().iter().map(|table| (table.name.to_owned(), table.json())).collect();
        json!({ "runs": self.runs.len(), "baseline": self.baseline, "notes": self.notes(), "tables": tables })
    }

    /// Writes `report.md`, the tables as CSV and Parquet and the plots as SVG into a folder, and returns their paths. Each
    /// file is written beside its place and renamed.
    ///
    /// # Errors
    /// A folder that can't be made, a file that can't be written.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let made = |path: &Path| {
            std::fs::create_dir_all(path)
                .map_err(|err| ReportError::Write { path: path.to_owned(), reason: err.to_string() })
        };
        made(&dir.join("tables"))?;
        let mut files = Vec::new();
        let mut put = |name: String, bytes: &[u8]| {
            let path = dir.join(name);
            c2c_lm::write_beside(&path, bytes)
                .map_err(|err| ReportError::Write { path: path.clone(), reason: err.to_string() })?;
            files.push(path);
            Ok::<(), ReportError>(())
        };
        let plots = plot::all(self)?;
        put("report.md".into(), self.markdown_with(Some(MARKDOWN_ROWS), &plots).as_bytes())?;
        for plot in &plots {
            put(plot.file.to_owned(), plot.svg.as_bytes())?;
        }
        for table in self.tables_of_all_levels() {
            let (mut csv, mut parquet) = (Vec::new(), Vec::new());
            table.write_csv(&mut csv)?;
            table.write_parquet(&mut parquet)?;
            put(format!("tables/{}.csv", table.name), &csv)?;
            put(format!("tables/{}.parquet", table.name), &parquet)?;
        }
        Ok(files)
    }

    /// The tables for programs, with accuracies by method, by benchmark and by subject.
    fn tables_of_all_levels(&self) -> Vec<Table> {
        let mut all = self.full_tables();
        for by in [By::Method, By::Benchmark, By::Subject] {
            let table = tables::accuracy(self, by);
            if all.iter().all(|other| other.name != table.name) {
                all.push(table);
            }
        }
        all
    }
}
