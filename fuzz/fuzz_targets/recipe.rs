//! A recipe.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("recipe.toml");
    fs::write(&path, data).expect("a file");
    if let Ok(loaded) = c2c_recipe::load(&path, &[]) {
        // What is accepted can be written out and read again.
        fs::write(&path, loaded.resolved_toml()).expect("a file");
        c2c_recipe::load(&path, &[]).expect("a resolved recipe");
    }
});
