//! Reading small files with a limit, hashing large ones, writing durably.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ExportError;

/// A config or card larger than this is something else.
pub(crate) const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Bytes that are hashed or copied at a time.
const CHUNK: usize = 1 << 20;

pub(crate) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Read { path: path.clone(), source }
}

pub(crate) fn write_error(path: &Path) -> impl Fn(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Write { path: path.clone(), source }
}

/// A config or card, whole.
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, ExportError> {
    let file = File::open(path).map_err(read_error(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(read_error(path))?;
    let found = bytes.len() as u64;
    if found > MAX_TEXT_BYTES {
        return Err(ExportError::TooLarge { path: path.to_owned(), found, limit: MAX_TEXT_BYTES });
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
