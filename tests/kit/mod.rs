//! The real binary, run in the repository's root: what the end-to-end tests share.

// Each test file uses its own part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A short training run: four steps with accumulation, a partial last window, an epoch's end and validation.
pub const FOUR_STEPS: [&str; 8] = [
    "training.batch_size=6",
    "training.gradient_accumulation=2",
    "training.validation_fraction=0.1",
    "training.max_steps=4",
    "training.evaluate_every=2",
    "checkpoint.every=2",
    "evaluation.limit=8",
    r#"data.sources=[{kind="pocket",split="train",places=3,format="plain_cued"}]"#,
];

pub fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..").canonicalize().unwrap()
}

/// `c2c` with these arguments, to be run in the repository's root.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_c2c"));
    // Nothing in these tests may depend on a network.
    command.args(args).current_dir(root()).env("HF_HUB_OFFLINE", "1");
    command
}

pub fn c2c(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn succeeds(args: &[&str]) -> Output {
    succeeded(args, c2c(args))
}

pub fn succeeded(args: &[&str], output: Output) -> Output {
    assert!(output.status.success(), "{args:?}\n{}\n{}", stdout(&output), stderr(&output));
    output
}

pub fn fails(args: &[&str], code: i32, words: &[&str]) {
    failed(args, &c2c(args), code, words);
}

/// The command ended with this code and said all these words, without a panic.
pub fn failed(args: &[&str], output: &Output, code: i32, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: no `{word}` in\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// The one entry of a folder.
pub fn only_folder(dir: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}
