//! Records in a Parquet file: one row a record, one column a field, the names those of [`Record`] and
//! [`Phases`](crate::Phases). The file's metadata hold the version of that under [`FORMAT_KEY`].

mod read;

use std::fs::File;
use std::path::Path;

use polars::prelude::{Column, DataFrame, KeyValueMetadata, NamedFrom, ParquetWriter, PlSmallStr, Series};

pub use read::{check_records_format, read_records};

use crate::settings::finish_name;
use crate::{EvalError, Evaluation, Phases, Record};

/// The version of the columns that this program writes. Version 1 had no version, no benchmark, no number of choices and
/// no parts of the time; it isn't read. Version 2 had letters alone: no scorer, score, further right answers, classes and
/// letters' probabilities; and it had no texts between the models. Version 3 didn't say of shut gates whether they changed
/// anything.
pub const RECORDS_FORMAT: u32 = 4;

/// The oldest version that is still read.
pub const OLDEST_RECORDS_FORMAT: u32 = 2;

/// The column that is there only where a share of prompts was asked to be fused.
const FUSED_TOKENS: &str = "fused_tokens";

/// The key of the version in the file's metadata.
pub const FORMAT_KEY: &str = "c2c.records";

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
    let format = KeyValueMetadata::from_static(vec![(FORMAT_KEY.to_owned(), RECORDS_FORMAT.to_string())]);
    ParquetWriter::new(&mut file).with_key_value_metadata(Some(format)).finish(frame).map_err(|err| err.to_string())?;
    file.sync_all().map_err(|err| err.to_string())
}

fn list(name: &str, records: &[Record], of: impl Fn(&Record) -> Series) -> Column {
    Column::new(name.into(), records.iter().map(of).collect::<Vec<Series>>())
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
    let time = |name: &str, of: &dyn Fn(&Record) -> f64| {
        Column::new(name.into(), records.iter().map(of).collect::<Vec<f64>>())
    };
    let mut columns = vec![
        text("method", &|record| record.method.to_string()),
        text("benchmark", &|record| record.benchmark.clone()),
        text("question_id", &|record| record.question_id.clone()),
        option("subject", &|record| record.subject.clone()),
        text("gold", &|record| record.gold.clone()),
        number("choices", &|record| record.choices),
        option("answer", &|record| record.answer.clone()),
        option("rule", &|record| record.rule.map(|rule| rule.name().to_owned())),
        Column::new("correct".into(), records.iter().map(|record| record.correct).collect::<Vec<bool>>()),
        text("output", &|record| record.output.clone()),
        option("finish", &|record| record.finish.map(|finish| finish_name(finish).to_owned())),
        text("prompt_sha256", &|record| record.prompt_sha256.clone()),
        number("prompt_tokens", &|record| record.prompt_tokens),
        number("output_tokens", &|record| record.output_tokens),
        time("milliseconds", &|record| record.milliseconds),
        option("partner", &|record| record.partner.clone()),
        option("message", &|record| record.message.clone()),
        number("message_tokens", &|record| record.message_tokens),
        option("error", &|record| record.error.clone()),
        text("scorer", &|record| record.scorer.name().to_owned()),
        // Of answers that are just right or wrong, too: a reader needs one column for all.
        time("score", &Record::points),
        list("alternatives", records, |record| Series::new(PlSmallStr::EMPTY, &record.alternatives)),
        list("classes", records, |record| Series::new(PlSmallStr::EMPTY, &record.classes)),
        list("letter_logprobs", records, |record| Series::new(PlSmallStr::EMPTY, &record.letter_logprobs)),
        Column::new("bit_equal".into(), records.iter().map(|record| record.bit_equal).collect::<Vec<Option<bool>>>()),
    ];
    // Only where it says something: records of whole prompts are those of before there were shares.
    if records.iter().any(|record| record.fused_tokens.is_some()) {
        let tokens: Vec<Option<u32>> = records.iter().map(|record| record.fused_tokens).collect();
        columns.push(Column::new(FUSED_TOKENS.into(), tokens));
    }
    columns.extend(
        Phases::NAMES.iter().enumerate().map(|(part, name)| time(name, &|record| record.phases.values()[part])),
    );
    DataFrame::new(records.len(), columns)
        .map_err(|err| EvalError::Encode { what: "the records", reason: err.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::tests::evaluation;

    #[test]
    fn a_file_reads_back_as_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.parquet");
        let mut evaluation = evaluation();
        evaluation.records[0].output = "Ω \"quoted\",\nand a line".to_owned();
        // No short decimal, and the smallest step above 1: times come back to the bit.
        evaluation.records[0].message = Some("a word\n".to_owned());
        evaluation.records[0].message_tokens = 2;
        evaluation.records[1].milliseconds = 1.0 / 3.0;
        evaluation.records[1].phases.fusion = 1.0 + f64::EPSILON;
        let graded = &mut evaluation.records[2];
        (graded.scorer, graded.score) = (c2c_data::Scorer::Rouge, Some(1.0 / 3.0));
        graded.alternatives = vec!["an".to_owned(), "\u{5317}\u{4eac}".to_owned()];
        graded.classes = vec!["x".to_owned()];
        evaluation.records[3].letter_logprobs = vec![-0.1, f64::NEG_INFINITY];
        (evaluation.records[4].bit_equal, evaluation.records[5].bit_equal) = (Some(true), Some(false));
        assert!(frame(&evaluation.records).unwrap().column(FUSED_TOKENS).is_err());
        (evaluation.records[6].fused_tokens, evaluation.records[7].fused_tokens) = (Some(0), Some(7));
        std::fs::write(&path, "an older file").unwrap();
        evaluation.write_parquet(&path).unwrap();
        assert_eq!(read_records(&path).unwrap(), evaluation.records);
        // No partial file is left behind.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("records.parquet");
        let message = evaluation().write_parquet(&path).unwrap_err().to_string();
        assert!(message.contains("nowhere") && message.contains("folder exists"), "{message}");
        let message = read_records(&path).unwrap_err().to_string();
        assert!(message.contains("nowhere"), "{message}");
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
