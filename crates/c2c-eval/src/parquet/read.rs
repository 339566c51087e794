//! Records back from their file, every value checked.

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;

use c2c_data::Scorer;
use polars::prelude::{Column, DataFrame, ParquetReader, SerReader, Series};
use serde::de::DeserializeOwned;
use serde::de::value::StrDeserializer;

use super::{FORMAT_KEY, FUSED_TOKENS, OLDEST_RECORDS_FORMAT, RECORDS_FORMAT};
use crate::{EvalError, Phases, Record};

/// From this version on, records have scorers, and texts between the models.
const WITH_SCORERS: u32 = 3;
/// From this version on, they say of shut gates whether they changed anything.
const WITH_BIT_EQUAL: u32 = 4;
/// What columns of numbers hold.
const NUMBER: &str = "a whole number of 32 bits";

/// Reads the records of an evaluation.
///
/// # Errors
///
/// A file that isn't there or is no whole Parquet file, another version of the columns, a column that is missing or of
/// another type, and a value that no evaluation writes: an unknown method, a gold answer of two letters.
pub fn read_records(path: impl AsRef<Path>) -> Result<Vec<Record>, EvalError> {
    let path = path.as_ref();
    let (reader, format) = open(path)?;
    let frame = reader.finish().map_err(|err| unreadable(path, &err))?;
    records(&Table { path, format, frame: &frame })
}

/// Checks that a file is one of records in a version that this program knows, from its last bytes alone; returns that
/// version.
///
/// # Errors
///
/// A file that isn't there or is no whole Parquet file, another version of the columns.
pub fn check_records_format(path: impl AsRef<Path>) -> Result<u32, EvalError> {
    open(path.as_ref()).map(|(_, format)| format)
}

fn open(path: &Path) -> Result<(ParquetReader<File>, u32), EvalError> {
    let mut reader = ParquetReader::new(File::open(path).map_err(|err| unreadable(path, &err))?);
    let metadata = reader.get_metadata().map_err(|err| unreadable(path, &err))?;
    let pairs = metadata.key_value_metadata().as_ref();
    let found = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == FORMAT_KEY)?.value.as_deref());
    let format = check_format(path, found)?;
    Ok((reader, format))
}

fn unreadable(path: &Path, reason: &dyn std::fmt::Display) -> EvalError {
    EvalError::Read { path: path.to_owned(), reason: reason.to_string() }
}

fn check_format(path: &Path, found: Option<&str>) -> Result<u32, EvalError> {
    let refuse = |found: &str, fix| {
        Err(EvalError::Format { path: path.to_owned(), found: found.to_owned(), expected: RECORDS_FORMAT, fix })
    };
    match (found, found.and_then(|text| text.parse::<u32>().ok())) {
        (_, Some(format @ OLDEST_RECORDS_FORMAT..=RECORDS_FORMAT)) => Ok(format),
        (Some(found), Some(newer)) if newer > RECORDS_FORMAT => refuse(found, "use a newer program"),
        (Some(found), _) => refuse(found, "evaluate again"),
        (None, _) => refuse("none", "evaluate again with this program"),
    }
}

fn records(table: &Table<'_>) -> Result<Vec<Record>, EvalError> {
    let rows = table.frame.height();
    let methods = table.words("method")?;
    let benchmarks = table.texts("benchmark")?;
    let question_ids = table.texts("question_id")?;
    let subjects = table.options("subject")?;
    let golds = table.texts("gold")?;
    let choices = table.numbers("choices")?;
    let answers = table.options("answer")?;
    let rules = table.words("rule")?;
    let corrects = table.column("correct")?;
    let corrects = corrects.bool().map_err(|_| table.wrong_type("correct", corrects, "true or false"))?;
    let outputs = table.texts("output")?;
    let finishes = table.words("finish")?;
    let prompt_hashes = table.texts("prompt_sha256")?;
    let prompt_tokens = table.numbers("prompt_tokens")?;
    let output_tokens = table.numbers("output_tokens")?;
    let milliseconds = table.times("milliseconds")?;
    let partners = table.options("partner")?;
    let errors = table.options("error")?;
    let parts = Phases::NAMES.iter().map(|name| table.times(name)).collect::<Result<Vec<_>, _>>()?;
    let later = Later::of(table, rows)?;
    let bit_equals = match table.format {
        ..WITH_BIT_EQUAL => None,
        _ => Some(table.column("bit_equal")?),
    };
    let bit_equals = match bit_equals {
        Some(column) => Some(column.bool().map_err(|_| table.wrong_type("bit_equal", column, "true or false"))?),
        None => None,
    };
    let fused_tokens = match table.frame.column(FUSED_TOKENS) {
        Ok(column) => Some(column.u32().map_err(|_| table.wrong_type(FUSED_TOKENS, column, NUMBER))?),
        Err(_) => None,
    };
    let a_letter = |row: usize, column, text: &str| {
        let is_one = later.scorers[row] != Scorer::Letter || text.chars().count() == 1;
        is_one.then_some(()).ok_or_else(|| table.wrong(column, Some(row), format!("`{text}`"), "one letter"))
    };
    (0..rows)
        .map(|row| {
            a_letter(row, "gold", &golds[row])?;
            if let Some(answer) = &answers[row] {
                a_letter(row, "answer", answer)?;
            }
            Ok(Record {
                method: table.there("method", row, methods[row])?,
                benchmark: benchmarks[row].clone(),
                question_id: question_ids[row].clone(),
                subject: subjects[row].clone(),
                gold: golds[row].clone(),
                choices: choices[row],
                answer: answers[row].clone(),
                rule: rules[row],
                correct: table.there("correct", row, corrects.get(row))?,
                output: outputs[row].clone(),
                finish: finishes[row],
                prompt_sha256: prompt_hashes[row].clone(),
                prompt_tokens: prompt_tokens[row],
                output_tokens: output_tokens[row],
                milliseconds: milliseconds[row],
                phases: Phases::from_values(std::array::from_fn(|part| parts[part][row])),
                partner: partners[row].clone(),
                message: later.messages[row].clone(),
                message_tokens: later.message_tokens[row],
                error: errors[row].clone(),
                scorer: later.scorers[row],
                score: later.scorers[row].is_graded().then_some(later.scores[row]),
                alternatives: later.alternatives[row].clone(),
                classes: later.classes[row].clone(),
                letter_logprobs: later.letter_logprobs[row].clone(),
                bit_equal: bit_equals.as_ref().and_then(|said| said.get(row)),
                fused_tokens: fused_tokens.as_ref().and_then(|tokens| tokens.get(row)),
            })
        })
        .collect()
}

/// The columns that version 2 didn't have.
struct Later {
    messages: Vec<Option<String>>,
    message_tokens: Vec<u32>,
    scorers: Vec<Scorer>,
    scores: Vec<f64>,
    alternatives: Vec<Vec<String>>,
    classes: Vec<Vec<String>>,
    letter_logprobs: Vec<Vec<f64>>,
}

impl Later {
    fn of(table: &Table<'_>, rows: usize) -> Result<Self, EvalError> {
        if table.format < WITH_SCORERS {
            return Ok(Self {
                messages: vec![None; rows],
                message_tokens: vec![0; rows],
                scorers: vec![Scorer::Letter; rows],
                scores: vec![0.0; rows],
                alternatives: vec![Vec::new(); rows],
                classes: vec![Vec::new(); rows],
                letter_logprobs: vec![Vec::new(); rows],
            });
        }
        let texts = |series: &Series| {
            series.str().ok().map(|texts| texts.iter().flatten().map(str::to_owned).collect::<Vec<String>>())
        };
        let numbers = |series: &Series| series.f64().ok().map(|numbers| numbers.iter().flatten().collect::<Vec<f64>>());
        Ok(Self {
            messages: table.options("message")?,
            message_tokens: table.numbers("message_tokens")?,
            scorers: table.all("scorer", table.words("scorer")?)?,
            scores: table.times("score")?,
            alternatives: table.lists("alternatives", "lists of texts", texts)?,
            classes: table.lists("classes", "lists of texts", texts)?,
            letter_logprobs: table.lists("letter_logprobs", "lists of numbers of 64 bits", numbers)?,
        })
    }
}

/// The file's columns, each read as what it has to be.
struct Table<'a> {
    path: &'a Path,
    /// The version of the columns.
    format: u32,
    frame: &'a DataFrame,
}

impl Table<'_> {
    fn column(&self, name: &'static str) -> Result<&Column, EvalError> {
        self.frame.column(name).map_err(|_| self.wrong(name, None, "no such column", "this column"))
    }

    fn wrong(&self, column: &'static str, row: Option<usize>, found: impl Into<String>, expected: &str) -> EvalError {
        let (found, expected) = (found.into(), expected.to_owned());
        EvalError::Column { path: self.path.to_owned(), column, row, found, expected }
    }

    fn wrong_type(&self, name: &'static str, column: &Column, expected: &str) -> EvalError {
        self.wrong(name, None, format!("type {}", column.dtype()), expected)
    }

    fn there<T>(&self, column: &'static str, row: usize, value: Option<T>) -> Result<T, EvalError> {
        value.ok_or_else(|| self.wrong(column, Some(row), "nothing", "a value"))
    }

    fn all<T>(&self, name: &'static str, values: Vec<Option<T>>) -> Result<Vec<T>, EvalError> {
        values.into_iter().enumerate().map(|(row, value)| self.there(name, row, value)).collect()
    }

    fn options(&self, name: &'static str) -> Result<Vec<Option<String>>, EvalError> {
        let column = self.column(name)?;
        let texts = column.str().map_err(|_| self.wrong_type(name, column, "text"))?;
        Ok(texts.iter().map(|text| text.map(str::to_owned)).collect())
    }

    fn texts(&self, name: &'static str) -> Result<Vec<String>, EvalError> {
        self.all(name, self.options(name)?)
    }

    fn lists<T>(
        &self,
        name: &'static str,
        expected: &str,
        of: impl Fn(&Series) -> Option<Vec<T>>,
    ) -> Result<Vec<Vec<T>>, EvalError> {
        let column = self.column(name)?;
        let lists = column.list().map_err(|_| self.wrong_type(name, column, expected))?;
        let list = |series: Option<Series>| match series {
            Some(series) => of(&series).ok_or_else(|| self.wrong_type(name, column, expected)),
            None => Ok(Vec::new()),
        };
        (0..lists.len()).map(|row| list(lists.get_as_series(row))).collect()
    }

    /// One of a type's words a row, where there is any.
    fn words<T: DeserializeOwned + Debug>(&self, name: &'static str) -> Result<Vec<Option<T>>, EvalError> {
        let word = |(row, text): (usize, Option<String>)| {
            let Some(text) = text else { return Ok(None) };
            let parsed = T::deserialize(StrDeserializer::<serde::de::value::Error>::new(&text));
            parsed.map(Some).map_err(|err| self.wrong(name, Some(row), format!("`{text}`"), &err.to_string()))
        };
        self.options(name)?.into_iter().enumerate().map(word).collect()
    }

    fn numbers(&self, name: &'static str) -> Result<Vec<u32>, EvalError> {
        let column = self.column(name)?;
        let numbers = column.u32().map_err(|_| self.wrong_type(name, column, NUMBER))?;
        self.all(name, numbers.iter().collect())
    }

    fn times(&self, name: &'static str) -> Result<Vec<f64>, EvalError> {
        let column = self.column(name)?;
        let numbers = column.f64().map_err(|_| self.wrong_type(name, column, "a number of 64 bits"))?;
        self.all(name, numbers.iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::tests::evaluation;
    use polars::prelude::{KeyValueMetadata, ParquetWriter};

    /// The records with some columns replaced and another version.
    fn refusal(replace: Vec<Column>, drop: &str, format: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.parquet");
        let mut frame = super::super::frame(&evaluation().records).unwrap();
        for column in replace {
            frame.with_column(column).unwrap();
        }
        let mut frame = if drop.is_empty() { frame } else { frame.drop(drop).unwrap() };
        let metadata = format.map(|f| KeyValueMetadata::from_static(vec![(FORMAT_KEY.to_owned(), f.to_owned())]));
        let file = File::create(&path).unwrap();
        ParquetWriter::new(file).with_key_value_metadata(metadata).finish(&mut frame).unwrap();
        read_records(&path).unwrap_err().to_string()
    }

    #[test]
    fn records_of_earlier_versions_read_without_later_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.parquet");
        let records = evaluation().records;
        let later = ["message", "message_tokens", "scorer", "score", "alternatives", "classes", "letter_logprobs"];
        for (version, without) in [("2", &later[..]), ("3", &later[..0])] {
            let frame = super::super::frame(&records).unwrap();
            let mut frame = frame.drop_many(without.iter().chain(&["bit_equal"]).copied());
            let metadata = Some(KeyValueMetadata::from_static(vec![(FORMAT_KEY.to_owned(), version.to_owned())]));
            let file = File::create(&path).unwrap();
            ParquetWriter::new(file).with_key_value_metadata(metadata).finish(&mut frame).unwrap();
            assert_eq!(read_records(&path).unwrap(), records);
            assert_eq!(check_records_format(&path).unwrap().to_string(), version);
        }
        assert!(refusal(vec![], "bit_equal", Some("4")).contains("`bit_equal`"));
    }

    #[test]
    fn other_versions_are_refused_by_number() {
        let newer = (RECORDS_FORMAT + 1).to_string();
        for format in [Some(newer.as_str()), Some("1"), Some("x"), None] {
            let message = refusal(vec![], "", format);
            let (found, known) = (format.unwrap_or("none"), RECORDS_FORMAT);
            assert!(message.contains(&format!("format {found}")), "{message}");
            assert!(message.contains(&format!("knows format {known}")), "{message}");
        }
        assert!(refusal(vec![], "", Some(&newer)).contains("newer program"));
        assert!(refusal(vec![], "", None).contains("evaluate again"));
    }

    #[test]
    fn a_column_that_cannot_be_is_named() {
        let rows = evaluation().records.len();
        let texts = |name: &str, text: &str| Column::new(name.into(), vec![text; rows]);
        let cases = [
            (vec![texts("method", "prophet")], "", vec!["`method`, row 0", "prophet", "receiver"]),
            (vec![texts("gold", "AB")], "", vec!["`gold`, row 0", "`AB`", "one letter"]),
            (vec![texts("rule", "guess")], "", vec!["`rule`", "guess"]),
            (vec![texts("milliseconds", "1.0")], "", vec!["`milliseconds`", "type str"]),
            (vec![texts("fused_tokens", "7")], "", vec!["`fused_tokens`", "type str", "32 bits"]),
            (vec![Column::new("gold".into(), vec![None::<String>; rows])], "", vec!["`gold`, row 0", "nothing"]),
            (vec![], "fusion_ms", vec!["`fusion_ms`", "no such column"]),
        ];
        for (replace, drop, words) in cases {
            let message = refusal(replace, drop, Some(&RECORDS_FORMAT.to_string()));
            assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
        }
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.parquet");
        evaluation().write_parquet(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
        let message = read_records(&path).unwrap_err().to_string();
        assert!(message.contains("records.parquet"), "{message}");
    }
}
