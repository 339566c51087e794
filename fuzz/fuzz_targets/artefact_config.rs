//! `fuser_config.json`.
#![no_main]

use std::fs;

use c2c_export::artefact::{CONFIG_FILE, read_config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join(CONFIG_FILE), data).expect("a file");
    let _ = read_config(dir.path());
});
