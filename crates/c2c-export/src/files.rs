//! Reading small files with a limit, hashing large ones, writing durably.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ExportError;

/// A card larger than this is something else.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// A config likewise; one with a hundred training sets has some 20 kB. Parsed, it may take several times its bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Bytes that are hashed or copied at a time.
const CHUNK: usize = 1 << 20;

/// Of a name or value out of a file, so much stands in a message.
const MAX_SHOWN: usize = 120;

/// A name or value out of a file as a message may show it: without end it isn't, and what a terminal would obey is escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == MAX_SHOWN => return out + "..",
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Of what a parser says, so many characters of the start are shown, and of its end, where the place stands.
const MAX_REASON: [usize; 2] = [600, 60];

/// What a parser says, which may quote all of the file.
pub(crate) fn reason(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let chars: Vec<char> = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let [start, end] = MAX_REASON;
    if chars.len() <= start + end {
        return chars.into_iter().collect();
    }
    let (first, last) = (&chars[..start], &chars[chars.len() - end..]);
    first.iter().chain(&[' ', '.', '.', ' ']).chain(last).collect()
}

pub(crate) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Read { path: path.clone(), source }
}

pub(crate) fn write_error(path: &Path) -> impl Fn(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Write { path: path.clone(), source }
}

/// A card, whole.
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, ExportError> {
    read_up_to(path, MAX_TEXT_BYTES)
}

/// A config, whole.
pub(crate) fn read_config(path: &Path) -> Result<Vec<u8>, ExportError> {
    read_up_to(path, MAX_CONFIG_BYTES)
}

fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>, ExportError> {
    let file = File::open(path).map_err(read_error(path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(read_error(path))?;
    if bytes.len() as u64 > limit {
        let found = std::fs::metadata(path).map_or(bytes.len() as u64, |m| m.len());
        return Err(ExportError::TooLarge { path: path.to_owned(), found, limit });
    }
    Ok(bytes)
}

/// Writes a new file and waits until it is on disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let mut file = File::create_new(path).map_err(write_error(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(write_error(path))
}

pub(crate) fn hex(sha: Sha256) -> String {
    sha.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a file, which is never held whole.
pub(crate) fn hash_file(path: &Path) -> Result<String, ExportError> {
    pass_through(path, |_| Ok(()))
}

/// Copies a file and returns the SHA-256 of what was copied.
pub(crate) fn copy_hashed(from: &Path, to: &Path) -> Result<String, ExportError> {
    let mut out = File::create_new(to).map_err(write_error(to))?;
    let sha = pass_through(from, |chunk| out.write_all(chunk).map_err(write_error(to)))?;
    out.sync_all().map_err(write_error(to))?;
    Ok(sha)
}

fn pass_through(path: &Path, mut each: impl FnMut(&[u8]) -> Result<(), ExportError>) -> Result<String, ExportError> {
    let mut file = File::open(path).map_err(read_error(path))?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(sha)),
            Ok(n) => {
                sha.update(&buffer[..n]);
                each(&buffer[..n])?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(read_error(path)(e)),
        }
    }
}
