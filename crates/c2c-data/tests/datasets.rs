//! The bundled data is what its manifest says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_data::load_multiple_choice;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    file: String,
    description: String,
    source: Source,
    licence: String,
    licence_file: String,
    rows: usize,
    sha256: String,
    sha256_decompressed: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    authors: String,
    repository: String,
    commit: String,
    path: String,
}

fn folder() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../datasets")
}

fn manifest() -> Manifest {
    serde_json::from_slice(&std::fs::read(folder().join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn files_have_the_stated_rows_and_hashes() {
    for entry in manifest().files {
        let bytes = std::fs::read(folder().join(&entry.file)).unwrap();
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256, entry.sha256, "{}", entry.file);
        let loaded = load_multiple_choice(folder().join(&entry.file), None).unwrap();
        assert_eq!(loaded.rows.len(), entry.rows, "{}", entry.file);
        assert_eq!(loaded.fingerprint.sha256, entry.sha256_decompressed, "{}", entry.file);
        let ids: BTreeSet<&str> = loaded.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids.len(), entry.rows, "{}: an id occurs twice", entry.file);
    }
}

#[test]
fn every_data_file_is_listed_with_its_licence() {
    let manifest = manifest();
    let listed: BTreeSet<String> = manifest.files.iter().map(|entry| entry.file.clone()).collect();
    let present: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".gz") || name.ends_with(".jsonl"))
        .collect();
    assert_eq!(listed, present);
    for entry in manifest.files {
        let licence = std::fs::read_to_string(folder().join(&entry.licence_file)).unwrap();
        assert!(licence.contains(&entry.source.authors), "{}", entry.file);
        assert!(licence.contains(&entry.licence), "{}", entry.file);
        assert!(licence.contains(&entry.source.commit) && licence.contains(&entry.source.repository));
        assert!(!entry.description.is_empty() && !entry.source.path.is_empty());
    }
}
