//! Published folders become artefacts and go back, bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/plain.rs"]
mod plain;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use burn_store::pytorch::PytorchReader;
use c2c_export::artefact::{AlignmentInfo, ArtefactConfig, WeightsDtype, load, read_config, save, save_as};
use c2c_export::published::{self, ImportedModel, PublishedRecipe, named_layer_params};
use c2c_export::{ExportFormat, ExportOptions, convert};
use c2c_fuser::{Fuser, FuserMode, FuserParts};
use c2c_lm::{LayerKv, LmConfig};
use common::*;

const CASES: [&str; 2] = ["closed_gates_bf16_fuser", "qwen3_from_gemma3"];

fn case(name: &str) -> PathBuf {
    golden().join("c2c").join(name)
}

fn import(name: &str) -> (Fuser<B>, ArtefactConfig) {
    let dir = case(name);
    let recipe = PublishedRecipe::read(&dir).unwrap();
    let model = |name: Option<String>| {
        let name = name.unwrap();
        ImportedModel { config: LmConfig::from_dir(&dir.join(&name)).unwrap(), name }
    };
    let (receiver, sharer) = (model(recipe.receiver), model(recipe.sharer));
    published::import::<B>(&dir, "lab/x", &receiver, &sharer, recipe.alignment.unwrap(), &device()).unwrap()
}

fn pytorch(from: &Path, to: &Path, dtype: Option<WeightsDtype>) -> ArtefactConfig {
    let options = ExportOptions { format: ExportFormat::Pytorch, dtype, prune: false };
    convert::<B>(from, to, options, false, &device()).unwrap()
}

#[test]
fn an_imported_fuser_is_the_published_one_and_goes_back_bit_for_bit() {
    for name in CASES {
        let tmp = tempfile::tempdir().unwrap();
        let (ours, theirs) = (tmp.path().join("ours"), tmp.path().join("theirs"));
        let (fuser, config) = import(name);
        let dtype = config.weights.dtype;
        assert_eq!(dtype, if name.contains("bf16") { WeightsDtype::Bf16 } else { WeightsDtype::F32 });
        save_as(&fuser, config, &[], &ours, false).unwrap();
        assert_eq!(bits(&load::<B>(&ours, &device()).unwrap().fuser), bits(&fuser), "{name}");

        pytorch(&ours, &theirs, None);
        let from = case(name).join("final");
        let json = |dir: &Path, file: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(dir.join(file)).unwrap()).unwrap()
        };
        let inner = theirs.join("final");
        for layer in 0..fuser.config().layers() {
            let file = format!("projector_{layer}");
            assert_eq!(json(&inner, &format!("{file}.json")), json(&from, &format!("{file}.json")), "{name}");
            // Burn's reader is another one than ours.
            let read = |dir: &Path| PytorchReader::new(dir.join(format!("{file}.pt"))).unwrap();
            let (found, expected) = (read(&inner), read(&from));
            let sorted = |reader: &PytorchReader| {
                let mut keys = reader.keys();
                keys.sort();
                keys
            };
            assert_eq!(sorted(&found), sorted(&expected));
            for key in expected.keys() {
                let (found, expected) = (found.get(&key).unwrap(), expected.get(&key).unwrap());
                assert_eq!((found.dtype, &found.shape), (expected.dtype, &expected.shape), "{key}");
                assert_eq!(found.to_data().unwrap(), expected.to_data().unwrap(), "{name}: {key}");
            }
        }
        assert_eq!(json(&inner, "projector_config.json"), json(&from, "projector_config.json"));
        let recipe = PublishedRecipe::read(&theirs).unwrap();
        assert_eq!(recipe, PublishedRecipe::read(&case(name)).unwrap());
    }
}

#[test]
fn what_the_layout_does_not_hold_stays_unknown() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("ours");
    let (fuser, config) = import("closed_gates_bf16_fuser");
    save_as(&fuser, config, &[], &dir, false).unwrap();
    let config = read_config(&dir).unwrap();
    assert_eq!((config.training, config.receiver.dtype, config.receiver.weights_sha256), (None, None, None));
    assert_eq!((config.sharer.dtype, config.sharer.weights_sha256), (None, None));
    assert_eq!(config.receiver.vocab_size, 200);
    let origin = config.origin.unwrap();
    assert_eq!((origin.class.as_str(), origin.dtype.as_str(), origin.name.as_str()), ("C2CProjector", "bf16", "lab/x"));
    assert_eq!(origin.gate_temperature, [1.0; 4]);
    let card = fs::read_to_string(dir.join("README.md")).unwrap();
    for line in ["| number format | unknown | unknown |", "How it was trained is unknown.", "Imported from `lab/x`"] {
        assert!(card.contains(line), "{line}\n{card}");
    }
    assert!(!card.contains("license:"), "{card}");

    // A config that says neither how it was trained nor where it comes from is none.
    edit_config(&dir, |config| drop(config.as_object_mut().unwrap().remove("origin")));
    let error = read_config(&dir).unwrap_err().to_string();
    assert!(error.contains("training and origin"), "{error}");
}

#[test]
fn the_published_recipe_is_read_as_far_as_it_is_there() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    fs::create_dir(dir.join("final")).unwrap();
    fs::write(dir.join("final/projector_config.json"), "{}").unwrap();
    assert_eq!(PublishedRecipe::read(dir).unwrap(), PublishedRecipe::default());
    let read = |text: &str| {
        fs::write(dir.join("config.json"), text).unwrap();
        PublishedRecipe::read(dir)
    };
    assert_eq!(read("{}").unwrap(), PublishedRecipe::default());
    let found = read(r#"{"model": {"base_model": "a/b", "is_do_alignment": true}, "training": {}}"#).unwrap();
    assert_eq!((found.receiver.as_deref(), found.sharer), (Some("a/b"), None));
    let aligned = AlignmentInfo { mode: "aligned".into(), strategy: "first".into(), sections: "message".into() };
    assert_eq!(found.alignment, Some(aligned));
    let error = read(r#"{"model": {"alignment_strategy": "best"}}"#).unwrap_err().to_string();
    assert!(error.contains("best") && error.contains("longest"), "{error}");
    // The reference implementation copies YAML to a file of this name, too.
    let found = read(
        "# main recipe\nmodel:\n  base_model: a/b\n  teacher_model: 'c/d'\n  is_do_alignment: false\ntraining:\n  learning_rate: 1.0e-4\n",
    );
    let found = found.unwrap();
    assert_eq!((found.receiver.as_deref(), found.sharer.as_deref()), (Some("a/b"), Some("c/d")));
    assert_eq!(found.alignment.map(|alignment| alignment.mode), Some("shared".to_owned()));
    for text in ["model: [a", "{\"model\": ", "model:\n  base_model: [1, 2]", "- a\n- b"] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{text}: {error}");
    }
}

/// The parts that each level of the ablation leaves.
const LEVELS: [(u8, FuserParts); 4] = [
    (1, FuserParts { weights: false, gates: true, receiver: true }),
    (2, FuserParts { weights: false, gates: false, receiver: true }),
    (3, FuserParts { weights: false, gates: false, receiver: false }),
    (4, FuserParts { weights: true, gates: false, receiver: true }),
];

/// An ablation as an artefact, and the same in the published layout.
fn ablation(parts: FuserParts, tmp: &Path) -> (Fuser<B>, PathBuf) {
    let mut config = config();
    config.parts = parts;
    let fuser = Fuser::<B>::init(&config, 7, &device()).unwrap();
    save(&fuser, &info(), &[], &tmp.join("ours"), false).unwrap();
    pytorch(&tmp.join("ours"), &tmp.join("theirs"), None);
    (fuser, tmp.join("theirs"))
}

fn lm(layers: usize, heads: usize, head_dim: usize) -> LmConfig {
    let mut config = LmConfig::from_dir(&case("qwen3_from_gemma3").join("receiver")).unwrap();
    (config.num_layers, config.num_kv_heads, config.head_dim) = (layers, heads, head_dim);
    config
}

#[test]
fn every_level_of_the_ablation_is_read_and_computed() {
    for (level, parts) in LEVELS.into_iter().chain([(0, FuserParts::default())]) {
        let tmp = tempfile::tempdir().unwrap();
        let (fuser, dir) = ablation(parts, tmp.path());
        let text = fs::read_to_string(dir.join("final/projector_1.json")).unwrap();
        assert_eq!(text.contains(&format!("\"ablation_level\": {level}")), level > 0, "{text}");
        let again = published::load::<B>(&dir, &lm(3, 2, 3), &lm(2, 1, 4), &device()).unwrap();
        assert_eq!(bits(&again.fuser), bits(&fuser), "level {level}");
        assert_eq!(again.class == "AblationProjector", level > 0);

        let c = fuser.config().clone();
        assert_eq!(
            fuser.named_params().iter().map(|p| p.1.val().shape().num_elements()).sum::<usize>(),
            c.num_params()
        );
        let mut layers = vec![plain::Layer::new(); c.layers()];
        for p in named_layer_params(&again.fuser).unwrap() {
            layers[p.layer].insert(p.name, p.values.into_iter().map(f64::from).collect());
        }
        let value = |i: usize| ((i * 37 + 11) % 101) as f64 / 25.0 - 2.0;
        let cache = |count: usize, [heads, width]: [usize; 2], salt: usize| -> Vec<LayerKv<B>> {
            let tensor = |n: usize| {
                let values: Vec<f32> = (0..heads * width).map(|i| value(salt + 100 * n + i) as f32).collect();
                Tensor::from_data(TensorData::new(values, [1, heads, 1, width]), &device())
            };
            (0..count).map(|l| LayerKv { key: tensor(2 * l), value: tensor(2 * l + 1) }).collect()
        };
        let (sharer, receiver) = (cache(2, [1, 4], 0), cache(3, [2, 3], 1000));
        let flat = |x: &Tensor<B, 4>| -> Vec<f64> { x.to_data().iter::<f64>().collect() };
        for fuser in [again.fuser.clone(), again.fuser.for_inference(burn::tensor::DType::F32).unwrap()] {
            let fused = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
            for (l, found) in fused.iter().enumerate() {
                let (s, r) = (&sharer[c.layer_map[l]], &receiver[l]);
                for (side, found, s, r) in
                    [("key", &found.key, &s.key, &r.key), ("value", &found.value, &s.value, &r.value)]
                {
                    let expected = plain::fuse(&c, &layers[l], side, &flat(s), &flat(r));
                    for (found, expected) in flat(found).iter().zip(&expected) {
                        assert!((found - expected).abs() < 1e-5, "level {level}, layer {l}: {found} {expected}");
                    }
                }
            }
        }
        let shut = fuser.with_gates_shut().fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
        for (shut, own) in shut.iter().zip(&receiver) {
            assert_eq!((shut.key.to_data(), shut.value.to_data()), (own.key.to_data(), own.value.to_data()));
        }
    }
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let (_, dir) = ablation(LEVELS[0].1, tmp.path());
    let original: Vec<PathBuf> = (0..3).map(|i| dir.join(format!("final/projector_{i}.json"))).collect();
    let whole = fs::read_to_string(&original[0]).unwrap();
    for (from, to, expected) in [
        ("AblationProjector", "MLPProjector", "class `MLPProjector`: another network"),
        ("AblationProjector", "allinoneprojector", "unknown field `intermediate_dim`"),
        (
            "AblationProjector",
            "os.system",
            "class `os.system`; expected `C2CProjector`, `AblationProjector` or `AllInOneProjector`",
        ),
        ("AblationProjector", "C2CProjector", "ablation_level: a C2CProjector has no such argument"),
        ("\"ablation_level\": 1", "\"ablation_level\": 5", "ablation_level = 5"),
        (
            "\"ablation_level\": 1",
            "\"ablation_level\": 1, \"use_gates\": false",
            "use_gates = false at ablation_level 1",
        ),
        // Of level 0 are the names of parameters that aren't in the files.
        ("\"ablation_level\": 1", "\"ablation_level\": 0", "key_scalar_head.weight: missing"),
        ("\"ablation_level\": 1", "\"ablation_level\": 2", "gate_temperature: unused"),
    ] {
        assert!(whole.contains(from), "{from}");
        original.iter().for_each(|path| fs::write(path, whole.replace(from, to)).unwrap());
        let error = published::load::<B>(&dir, &lm(3, 2, 3), &lm(2, 1, 4), &device()).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}
