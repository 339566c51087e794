//! Reading prepared caches.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use c2c_fuser::{ContextRecord, RecordShape};
use sha2::{Digest, Sha256};

use super::{ABOUT_FILE, About, ChunkList, INDEX_FILE, Index, PreparedError};
use crate::TrainExample;
use crate::checkpoint::hex;

/// Bytes read at once while a chunk is checked.
const BUFFER: usize = 1 << 20;

/// A finished folder of prepared caches.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    about: About,
    shape: RecordShape,
    chunks: Vec<Chunk>,
    /// From an example's digest to its place.
    places: HashMap<String, Place>,
}

#[derive(Debug)]
struct Chunk {
    path: PathBuf,
    bytes: u64,
    sha256: String,
    /// True once it has been checked by this process.
    checked: Mutex<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    offset: u64,
    receiver: usize,
    sharer: usize,
}

impl Prepared {
    /// Opens a folder and compares it with what a run needs; `now`'s dtype is not looked at. Only the lists are read.
    ///
    /// # Errors
    /// A folder that isn't finished, is of something else, or is damaged.
    pub fn open(path: &Path, now: &About, shape: impl FnOnce(&About) -> RecordShape) -> Result<Self, PreparedError> {
        if !path.join(INDEX_FILE).is_file() {
            return Err(PreparedError::Unfinished { path: path.to_owned() });
        }
        let about = read_about(path)?;
        let differences = about.differences(now);
        if !differences.is_empty() {
            return Err(PreparedError::Mismatch { path: path.to_owned(), differences });
        }
        let index: Index = read_json(&path.join(INDEX_FILE), None)?;
        let shape = shape(&about);
        let (mut chunks, mut places) = (Vec::new(), HashMap::new());
        for (name, sha256) in &index.chunks {
            let list: ChunkList = read_json(&path.join(format!("{name}.json")), Some(sha256))?;
            let chunk = Chunk {
                path: path.join(format!("{name}.bin")),
                bytes: list.bytes,
                sha256: list.sha256,
                checked: Mutex::new(false),
            };
            chunk.check_size()?;
            let mut offset = 0;
            for listed in list.examples {
                let (receiver, sharer) = (listed.receiver, listed.sharer);
                places.insert(listed.sha256, Place { chunk: chunks.len(), offset, receiver, sharer });
                offset += shape.bytes(receiver, sharer) as u64;
            }
            chunks.push(chunk);
        }
        Ok(Self { path: path.to_owned(), about, shape, chunks, places })
    }

    /// What the caches are of.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The shape of the records.
    pub fn shape(&self) -> &RecordShape {
        &self.shape
    }

    /// Checks that every example is there.
    ///
    /// # Errors
    /// How many are not, and the first of them.
    pub fn check_examples(&self, examples: &[&TrainExample], digests: &[String]) -> Result<(), PreparedError> {
        let missing = |(_, digest): &(&&TrainExample, &String)| !self.places.contains_key(*digest);
        let mut missing = examples.iter().zip(digests).filter(missing);
        let Some((first, _)) = missing.next() else { return Ok(()) };
        Err(PreparedError::Missing {
            path: self.path.clone(),
            missing: 1 + missing.count(),
            of: examples.len(),
            first: first.place.clone(),
        })
    }

    /// The record of an example, by its digest. The first one of a chunk checks the whole chunk.
    ///
    /// # Errors
    /// A damaged chunk, by its name; an example that isn't there.
    pub fn record(&self, digest: &str) -> Result<ContextRecord, PreparedError> {
        let Some(place) = self.places.get(digest) else {
            // Runs check their examples before they begin.
            let (path, first) = (self.path.clone(), format!("sha256 {digest}"));
            return Err(PreparedError::Missing { path, missing: 1, of: 1, first });
        };
        let chunk = &self.chunks[place.chunk];
        chunk.check()?;
        let mut bytes = vec![0; self.shape.bytes(place.receiver, place.sharer)];
        let read = File::open(&chunk.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(place.offset))?;
            file.read_exact(&mut bytes)
        });
        read.map_err(|e| chunk.damaged(e.to_string()))?;
        Ok(ContextRecord { receiver: place.receiver, sharer: place.sharer, bytes })
    }

    /// Examples held.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }
}

impl Chunk {
    fn damaged(&self, problem: String) -> PreparedError {
        PreparedError::Damaged { path: self.path.clone(), problem }
    }

    fn check_size(&self) -> Result<(), PreparedError> {
        let found = std::fs::metadata(&self.path).map_err(|e| self.damaged(e.to_string()))?.len();
        if found == self.bytes {
            return Ok(());
        }
        Err(self.damaged(format!("has {found} bytes, expected {}", self.bytes)))
    }

    /// Hashes the chunk, once in a process.
    fn check(&self) -> Result<(), PreparedError> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*checked {
            let found = hash_file(&self.path).map_err(|e| self.damaged(e.to_string()))?;
            if found != self.sha256 {
                return Err(self.damaged(format!("has sha256 {found}, expected {}", self.sha256)));
            }
            *checked = true;
        }
        Ok(())
    }
}

/// SHA-256 of a file, in hex.
pub(super) fn hash_file(path: &Path) -> std::io::Result<String> {
    let (mut file, mut sha, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sha.finalize())),
            read => sha.update(&buffer[..read]),
        }
    }
}

/// `about.json` of a folder.
pub(super) fn read_about(path: &Path) -> Result<About, PreparedError> {
    read_json(&path.join(ABOUT_FILE), None)
}

/// A JSON file, whose hash is checked if it is known.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, sha256: Option<&str>) -> Result<T, PreparedError> {
    let damaged = |problem: String| PreparedError::Damaged { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|e| damaged(e.to_string()))?;
    let found = hex(&Sha256::digest(&bytes));
    if let Some(expected) = sha256.filter(|expected| **expected != *found) {
        return Err(damaged(format!("has sha256 {found}, expected {expected}")));
    }
    serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
}
