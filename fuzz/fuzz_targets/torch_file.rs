//! A PyTorch file: container, pickle, storages.
#![no_main]

use std::fs;

use c2c_export::torch::StateDict;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), data).expect("a file");
    if let Ok(mut state) = StateDict::open(file.path()) {
        let names: Vec<String> = state.names().map(str::to_owned).collect();
        let read = names.iter().filter_map(|name| state.read(name).ok().flatten()).map(|values| values.len());
        // Two bytes a value at least, and no value twice.
        assert!(read.sum::<usize>() * 2 <= data.len());
    }
});
