//! `model.safetensors.index.json` and the shard that it names: the bytes up to the first null byte are the index, the
//! rest is the shard.
#![no_main]

use std::fs;

use c2c_lm::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("model.safetensors.index.json"), &data[..end]).expect("a file");
    fs::write(dir.path().join("model-1.safetensors"), data.get(end + 1..).unwrap_or_default()).expect("a file");
    if let Ok(mut checkpoint) = Checkpoint::open(dir.path()) {
        let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
        for name in names {
            let shape = checkpoint.shape(&name).map(<[usize]>::to_vec).unwrap_or_default();
            let _ = checkpoint.read_f32(&name, &shape);
        }
    }
});
