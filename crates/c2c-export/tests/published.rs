//! Fusers of the reference implementation: every golden case loads, and gives its numbers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use burn_store::pytorch::PytorchReader;
use c2c_export::published::{join_params, load, load_single, named_layer_params, split_param};
use c2c_fuser::{Fuser, FuserMode};
use c2c_lm::{LayerKv, LmConfig};
use common::*;
use safetensors::SafeTensors;

/// Folder, sharer folder and expected layer map of every fuser.
fn cases() -> Vec<(PathBuf, PathBuf, PathBuf, Vec<usize>)> {
    let mut out = Vec::new();
    for group in ["c2c", "train"] {
        for case in fs::read_dir(golden().join(group)).unwrap() {
            let dir = case.unwrap().path();
            let json: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("case.json")).unwrap()).unwrap();
            if group == "train" {
                let map = serde_json::from_value(json["source_layer"].clone()).unwrap();
                out.push((dir.clone(), dir.join("receiver"), dir.join(json["sharer"].as_str().unwrap()), map));
                continue;
            }
            for (i, fuser) in json["fusers"].as_array().unwrap().iter().enumerate() {
                let sharer = json["sharers"][i].as_str().unwrap();
                let map = serde_json::from_value(json["source_layer"][i].clone()).unwrap();
                out.push((dir.join(fuser.as_str().unwrap()), dir.join("receiver"), dir.join(sharer), map));
            }
        }
    }
    assert!(!out.is_empty(), "no golden case in {}", golden().display());
    out
}

#[test]
fn every_golden_case_loads_exactly() {
    for (dir, receiver, sharer, map) in cases() {
        let (receiver, sharer) = (LmConfig::from_dir(&receiver).unwrap(), LmConfig::from_dir(&sharer).unwrap());
        let published = load::<B>(&dir, &receiver, &sharer, &device()).unwrap_or_else(|e| panic!("{e}"));
        let config = published.fuser.config().clone();
        assert_eq!(config.layer_map, map, "{}", dir.display());
        assert_eq!(published.gate_temperature.len(), map.len());
        assert!(published.gate_temperature.iter().all(|t| *t > 0.0 && *t <= 1.0));

        // Each value where the file has it. In these cases layer i uses projector i.
        let mut layers = vec![BTreeMap::new(); map.len()];
        for p in named_layer_params(&published.fuser).unwrap() {
            layers[p.layer].insert(p.name, (p.shape, p.values));
        }
        for (layer, found) in layers.iter().enumerate() {
            let reader = PytorchReader::new(dir.join(format!("final/projector_{layer}.pt"))).unwrap();
            let mut keys: Vec<String> = reader.keys().into_iter().filter(|k| k != "gate_temperature").collect();
            keys.sort();
            assert_eq!(found.keys().cloned().collect::<Vec<_>>(), keys);
            for (name, (shape, values)) in found {
                let tensor = reader.get(name).unwrap();
                assert_eq!(tensor.shape.iter().copied().collect::<Vec<_>>(), *shape, "{name}");
                let expected: Vec<f32> = tensor.to_data().unwrap().convert::<f32>().into_vec().unwrap();
                assert_eq!(expected, *values, "{}: layer {layer}: {name}", dir.display());
            }
        }

        for (name, param) in published.fuser.named_params() {
            let stacked: Vec<f32> = param.val().into_data().iter::<f32>().collect();
            let mut parts = split_param(&config, &name, &stacked).unwrap();
            assert_eq!(parts.len(), 2 * map.len());
            parts.reverse();
            assert_eq!(join_params(&config, &name, &parts).unwrap(), stacked, "{name}");
        }
    }
}

#[test]
fn splitting_refuses_what_does_not_fit() {
    let c = config();
    let error = split_param(&c, "input.scale", &[]).unwrap_err().to_string();
    assert!(error.contains("input.scale") && error.contains("input.weight"), "{error}");
    let error = split_param(&c, "gate_logit", &[0.0; 5]).unwrap_err().to_string();
    assert!(error.contains("5 values") && error.contains("[6, 1, 1]"), "{error}");
    let mut parts = split_param(&c, "gate_logit", &[0.0; 6]).unwrap();
    parts[2].name = "key_gate".into();
    assert!(join_params(&c, "gate_logit", &parts).unwrap_err().to_string().contains("key_gate_logit of layer 2"));
    parts.pop();
    assert!(join_params(&c, "gate_logit", &parts).unwrap_err().to_string().contains("5 parts"));
}

fn tensor(file: &SafeTensors<'_>, name: &str) -> Tensor<B, 4> {
    let view = file.tensor(name).unwrap();
    let values: Vec<f32> = match view.dtype() {
        safetensors::Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        safetensors::Dtype::BF16 => {
            view.data().as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
        }
        other => panic!("{name}: {other:?}"),
    };
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &device())
}

fn single(name: &str) -> Fuser<B> {
    let path = |end: &str| golden().join(format!("reference/{name}.{end}"));
    load_single(&path("pt"), &path("json"), &device()).unwrap_or_else(|e| panic!("{e}"))
}

/// For keys and values: mean and largest difference to the expected fusion, as a share of the largest change that the
/// fusion makes.
fn difference(name: &str) -> Vec<(f32, f32)> {
    let bytes = fs::read(golden().join(format!("reference/{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let pair = |side: &str| LayerKv::<B> {
        key: tensor(&file, &format!("in.{side}_key")),
        value: tensor(&file, &format!("in.{side}_value")),
    };
    let (sharer, receiver) = (pair("source"), pair("target"));
    let fused = single(name).fuse(&[sharer], std::slice::from_ref(&receiver), FuserMode::Infer).unwrap().remove(0);
    [("out.key", fused.key, receiver.key), ("out.value", fused.value, receiver.value)]
        .into_iter()
        .map(|(out, found, own)| {
            let expected = tensor(&file, out);
            let change = (expected.clone() - own).abs().max().into_scalar();
            assert!(change > 0.05, "{name}: {out} is fused, the gate is open");
            let error = (found - expected).abs();
            (error.clone().mean().into_scalar() / change, error.max().into_scalar() / change)
        })
        .collect()
}

#[test]
fn a_single_layer_fuses_as_the_reference_implementation() {
    for (mean, max) in difference("fuser_fp32") {
        assert!(max <= 1e-5, "mean {mean:e}, max {max:e}");
    }
}

#[test]
fn a_bf16_layer_fuses_within_the_rounding_of_bf16() {
    // The expectation was computed in bf16 throughout, here the same bf16 weights are used in f32. Measured: mean 9e-4,
    // max 5.2e-3 of the largest change.
    for (mean, max) in difference("fuser_bf16") {
        assert!(mean <= 3e-3 && max <= 2e-2, "mean {mean:e}, max {max:e}");
    }
}

#[test]
fn the_heads_get_the_weights_of_the_reference_implementation() {
    // In bf16 the expectation has 8 bits of a number below 1; the weights of heads differ by far more.
    for (name, bound) in [("fuser_fp32", 1e-6), ("fuser_bf16", 2e-2)] {
        let bytes = fs::read(golden().join(format!("reference/{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let pair = |side: &str| LayerKv::<B> {
            key: tensor(&file, &format!("in.{side}_key")),
            value: tensor(&file, &format!("in.{side}_value")),
        };
        let found = single(name).head_weights(&[pair("source")], &[pair("target")]).unwrap().remove(0);
        for (side, found) in [("key", found.key.unwrap()), ("value", found.value.unwrap())] {
            let expected = tensor(&file, &format!("out.{side}_scalar")).squeeze_dim::<3>(3);
            assert_eq!(found.dims(), expected.dims(), "{name} {side}");
            let spread = expected.clone().max().into_scalar() - expected.clone().min().into_scalar();
            let error = (found - expected).abs().max().into_scalar();
            assert!(spread > 0.2 && error <= bound, "{name} {side}: off by {error:e}, spread over {spread}");
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

struct Scratch {
    tmp: tempfile::TempDir,
    receiver: LmConfig,
    sharer: LmConfig,
}

impl Scratch {
    fn new(case: &str) -> Self {
        let dir = golden().join("c2c").join(case);
        let tmp = tempfile::tempdir().unwrap();
        copy_dir(&dir.join("final"), tmp.path());
        let model = |name: &str| LmConfig::from_dir(&dir.join(name)).unwrap();
        Self { tmp, receiver: model("receiver"), sharer: model("sharer1") }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.tmp.path().join(file)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file}: {text}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    fn load(&self) -> Result<Fuser<B>, String> {
        load::<B>(self.tmp.path(), &self.receiver, &self.sharer, &device()).map(|p| p.fuser).map_err(|e| e.to_string())
    }
}

#[test]
fn a_layer_may_use_any_projector() {
    let plain = Scratch::new("qwen3_from_qwen2_deeper");
    let swapped = Scratch::new("qwen3_from_qwen2_deeper");
    // Layers 0 and 2 exchange projectors; a second pair and the sharer's number don't count.
    let table = r#"{"0": {"3": {"0": [[2, 2], [0, 1]], "1": [[3, 1]], "2": [[4, 0]]}}}"#;
    fs::write(swapped.path("projector_config.json"), table).unwrap();
    let (plain, swapped) = (plain.load().unwrap(), swapped.load().unwrap());
    assert_eq!(plain.config(), swapped.config());
    let by_layer = |fuser: &Fuser<B>, layer: usize| -> Vec<_> {
        let params = named_layer_params(fuser).unwrap().into_iter();
        params.filter(|p| p.layer == layer).map(|p| (p.name, p.values)).collect()
    };
    for (layer, projector) in [(0, 2), (1, 1), (2, 0)] {
        assert_eq!(by_layer(&swapped, layer), by_layer(&plain, projector));
    }
    assert_ne!(by_layer(&plain, 0), by_layer(&plain, 2));
}

#[test]
fn absent_arguments_have_the_reference_defaults() {
    let s = Scratch::new("qwen3_from_qwen2_deeper");
    for i in 0..3 {
        let path = s.path(&format!("projector_{i}.json"));
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let args = json["init_args"].as_object_mut().unwrap();
        for key in ["dropout", "initial_temperature", "final_temperature", "anneal_steps", "num_layers", "dtype"] {
            args.remove(key);
        }
        fs::write(&path, json.to_string()).unwrap();
    }
    let fuser = s.load().unwrap();
    let c = fuser.config();
    assert_eq!((c.num_layers, c.dropout, c.anneal_steps), (3, 0.1, 1929));
    assert_eq!((c.initial_temperature, c.final_temperature, c.zero_init), (1.0, 0.001, false));
}

#[test]
fn contradictions_are_refused() {
    type Damage = fn(&Scratch);
    let cases: [(&str, Damage, &str); 17] = [
        (
            "unknown argument",
            |s| s.edit("projector_1.json", "\"dropout\"", "\"colour\": 1, \"dropout\""),
            "unknown field `colour`",
        ),
        (
            "another class",
            |s| s.edit("projector_1.json", "C2CProjector", "ReplaceProjector"),
            "ReplaceProjector`: another network",
        ),
        ("another dtype", |s| s.edit("projector_1.json", "float32", "int8"), "int8"),
        (
            "other arguments",
            |s| s.edit("projector_2.json", "\"dropout\": 0.1", "\"dropout\": 0.2"),
            "projector_2.json: other init_args",
        ),
        ("no json", |s| fs::remove_file(s.path("projector_0.json")).unwrap(), "projector_0.json"),
        ("no weights", |s| fs::remove_file(s.path("projector_2.pt")).unwrap(), "projector_2.pt"),
        (
            "unused weights",
            |s| assert!(fs::copy(s.path("projector_0.pt"), s.path("projector_3.pt")).unwrap() > 0),
            "projector_3.pt: used by no layer",
        ),
        ("no table", |s| fs::remove_file(s.path("projector_config.json")).unwrap(), "projector_config.json: missing"),
        ("a layer too few", |s| s.edit("projector_config.json", ", \"2\": [[4, 2]]", ""), "layer 2: missing"),
        (
            "a layer too many",
            |s| s.edit("projector_config.json", "\"2\": ", "\"3\": [[4, 2]], \"2\": "),
            "layer `3`, expected 0 to 2",
        ),
        ("no pair", |s| s.edit("projector_config.json", "[[4, 2]]", "[]"), "layer 2: no pair"),
        ("beyond the sharer", |s| s.edit("projector_config.json", "[4, 2]", "[5, 2]"), "sharer layer 5"),
        ("two sharers", |s| s.edit("projector_config.json", "{\"1\":", "{\"2\": {}, \"1\":"), "one sharer"),
        ("no fuser for an index", |s| s.edit("projector_config.json", "[4, 2]", "[4, 9]"), "projector_9.json"),
        (
            "other widths",
            |s| (0..3).for_each(|i| s.edit(&format!("projector_{i}.json"), "\"hidden_dim\": 24", "\"hidden_dim\": 20")),
            "projector_2.pt: value_proj_out.weight: found shape [24, 24], expected [24, 20]",
        ),
        (
            "one block more",
            |s| (0..3).for_each(|i| s.edit(&format!("projector_{i}.json"), "\"num_layers\": 3", "\"num_layers\": 4")),
            "key_proj_mlp2.blocks.1.w1.weight: missing",
        ),
        (
            "absurd widths",
            |s| {
                (0..3).for_each(|i| {
                    s.edit(&format!("projector_{i}.json"), "\"hidden_dim\": 24", "\"hidden_dim\": 99999999999")
                })
            },
            "hidden_dim",
        ),
    ];
    for (case, damage, expected) in cases {
        let s = Scratch::new("qwen3_from_qwen2_deeper");
        damage(&s);
        let error = s.load().err().unwrap_or_else(|| panic!("{case}: loaded"));
        assert!(error.contains(expected), "{case}: {error}");
    }
}

#[test]
fn extra_tensors_are_refused() {
    // A fuser of 4 blocks read as one of 3.
    let s = Scratch::new("closed_gates_bf16_fuser");
    (0..4).for_each(|i| s.edit(&format!("projector_{i}.json"), "\"num_layers\": 4", "\"num_layers\": 3"));
    let error = s.load().unwrap_err();
    assert!(error.contains("projector_3.pt: value_proj_mlp2.blocks.1.norm.weight: unused"), "{error}");
}

#[test]
fn other_models_are_refused() {
    let s = Scratch::new("qwen3_from_qwen2_deeper");
    let error = load::<B>(s.tmp.path(), &s.sharer, &s.receiver, &device()).unwrap_err().to_string();
    assert!(error.contains("layer 3: missing") && error.contains("layer 4: missing"), "{error}");
    let mut receiver = s.receiver.clone();
    receiver.head_dim = 16;
    let error = load::<B>(s.tmp.path(), &receiver, &s.sharer, &device()).unwrap_err().to_string();
    assert!(error.contains("target_dim = 12, expected the receiver's head width, 16"), "{error}");
}

#[test]
fn damaged_weights_are_refused() {
    let s = Scratch::new("qwen3_from_qwen2_deeper");
    let path = s.path("projector_1.pt");
    let whole = fs::read(&path).unwrap();
    for end in (0..whole.len()).step_by(1499) {
        fs::write(&path, &whole[..end]).unwrap();
        let error = s.load().err().unwrap_or_else(|| panic!("{end} bytes: loaded"));
        assert!(error.contains("projector_1.pt"), "{end}: {error}");
    }
    // One bit of a value: Burn's reader alone would give zeros.
    let reader = PytorchReader::new(s.path("projector_0.pt")).unwrap();
    let data = reader.get("key_in.weight").unwrap().to_data().unwrap();
    let needle = data.as_bytes()[..16].to_vec();
    let mut bytes = fs::read(s.path("projector_0.pt")).unwrap();
    let at = bytes.windows(16).position(|w| w == needle).expect("storages are not compressed");
    bytes[at] ^= 1;
    fs::write(&path, &whole).unwrap();
    fs::write(s.path("projector_0.pt"), bytes).unwrap();
    let error = s.load().expect_err("a flipped bit");
    assert!(error.contains("projector_0.pt") && error.contains("damaged"), "{error}");
}
