//! The zip container of a PyTorch file.
//!
//! PyTorch stores its records uncompressed, one after the other, and ends with a zip64 directory. Only that is read: a
//! compressed, encrypted or overlapping record is refused, so nothing can be larger than the file itself, and no zip
//! bomb can be built. The directory at the end is what counts; the local headers have to agree in name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::TorchError;
use crate::files::shown;

/// More records than any fuser layer has; it has about 40.
const MAX_RECORDS: u64 = 4096;
/// A directory entry is some 100 bytes.
const MAX_DIRECTORY_BYTES: u64 = 1 << 20;
/// A record's name; those of PyTorch are a folder and `data/` with a number.
const MAX_NAME_BYTES: usize = 512;
/// Bytes that are read at a time where a checksum alone is wanted.
const CHUNK: usize = 1 << 20;
/// The pickle of a fuser layer has about 7 KB.
pub(super) const MAX_PICKLE_BYTES: u64 = 1 << 20;

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: u64 = 22;
const END_64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;

/// One record of the directory.
#[derive(Clone, Debug)]
struct Record {
    header: u64,
    size: u64,
    crc: u32,
}

/// An open container whose directory is sound. Records stay on disk.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    /// By name, without the folder that all of them lie in.
    records: BTreeMap<String, Record>,
    folder: String,
    /// The records whose checksum was right.
    sound: BTreeSet<String>,
}

fn bad(reason: impl Into<String>) -> TorchError {
    TorchError::Zip(reason.into())
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 2).map_or(0, |b| u64::from(u16::from_le_bytes([b[0], b[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 4).map_or(0, |b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}

impl Archive {
    pub fn open(path: &Path) -> Result<Self, TorchError> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        if size < END_BYTES || read_at(&mut file, 0, 4)? != LOCAL {
            return Err(bad("no zip file, expected one as PyTorch 1.6 and later write"));
        }
        let (start, bytes, count) = directory(&mut file, size)?;
        let directory = read_at(&mut file, start, bytes)?;
        let mut records = BTreeMap::new();
        let mut at = 0;
        for _ in 0..count {
            let (name, record, next) = entry(&directory, at)?;
            if records.insert(name.clone(), record).is_some() {
                return Err(bad(format!("record `{name}` is there twice")));
            }
            at = next;
        }
        if at != directory.len() {
            return Err(bad(format!("{} bytes in the directory, its {count} records take {at}", directory.len())));
        }
        let mut archive = Self { file, records, folder: String::new(), sound: BTreeSet::new() };
        archive.check_places(start)?;
        archive.enter_folder()?;
        Ok(archive)
    }

    /// Every record lies before the directory, and none on another. A record is its local header, name and extra field, as
    /// that header says how long they are, and its bytes.
    fn check_places(&mut self, end: u64) -> Result<(), TorchError> {
        let mut places: Vec<(u64, u64, &String)> =
            self.records.iter().map(|(name, r)| (r.header, r.size, name)).collect();
        places.sort();
        for (i, (header, size, name)) in places.iter().enumerate() {
            let limit = places.get(i + 1).map_or(end, |next| next.0);
            let reaches = || bad(format!("record `{name}` of {size} bytes at {header} reaches over {limit}"));
            let least = header.checked_add(LOCAL_BYTES).and_then(|n| n.checked_add(*size));
            let least = least.filter(|n| *n <= limit).ok_or_else(reaches)?;
            let local = local_header(&mut self.file, name, *header)?;
            if least + u16_at(&local, 26) + u16_at(&local, 28) > limit {
                return Err(reaches());
            }
        }
        Ok(())
    }

    /// All records lie in one folder, which holds `data.pkl`.
    fn enter_folder(&mut self) -> Result<(), TorchError> {
        let mut folders = self.records.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let folder = folders.next().filter(|f| f.ends_with('/') && f.matches('/').count() == 1);
        let folder = folder.ok_or_else(|| bad("no record `<name>/data.pkl`"))?.to_owned();
        let mut records = BTreeMap::new();
        for (name, record) in std::mem::take(&mut self.records) {
            let Some(inner) = name.strip_prefix(&folder) else {
                return Err(bad(format!("record `{name}` lies outside `{folder}`")));
            };
            let storage = inner.strip_prefix("data/").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
            // Names that start with a point are notes of PyTorch's own, such as `.data/serialization_id`.
            if !storage && !["data.pkl", "byteorder", "version"].contains(&inner) && !inner.starts_with('.') {
                return Err(bad(format!("record `{inner}` is no part of a state dict")));
            }
            records.insert(inner.to_owned(), record);
        }
        self.records = records;
        self.folder = folder;
        if self.records.contains_key("byteorder") {
            let order = self.read("byteorder", 16)?;
            if order != b"little" {
                return Err(bad(format!(
                    "byteorder is `{}`, expected `little`",
                    shown(&String::from_utf8_lossy(&order))
                )));
            }
        }
        Ok(())
    }

    /// Bytes of the record of a storage.
    pub fn storage_size(&self, key: &str) -> Option<u64> {
        self.records.get(&format!("data/{key}")).map(|r| r.size)
    }

    /// Keys of the storages.
    pub fn storages(&self) -> impl Iterator<Item = &str> {
        self.records.keys().filter_map(|name| name.strip_prefix("data/"))
    }

    /// Bytes of a storage, from one on. The checksum is that of the whole: it is read through once, whatever the number of
    /// parts that are asked for.
    pub fn read_storage(&mut self, key: &str, from: u64, count: u64) -> Result<Vec<u8>, TorchError> {
        let name = format!("data/{key}");
        if from == 0 && self.storage_size(key) == Some(count) {
            return self.read(&name, u64::MAX);
        }
        let (start, size, crc) = self.place(&name)?;
        if from.checked_add(count).is_none_or(|end| end > size) {
            return Err(bad(format!("record `{name}`: {count} bytes from {from} on, it has {size}")));
        }
        if !self.sound.contains(&name) {
            let mut sum = crc32fast::Hasher::new();
            let mut at = 0;
            while at < size {
                let part = read_at(&mut self.file, start + at, (size - at).min(CHUNK as u64))?;
                sum.update(&part);
                at += part.len() as u64;
            }
            if sum.finalize() != crc {
                return Err(damaged(&name));
            }
            self.sound.insert(name);
        }
        read_at(&mut self.file, start + from, count)
    }

    /// A record, through its checksum.
    pub fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, TorchError> {
        let record = self.records.get(name).ok_or_else(|| bad(format!("no record `{name}`")))?;
        if record.size > limit {
            return Err(TorchError::Limit { what: "bytes of a record", found: record.size, limit });
        }
        let (start, size, crc) = self.place(name)?;
        let bytes = read_at(&mut self.file, start, size)?;
        if crc32fast::hash(&bytes) != crc {
            return Err(damaged(name));
        }
        Ok(bytes)
    }

    /// Where the bytes of a record start, how many they are, and their checksum.
    fn place(&mut self, name: &str) -> Result<(u64, u64, u32), TorchError> {
        let record = self.records.get(name).ok_or_else(|| bad(format!("no record `{name}`")))?.clone();
        let local = local_header(&mut self.file, name, record.header)?;
        let full = format!("{}{name}", self.folder);
        let (name_bytes, extra) = (u16_at(&local, 26), u16_at(&local, 28));
        if read_at(&mut self.file, record.header + LOCAL_BYTES, name_bytes)? != full.as_bytes() {
            return Err(bad(format!("record `{name}`: its local header has another name")));
        }
        Ok((record.header + LOCAL_BYTES + name_bytes + extra, record.size, record.crc))
    }
}

fn damaged(name: &str) -> TorchError {
    bad(format!("record `{name}` is damaged: its checksum differs"))
}

fn local_header(file: &mut File, name: &str, at: u64) -> Result<Vec<u8>, TorchError> {
    let local = read_at(file, at, LOCAL_BYTES)?;
    if local[..4] == LOCAL { Ok(local) } else { Err(bad(format!("record `{name}`: no local header at byte {at}"))) }
}

/// Where the directory starts, its bytes and its records.
fn directory(file: &mut File, size: u64) -> Result<(u64, u64, u64), TorchError> {
    let end = read_at(file, size - END_BYTES, END_BYTES)?;
    if end[..4] != END || u16_at(&end, 20) != 0 {
        return Err(bad("no directory at its end; the file was cut off or something was added to it"));
    }
    let (mut count, mut bytes, mut start) = (u16_at(&end, 10), u32_at(&end, 12), u32_at(&end, 16));
    let mut limit = size - END_BYTES;
    if let Some(at) = limit.checked_sub(LOCATOR_BYTES) {
        let locator = read_at(file, at, LOCATOR_BYTES)?;
        if locator[..4] == LOCATOR_64 {
            let place = u64_at(&locator, 8);
            let end_64 = place.checked_add(END_64_BYTES).filter(|end| *end <= at);
            let end_64 = if end_64.is_some() { read_at(file, place, END_64_BYTES)? } else { Vec::new() };
            if end_64.get(..4) != Some(&END_64) {
                return Err(bad(format!("no zip64 directory at byte {place}")));
            }
            (count, bytes, start) = (u64_at(&end_64, 32), u64_at(&end_64, 40), u64_at(&end_64, 48));
            limit = place;
        }
    }
    for (what, found, most) in
        [("records of the zip file", count, MAX_RECORDS), ("bytes of its directory", bytes, MAX_DIRECTORY_BYTES)]
    {
        if found > most {
            return Err(TorchError::Limit { what, found, limit: most });
        }
    }
    if start.checked_add(bytes) != Some(limit) {
        return Err(bad(format!("a directory of {bytes} bytes at {start}, expected it to end at {limit}")));
    }
    Ok((start, bytes, count))
}

/// The directory entry at a place: name, record, and where the next one starts.
fn entry(directory: &[u8], at: usize) -> Result<(String, Record, usize), TorchError> {
    let fixed = directory.get(at..at + CENTRAL_BYTES).filter(|b| b[..4] == CENTRAL);
    let fixed = fixed.ok_or_else(|| bad(format!("no directory entry at its byte {at}")))?;
    let lengths = [28, 30, 32].map(|field| u16_at(fixed, field) as usize);
    let next = at + CENTRAL_BYTES + lengths.iter().sum::<usize>();
    let rest = directory.get(at + CENTRAL_BYTES..next).ok_or_else(|| bad("the directory ends within an entry"))?;
    let name = std::str::from_utf8(&rest[..lengths[0]]).map_err(|_| bad("a record whose name isn't UTF-8"))?;
    // Names stand in messages.
    if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        let reason = format!("at most {MAX_NAME_BYTES} bytes without control characters");
        return Err(bad(format!("a record named `{}`, expected {reason}", shown(name))));
    }
    if name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|part| part == "..") {
        return Err(bad(format!("record `{name}` would lie outside the file's folder")));
    }
    let (flags, method) = (u16_at(fixed, 8), u16_at(fixed, 10));
    if flags & 1 != 0 {
        return Err(bad(format!("record `{name}` is encrypted")));
    }
    if method != 0 {
        return Err(bad(format!(
            "record `{name}` is compressed (method {method}); PyTorch stores records as they are"
        )));
    }
    let mut wide = zip64_fields(&rest[lengths[0]..lengths[0] + lengths[1]]).into_iter();
    let mut field = |offset| match u32_at(fixed, offset) {
        0xffff_ffff => wide.next().ok_or_else(|| bad(format!("record `{name}` has no zip64 sizes"))),
        narrow => Ok(narrow),
    };
    let (size, packed, header) = (field(24)?, field(20)?, field(42)?);
    if size != packed {
        return Err(bad(format!("record `{name}` is stored, but its sizes differ: {size} and {packed}")));
    }
    Ok((name.to_owned(), Record { header, size, crc: u32_at(fixed, 16) as u32 }, next))
}

/// The 8-byte numbers of the zip64 extra field.
fn zip64_fields(mut extra: &[u8]) -> Vec<u64> {
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0), u16_at(extra, 2) as usize);
        let Some(body) = extra.get(4..4 + len) else { break };
        if id == 1 {
            return body.chunks_exact(8).map(|b| u64_at(b, 0)).collect();
        }
        extra = &extra[4 + len..];
    }
    Vec::new()
}

/// Bytes of the file. Allocates no more than the file has from there.
fn read_at(file: &mut File, at: u64, count: u64) -> Result<Vec<u8>, TorchError> {
    let size = file.metadata()?.len();
    if at.checked_add(count).is_none_or(|end| end > size) {
        return Err(bad(format!("{count} bytes at {at} are named, the file has {size}")));
    }
    let mut bytes = vec![0; count as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
