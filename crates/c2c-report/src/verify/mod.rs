//! The figures of a run, made again from its records.
//!
//! Four things are checked, and every difference is told, with its file, place, what was found and what was expected:
//! 1. the records against themselves: each method has answered the same questions, every answer is the one that the
//!    recorded rules find in the recorded reply, and is right when it is the gold one ([`records`]);
//! 2. every value of `summary.json` that an evaluation gives, against the same figures made from the records ([`diff`]);
//! 3. what was asked against the recipe, and the hash of the recipe wherever it stands ([`files`]);
//! 4. the fuser and the questions against their hashes and the gold answers of the source, where they are at hand;
//! 5. the run's files against the hashes of its seal ([`crate::seal()`]), for what nothing else is a witness of.
//!
//! What isn't there to be checked (a data set on another machine) is a note, not a difference; what the run itself has to have
//! (its recipe, its seal) is a difference if it is gone. No model is loaded.

mod diff;
mod files;
mod records;

use std::path::Path;

use c2c_eval::{Asked, Evaluation, check_records_format, read_records};
use c2c_recipe::Method;
use serde_json::Value;

use crate::run::{RECORDS, RunFiles, SUMMARY};
use crate::seal::SEAL;
use crate::{ReportError, find_runs};

/// From this version of the figures on, runs are sealed.
const SEALED_SINCE: u32 = 3;
/// From this version on, records say of shut gates whether they changed anything.
const WITH_BIT_EQUAL: u32 = 4;

/// Something that isn't as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file in the run directory.
    pub file: String,
    /// Where in the file: method and question, or nothing.
    pub place: String,
    /// The column or key.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What belongs there.
    pub expected: String,
}

impl Difference {
    fn new(
        file: &str,
        place: impl Into<String>,
        field: impl Into<String>,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        let (found, expected) = (found.to_string(), expected.to_string());
        Self { file: file.to_owned(), place: place.into(), field: field.into(), found, expected }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, place, field, found, expected } = self;
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        write!(f, "{file}: {place}{field}: found {found}, expected {expected}")
    }
}

/// What [`verify`] has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Everything that is wrong; empty if the run's figures are what its records give.
    pub differences: Vec<Difference>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
    /// What was checked and found right, in words.
    pub checked: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Checks a run; the module's page says what is checked.
///
/// # Errors
///
/// A folder that is no run, a summary that can't be read or is of another version. Records that can't be read are a
/// difference. Of a run without an evaluation, recipe and fuser are checked.
pub fn verify(dir: &Path) -> Result<Verdict, ReportError> {
    let runs = find_runs(&[dir.to_owned()]).map_err(|mut errors| errors.remove(0))?;
    let [run] = runs.as_slice() else {
        return Err(ReportError::NoRun { path: dir.to_owned() });
    };
    let summary = run.summary()?;
    let mut verdict = Verdict::default();
    let asked = match run.asked(&summary) {
        Ok(asked) => asked,
        Err(ReportError::NoEvaluation { .. }) => {
            if run.path(RECORDS).exists() {
                let expected = format!("the figures of {RECORDS}");
                verdict.differences.push(Difference::new(SUMMARY, "", "evaluation", "nothing", expected));
            } else {
                verdict.notes.push("figures: there is no evaluation in this run".into());
            }
            if run.path(SEAL).exists() {
                sealed(run, None, &mut verdict);
            }
            files::check(run, &summary, None, &mut verdict);
            return Ok(verdict);
        }
        Err(error) => return Err(error),
    };
    match read_records(run.path(RECORDS)) {
        Err(error) => verdict.differences.push(Difference::new(RECORDS, "", "file", error, "whole records")),
        Ok(records) => {
            verdict.differences.extend(records::check(&records, &asked));
            let questions = records.iter().filter(|record| Some(&record.method) == asked.methods.first()).count();
            let bit_equal = shut_gates(run, &asked, &summary, &mut verdict);
            match Evaluation::of_format(records, &asked.methods, bit_equal, asked.format) {
                // Which ones stands in the differences of the records.
                Err(_) => {
                    let (found, expected) = ("not as many of every method", "the same of all");
                    verdict.differences.push(Difference::new(RECORDS, "", "questions", found, expected));
                }
                Ok(evaluation) => {
                    let compared = diff::summary(&summary, &asked, &evaluation, &mut verdict.differences);
                    verdict.checked.push(format!(
                        "{compared} figures of {} records ({questions} questions, {} methods) made again",
                        evaluation.records.len(),
                        asked.methods.len()
                    ));
                    let evaluated = files::Evaluated { asked: &asked, records: &evaluation.records };
                    files::check(run, &summary, Some(evaluated), &mut verdict);
                }
            }
        }
    }
    // Last, since it tells which file was changed, and everything above tells what in it.
    sealed(run, Some(asked.format), &mut verdict);
    Ok(verdict)
}

/// The version of the records is the one that the figures name. Returns what the summary says of shut gates where the records
/// are too old to say it.
fn shut_gates(run: &RunFiles, asked: &Asked, summary: &Value, verdict: &mut Verdict) -> Option<bool> {
    // They have been read, so the version is known.
    let format = check_records_format(run.path(RECORDS)).unwrap_or_default();
    if format != asked.records_format {
        let expected = format!("{format}, that of {RECORDS}");
        let difference = Difference::new(SUMMARY, "", "evaluation.records_format", asked.records_format, expected);
        verdict.differences.push(difference);
    }
    if format >= WITH_BIT_EQUAL || !asked.methods.contains(&Method::GatesShut) {
        return None;
    }
    verdict.notes.push(format!("controls.gates_shut_bit_equal: records of format {format} don't say it"));
    summary["controls"]["gates_shut_bit_equal"].as_bool()
}

/// The files of a run against its seal, which runs have since format 3 of the figures.
fn sealed(run: &RunFiles, format: Option<u32>, verdict: &mut Verdict) {
    if !run.path(SEAL).exists() {
        if format.is_some_and(|format| format < SEALED_SINCE) {
            verdict.notes.push(format!("{SEAL}: the run is from before runs were sealed"));
        } else {
            let expected = "the hashes of the run's files, as every finished run has them";
            verdict.differences.push(Difference::new(SEAL, "", "file", "nothing", expected));
        }
        return;
    }
    let seal = match run.json(SEAL) {
        Ok(seal) => seal,
        Err(error) => {
            verdict.differences.push(Difference::new(SEAL, "", "file", error, "the hashes of the run's files"));
            return;
        }
    };
    let broken = crate::seal::broken(&run.dir, &seal);
    if broken.is_empty() {
        verdict.checked.push("the run's files by the hashes of its seal".into());
    }
    for (file, found, expected) in broken {
        let word = |hash: Option<String>| hash.unwrap_or_else(|| "nothing".to_owned());
        let expected = format!("{}, as in {SEAL}", word(expected));
        verdict.differences.push(Difference::new(&file, "", "sha256", word(found), expected));
    }
}

/// A method's name, as a place.
fn place(method: Method, benchmark: &str, question: &str) -> String {
    format!("{method} {benchmark}/{question}")
}

/// A JSON value in one line.
fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}
