//! Records in a Parquet file: one row a record, one column a field, the names those of [`Record`].

use std::fs::File;
use std::path::Path;

use polars::prelude::{Column, DataFrame, ParquetWriter};

use crate::settings::finish_name;
use crate::{EvalError, Evaluation, Record};

impl Evaluation {
    /// Writes the records to a Parquet file, replacing an older one.
    ///
    /// The file is written beside its place under the name with `.partial` added, and renamed when it is whole, so that a
    /// reader never meets half a file.
    ///
    /// # Errors
    ///
    /// A folder that doesn't exist, isn't writable, or is full.
    pub fn write_parquet(&self, path: impl AsRef<Path>) -> Result<(), EvalError> {
        let path = path.as_ref();
        let mut frame = frame(&self.records)?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let written = write(&mut frame, Path::new(&partial))
            .and_then(|()| std::fs::rename(&partial, path).map_err(|err| err.to_string()));
        written.map_err(|reason| {
            // What is left of a failed attempt is of no use; that it can't be removed either adds nothing to the reason.
            let _ = std::fs::remove_file(&partial);
            EvalError::Write { path: path.to_owned(), reason }
        })
    }
}

fn write(frame: &mut DataFrame, path: &Path) -> Result<(), String> {
    let mut file = File::create(path).map_err(|err| err.to_string())?;
    ParquetWriter::new(&mut file).finish(frame).map_err(|err| err.to_string())?;
    file.sync_all().map_err(|err| err.to_string())
}

fn frame(records: &[Record]) -> Result<DataFrame, EvalError> {
    let text = |name: &str, of: &dyn Fn(&Record) -> String| {
        Column::new(name.into(), records.iter().map(of).collect::<Vec<String>>())
    };
    let option = |name: &str, of: &dyn Fn(&Record) -> Option<String>| {
        Column::new(name.into(), records.iter().map(of).collect::<Vec<Option<String>>>())
    };
    let number = |name: &str, of: &dyn Fn(&Record) -> u32| {
        Column::new(name.into(), records.iter().map(of).collect::<Vec<u32>>())
    };
    let columns = vec![
        text("method", &|record| record.method.to_string()),
        text("question_id", &|record| record.question_id.clone()),
        option("subject", &|record| record.subject.clone()),
        text("gold", &|record| record.gold.to_string()),
        option("answer", &|record| record.answer.map(String::from)),
        option("rule", &|record| record.rule.map(|rule| rule.name().to_owned())),
        Column::new("correct".into(), records.iter().map(|record| record.correct).collect::<Vec<bool>>()),
        text("output", &|record| record.output.clone()),
        option("finish", &|record| record.finish.map(|finish| finish_name(finish).to_owned())),
        text("prompt_sha256", &|record| record.prompt_sha256.clone()),
        number("prompt_tokens", &|record| record.prompt_tokens),
        number("output_tokens", &|record| record.output_tokens),
        Column::new("milliseconds".into(), records.iter().map(|record| record.milliseconds).collect::<Vec<f64>>()),
        option("partner", &|record| record.partner.clone()),
        option("error", &|record| record.error.clone()),
    ];
    DataFrame::new(records.len(), columns)
        .map_err(|err| EvalError::Encode { what: "the records", reason: err.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::tests::evaluation;
    use polars::prelude::{ParquetReader, SerReader};

    fn read(path: &Path) -> DataFrame {
        ParquetReader::new(File::open(path).unwrap()).finish().unwrap()
    }

    fn texts(frame: &DataFrame, name: &str) -> Vec<Option<String>> {
        frame.column(name).unwrap().str().unwrap().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn a_file_reads_back_as_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.parquet");
        let mut evaluation = evaluation();
        evaluation.records[0].output = "Ω \"quoted\",\nand a line".to_owned();
        std::fs::write(&path, "an older file").unwrap();
        evaluation.write_parquet(&path).unwrap();
        let frame = read(&path);

        let records = &evaluation.records;
        assert_eq!(frame.height(), records.len());
        type Field = fn(&Record) -> Option<String>;
        let options: [(&str, Field); 11] = [
            ("method", |r| Some(r.method.to_string())),
            ("question_id", |r| Some(r.question_id.clone())),
            ("subject", |r| r.subject.clone()),
            ("gold", |r| Some(r.gold.to_string())),
            ("answer", |r| r.answer.map(String::from)),
            ("rule", |r| r.rule.map(|rule| rule.name().to_owned())),
            ("output", |r| Some(r.output.clone())),
            ("finish", |r| r.finish.map(|_| "eos".to_owned())),
            ("prompt_sha256", |r| Some(r.prompt_sha256.clone())),
            ("partner", |r| r.partner.clone()),
            ("error", |r| r.error.clone()),
        ];
        for (name, of) in options {
            assert_eq!(texts(&frame, name), records.iter().map(of).collect::<Vec<_>>(), "{name}");
        }
        let numbers = |name: &str| frame.column(name).unwrap().u32().unwrap().iter().flatten().collect::<Vec<u32>>();
        assert_eq!(numbers("prompt_tokens"), records.iter().map(|r| r.prompt_tokens).collect::<Vec<_>>());
        assert_eq!(numbers("output_tokens"), records.iter().map(|r| r.output_tokens).collect::<Vec<_>>());
        let correct: Vec<bool> = frame.column("correct").unwrap().bool().unwrap().iter().flatten().collect();
        assert_eq!(correct, records.iter().map(|r| r.correct).collect::<Vec<_>>());
        let times: Vec<f64> = frame.column("milliseconds").unwrap().f64().unwrap().iter().flatten().collect();
        assert_eq!(times, records.iter().map(|r| r.milliseconds).collect::<Vec<_>>());
        // 11 texts, 2 numbers, correct and milliseconds: nothing is left unchecked, and no partial file is left behind.
        assert_eq!(frame.width(), 15);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("records.parquet");
        let message = evaluation().write_parquet(&path).unwrap_err().to_string();
        assert!(message.contains("nowhere") && message.contains("folder exists"), "{message}");
    }

    #[test]
    fn a_place_that_cannot_be_taken_leaves_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir_all(path.join("full")).unwrap();
        evaluation().write_parquet(&path).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
