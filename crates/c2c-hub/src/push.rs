//! A folder to the hub as one commit: the repository is made, large files go to its storage, and then all of them appear
//! at once.
//!
//! Invariants: the commit is sent once and last, after every byte that it names is there; what is sent has the hashes that
//! were taken when the folder was checked; the token goes to the endpoint alone, since storage addresses sign themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ureq::http::Method;
use url::Url;

use crate::error::io;
use crate::http::{Ask, Content, Http, header_of, plain, refused};
use crate::reference::{is_hex, is_safe_path};
use crate::transfer::hex;
use crate::{Hub, HubError, Repo};

const JSON: &str = "application/json";
const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// The hub looks at so many bytes to tell text from data.
const SAMPLE: u64 = 512;
/// What the hub keeps in git goes into the commit itself, so it has to be small.
const MAX_INLINE: u64 = 32 << 20;

/// A file to upload, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadFile {
    /// Its name in the repository.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Of its bytes.
    pub sha256: String,
}

impl UploadFile {
    /// Reads and hashes a file of a folder.
    ///
    /// # Errors
    /// A file that can't be read, or a name that is no plain path.
    pub fn new(folder: &Path, name: &str) -> Result<Self, HubError> {
        if !is_safe_path(name) {
            return Err(HubError::UnsafeName { repo: folder.display().to_string(), name: name.to_owned() });
        }
        let path = folder.join(name);
        let mut sha = Sha256::new();
        let mut file = File::open(&path).map_err(io("read", &path))?;
        let mut buffer = vec![0; 1 << 18];
        let mut size = 0;
        loop {
            let n = file.read(&mut buffer).map_err(io("read", &path))?;
            if n == 0 {
                return Ok(Self { name: name.to_owned(), path, size, sha256: hex(&sha.finalize()) });
            }
            sha.update(&buffer[..n]);
            size += n as u64;
        }
    }
}

/// How a folder is pushed.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The repository must be one that others can't see; one that is made now is. Else the owner's default holds.
    pub private: bool,
    /// First line of the commit.
    pub message: String,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The new commit.
    pub commit: String,
    /// Where it can be looked at.
    pub url: String,
    /// Whether the repository was made.
    pub created: bool,
}

#[derive(Deserialize)]
struct Info {
    private: bool,
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    /// Nothing to do: the storage has it.
    #[serde(default)]
    actions: BTreeMap<String, Action>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: String,
    #[serde(default)]
    commit_url: String,
}

impl Hub {
    /// Uploads files to the `main` branch of a repository, which is made if it isn't there. `say` hears of each step.
    ///
    /// # Errors
    /// Offline, no token, no right to write there, a repository that others can see where a private one was asked for, a file that changed since it was hashed, an upload that failed.
    pub fn push(
        &self,
        repo: &Repo,
        files: &[UploadFile],
        options: &PushOptions,
        say: &mut dyn FnMut(&str),
    ) -> Result<Pushed, HubError> {
        if self.settings().offline {
            return Err(self.offline(&format!("the repository {repo}"), "push where there is a connection"));
        }
        if self.settings().token.is_none() {
            let reason = "no token, and nobody may write to the hub without one".to_owned();
            let fix = "set it to a token that may write, from the settings of your account";
            return Err(HubError::Setting { name: "HF_TOKEN".to_owned(), reason, fix });
        }
        let push = Push { http: self.http(), repo };
        let created = push.create(options.private)?;
        if created {
            say(&format!("made the repository {repo}"));
        }
        if options.private && !push.is_private()? {
            let there = "others can see this repository, and a private one was asked for";
            return Err(
                push.failed("visibility", format!("{there}; make it private in its settings, or take another name"))
            );
        }
        let modes = push.modes(files)?;
        let is_large = |file: &&UploadFile| modes.get(&file.name).is_some_and(|mode| mode == "lfs") && file.size > 0;
        let (large, small): (Vec<&UploadFile>, Vec<&UploadFile>) = files.iter().partition(|file| is_large(file));
        push.upload(&large, say)?;
        let committed = push.commit(&small, &large, &options.message)?;
        Ok(Pushed { commit: committed.commit_oid, url: plain(&committed.commit_url), created })
    }
}

struct Push<'a> {
    http: &'a Http,
    repo: &'a Repo,
}

impl Push<'_> {
    fn failed(&self, what: &str, reason: impl Into<String>) -> HubError {
        HubError::Upload { to: self.repo.to_string(), what: what.to_owned(), reason: plain(&reason.into()) }
    }

    fn api(&self, what: &str) -> Url {
        let parts = ["api", self.repo.kind().plural()].into_iter();
        self.http.url(parts.chain(self.repo.id().split('/')).chain([what, "main"]))
    }

    /// Makes the repository; false if it was there.
    fn create(&self, private: bool) -> Result<bool, HubError> {
        let (owner, name) = self.repo.id().split_once('/').unwrap_or(("", self.repo.id()));
        let kind = self.repo.kind().plural().trim_end_matches('s');
        let mut body = json!({ "type": kind, "organization": owner, "name": name });
        // Without a word the owner's default holds.
        if private {
            body["private"] = json!(true);
        }
        let body = body.to_string();
        let ask = Ask::post(self.http.url(["api", "repos", "create"]), JSON, body.as_bytes());
        let response = self.http.send(&ask, &|_| Ok(()))?;
        match response.status().as_u16() {
            200 | 201 => Ok(true),
            409 => Ok(false),
            // A token for one repository may not make any, and that one may be there.
            403 if self.info().is_ok() => Ok(false),
            _ => Err(refused(&format!("making the repository {}", self.repo), ask.url.as_str(), response)),
        }
    }

    fn info(&self) -> Result<Info, HubError> {
        let parts = ["api", self.repo.kind().plural()].into_iter();
        let ask = Ask::get(self.http.url(parts.chain(self.repo.id().split('/'))));
        Ok(self.http.json(&ask, &self.repo.to_string())?.0)
    }

    /// Asked before anything is sent: what was seen once can't be hidden again.
    fn is_private(&self) -> Result<bool, HubError> {
        Ok(self.info()?.private)
    }

    /// What the hub keeps in git (`regular`) and what in its storage (`lfs`), by name.
    fn modes(&self, files: &[UploadFile]) -> Result<BTreeMap<String, String>, HubError> {
        let mut described = Vec::with_capacity(files.len());
        for file in files {
            let mut sample = Vec::new();
            let opened = File::open(&file.path).map_err(io("read", &file.path))?;
            opened.take(SAMPLE).read_to_end(&mut sample).map_err(io("read", &file.path))?;
            described.push(json!({ "path": file.name, "size": file.size, "sample": STANDARD.encode(sample) }));
        }
        let body = json!({ "files": described }).to_string();
        let ask = Ask::post(self.api("preupload"), JSON, body.as_bytes());
        let (answer, _): (Preupload, _) = self.http.json(&ask, &format!("the upload to {}", self.repo))?;
        for file in files {
            match answer.files.iter().find(|mode| mode.path == file.name) {
                None => return Err(self.failed(&file.name, "the hub doesn't say how it wants this file")),
                Some(mode) if mode.should_ignore => {
                    return Err(self.failed(&file.name, "a .gitignore in the repository leaves this file out"));
                }
                Some(mode) if mode.upload_mode != "lfs" && file.size > MAX_INLINE => {
                    let reason = format!("the hub wants {} bytes in git, at most {MAX_INLINE} can go there", file.size);
                    return Err(self.failed(&file.name, reason));
                }
                Some(_) => {}
            }
        }
        Ok(answer.files.into_iter().map(|mode| (mode.path, mode.upload_mode)).collect())
    }

    /// Sends large files to the storage; those that it has already are left out.
    fn upload(&self, files: &[&UploadFile], say: &mut dyn FnMut(&str)) -> Result<(), HubError> {
        if files.is_empty() {
            return Ok(());
        }
        let objects: Vec<Value> = files.iter().map(|file| json!({ "oid": file.sha256, "size": file.size })).collect();
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256",
            "ref": { "name": "main" },
        })
        .to_string();
        let (owner, name) = self.repo.id().split_once('/').unwrap_or(("", self.repo.id()));
        let kind = (self.repo.kind() == crate::RepoKind::Dataset).then_some("datasets");
        let git = format!("{name}.git");
        let url = self.http.url(kind.into_iter().chain([owner, git.as_str(), "info", "lfs", "objects", "batch"]));
        let mut ask = Ask::post(url, LFS_JSON, body.as_bytes());
        ask.headers.push(("accept".to_owned(), LFS_JSON.to_owned()));
        let (batch, _): (Batch, _) = self.http.json(&ask, &format!("the upload to {}", self.repo))?;
        for file in files {
            let Some(object) = batch.objects.iter().find(|object| object.oid == file.sha256) else {
                return Err(self.failed(&file.name, "the storage doesn't say where it wants this file"));
            };
            if let Some(error) = &object.error {
                return Err(self.failed(&file.name, format!("the storage answers {}: {}", error.code, error.message)));
            }
            let Some(action) = object.actions.get("upload") else {
                say(&format!("{}: the hub has it already", file.name));
                continue;
            };
            match action.header.get("chunk_size") {
                Some(chunk) => self.in_parts(file, action, chunk)?,
                None => {
                    let headers = action.header.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
                    self.put(file, &action.href, (0, file.size), headers.collect())?;
                }
            }
            if let Some(verify) = object.actions.get("verify") {
                self.tell(file, &verify.href, &json!({ "oid": file.sha256, "size": file.size }))?;
            }
            say(&format!("{}: {} bytes uploaded", file.name, file.size));
        }
        Ok(())
    }

    /// Sends a file in pieces of a size that the storage chose, then says that it is whole.
    fn in_parts(&self, file: &UploadFile, action: &Action, chunk: &Value) -> Result<(), HubError> {
        let number = chunk.as_u64().or_else(|| chunk.as_str()?.parse().ok()).filter(|chunk| *chunk > 0);
        let Some(chunk) = number else {
            return Err(self.failed(&file.name, format!("the storage wants parts of {chunk} bytes")));
        };
        let mut parts: Vec<(u64, &str)> =
            action.header.iter().filter_map(|(key, url)| Some((key.parse().ok()?, url.as_str()?))).collect();
        parts.sort_unstable();
        let expected = file.size.div_ceil(chunk);
        if parts.len() as u64 != expected {
            let reason = format!("the storage names {} parts of {chunk} bytes, expected {expected}", parts.len());
            return Err(self.failed(&file.name, reason));
        }
        let mut sent = Vec::with_capacity(parts.len());
        for (index, (_, href)) in parts.into_iter().enumerate() {
            let from = index as u64 * chunk;
            let tag = self.put(file, href, (from, chunk.min(file.size - from)), Vec::new())?;
            let Some(tag) = tag else {
                return Err(self.failed(&file.name, format!("the storage gives no ETag for part {}", index + 1)));
            };
            sent.push(json!({ "partNumber": index + 1, "etag": tag }));
        }
        self.tell(file, &action.href, &json!({ "oid": file.sha256, "parts": sent }))
    }

    /// Sends bytes of a file; returns the ETag.
    fn put(
        &self,
        file: &UploadFile,
        href: &str,
        (from, len): (u64, u64),
        headers: Vec<(String, String)>,
    ) -> Result<Option<String>, HubError> {
        let content = Content::Slice { path: &file.path, from, len };
        let ask = Ask { method: Method::PUT, url: self.storage(file, href)?, headers, content, repeatable: true };
        let response = self.http.send(&ask, &|_| Ok(()))?;
        if !response.status().is_success() {
            return Err(refused(&format!("uploading {}", file.name), ask.url.as_str(), response));
        }
        Ok(header_of(&response, "etag").filter(|tag| !tag.is_empty()))
    }

    fn tell(&self, file: &UploadFile, href: &str, body: &Value) -> Result<(), HubError> {
        let body = body.to_string();
        let mut ask = Ask::post(self.storage(file, href)?, LFS_JSON, body.as_bytes());
        ask.headers.push(("accept".to_owned(), LFS_JSON.to_owned()));
        let response = self.http.send(&ask, &|_| Ok(()))?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refused(&format!("uploading {}", file.name), ask.url.as_str(), response))
    }

    /// An address of the storage. Where the hub is reached by https, so is it.
    fn storage(&self, file: &UploadFile, href: &str) -> Result<Url, HubError> {
        let safe = if self.http.settings().endpoint.scheme() == "https" { &["https"][..] } else { &["https", "http"] };
        match Url::parse(href) {
            Ok(url) if safe.contains(&url.scheme()) && url.host_str().is_some() => Ok(url),
            _ => Err(self.failed(&file.name, format!("the storage is at no {} address", safe.join(" or ")))),
        }
    }

    fn commit(&self, small: &[&UploadFile], large: &[&UploadFile], message: &str) -> Result<Committed, HubError> {
        let mut lines = vec![json!({ "key": "header", "value": { "summary": message, "description": "" } })];
        for file in small {
            let bytes = std::fs::read(&file.path).map_err(io("read", &file.path))?;
            if hex(&Sha256::digest(&bytes)) != file.sha256 {
                return Err(self.failed(&file.name, "it has changed since it was checked; push again"));
            }
            let content = STANDARD.encode(bytes);
            let value = json!({ "path": file.name, "encoding": "base64", "content": content });
            lines.push(json!({ "key": "file", "value": value }));
        }
        for file in large {
            let value = json!({ "path": file.name, "algo": "sha256", "oid": file.sha256, "size": file.size });
            lines.push(json!({ "key": "lfsFile", "value": value }));
        }
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut ask = Ask::post(self.api("commit"), "application/x-ndjson", body.as_bytes());
        // Whether a commit that got no answer was made isn't known; a second one would be another.
        ask.repeatable = false;
        let (committed, _): (Committed, _) = self.http.json(&ask, &format!("the commit to {}", self.repo))?;
        if is_hex(&committed.commit_oid, 40) {
            return Ok(committed);
        }
        Err(self.failed("commit", format!("the hub answers with the commit `{}`", committed.commit_oid)))
    }
}
