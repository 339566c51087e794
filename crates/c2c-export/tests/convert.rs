//! Number formats, pruning and other formats: what is written is read back, and the measured loss is the real one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;

use burn_store::{BurnpackStore, ModuleSnapshot};
use c2c_export::artefact::{
    ArtefactConfig, Asked, CARD_FILE, WEIGHTS_FILE, WeightsDtype, load, read_config, save, update_card,
};
use c2c_export::{BURNPACK_FILE, ExportError, ExportFormat, ExportOptions, convert, fused_loss};
use c2c_fuser::Fuser;
use common::*;
use half::{bf16, f16};
use serde_json::json;

/// Logits of 3 key and 3 value branches; a logit of 0 is shut.
const GATES: [f32; 6] = [1e-9, -1.0, 0.0, 2.0, 2.0, -3.0];

fn gated() -> Fuser<B> {
    let source = fuser(5);
    let values = |name: &str| -> Vec<f32> {
        let params = source.named_params();
        let param = params.iter().find(|p| p.0 == name).unwrap().1.val();
        param.into_data().iter::<f32>().collect()
    };
    let read = |name: &str, _: [usize; 3]| Ok(if name == "gate_logit" { GATES.to_vec() } else { values(name) });
    Fuser::load(&config(), &device(), read).unwrap()
}

fn to(
    from: &Path,
    to: &Path,
    format: ExportFormat,
    dtype: Option<WeightsDtype>,
    prune: bool,
) -> Result<ArtefactConfig, ExportError> {
    convert::<B>(from, to, ExportOptions { format, dtype, prune }, false, &device())
}

#[test]
fn sixteen_bits_round_every_value_once() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("f32");
    save(&gated(), &info(), &results(), &source, false).unwrap();
    for (dtype, round) in [
        (WeightsDtype::Bf16, (|v| bf16::from_f32(v).to_f32()) as fn(f32) -> f32),
        (WeightsDtype::F16, |v| f16::from_f32(v).to_f32()),
    ] {
        let dir = tmp.path().join(dtype.as_str());
        let config = to(&source, &dir, ExportFormat::Safetensors, Some(dtype), false).unwrap();
        let size = |dir: &Path| fs::metadata(dir.join(WEIGHTS_FILE)).unwrap().len();
        assert!(size(&dir) < size(&source) * 2 / 3, "{} of {}", size(&dir), size(&source));
        let loaded = load::<B>(&dir, &device()).unwrap();
        for ((name, _, found), (_, _, exact)) in bits(&loaded.fuser).into_iter().zip(bits(&gated())) {
            let round = |b| if name == "gate_logit" { b } else { round(f32::from_bits(b)).to_bits() };
            let expected: Vec<u32> = exact.into_iter().map(round).collect();
            assert_eq!(found, expected, "{name}");
        }
        let loss = config.weights.loss.unwrap();
        assert_eq!(loss, fused_loss(&gated(), &loaded.fuser, &device()).unwrap());
        assert!(loss.key_mean > 0.0 && loss.key_mean < loss.key_max && loss.key_max < 0.02, "{loss:?}");
        let card = fs::read_to_string(dir.join(CARD_FILE)).unwrap();
        assert!(card.contains(&format!("| {} | mean | largest |", dtype.as_str())), "{card}");
        update_card(&dir, &results(), &Asked::default()).unwrap();

        // Back to f32 nothing more is lost, and what was lost stays said.
        let wide = tmp.path().join(format!("{}-f32", dtype.as_str()));
        let config = to(&dir, &wide, ExportFormat::Safetensors, Some(WeightsDtype::F32), false).unwrap();
        assert_eq!(bits(&load::<B>(&wide, &device()).unwrap().fuser), bits(&loaded.fuser));
        assert_eq!(config.weights.loss, Some(loss));
    }
}

#[test]
fn int8_rounds_matrices_to_their_scale() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = (tmp.path().join("f32"), tmp.path().join("int8"));
    save(&gated(), &info(), &[], &source, false).unwrap();
    let config = to(&source, &dir, ExportFormat::Safetensors, Some(WeightsDtype::Int8), false).unwrap();
    let loaded = load::<B>(&dir, &device()).unwrap().fuser;
    for ((name, shape, found), (_, _, exact)) in bits(&loaded).into_iter().zip(bits(&gated())) {
        let matrix = [".weight", ".w1", ".w2"].iter().any(|end| name.ends_with(end));
        if !matrix {
            assert_eq!(found, exact, "{name} isn't rounded");
            continue;
        }
        let value =
            |bits: &[u32], b: usize, i: usize, o: usize| f32::from_bits(bits[(b * shape[1] + i) * shape[2] + o]);
        for (b, o) in (0..shape[0]).flat_map(|b| (0..shape[2]).map(move |o| (b, o))) {
            let column = |bits: &[u32]| -> Vec<f32> { (0..shape[1]).map(|i| value(bits, b, i, o)).collect() };
            let (found, exact) = (column(&found), column(&exact));
            let scale = exact.iter().fold(0f32, |m, w| m.max(w.abs())) / 127.0;
            for (found, exact) in found.iter().zip(&exact) {
                assert!((found - exact).abs() <= scale * 0.5001, "{name}: {found} {exact} {scale}");
            }
        }
    }
    let loss = config.weights.loss.unwrap();
    assert!(loss.value_max > 0.0 && loss.value_max < 0.05, "{loss:?}");
    let again = to(&dir, &tmp.path().join("x"), ExportFormat::Safetensors, Some(WeightsDtype::Bf16), false);
    assert!(again.unwrap_err().to_string().contains("rounded to int8 before"));
}

#[test]
fn shut_branches_need_not_be_shipped() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("whole");
    save(&gated(), &info(), &[], &source, false).unwrap();
    for dtype in [None, Some(WeightsDtype::Bf16), Some(WeightsDtype::Int8)] {
        let name = dtype.map_or("same", WeightsDtype::as_str);
        let (whole, dir) = (tmp.path().join(format!("{name}-whole")), tmp.path().join(name));
        to(&source, &whole, ExportFormat::Safetensors, dtype, false).unwrap();
        let config = to(&source, &dir, ExportFormat::Safetensors, dtype, true).unwrap();
        assert_eq!(config.weights.shut, [1, 2, 5]);
        let size = |dir: &Path| fs::metadata(dir.join(WEIGHTS_FILE)).unwrap().len();
        assert!(size(&dir) < size(&whole) * 3 / 4);
        let (pruned, exact) = (load::<B>(&dir, &device()).unwrap().fuser, load::<B>(&whole, &device()).unwrap().fuser);
        assert_eq!(pruned.gate_logits().unwrap(), (GATES[..3].to_vec(), GATES[3..].to_vec()));
        let loss = fused_loss(&exact, &pruned, &device()).unwrap();
        assert_eq!((loss.key_max, loss.value_max), (0.0, 0.0), "{name}: the same fusion");
        let ready = pruned.clone().for_inference(burn::tensor::DType::F32).unwrap();
        assert_eq!(fused_loss(&exact, &ready, &device()).unwrap().key_max, 0.0);
        let card = fs::read_to_string(dir.join(CARD_FILE)).unwrap();
        assert!(card.contains("Of 6 key and value branches, the 3 whose gate is shut"), "{card}");
        assert!(card.contains("| 1 | 0 | shut (-1.0000) | open (2.0000) |"), "{card}");

        // Exported again as it is, and shut for the control.
        to(&dir, &tmp.path().join(format!("{name}-again")), ExportFormat::Safetensors, None, true).unwrap();
        let none = pruned.with_gates_shut();
        assert_eq!(none.gate_logits().unwrap().0.len(), 3);
    }
    let error = to(&tmp.path().join("same"), &tmp.path().join("x"), ExportFormat::Pytorch, None, false).unwrap_err();
    assert!(error.to_string().contains("need all of its layers"), "{error}");
}

#[test]
fn a_pruned_fuser_whose_config_lies_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = (tmp.path().join("whole"), tmp.path().join("pruned"));
    save(&gated(), &info(), &[], &source, false).unwrap();
    to(&source, &dir, ExportFormat::Safetensors, None, true).unwrap();
    let path = dir.join("fuser_config.json");
    let whole = fs::read(&path).unwrap();
    for (shut, expected) in [
        (json!([0, 1, 2]), "branch 0 is open, but weights.shut leaves it out"),
        (json!([1, 2]), "expected [4,"),
        (json!([1, 2, 6]), "weights.shut"),
        (json!([2, 1, 5]), "weights.shut"),
        (json!([1, 1, 5]), "weights.shut"),
        (json!([0, 1, 2, 3, 4, 5]), "weights.shut"),
        (json!([]), "expected [6,"),
    ] {
        fs::write(&path, &whole).unwrap();
        edit_config(&dir, |config| config["weights"]["shut"] = shut.clone());
        let error = load::<B>(&dir, &device()).unwrap_err().to_string();
        assert!(error.contains(expected), "{shut}: {error}");
    }
    fs::write(&path, &whole).unwrap();
    edit_config(&dir, |config| config["weights"]["dtype"] = "int8".into());
    let error = load::<B>(&dir, &device()).unwrap_err().to_string();
    assert!(error.contains("input.weight: found dtype F32, expected I8"), "{error}");
    assert!(error.contains("input.weight.scale: missing"), "{error}");

    let mut all_shut = config();
    all_shut.initial_gate_logit = -1.0;
    let shut = tmp.path().join("shut");
    save(&Fuser::<B>::init(&all_shut, 1, &device()).unwrap(), &info(), &[], &shut, false).unwrap();
    let error = to(&shut, &tmp.path().join("x"), ExportFormat::Safetensors, None, true).unwrap_err().to_string();
    assert!(error.contains("every gate is shut"), "{error}");
}

#[test]
fn burnpack_holds_the_module() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = (tmp.path().join("whole"), tmp.path().join("bpk"));
    save(&gated(), &info(), &[], &source, false).unwrap();
    to(&source, &dir, ExportFormat::Burnpack, None, false).unwrap();
    assert_eq!(names(&dir), [CARD_FILE, BURNPACK_FILE, "fuser_config.json"]);
    let mut loaded = fuser(9);
    let result = loaded.load_from(&mut BurnpackStore::from_file(dir.join(BURNPACK_FILE))).unwrap();
    assert!(result.missing.is_empty() && result.unused.is_empty() && result.errors.is_empty(), "{result:?}");
    assert_eq!(bits(&loaded), bits(&gated()));
    assert_eq!(read_config(&dir).unwrap().fuser, config());

    let size = |dir: &Path| fs::metadata(dir.join(BURNPACK_FILE)).unwrap().len();
    for (dtype, round, least) in [
        (WeightsDtype::Bf16, (|v| bf16::from_f32(v).to_f32()) as fn(f32) -> f32, 0.0),
        // Of a logit of 1e-9 the least above 0 is left, so that its gate stays open.
        (WeightsDtype::F16, |v| f16::from_f32(v).to_f32(), f16::MIN_POSITIVE_SUBNORMAL.to_f32()),
    ] {
        let half = tmp.path().join(dtype.as_str());
        let config = to(&source, &half, ExportFormat::Burnpack, Some(dtype), false).unwrap();
        assert!(size(&half) < size(&dir), "{} of {}", size(&half), size(&dir));
        let mut loaded = fuser(9);
        let result = loaded.load_from(&mut BurnpackStore::from_file(half.join(BURNPACK_FILE))).unwrap();
        assert!(result.missing.is_empty() && result.unused.is_empty() && result.errors.is_empty(), "{result:?}");
        for ((name, _, found), (_, _, exact)) in bits(&loaded).into_iter().zip(bits(&gated())) {
            let value = |b: u32| {
                let exact = f32::from_bits(b);
                if name == "gate_logit" && exact > 0.0 { round(exact).max(least) } else { round(exact) }
            };
            let expected: Vec<u32> = exact.into_iter().map(|b| value(b).to_bits()).collect();
            assert_eq!(found, expected, "{}: {name}", dtype.as_str());
        }
        let wide = loaded.cast(burn::tensor::DType::F32);
        let loss = config.weights.loss.unwrap();
        assert!(loss.key_max > 0.0);
        assert_eq!(loss, fused_loss(&gated(), &wide, &device()).unwrap(), "{}", dtype.as_str());
        let open = |logits: Vec<f32>| logits.into_iter().map(|logit| logit > 0.0).collect::<Vec<_>>();
        assert_eq!(open(wide.gate_logits().unwrap().0), [true, false, false]);
    }
    for (dtype, prune) in [(Some(WeightsDtype::Int8), false), (None, true)] {
        let error = to(&source, &tmp.path().join("x"), ExportFormat::Burnpack, dtype, prune).unwrap_err();
        assert!(matches!(error, ExportError::Option { .. }), "{error}");
    }
}

#[test]
fn an_export_is_replaced_only_by_another_of_its_kind() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = (tmp.path().join("whole"), tmp.path().join("pt"));
    save(&gated(), &info(), &[], &source, false).unwrap();
    let options = ExportOptions { format: ExportFormat::Pytorch, dtype: Some(WeightsDtype::Bf16), prune: false };
    let write = |overwrite| convert::<B>(&source, &dir, options, overwrite, &device());
    write(false).unwrap();
    assert!(matches!(write(false).unwrap_err(), ExportError::Exists { .. }));
    write(true).unwrap();
    fs::write(dir.join("final/mine.txt"), "mine").unwrap();
    let error = write(true).unwrap_err().to_string();
    assert!(error.contains("final/mine.txt"), "{error}");
    fs::remove_file(dir.join("final/mine.txt")).unwrap();
    // Names that are like ours.
    for name in ["projector_notes.txt", "projector_", "projector_01.pt", "projector_1.pt.bak", "projector_config.json5"]
    {
        let path = dir.join("final").join(name);
        fs::write(&path, "mine").unwrap();
        let error = write(true).unwrap_err().to_string();
        assert!(error.contains(name) && path.exists(), "{name}: {error}");
        fs::remove_file(path).unwrap();
    }
    // Folders, and files in them at any depth, even under names of ours.
    for path in ["final/projector_backup/best.pt", "final/projector_0.pt/x", "README.md/README.md", "empty/", "a/b/c"] {
        let path = dir.join(path);
        let top = dir.join(path.strip_prefix(&dir).unwrap().components().next().unwrap());
        let kept = tmp.path().join("kept");
        // What stands in the way of a folder is put aside.
        let way = path.parent().unwrap().to_owned();
        let file = way.is_file().then(|| fs::rename(&way, &kept).unwrap());
        match path.display().to_string().ends_with('/') {
            true => fs::create_dir_all(&path).unwrap(),
            false => {
                fs::create_dir_all(&way).unwrap();
                fs::write(&path, "mine").unwrap();
            }
        }
        let error = write(true).unwrap_err().to_string();
        assert!(error.contains("holds"), "{}: {error}", path.display());
        assert!(path.exists(), "{}", path.display());
        fs::remove_dir_all(if top.ends_with("final") { &way } else { &top }).unwrap();
        if file.is_some() {
            fs::rename(&kept, &way).unwrap();
        }
    }
    write(true).unwrap();
    // A folder without the file that every export has is nobody's but the user's.
    let table = dir.join("final/projector_config.json");
    fs::rename(&table, tmp.path().join("table")).unwrap();
    let error = write(true).unwrap_err().to_string();
    assert!(error.contains("has no final/projector_config.json"), "{error}");
    fs::rename(tmp.path().join("table"), &table).unwrap();
    let cards = tmp.path().join("cards");
    fs::create_dir(&cards).unwrap();
    fs::write(cards.join(CARD_FILE), "# Mine").unwrap();
    let error = save(&gated(), &info(), &[], &cards, true).unwrap_err().to_string();
    assert!(error.contains("has no fuser_config.json"), "{error}");
    assert_eq!(fs::read_to_string(cards.join(CARD_FILE)).unwrap(), "# Mine");
    fs::remove_dir_all(&cards).unwrap();
    assert_eq!(names(tmp.path()), ["pt", "whole"], "nothing else stays");
    let recipe: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(recipe["model"]["base_model"], "lab/receiver|1");
    assert_eq!(recipe["model"]["alignment_strategy"], "longest");
    assert!(recipe["c2c_export"]["loss"]["key_max"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_overflows_f16_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("large");
    let large = gated();
    let params = large.named_params();
    let read = |name: &str, _: [usize; 3]| {
        let param = params.iter().find(|p| p.0 == name).unwrap().1.val();
        let scale = if name == "output.bias" { 1e6 } else { 1.0 };
        Ok(param.into_data().iter::<f32>().map(|v| v * scale).collect())
    };
    let fuser = Fuser::<B>::load(&config(), &device(), read).unwrap();
    save(&fuser, &info(), &[], &source, false).unwrap();
    let error =
        to(&source, &tmp.path().join("x"), ExportFormat::Safetensors, Some(WeightsDtype::F16), false).unwrap_err();
    assert!(error.to_string().contains("no longer finite"), "{error}");
}
