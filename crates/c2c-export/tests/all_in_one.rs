//! Fusers of the class `AllInOneProjector`, of every granularity: they give PyTorch's numbers (`tests/interop/all_in_one.py`
//! made them), and every bit comes back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor, TensorData};
use burn_store::{BurnpackStore, ModuleSnapshot};
use c2c_export::artefact::{self, AlignmentInfo, ArtefactConfig, CardSections, WeightsDtype, save_as};
use c2c_export::published::{ImportedModel, import};
use c2c_export::{BURNPACK_FILE, ExportFormat, ExportOptions, convert, fused_loss, write_onnx};
use c2c_fuser::{Fuser, FuserMode, GateDraw};
use c2c_lm::{LayerKv, LmConfig};
use common::*;
use safetensors::SafeTensors;

fn cases() -> Vec<(String, PathBuf)> {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/all_in_one");
    let out: Vec<_> = names(&root).into_iter().map(|name| (name.clone(), root.join(name))).collect();
    assert_eq!(out.len(), 9);
    out
}

fn model(layers: usize, heads: usize, head_dim: usize) -> ImportedModel {
    let mut config = LmConfig::from_dir(&golden().join("c2c/qwen3_from_qwen2_deeper/receiver")).unwrap();
    (config.num_layers, config.num_kv_heads, config.head_dim) = (layers, heads, head_dim);
    ImportedModel { name: "lab/model".into(), config }
}

/// As `c2c import`.
fn imported(dir: &Path) -> Result<(Fuser<B>, ArtefactConfig), String> {
    let text = fs::read_to_string(dir.join("final/projector_0.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let width = json["init_args"]["source_dim"].as_u64().unwrap() as usize;
    let alignment = AlignmentInfo { mode: "shared".into(), strategy: "first".into(), sections: "message".into() };
    import::<B>(dir, "lab/fuser", &model(3, 2, 4), &model(2, 2, width), alignment, &device()).map_err(|e| e.to_string())
}

fn saved(dir: &Path, to: &Path) -> Fuser<B> {
    let (fuser, config) = imported(dir).unwrap_or_else(|e| panic!("{e}"));
    save_as(&fuser, config, &[], to, false).unwrap();
    fuser
}

fn caches(file: &SafeTensors<'_>, who: &str) -> Vec<LayerKv<B>> {
    let read = |side: &str| {
        let view = file.tensor(&format!("{who}_{side}")).unwrap();
        let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let x = Tensor::<B, 5>::from_data(TensorData::new(values, view.shape().to_vec()), &device());
        x.iter_dim(0).map(|layer| layer.squeeze_dim::<4>(0)).collect::<Vec<_>>()
    };
    read("key").into_iter().zip(read("value")).map(|(key, value)| LayerKv { key, value }).collect()
}

/// The largest difference from what PyTorch computed, and the largest change that fusing makes.
fn difference(fuser: &Fuser<B>, dir: &Path) -> (f32, f32) {
    let bytes = fs::read(dir.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let [sharer, receiver, expected] = ["sharer", "receiver", "fused"].map(|who| caches(&file, who));
    let fused = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
    let most = |a: &Tensor<B, 4>, b: &Tensor<B, 4>| (a.clone() - b.clone()).abs().max().into_scalar();
    let over = |a: &[LayerKv<B>], b: &[LayerKv<B>]| {
        let pairs = a.iter().zip(b).flat_map(|(a, b)| [most(&a.key, &b.key), most(&a.value, &b.value)]);
        pairs.fold(0f32, f32::max)
    };
    (over(&fused, &expected), over(&receiver, &expected))
}

#[test]
fn every_variant_gives_pytorchs_numbers() {
    for (name, dir) in cases() {
        let (fuser, config) = imported(&dir).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(config.origin.as_ref().unwrap().class, "AllInOneProjector");
        let held: usize = fuser.named_params().iter().map(|(_, p)| p.val().shape().num_elements()).sum();
        assert_eq!(fuser.config().num_params(), held, "{name}");
        for fuser in [fuser.clone(), fuser.for_inference(DType::F32).unwrap()] {
            let (worst, change) = difference(&fuser, &dir);
            assert!(worst <= 1e-5 * change, "{name}: {worst:e} of {change}");
        }
    }
}

/// In burnpack and in the published layout gates and tables are rounded, too, on which the result of this network depends.
#[test]
fn the_loss_of_another_form_is_that_of_what_is_read_back() {
    for (name, dir) in cases().into_iter().filter(|(name, _)| name != "bf16") {
        let tmp = tempfile::tempdir().unwrap();
        let fuser = saved(&dir, &tmp.path().join("ours"));
        for dtype in [WeightsDtype::Bf16, WeightsDtype::F16] {
            let to = |format, to: &Path| {
                let options = ExportOptions { format, dtype: Some(dtype), prune: false };
                convert::<B>(&tmp.path().join("ours"), to, options, false, &device()).unwrap().weights.loss.unwrap()
            };
            let case = format!("{name} in {}", dtype.as_str());
            let theirs = tmp.path().join(dtype.as_str());
            let said = to(ExportFormat::Pytorch, &theirs);
            let (published, _) = imported(&theirs).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(said, fused_loss(&fuser, &published, &device()).unwrap(), "{case}");
            let bpk = tmp.path().join(format!("{}-bpk", dtype.as_str()));
            let said = to(ExportFormat::Burnpack, &bpk);
            let mut read = Fuser::<B>::init(fuser.config(), 1, &device()).unwrap();
            read.load_from(&mut BurnpackStore::from_file(bpk.join(BURNPACK_FILE))).unwrap();
            assert_eq!(said, fused_loss(&fuser, &read.cast(DType::F32), &device()).unwrap(), "{case}");
        }
    }
}

#[test]
fn every_bit_comes_back() {
    for (name, dir) in cases() {
        let tmp = tempfile::tempdir().unwrap();
        let [ours, theirs, again, bpk] = ["ours", "theirs", "again", "bpk"].map(|d| tmp.path().join(d));
        let fuser = saved(&dir, &ours);
        let loaded = artefact::load::<B>(&ours, &device()).unwrap();
        assert_eq!((bits(&loaded.fuser), loaded.fuser.config()), (bits(&fuser), fuser.config()), "{name}");
        assert_eq!(
            artefact::read_config(&ours).unwrap().weights.dtype.as_str(),
            if name == "bf16" { "bf16" } else { "f32" }
        );

        let to = |format, to: &Path| {
            convert::<B>(&ours, to, ExportOptions { format, dtype: None, prune: false }, false, &device()).unwrap()
        };
        to(ExportFormat::Pytorch, &theirs);
        let (published, config) = imported(&theirs).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((bits(&published), published.config()), (bits(&fuser), fuser.config()), "{name}");
        assert_eq!(config.origin.unwrap().gate_temperature, [0.25; 3]);
        // And PyTorch's bytes of the values are those that were imported, in the same order.
        for layer in 0..3 {
            let tensors = |dir: &Path| {
                let state =
                    c2c_export::torch::StateDict::open(&dir.join(format!("final/projector_{layer}.pt"))).unwrap();
                state.names().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(tensors(&theirs), tensors(&dir), "{name}");
        }
        saved(&theirs, &again);
        let weights = |dir: &Path| fs::read(dir.join("fuser.safetensors")).unwrap();
        assert!(weights(&again) == weights(&ours), "{name}");

        // A card that is written anew from the file is the one that was written with it.
        let card = |dir: &Path| fs::read_to_string(dir.join("README.md")).unwrap();
        let first = card(&ours);
        artefact::update_card(&ours, &[], &artefact::Asked::default()).unwrap();
        assert_eq!(card(&ours), first, "{name}");
        let gates = if ["recipe", "defaults"].contains(&name.as_str()) {
            "| 1 | 0 | shut (0.0000)"
        } else {
            "Finer than a layer"
        };
        assert!(first.contains("An all-in-one network") && first.contains(gates), "{name}: {first}");

        to(ExportFormat::Burnpack, &bpk);
        if name != "bf16" {
            let mut empty = Fuser::<B>::init(fuser.config(), 1, &device()).unwrap();
            empty.load_from(&mut BurnpackStore::from_file(bpk.join(BURNPACK_FILE))).unwrap();
            assert_eq!(bits(&empty), bits(&fuser), "{name}");
        }
    }
}

#[test]
fn narrower_formats_round_and_say_by_how_much() {
    let tmp = tempfile::tempdir().unwrap();
    for (name, dir) in cases().into_iter().filter(|case| ["recipe", "heads", "defaults"].contains(&case.0.as_str())) {
        let ours = tmp.path().join(&name);
        let fuser = saved(&dir, &ours);
        for dtype in [WeightsDtype::Bf16, WeightsDtype::F16, WeightsDtype::Int8] {
            let to = tmp.path().join(format!("{name}-{}", dtype.as_str()));
            let options = ExportOptions { dtype: Some(dtype), ..ExportOptions::default() };
            // 64 tokens are more than the places that `heads` has.
            let config = match convert::<B>(&ours, &to, options, false, &device()) {
                Ok(config) => config,
                Err(error) => {
                    assert!(name == "heads" && error.to_string().contains("at most"), "{name}: {error}");
                    continue;
                }
            };
            let loaded = artefact::load::<B>(&to, &device()).unwrap();
            let loss = config.weights.loss.unwrap();
            assert_eq!(loss, fused_loss(&fuser, &loaded.fuser, &device()).unwrap());
            assert!(loss.key_mean > 0.0 && loss.key_mean < 0.02, "{name}: {loss:?}");
        }
    }
}

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = cases().into_iter().find(|case| case.0 == "heads").unwrap().1;
    let ours = tmp.path().join("ours");
    let fuser = saved(&dir, &ours);
    for (format, prune, expected) in
        [(ExportFormat::Onnx, false, "all-in-one network"), (ExportFormat::Safetensors, true, "--prune-closed-gates")]
    {
        let options = ExportOptions { format, prune, dtype: None };
        let error = convert::<B>(&ours, &tmp.path().join("x"), options, false, &device()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let config = artefact::read_config(&ours).unwrap();
    let to = tmp.path().join("x");
    let error = write_onnx(&fuser, &config, &CardSections::default(), &to, 1, false).unwrap_err().to_string();
    assert!(error.contains("all-in-one network"), "{error}");
    assert_eq!(names(tmp.path()), ["ours"]);

    // 7 places, 8 tokens.
    let [sharer, receiver] = c2c_export::random_caches::<B>(fuser.config(), 1, 8, 0, &device());
    let error = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap_err().to_string();
    assert!(error.contains("at most") && error.contains("7, found 8"), "{error}");
}

#[test]
fn shut_gates_leave_the_receivers_cache_alone() {
    for (name, dir) in cases() {
        let shut = imported(&dir).unwrap().0.with_gates_shut();
        let [sharer, receiver] = c2c_export::random_caches::<B>(shut.config(), 2, 4, 0, &device());
        let fused = shut.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
        for (fused, own) in fused.iter().zip(&receiver) {
            assert_eq!(fused.key.to_data(), own.key.to_data(), "{name}");
            assert_eq!(fused.value.to_data(), own.value.to_data(), "{name}");
        }
    }
}

#[test]
fn cold_soft_gates_are_the_hard_ones() {
    // Without noise (a draw u with -ln(-ln u) = 0) and dropout, the training gate at a temperature near 0 is the hard one.
    let mode = FuserMode::Train { temperature: 1e-12, draw: GateDraw::Fixed((-1f64).exp()) };
    let (_, dir) = cases().into_iter().find(|case| case.0 == "residual_tokens").unwrap();
    let fuser = imported(&dir).unwrap().0;
    assert_eq!(fuser.config().dropout, 0.0);
    let [sharer, receiver] = c2c_export::random_caches::<B>(fuser.config(), 2, 4, 0, &device());
    let soft = fuser.fuse(&sharer, &receiver, mode).unwrap();
    let hard = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
    for (soft, hard) in soft.iter().zip(&hard) {
        assert_eq!(soft.key.to_data(), hard.key.to_data());
        assert_eq!(soft.value.to_data(), hard.value.to_data());
    }
}

/// A copy of a case with its arguments changed in all layers, imported.
fn edited(case: &str, edit: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) -> Result<(), String> {
    let dir = cases().into_iter().find(|found| found.0 == case).unwrap().1;
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("final")).unwrap();
    for name in names(&dir.join("final")) {
        let to = tmp.path().join("final").join(&name);
        fs::copy(dir.join("final").join(&name), &to).unwrap();
        if name.ends_with(".json") && name != "projector_config.json" {
            let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&to).unwrap()).unwrap();
            edit(json["init_args"].as_object_mut().unwrap());
            fs::write(&to, json.to_string()).unwrap();
        }
    }
    imported(tmp.path()).map(|_| ())
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let set = |case, key: &'static str, value: serde_json::Value| {
        edited(case, move |args| {
            args.insert(key.into(), value.clone());
        })
    };
    for (key, value) in [("pos_emb", true.into()), ("use_gumbel", false.into()), ("gate_init_value", 1.0.into())] {
        set("recipe", key, value).unwrap_or_else(|e| panic!("{key} changes nothing that is computed: {e}"));
    }
    for (case, key, value, expected) in [
        ("recipe", "colour", 1.into(), "unknown field `colour`"),
        ("recipe", "activation", "tanh".into(), "expected gelu, relu or silu"),
        ("recipe", "weight_input_features", "nothing".into(), "weight_input_features"),
        ("recipe", "weight_granularity", "half".into(), "unknown variant `half`"),
        ("defaults", "gate_granularity", "head_merged".into(), "the class has no such parameter"),
        ("made_merged", "gate_granularity", "token".into(), "the class fails on it"),
        ("recipe", "dropout", 0.0.into(), "key_projection.layers.2.gate_proj.weight: missing"),
        ("recipe", "use_concat", false.into(), "key_combiner.weight: unused"),
        ("recipe", "num_layers", 2.into(), "key_projection.layers.3.weight: missing"),
        ("recipe", "num_layers", 0.into(), "num_layers"),
        ("recipe", "scalar_temperature", 0.0.into(), "weight_temperature"),
        ("values", "max_sequence_length", 5.into(), "gate_logit: found shape [6, 2, 4], expected [5, 2, 4]"),
        ("values", "max_sequence_length", u64::MAX.into(), "sizes whose product fits"),
        ("recipe", "hidden_dim", 99_999_999_999u64.into(), "sizes whose product fits"),
        ("recipe", "source_num_heads", 4.into(), "expected the sharer's key and value heads, 2"),
    ] {
        let error = set(case, key, value).err().unwrap_or_else(|| panic!("{key}: loaded"));
        assert!(error.contains(expected), "{key}: {error}");
    }
}
