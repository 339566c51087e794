//! Finding the cases of the fixture set.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The fixture set: `C2C_GOLDEN`, or the folder `golden` of this package.
pub fn golden_dir() -> PathBuf {
    match std::env::var_os("C2C_GOLDEN").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("golden"),
    }
}

/// The case folders of one kind (`lm`, `c2c`, `train`), sorted.
///
/// # Panics
/// The folder is missing or holds no case: a test that compares nothing must not pass.
pub fn folders(kind: &str) -> Vec<PathBuf> {
    let dir = golden_dir().join(kind);
    let entries =
        std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("cannot list the fixtures in {}: {e}", dir.display()));
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    found.sort();
    assert!(!found.is_empty(), "no fixture in {}", dir.display());
    found
}

/// Runs a check on every case of a kind and then reports all that failed, not only the first.
///
/// # Panics
/// A case failed.
pub fn for_each_case(kind: &str, check: impl Fn(&Path)) {
    let mut failed = Vec::new();
    let all = folders(kind);
    for dir in &all {
        println!("== {}", dir.display());
        if let Err(reason) = catch_unwind(AssertUnwindSafe(|| check(dir))) {
            let text = reason.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or("a panic without text");
            failed.push(format!("{}: {text}", dir.display()));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), all.len(), failed.join("\n"));
}
