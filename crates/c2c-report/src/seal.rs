//! The seal of a run: hashes of its small files in a file of their own, so that none of them can be changed alone.
//!
//! Most figures can be made again from the records, but not which weights answered, on what device, by which program: of
//! such facts there is no second witness. A seal is no signature. Who changes a file and the seal isn't found out by it;
//! who changes a file, by accident or to look better, is.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::ReportError;
use crate::run::{ENVIRONMENT, RECIPE, RECORDS, SUMMARY};

/// The seal's file.
pub(crate) const SEAL: &str = "seal.json";

/// The version of the seal's layout.
const SEAL_FORMAT: u32 = 1;

/// The files that are sealed, as far as a run has them. Weights have hashes of their own.
pub(crate) const SEALED: [&str; 5] = [SUMMARY, RECIPE, ENVIRONMENT, "data.json", RECORDS];

/// Bytes that are hashed at a time.
const BUFFER: usize = 1 << 20;

/// Seals a run directory whose files are all written.
///
/// # Errors
/// A file that can't be read, a seal that can't be written.
pub fn seal(dir: &Path) -> Result<(), ReportError> {
    let mut files = Map::new();
    for name in SEALED.into_iter().filter(|name| dir.join(name).is_file()) {
        let path = dir.join(name);
        let hash = sha256(&path).map_err(|err| ReportError::Read { path, reason: err.to_string() })?;
        files.insert(name.to_owned(), json!(hash));
    }
    let text = format!("{:#}\n", json!({ "format": SEAL_FORMAT, "sha256": files }));
    let path = dir.join(SEAL);
    c2c_lm::write_beside(&path, text.as_bytes()).map_err(|err| ReportError::Write { path, reason: err.to_string() })
}

/// A file whose hash isn't the sealed one: its name, its hash and the sealed one, each if there is one.
pub(crate) type Broken = (String, Option<String>, Option<String>);

/// The files that differ from a seal.
pub(crate) fn broken(dir: &Path, seal: &Value) -> Vec<Broken> {
    let sealed = seal["sha256"].as_object().cloned().unwrap_or_default();
    let others = sealed.keys().map(String::as_str).filter(|name| !SEALED.contains(name));
    let mut broken = Vec::new();
    for name in SEALED.into_iter().chain(others) {
        let found = sha256(&dir.join(name)).ok();
        let expected = sealed.get(name).and_then(Value::as_str).map(str::to_owned);
        if found != expected {
            broken.push((name.to_owned(), found, expected));
        }
    }
    broken
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
