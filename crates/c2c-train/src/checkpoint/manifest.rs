//! `manifest.json`: size and SHA-256 of every other file, and what the checkpoint belongs to.
//!
//! The manifest guards itself: it has one spelling, and its last value is the SHA-256 of that spelling with the value
//! left empty. A manifest that differs from what it says in a single byte is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FileProblem, LISTED, LISTED_OTHERWISE, hex};

/// What `format` says.
pub const FORMAT: &str = "c2c-checkpoint";
/// The version that this program writes and reads.
pub const VERSION: u32 = 1;

/// What a checkpoint belongs to. A run goes on only from checkpoints of the same identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`c2c_recipe::Loaded::hash`].
    pub recipe_sha256: String,
    /// Fingerprint of the frozen receiver.
    pub receiver_sha256: String,
    /// Fingerprint of the frozen sharer.
    pub sharer_sha256: String,
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileEntry {
    pub bytes: u64,
    pub sha256: String,
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    written_by: String,
    pub step: usize,
    recipe_sha256: String,
    receiver_sha256: String,
    sharer_sha256: String,
    pub files: BTreeMap<String, FileEntry>,
    seal: String,
}

impl Manifest {
    pub fn new(step: usize, identity: &Identity, files: BTreeMap<String, FileEntry>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            written_by: format!("c2c {}", env!("CARGO_PKG_VERSION")),
            step,
            recipe_sha256: identity.recipe_sha256.clone(),
            receiver_sha256: identity.receiver_sha256.clone(),
            sharer_sha256: identity.sharer_sha256.clone(),
            files,
            seal: String::new(),
        }
    }

    /// The one spelling, sealed.
    pub fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let spelt = |seal: String| {
            let mut text = serde_json::to_vec_pretty(&Self { seal, ..self.clone() })?;
            text.push(b'\n');
            Ok::<_, serde_json::Error>(text)
        };
        let unsealed = spelt(String::new())?;
        spelt(hex(&Sha256::digest(&unsealed)))
    }

    /// Reads what [`Manifest::text`] wrote, and nothing else.
    pub fn read(bytes: &[u8]) -> Result<Self, FileProblem> {
        /// Read first: another version may have other fields.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: serde_json::Value,
        }
        let content = |e: serde_json::Error| FileProblem::Content(format!("is no manifest: {e}"));
        let head: Head = serde_json::from_slice(bytes).map_err(content)?;
        if head.format != FORMAT {
            return Err(FileProblem::Content(format!("has format \"{}\", expected \"{FORMAT}\"", head.format)));
        }
        if head.version != VERSION {
            return Err(FileProblem::Version { found: head.version.to_string(), expected: VERSION });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(content)?;
        if manifest.text().map_err(content)? != bytes {
            return Err(FileProblem::Content("was changed: it does not fit its own seal".into()));
        }
        let lists = |files| manifest.files.keys().map(String::as_str).eq(sorted(files));
        if !lists(LISTED) && !lists(LISTED_OTHERWISE) {
            let found: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
            return Err(FileProblem::Content(format!("lists {}, expected {}", found.join(", "), LISTED.join(", "))));
        }
        Ok(manifest)
    }

    pub fn identity(&self) -> Identity {
        Identity {
            recipe_sha256: self.recipe_sha256.clone(),
            receiver_sha256: self.receiver_sha256.clone(),
            sharer_sha256: self.sharer_sha256.clone(),
        }
    }
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        let identity =
            Identity { recipe_sha256: "ab".into(), receiver_sha256: "cd".into(), sharer_sha256: "ef".into() };
        let entry = |n: usize| FileEntry { bytes: n as u64, sha256: format!("{n:064x}") };
        Manifest::new(50, &identity, LISTED.iter().enumerate().map(|(n, f)| ((*f).to_owned(), entry(n))).collect())
    }

    #[test]
    fn reads_back_and_refuses_every_changed_byte() {
        let manifest = manifest();
        let text = manifest.text().unwrap();
        let read = Manifest::read(&text).unwrap();
        assert_eq!((read.step, read.identity(), &read.files), (50, manifest.identity(), &manifest.files));
        for at in 0..text.len() {
            for byte in [text[at] ^ 1, text[at] ^ 0x20, b' ', b'\t', b'0'] {
                let mut changed = text.clone();
                changed[at] = byte;
                assert_eq!(Manifest::read(&changed).is_ok(), changed == text, "byte {at} = {byte}");
            }
            assert!(Manifest::read(&text[..at]).is_err(), "cut at {at}");
        }
        assert!(Manifest::read(&[&text[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn another_version_and_another_set_of_files_are_named() {
        let later = Manifest { version: 2, ..manifest() }.text().unwrap();
        assert_eq!(Manifest::read(&later), Err(FileProblem::Version { found: "2".into(), expected: 1 }));
        let mut fewer = manifest();
        fewer.files.remove("state.json");
        let error = Manifest::read(&fewer.text().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("lists ") && error.contains("expected"), "{error}");
    }
}
