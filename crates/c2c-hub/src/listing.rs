//! What a repository holds at a commit, with the size and hash of every file, as the hub's API lists it.

use serde::Deserialize;

use crate::http::{Ask, Http, plain};
use crate::reference::{is_commit, is_hex, is_safe_path};
use crate::{HubError, Repo};

/// Pages of a listing that are read, and files on them. A page has 1,000; the largest repositories have some 100,000.
const MAX_PAGES: usize = 2_000;
const MAX_FILES: usize = 1_000_000;

/// Of a name that is refused, so much is shown.
const MAX_SHOWN_NAME: usize = 300;

/// How the bytes of a file are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileHash {
    /// SHA-256 of the bytes: large files, which git-lfs keeps.
    Sha256(String),
    /// Git's SHA-1 of a blob: all others.
    GitSha1(String),
}

impl FileHash {
    /// The digits. The cache calls the blob by them.
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitSha1(digits) => digits,
        }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitSha1(_) => "git sha1",
        }
    }
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name, with `/` between folders; a plain path below the repository.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What its bytes must be.
    pub hash: FileHash,
}

/// All files of a repository at a commit.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The repository.
    pub repo: Repo,
    /// The revision that was asked for.
    pub revision: String,
    /// The commit that it was.
    pub commit: String,
    /// In the order of the API.
    pub files: Vec<RemoteFile>,
}

impl Listing {
    /// The file of that name.
    pub fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// An error that something isn't there, with what is.
    pub fn lacks(&self, what: &str) -> HubError {
        const SHOWN: usize = 8;
        let mut found: Vec<String> = self.files.iter().take(SHOWN).map(|file| file.name.clone()).collect();
        if self.files.len() > SHOWN {
            found.push(format!("and {} more", self.files.len() - SHOWN));
        }
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        HubError::NoFile { repo: self.repo.to_string(), commit: self.commit.clone(), what: what.to_owned(), found }
    }
}

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// The commit of a revision.
pub(crate) fn commit(http: &Http, repo: &Repo, revision: &str) -> Result<String, HubError> {
    let mut parts = vec!["api", repo.kind().plural()];
    parts.extend(repo.id().split('/'));
    parts.extend(["revision", revision]);
    let url = http.url(parts);
    let (info, _): (Info, _) = http.json(&Ask::get(url.clone()), &format!("{repo}@{revision}"))?;
    if is_commit(revision) && info.sha != revision {
        let (file, found, expected) = (repo.to_string(), plain(&info.sha), revision.to_owned());
        return Err(HubError::OtherFile { file, what: "commit", found, expected });
    }
    if is_commit(&info.sha) { Ok(info.sha) } else { Err(strange(&url, "a commit of 40 digits", &info.sha)) }
}

/// Everything at a revision.
pub(crate) fn list(http: &Http, repo: &Repo, revision: &str) -> Result<Listing, HubError> {
    let commit = commit(http, repo, revision)?;
    let mut parts = vec!["api", repo.kind().plural()];
    parts.extend(repo.id().split('/'));
    parts.extend(["tree", &commit]);
    let mut page = http.url(parts);
    page.set_query(Some("recursive=true"));
    let mut files = Vec::new();
    let mut seen = std::collections::HashSet::new();
    loop {
        if !seen.insert(page.clone()) {
            return Err(strange(&page, "pages that come to an end", "the same page again"));
        }
        if seen.len() > MAX_PAGES || files.len() > MAX_FILES {
            let most = format!("at most {MAX_PAGES} pages with {MAX_FILES} files");
            return Err(strange(&page, &most, "a listing that goes on"));
        }
        let (entries, next): (Vec<Entry>, _) = http.json(&Ask::get(page.clone()), &format!("the files of {repo}"))?;
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            files.push(remote_file(repo, &page, entry)?);
        }
        match next {
            Some(next) => page = next,
            None => return Ok(Listing { repo: repo.clone(), revision: revision.to_owned(), commit, files }),
        }
    }
}

fn remote_file(repo: &Repo, page: &url::Url, entry: Entry) -> Result<RemoteFile, HubError> {
    if !is_safe_path(&entry.path) {
        // Shown with its control characters escaped.
        let name = entry.path.chars().take(MAX_SHOWN_NAME).collect();
        return Err(HubError::UnsafeName { repo: repo.to_string(), name });
    }
    let (hash, size) = match entry.lfs {
        // The API and the batch protocol write it with and without the algorithm's name.
        Some(lfs) => (FileHash::Sha256(lfs.oid.trim_start_matches("sha256:").to_owned()), lfs.size),
        None => (FileHash::GitSha1(entry.oid), entry.size),
    };
    let whole = match &hash {
        FileHash::Sha256(digits) => is_hex(digits, 64),
        FileHash::GitSha1(digits) => is_hex(digits, 40),
    };
    if !whole {
        return Err(strange(page, &format!("a {} for {}", hash.algorithm(), entry.path), hash.digits()));
    }
    Ok(RemoteFile { name: entry.path, size, hash })
}

fn strange(url: &url::Url, expected: &str, found: &str) -> HubError {
    let url = crate::http::shown(url.as_str());
    HubError::Answer { url, expected: expected.to_owned(), found: format!("`{}`", plain(found)) }
}
