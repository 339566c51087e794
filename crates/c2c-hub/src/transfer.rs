//! One file from the hub to `blobs/HASH`: locked, resumed, and hashed before it gets that name.
//!
//! Invariants: a file in `blobs` gets its name only when its bytes have the hash that the hub listed; what has another one
//! is deleted. Only one process at a time fetches a file; the others find it there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::{Response, header};

use crate::HubError;
use crate::cache::{RepoCache, make_parent};
use crate::error::io;
use crate::http::{Ask, Http, header_of, plain, refused};
use crate::listing::{FileHash, Listing, RemoteFile};
use crate::reference::{is_commit, is_hex};

const CHUNK: usize = 1 << 18;

/// What a download says while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another process fetches this file; it is waited for.
    Waiting {
        /// The file's name.
        name: &'a str,
    },
    /// So much of a file is here.
    Part {
        /// The file's name.
        name: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A file is here, whole and right.
    Done {
        /// The file's name.
        name: &'a str,
        /// Bytes of the file.
        size: u64,
        /// Whether it was here before.
        cached: bool,
    },
}

/// Hears of the progress.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>);

/// The hash of a file as it comes in.
#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(file: &RemoteFile) -> Self {
        match file.hash {
            FileHash::Sha256(_) => Self::Sha256(Sha256::new()),
            FileHash::GitSha1(_) => Self::Git(Sha1::new().chain_update(format!("blob {}\0", file.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sha) => sha.update(bytes),
            Self::Git(sha) => sha.update(bytes),
        }
    }

    fn digits(self) -> String {
        match self {
            Self::Sha256(sha) => hex(&sha.finalize()),
            Self::Git(sha) => hex(&sha.finalize()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a file comes from and goes to.
pub(crate) struct Transfer<'a> {
    pub http: &'a Http,
    pub cache: &'a RepoCache,
    pub listing: &'a Listing,
    pub file: &'a RemoteFile,
}

impl Transfer<'_> {
    /// Sees to it that the blob is there. With `verify`, one that is there already is hashed again.
    pub fn run(&self, verify: bool, progress: OnProgress<'_>) -> Result<(), HubError> {
        let name = self.file.name.as_str();
        if !verify && self.is_there() {
            progress(Progress::Done { name, size: self.file.size, cached: true });
            return Ok(());
        }
        let path = self.cache.lock(self.file.hash.digits());
        make_parent(&path)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
        let locked = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                progress(Progress::Waiting { name });
                lock.lock().map_err(io("lock", &path))?;
                true
            }
            // Some file systems can't.
            Err(TryLockError::Error(_)) => false,
        };
        let cached = self.is_there() && (!verify || self.is_right()?);
        if !cached {
            self.fetch(locked, progress)?;
        }
        progress(Progress::Done { name, size: self.file.size, cached });
        Ok(())
    }

    /// Whether a blob of this name and size is there. Its bytes were right when it got the name.
    fn is_there(&self) -> bool {
        fs::metadata(self.cache.blob(self.file.hash.digits())).is_ok_and(|m| m.is_file() && m.len() == self.file.size)
    }

    fn is_right(&self) -> Result<bool, HubError> {
        let path = self.cache.blob(self.file.hash.digits());
        let mut hasher = Hasher::new(self.file);
        feed(&path, &mut File::open(&path).map_err(io("read", &path))?, &mut hasher)?;
        Ok(hasher.digits() == self.file.hash.digits())
    }

    fn fetch(&self, locked: bool, progress: OnProgress<'_>) -> Result<(), HubError> {
        let blob = self.cache.blob(self.file.hash.digits());
        make_parent(&blob)?;
        // Without a lock each process writes a file of its own.
        let part = if locked {
            blob.with_extension("incomplete")
        } else {
            blob.with_extension(format!("{}.incomplete", std::process::id()))
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&part)
            .map_err(io("write", &part))?;
        let resumed = file.metadata().map_err(io("read", &part))?.len();
        let found = match self.fill(&mut file, &part, progress) {
            Ok(found) => found,
            Err(error) => {
                if file.metadata().is_ok_and(|m| m.len() == 0) {
                    // Nothing to go on with; the error is being reported.
                    let _ = fs::remove_file(&part);
                }
                return Err(error);
            }
        };
        let found = if found != self.file.hash.digits() && resumed > 0 {
            // What was there may have been wrong, so all of it is fetched once more.
            file.set_len(0).map_err(io("write", &part))?;
            self.fill(&mut file, &part, progress)?
        } else {
            found
        };
        if found != self.file.hash.digits() {
            fs::remove_file(&part).map_err(io("delete", &part))?;
            let (algorithm, size) = (self.file.hash.algorithm(), self.file.size);
            return Err(HubError::Hash {
                file: self.named(),
                algorithm,
                size,
                found,
                expected: self.file.hash.digits().to_owned(),
            });
        }
        file.sync_all().map_err(io("write", &part))?;
        fs::rename(&part, &blob).map_err(io("rename", &part))
    }

    /// Goes on from what is in the file until all of it is there; returns the hash.
    fn fill(&self, file: &mut File, part: &Path, progress: OnProgress<'_>) -> Result<String, HubError> {
        let size = self.file.size;
        let mut hasher = Hasher::new(self.file);
        file.rewind().map_err(io("read", part))?;
        let mut done = feed(part, file, &mut hasher)?;
        // Only bytes beyond all earlier ones are progress: a server that ignores ranges and always breaks off would
        // otherwise be asked for the same bytes without end.
        let mut highest = done;
        let mut attempt = 1;
        while done != size {
            if done > size {
                (done, hasher) = self.restart(file, part)?;
                highest = 0;
            }
            let (response, from) = self.open(done)?;
            if from != done {
                (done, hasher) = self.restart(file, part)?;
            }
            let failed = self.copy(response, file, part, &mut hasher, &mut done, progress)?;
            if done == size {
                break;
            }
            if done > highest {
                (highest, attempt) = (done, 1);
            }
            let reason = match failed {
                Some(error) => format!("the transfer broke off at {done} of {size} bytes: {error}"),
                None => format!("the transfer ended at {done} of {size} bytes"),
            };
            self.http.pause(self.url().as_str(), attempt, &reason, None)?;
            attempt += 1;
        }
        Ok(hasher.digits())
    }

    fn restart(&self, file: &mut File, part: &Path) -> Result<(u64, Hasher), HubError> {
        file.set_len(0).and_then(|()| file.rewind()).map_err(io("write", part))?;
        Ok((0, Hasher::new(self.file)))
    }

    /// Asks for the bytes from there on; returns the answer and from where on it is.
    fn open(&self, done: u64) -> Result<(Response<Body>, u64), HubError> {
        let mut ask = Ask::get(self.url());
        if done > 0 {
            ask.headers.push(("range".to_owned(), format!("bytes={done}-")));
        }
        let response = self.http.send(&ask, &|response| self.check_identity(response))?;
        match response.status().as_u16() {
            200 => {
                self.check_length(&response, 0)?;
                Ok((response, 0))
            }
            206 => {
                let range = header_of(&response, header::CONTENT_RANGE.as_str()).unwrap_or_default();
                let expected = format!("bytes {done}-{}/{}", self.file.size.saturating_sub(1), self.file.size);
                if range != expected {
                    return Err(self.other("size", range, expected));
                }
                self.check_length(&response, done)?;
                Ok((response, done))
            }
            _ => Err(refused(&self.named(), ask.url.as_str(), response)),
        }
    }

    /// The endpoint says which commit and which hash it sends.
    fn check_identity(&self, response: &Response<Body>) -> Result<(), HubError> {
        if response.status().is_client_error() {
            return Ok(());
        }
        if let Some(commit) = header_of(response, "x-repo-commit")
            && is_commit(&commit)
            && commit != self.listing.commit
        {
            return Err(self.other("commit", commit, self.listing.commit.clone()));
        }
        let linked = header_of(response, "x-linked-etag");
        let Some(tag) = linked.or_else(|| header_of(response, header::ETAG.as_str())) else { return Ok(()) };
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        let digits = self.file.hash.digits();
        // Other tags say nothing about the bytes.
        if is_hex(tag, digits.len()) && tag != digits {
            return Err(self.other("hash", tag.to_owned(), digits.to_owned()));
        }
        Ok(())
    }

    /// A longer answer is another file; a page of HTML is a login or an error, whatever its length.
    fn check_length(&self, response: &Response<Body>, from: u64) -> Result<(), HubError> {
        let kind = header_of(response, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if kind.starts_with("text/html") && !self.file.name.to_lowercase().contains(".htm") {
            return Err(self.a_page());
        }
        let length = header_of(response, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        let expected = self.file.size - from;
        match length.filter(|length| *length != expected) {
            Some(length) => Err(self.other("size", length.to_string(), expected.to_string())),
            None => Ok(()),
        }
    }

    fn copy(
        &self,
        response: Response<Body>,
        file: &mut File,
        part: &Path,
        hasher: &mut Hasher,
        done: &mut u64,
        progress: OnProgress<'_>,
    ) -> Result<Option<std::io::Error>, HubError> {
        let size = self.file.size;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        file.seek(SeekFrom::Start(*done)).map_err(io("write", part))?;
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Some(e)),
            };
            if *done + n as u64 > size {
                // Bytes that can't be told from right ones are among them.
                self.restart(file, part)?;
                return Err(self.other("size", format!("more than {size}"), size.to_string()));
            }
            file.write_all(&buffer[..n]).map_err(io("write", part))?;
            hasher.update(&buffer[..n]);
            *done += n as u64;
            progress(Progress::Part { name: &self.file.name, done: *done, size });
        }
    }

    /// By commit, so that a branch that moves changes nothing.
    fn url(&self) -> url::Url {
        let repo = &self.listing.repo;
        let kind = (repo.kind() == crate::RepoKind::Dataset).then_some("datasets");
        let id = repo.id().split('/');
        let name = self.file.name.split('/');
        self.http.url(kind.into_iter().chain(id).chain(["resolve", self.listing.commit.as_str()]).chain(name))
    }

    fn named(&self) -> String {
        format!("{}@{} {}", self.listing.repo, self.listing.commit, self.file.name)
    }

    fn other(&self, what: &'static str, found: String, expected: String) -> HubError {
        HubError::OtherFile { file: self.named(), what, found: plain(&found), expected }
    }

    fn a_page(&self) -> HubError {
        let url = crate::http::shown(self.url().as_str());
        HubError::Answer { url, expected: format!("the file {}", self.named()), found: "an HTML page".to_owned() }
    }
}

/// Hashes what is in an open file from here on; returns how much that was.
fn feed(path: &Path, file: &mut File, hasher: &mut Hasher) -> Result<u64, HubError> {
    let mut buffer = vec![0; CHUNK];
    let mut read = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(read),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                read += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io("read", path)(e)),
        }
    }
}
