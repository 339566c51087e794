//! Which files of a repository are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::HubError;
use crate::listing::{Listing, RemoteFile};

/// Read by `c2c-text` and `c2c-lm`, and by Hugging Face's libraries in the same folder.
const MODEL_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// Of an index, so much is read: that of a model with 100,000 tensors has 10 MB.
const MAX_INDEX_BYTES: u64 = 32 << 20;

/// A fuser of this program.
const FUSER_FILES: &[&str] = &["fuser_config.json", "fuser.safetensors", "README.md"];

/// The files of a model: configs, tokenizer, and the weights as one file or in shards. Nothing else, so no copies of the
/// weights in other formats.
///
/// # Errors
/// No `config.json`, or no weights in safetensors.
pub fn model_files(listing: &Listing) -> Result<Vec<&RemoteFile>, HubError> {
    if listing.file("config.json").is_none() {
        return Err(listing.lacks("config.json, which every model has"));
    }
    // Where both are, the single file is the one that is read.
    let single = listing.file("model.safetensors").is_some();
    let weights = |name: &str| if single { name == "model.safetensors" } else { is_shard(name) };
    let files: Vec<&RemoteFile> =
        listing.files.iter().filter(|file| MODEL_FILES.contains(&file.name.as_str()) || weights(&file.name)).collect();
    if !files.iter().any(|file| weights(&file.name)) {
        return Err(listing.lacks("weights in safetensors (model.safetensors, or shards of that name)"));
    }
    Ok(files)
}

/// How much of a model is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `config.json`.
    Config,
    /// Config and tokenizer.
    Text,
    /// The weights too.
    All,
}

impl Need {
    /// Those of a model's files that are needed.
    ///
    /// # Errors
    /// What the model lacks.
    pub fn files(self, listing: &Listing) -> Result<Vec<&RemoteFile>, HubError> {
        let mut files = model_files(listing)?;
        files.retain(|file| match self {
            Self::Config => file.name == "config.json",
            Self::Text => !file.name.contains(".safetensors"),
            Self::All => true,
        });
        Ok(files)
    }

    /// Whether a folder has what is needed. Of weights in shards, the index says which there are.
    pub fn is_met(self, folder: &Path) -> bool {
        let has = |name: &str| folder.join(name).is_file();
        let text = || has("tokenizer.json");
        let weights = || has("model.safetensors") || all_shards(folder);
        has("config.json")
            && match self {
                Self::Config => true,
                Self::Text => text(),
                Self::All => text() && weights(),
            }
    }
}

fn all_shards(folder: &Path) -> bool {
    /// What else an index says is passed over unread.
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let mut bytes = Vec::new();
    let read = File::open(folder.join("model.safetensors.index.json"))
        .and_then(|file| file.take(MAX_INDEX_BYTES).read_to_end(&mut bytes));
    // Of one that is cut off there, the end is missing.
    let index = read.ok().and_then(|_| serde_json::from_slice::<Index>(&bytes).ok());
    index.is_some_and(|index| {
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        !shards.is_empty() && shards.iter().all(|shard| folder.join(shard).is_file())
    })
}

/// The files of a fuser that `c2c train` or `c2c export` wrote; `None` if it isn't one.
pub fn fuser_files(listing: &Listing) -> Option<Vec<&RemoteFile>> {
    listing.file("fuser_config.json")?;
    Some(listing.files.iter().filter(|file| FUSER_FILES.contains(&file.name.as_str())).collect())
}

/// The files of a folder whose name fits one of the patterns, all if there are none.
///
/// `*` stands for any characters, `/` among them, and `?` for one, as in Hugging Face's clients.
pub fn matching<'l>(listing: &'l Listing, folder: Option<&str>, patterns: &[String]) -> Vec<&'l RemoteFile> {
    let inside = |name: &str| folder.is_none_or(|folder| name.strip_prefix(folder).is_some_and(|r| r.starts_with('/')));
    let fits = |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, name));
    listing.files.iter().filter(|file| inside(&file.name) && fits(&file.name)).collect()
}

fn is_shard(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|rest| rest.split_once("-of-"))
        .is_some_and(|(part, of)| digits(part) && digits(of))
}

/// Whether a name fits a pattern: the last `*` takes one character more whenever the rest doesn't fit.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                None => return false,
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{FileHash, Repo, RepoKind};

    fn listing(names: &[&str]) -> Listing {
        let file =
            |name: &&str| RemoteFile { name: (*name).to_owned(), size: 1, hash: FileHash::GitSha1("0".repeat(40)) };
        let repo = Repo::new(RepoKind::Model, "a/b").unwrap();
        Listing { repo, revision: "main".into(), commit: "0".repeat(40), files: names.iter().map(file).collect() }
    }

    fn names(files: Vec<&RemoteFile>) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn a_model_is_fetched_without_its_copies_in_other_formats() {
        let whole = listing(&[
            "README.md",
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "pytorch_model.bin",
            "consolidated.safetensors",
            "onnx/model.onnx",
            "original/config.json",
        ]);
        assert_eq!(names(model_files(&whole).unwrap()), ["config.json", "tokenizer.json", "model.safetensors"]);
        let shards = listing(&[
            "config.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model-x-of-y.safetensors",
        ]);
        assert_eq!(names(model_files(&shards).unwrap()).len(), 4);
        let error = model_files(&listing(&["config.json", "pytorch_model.bin"])).unwrap_err().to_string();
        assert!(error.contains("weights in safetensors") && error.contains("pytorch_model.bin"), "{error}");
        assert!(model_files(&listing(&[])).unwrap_err().to_string().contains("it has nothing"));
    }

    #[test]
    fn a_folder_with_half_of_the_shards_is_no_whole_model() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("config.json", "{}");
        assert!(Need::Config.is_met(folder.path()) && !Need::Text.is_met(folder.path()));
        write("tokenizer.json", "{}");
        assert!(Need::Text.is_met(folder.path()) && !Need::All.is_met(folder.path()));
        write(
            "model.safetensors.index.json",
            r#"{"weight_map":{"a":"model-1-of-2.safetensors","b":"model-2-of-2.safetensors"}}"#,
        );
        write("model-1-of-2.safetensors", "");
        assert!(!Need::All.is_met(folder.path()));
        write("model-2-of-2.safetensors", "");
        assert!(Need::All.is_met(folder.path()));
    }

    #[test]
    fn patterns_go_by_the_whole_name() {
        for (pattern, name, expected) in [
            ("*.json", "a/b.json", true),
            ("x/*", "x/y/z", true),
            ("x/*", "xy/z", false),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("a*b*c", "a--b-b-c", true),
            ("a*b*c", "a--b-b-", false),
            ("", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let all = listing(&["x/a.json", "x/b.pt", "xy/a.json", "x"]);
        assert_eq!(names(matching(&all, Some("x"), &["*.json".into()])), ["x/a.json"]);
        assert_eq!(names(matching(&all, None, &[])).len(), 4);
    }
}
