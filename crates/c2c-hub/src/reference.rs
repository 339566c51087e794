//! `org/name`, `org/name@revision`, `datasets/org/name@revision`, `org/name/folder@revision`.
//!
//! Invariant: every part of a parsed reference is safe as a part of a path and of an address. Nothing else in this crate
//! looks at that again.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// Longest owner or name that a hub allows.
const MAX_PART: usize = 96;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model, or a fuser.
    Model,
    /// A data set.
    Dataset,
}

impl RepoKind {
    /// The word in addresses and in the cache's folder names: `models`, `datasets`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// A repository of a hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repo {
    kind: RepoKind,
    id: String,
}

impl Repo {
    /// A repository by its `org/name`.
    ///
    /// # Errors
    /// The id isn't two parts of letters, digits, `.`, `_` and `-`.
    pub fn new(kind: RepoKind, id: &str) -> Result<Self, HubError> {
        match id.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Ok(Self { kind, id: id.to_owned() }),
            _ => Err(refuse(id, "an id is owner and name, of letters, digits, `.`, `_` and `-`")),
        }
    }

    /// What it holds.
    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// `org/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder in the cache, `models--org--name`.
    pub(crate) fn folder(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }
}

/// As a reference: `org/name`, `datasets/org/name`.
impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RepoKind::Model => f.write_str(&self.id),
            RepoKind::Dataset => write!(f, "datasets/{}", self.id),
        }
    }
}

/// A repository, maybe a folder in it, maybe at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRef {
    /// The repository.
    pub repo: Repo,
    /// Commit, branch or tag; `None` is `main`.
    pub revision: Option<String>,
    /// A folder in it, with `/` between its parts.
    pub inner: Option<String>,
}

impl HubRef {
    /// The revision, `main` if none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// This reference at another revision.
    ///
    /// # Errors
    /// A revision that can't be one.
    pub fn at(mut self, revision: &str) -> Result<Self, HubError> {
        check_revision(revision)?;
        self.revision = Some(revision.to_owned());
        Ok(self)
    }
}

impl FromStr for HubRef {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        if let Some(revision) = revision {
            check_revision(revision)?;
        }
        let (kind, path) = match path.strip_prefix("datasets/") {
            Some(rest) => (RepoKind::Dataset, rest),
            None => (RepoKind::Model, path),
        };
        let mut parts = path.splitn(3, '/');
        let (owner, name, inner) = (parts.next(), parts.next(), parts.next());
        let (Some(owner), Some(name)) = (owner, name) else {
            return Err(refuse(text, "an id has an owner and a name"));
        };
        if inner.is_some_and(|inner| !is_safe_path(inner)) {
            return Err(refuse(text, "the folder is no plain path"));
        }
        let repo = Repo::new(kind, &format!("{owner}/{name}")).map_err(|_| {
            refuse(
                text,
                "owner and name are of letters, digits, `.`, `_` and `-`, and don't begin or end with `.` or `-`",
            )
        })?;
        Ok(Self { repo, revision: revision.map(str::to_owned), inner: inner.map(str::to_owned) })
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repo.fmt(f)?;
        if let Some(inner) = &self.inner {
            write!(f, "/{inner}")?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether a name is a plain path below a folder, on every system.
pub(crate) fn is_safe_path(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, '\\' | ':');
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    !name.contains(bad) && name.split('/').all(part)
}

/// Whether a text is a whole git commit.
pub(crate) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// Whether a text is that many lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn part(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // `--` stands for the slash in the cache's folder names.
    !text.is_empty()
        && text.len() <= MAX_PART
        && text.chars().all(good)
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
        && !text.contains("--")
        && !text.contains("..")
}

fn check_revision(revision: &str) -> Result<(), HubError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if is_safe_path(revision) && revision.chars().all(good) && !revision.starts_with('-') && !revision.contains("..") {
        return Ok(());
    }
    Err(refuse(revision, "a revision is a commit, a branch or a tag"))
}

fn refuse(found: &str, reason: &str) -> HubError {
    let expected = "org/name, org/name@revision, org/name/folder@revision or datasets/org/name@revision";
    HubError::Reference { found: found.to_owned(), reason: reason.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn references_are_read_and_written_back() {
        for (text, kind, id, inner, revision) in [
            ("Qwen/Qwen3-0.6B", RepoKind::Model, "Qwen/Qwen3-0.6B", None, None),
            ("a/b@refs/pr/1", RepoKind::Model, "a/b", None, Some("refs/pr/1")),
            ("datasets/cais/mmlu@1234", RepoKind::Dataset, "cais/mmlu", None, Some("1234")),
            ("nics-efc/C2C_Fuser/x/y@v1.0", RepoKind::Model, "nics-efc/C2C_Fuser", Some("x/y"), Some("v1.0")),
        ] {
            let parsed: HubRef = text.parse().unwrap();
            assert_eq!((parsed.repo.kind(), parsed.repo.id()), (kind, id));
            assert_eq!((parsed.inner.as_deref(), parsed.revision.as_deref()), (inner, revision));
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn what_could_leave_its_folder_or_address_is_refused() {
        for text in [
            "",
            "x",
            "/a/b",
            "../a",
            "a/..",
            "a/b/../c",
            "a/b/",
            "a//b",
            "a/b@",
            "a/b@..",
            "a/b@../x",
            "a/b@x@y",
            "a/b@x?y=1",
            "a/b#c",
            "a b/c",
            "~/models/x",
            "./a/b",
            "a--b/c",
            "a/b/c\\d",
            "http://x/y",
            "a/b@-x",
            "datasets/a",
            "a/b@/x",
        ] {
            assert!(text.parse::<HubRef>().is_err(), "{text}");
        }
    }
}
