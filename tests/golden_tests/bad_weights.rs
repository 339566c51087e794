//! Damaged and foreign weight files: refused with the file, the tensor, and what was expected. None may crash or load.

use std::path::{Path, PathBuf};

use c2c_lm::{Lm, LmError, ModelDtype};
use c2c_tests::{B, Tensors, copy_folder, device, folders};
use safetensors::Dtype;
use tempfile::TempDir;

/// A copy of a model in one file, to be damaged.
fn scratch() -> (TempDir, PathBuf) {
    let whole = folders("lm").into_iter().find(|d| d.join("model.safetensors").is_file()).expect("a model in one file");
    let dir = tempfile::tempdir().unwrap();
    copy_folder(&whole, dir.path());
    let weights = dir.path().join("model.safetensors");
    (dir, weights)
}

/// A copy of a model in shards, and its index.
fn sharded_scratch() -> (TempDir, PathBuf) {
    let index = "model.safetensors.index.json";
    let sharded = folders("lm").into_iter().find(|d| d.join(index).is_file()).expect("a sharded model");
    let dir = tempfile::tempdir().unwrap();
    copy_folder(&sharded, dir.path());
    let path = dir.path().join(index);
    (dir, path)
}

fn load(dir: &Path) -> LmError {
    match Lm::<B>::from_dir(dir, ModelDtype::F32, &device()) {
        Ok(_) => panic!("{} loaded", dir.display()),
        Err(error) => error,
    }
}

fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text}\nlacks: {part}");
    }
}

#[test]
fn a_truncated_file_is_named_at_every_length() {
    let (dir, weights) = scratch();
    let bytes = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let data = bytes.len() - header;
    for length in [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, header + data / 2, bytes.len() - 1] {
        std::fs::write(&weights, &bytes[..length]).unwrap();
        let error = load(dir.path());
        assert!(matches!(error, LmError::Safetensors { .. }), "{length} bytes: {error:?}");
        contains_all(&error.to_string(), &[&weights.display().to_string(), "not a whole safetensors file", "again"]);
    }
}

#[test]
fn a_garbled_header_is_refused() {
    let (dir, weights) = scratch();
    let bytes = std::fs::read(&weights).unwrap();
    let mut huge = bytes.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut no_json = bytes.clone();
    no_json[8..40].fill(b'#');
    let far_offsets = br#"{"model.norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#;
    let mut far = (far_offsets.len() as u64).to_le_bytes().to_vec();
    far.extend_from_slice(far_offsets);
    let lying_shape = br#"{"model.norm.weight":{"dtype":"F32","shape":[9],"data_offsets":[0,8]}}"#;
    let mut lying = (lying_shape.len() as u64).to_le_bytes().to_vec();
    lying.extend_from_slice(lying_shape);
    lying.extend_from_slice(&[0; 8]);
    for (what, bytes) in [("length", huge), ("json", no_json), ("offsets", far), ("shape", lying)] {
        std::fs::write(&weights, bytes).unwrap();
        let error = load(dir.path());
        assert!(matches!(error, LmError::Safetensors { .. }), "{what}: {error:?}");
        contains_all(&error.to_string(), &[&weights.display().to_string()]);
    }
}

#[test]
fn a_wrong_shape_names_tensor_found_and_expected() {
    let (dir, weights) = scratch();
    let mut tensors = Tensors::read(&weights);
    let name = "model.layers.0.mlp.down_proj.weight";
    let entry = tensors.entries.iter_mut().find(|e| e.0 == name).unwrap();
    let right = format!("{:?}", entry.2);
    entry.2.reverse();
    let wrong = format!("{:?}", entry.2);
    tensors.write(&weights);
    let text = load(dir.path()).to_string();
    let line = format!("{name}: found shape {wrong}, expected {right}");
    contains_all(&text, &[&dir.path().display().to_string(), &line]);
}

#[test]
fn missing_unused_and_misshapen_tensors_are_all_listed() {
    let (dir, weights) = scratch();
    let mut tensors = Tensors::read(&weights);
    let missing = ["model.layers.1.self_attn.v_proj.weight", "model.norm.weight"];
    let unused = ["model.layers.0.self_attn.relative_bias", "vision.patch.weight"];
    let misshapen = "model.layers.0.input_layernorm.weight";
    for name in missing.into_iter().chain([misshapen]) {
        tensors.remove(name);
    }
    tensors.push_zeros(misshapen, &[3]);
    for name in unused {
        tensors.push_zeros(name, &[2, 2]);
    }
    tensors.write(&weights);
    let error = load(dir.path());
    let text = error.to_string();
    assert!(matches!(&error, LmError::Weights { problems, .. } if problems.len() == 5), "{text}");
    for name in missing {
        contains_all(&text, &[&format!("{name}: missing, expected shape [")]);
    }
    for name in unused {
        contains_all(&text, &[&format!("{name}: in the file, not in a model of this config")]);
    }
    contains_all(&text, &[&format!("{misshapen}: found shape [3], expected [")]);
}

#[test]
fn a_tensor_that_is_no_float_is_named() {
    let (dir, weights) = scratch();
    let mut tensors = Tensors::read(&weights);
    let entry = tensors.entries.iter_mut().find(|e| e.0 == "model.norm.weight").unwrap();
    let count: usize = entry.2.iter().product();
    (entry.1, entry.3) = (Dtype::I64, vec![0; 8 * count]);
    tensors.write(&weights);
    contains_all(&load(dir.path()).to_string(), &["model.norm.weight: dtype I64, expected F32, BF16 or F16"]);
}

#[test]
fn an_index_may_not_leave_its_folder() {
    let (dir, index) = sharded_scratch();
    let outside = dir.path().parent().unwrap().join("outside.safetensors");
    let outside = outside.to_str().unwrap();
    let original = std::fs::read_to_string(&index).unwrap();
    let json: serde_json::Value = serde_json::from_str(&original).unwrap();
    let tensor = json["weight_map"].as_object().unwrap().keys().next().unwrap().clone();
    for name in
        ["../outside.safetensors", outside, "sub/../../x", "sub/model.safetensors", "..", ".", "", "a\\b", "a\0b"]
    {
        let mut json = json.clone();
        json["weight_map"][&tensor] = name.into();
        std::fs::write(&index, json.to_string()).unwrap();
        let error = load(dir.path());
        assert!(matches!(error, LmError::Json { .. }), "{name:?}: {error:?}");
        let key = format!("weight_map.{tensor}");
        contains_all(&error.to_string(), &[&index.display().to_string(), &key, "name of a file in the same folder"]);
    }
    let mut json = json.clone();
    json["weight_map"][&tensor] = 3.into();
    std::fs::write(&index, json.to_string()).unwrap();
    contains_all(&load(dir.path()).to_string(), &[&format!("weight_map.{tensor}: invalid type: integer `3`")]);
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let (dir, index) = sharded_scratch();
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&index).unwrap()).unwrap();
    let map = json["weight_map"].as_object().unwrap();
    let shard = map.values().next().unwrap().as_str().unwrap().to_owned();

    let mut more = json.clone();
    more["weight_map"]["model.layers.0.ghost"] = shard.as_str().into();
    std::fs::write(&index, more.to_string()).unwrap();
    contains_all(&load(dir.path()).to_string(), &["model.layers.0.ghost: named by the index, in no shard"]);

    std::fs::write(&index, json.to_string()).unwrap();
    std::fs::remove_file(dir.path().join(&shard)).unwrap();
    let error = load(dir.path());
    assert!(matches!(error, LmError::Io { .. }), "{error:?}");
    contains_all(&error.to_string(), &[&dir.path().join(&shard).display().to_string()]);

    std::fs::write(&index, "{}").unwrap();
    contains_all(&load(dir.path()).to_string(), &[&index.display().to_string(), "weight_map"]);
}

#[test]
fn absent_files_are_named() {
    let (dir, weights) = scratch();
    std::fs::remove_file(&weights).unwrap();
    let error = load(dir.path());
    assert!(matches!(error, LmError::NoWeights { .. }), "{error:?}");
    contains_all(&error.to_string(), &[&dir.path().display().to_string(), "model.safetensors"]);

    let config = dir.path().join("config.json");
    std::fs::write(&config, "{\"model_type\": ").unwrap();
    let error = load(dir.path());
    assert!(matches!(error, LmError::Json { .. }), "{error:?}");
    contains_all(&error.to_string(), &[&config.display().to_string()]);

    std::fs::remove_file(&config).unwrap();
    let error = load(dir.path());
    assert!(matches!(error, LmError::Io { .. }), "{error:?}");
    contains_all(&error.to_string(), &[&config.display().to_string()]);
}
