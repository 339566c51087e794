//! The journal of an evaluation: every unit that is done, written down before the next one begins.
//!
//! One JSON value a line: a head that says what is evaluated, then a line a unit, then a line that says that all units of
//! the shard are there. Lines are only added. A process that is killed leaves at most its last line torn; that line is
//! dropped and its unit done again. So an evaluation loses one batch, never an answer that was counted.
//!
//! The lines are handed to the operating system one by one and not forced to the disk: what the process has written
//! survives its end, not that of the machine.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use c2c_data::Fingerprint;
use c2c_recipe::FusedFrom;
use serde::{Deserialize, Serialize};

use crate::{EvalError, RECORDS_FORMAT, Shard, Unit};

/// The version of the journal's lines. In version 1 units said of shut gates what records do now.
pub const JOURNAL_FORMAT: u32 = 2;

/// What is evaluated: all that its records depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`JOURNAL_FORMAT`].
    pub format: u32,
    /// [`RECORDS_FORMAT`].
    pub records_format: u32,
    /// The version of the program.
    pub program: String,
    /// The device it computes on, as `--device` writes it.
    pub device: String,
    /// SHA-256 of the recipe as resolved.
    pub recipe_sha256: String,
    /// SHA-256 of the fuser's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuser_sha256: Option<String>,
    /// SHA-256 of the receiver's weights.
    pub receiver_sha256: String,
    /// SHA-256 of the sharer's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharer_sha256: Option<String>,
    /// Of the sharers beside that one, as far as they are fused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_sharers: Vec<LinkHashes>,
    /// The questions' sources.
    pub evaluation_data: Vec<Fingerprint>,
    /// The examples' sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples_data: Vec<Fingerprint>,
    /// How much of a prompt is fused, where the recipe says it; else all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_share: Option<f64>,
    /// From which end, where the recipe says it; else from the front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_from: Option<FusedFrom>,
    /// Questions asked, of all shards.
    pub questions: usize,
    /// The part that this journal is of.
    pub shard: Shard,
}

/// Which weights a sharer and its fuser have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkHashes {
    /// SHA-256 of the fuser's weights.
    pub fuser_sha256: String,
    /// SHA-256 of the sharer's weights.
    pub sharer_sha256: String,
}

impl Head {
    /// What differs from another head, a line each: `fuser_sha256: 12ab, not 34cd`. Where data lies doesn't count.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let data = |prints: &[Fingerprint]| {
            let one = |print: &Fingerprint| match print.limit {
                Some(limit) => format!("{} ({} rows, limit {limit})", print.sha256, print.rows),
                None => format!("{} ({} rows)", print.sha256, print.rows),
            };
            if prints.is_empty() { "none".to_owned() } else { prints.iter().map(one).collect::<Vec<_>>().join(", ") }
        };
        let links = |links: &[LinkHashes]| {
            let one = |link: &LinkHashes| format!("fuser {} with sharer {}", link.fuser_sha256, link.sharer_sha256);
            if links.is_empty() { "none".to_owned() } else { links.iter().map(one).collect::<Vec<_>>().join(", ") }
        };
        let optional = |sha: Option<&String>| sha.map_or("none", |sha| sha.as_str()).to_owned();
        let values = |head: &Self| {
            [
                ("format", head.format.to_string()),
                ("records_format", head.records_format.to_string()),
                ("program", head.program.clone()),
                ("device", head.device.clone()),
                ("recipe_sha256", head.recipe_sha256.clone()),
                ("fuser_sha256", optional(head.fuser_sha256.as_ref())),
                ("receiver_sha256", head.receiver_sha256.clone()),
                ("sharer_sha256", optional(head.sharer_sha256.as_ref())),
                ("further_sharers", links(&head.further_sharers)),
                ("evaluation_data", data(&head.evaluation_data)),
                ("examples_data", data(&head.examples_data)),
                ("fused_share", head.fused_share.unwrap_or(1.0).to_string()),
                ("fused_from", head.fused_from.unwrap_or_default().to_string()),
                ("questions", head.questions.to_string()),
                ("shard", head.shard.to_string()),
            ]
        };
        let pairs = values(self).into_iter().zip(values(other));
        let differing = pairs.filter(|((_, found), (_, expected))| found != expected);
        differing.map(|((key, found), (_, expected))| format!("{key}: {found}, not {expected}")).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head(Box<Head>),
    Unit(Box<Unit>),
    /// All units of the shard are there; so many has the undivided evaluation.
    End {
        units: usize,
    },
}

/// A journal as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What is evaluated.
    pub head: Head,
    /// The units that were done, by number.
    pub units: Vec<Unit>,
    /// How many units the undivided evaluation has, if this shard is finished.
    pub total: Option<usize>,
    /// Bytes of whole lines; what follows is torn.
    whole: u64,
}

impl Written {
    /// Reads a journal; a torn last line is left out. None if there is no whole line, so that nothing was done yet.
    ///
    /// # Errors
    /// A file that can't be read, another version, a line before the last that is no line of a journal, a unit that
    /// stands there twice.
    pub fn read(path: &Path) -> Result<Option<Self>, EvalError> {
        let refuse = |reason: String| EvalError::Read { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|err| refuse(err.to_string()))?;
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let (mut head, mut units, mut total, mut whole) = (None, Vec::<Unit>::new(), None, 0);
        for (number, line) in lines.iter().enumerate() {
            let last = number + 1 == lines.len();
            if last && line.last() != Some(&b'\n') {
                break;
            }
            if number == 0 {
                check_format(line).map_err(&refuse)?;
            }
            match serde_json::from_slice(line) {
                Ok(Line::Head(found)) if number == 0 => head = Some(*found),
                Ok(Line::Unit(unit)) if number > 0 && total.is_none() => {
                    if units.iter().any(|other| other.number == unit.number) {
                        return Err(refuse(format!("line {}: unit {} a second time", number + 1, unit.number)));
                    }
                    units.push(*unit);
                }
                Ok(Line::End { units }) if number > 0 && total.is_none() => total = Some(units),
                Ok(_) => return Err(refuse(format!("line {}: not in its place", number + 1))),
                // A machine that failed may leave anything in the last block.
                Err(_) if last && number > 0 => break,
                Err(err) => return Err(refuse(format!("line {}: {err}", number + 1))),
            }
            whole += line.len() as u64;
        }
        units.sort_by_key(|unit| unit.number);
        Ok(head.map(|head| Self { head, units, total, whole }))
    }
}

/// Another version may have another head: its number is looked at alone.
fn check_format(line: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Version {
        head: Numbers,
    }
    #[derive(Deserialize)]
    struct Numbers {
        format: u32,
        records_format: u32,
    }
    let Version { head } = serde_json::from_slice(line).map_err(|err| format!("line 1 is no head: {err}"))?;
    let known = (JOURNAL_FORMAT, RECORDS_FORMAT);
    if (head.format, head.records_format) != known {
        let Numbers { format, records_format } = head;
        return Err(format!(
            "journal of format {format} with records of format {records_format}, this program knows {} with {}; evaluate again",
            known.0, known.1
        ));
    }
    Ok(())
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins a journal, in place of one that may be there.
    ///
    /// # Errors
    /// A folder that isn't writable or is full; another process that is writing this journal.
    pub fn create(path: &Path, head: &Head) -> Result<Self, EvalError> {
        let mut journal = Self::open(path, 0)?;
        journal.add(&Line::Head(Box::new(head.clone())))?;
        Ok(journal)
    }

    /// Goes on with a journal behind its last whole line.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn append(path: &Path, written: &Written) -> Result<Self, EvalError> {
        Self::open(path, written.whole)
    }

    /// The file, cut to a length and held until it is closed, so that no two processes write it.
    fn open(path: &Path, length: u64) -> Result<Self, EvalError> {
        let open = OpenOptions::new().append(true).create(true).open(path);
        let file = open.map_err(|err| unwritable(path, &err))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(EvalError::Busy { path: path.to_owned() });
            }
            // A file system without locks can't tell; that is no reason not to evaluate.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        file.set_len(length).map_err(|err| unwritable(path, &err))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes down a unit.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn unit(&mut self, unit: &Unit) -> Result<(), EvalError> {
        self.add(&Line::Unit(Box::new(unit.clone())))
    }

    /// Writes down that all units of the shard are there, and forces the journal to the disk.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn end(&mut self, units: usize) -> Result<(), EvalError> {
        self.add(&Line::End { units })?;
        self.file.sync_all().map_err(|err| unwritable(&self.path, &err))
    }

    fn add(&mut self, line: &Line) -> Result<(), EvalError> {
        let mut bytes = serde_json::to_vec(line)
            .map_err(|err| EvalError::Encode { what: "a line of the journal", reason: err.to_string() })?;
        bytes.push(b'\n');
        // In one call, so that a line is torn only where the system tears it.
        self.file.write_all(&bytes).map_err(|err| unwritable(&self.path, &err))
    }
}

fn unwritable(path: &Path, err: &std::io::Error) -> EvalError {
    EvalError::Write { path: path.to_owned(), reason: err.to_string() }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
