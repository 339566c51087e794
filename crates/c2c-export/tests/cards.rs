//! What was measured with a Fuser stays in the cards of its other forms, and says whose it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use c2c_export::artefact::{
    self, AlignmentInfo, Asked, CARD_FILE, DEVICES_HEADING, WeightsDtype, put_section, read_config, save,
    save_carrying, update_card,
};
use c2c_export::published::{ImportedModel, import, measurements};
use c2c_export::{ExportFormat, ExportOptions, convert};
use c2c_lm::LmConfig;
use common::*;

const DEVICES: &str = "| device | largest difference |\n|---|---|\n| cuda:0 | 1.2e-6 |";

/// A Fuser with results and a comparison of devices in its card.
fn measured(dir: &Path) -> PathBuf {
    let source = dir.join("source");
    save(&fuser(5), &info(), &results(), &source, false).unwrap();
    put_section(&source, DEVICES_HEADING, DEVICES).unwrap();
    source
}

fn card(dir: &Path) -> String {
    fs::read_to_string(dir.join(CARD_FILE)).unwrap()
}

fn sha256(dir: &Path) -> String {
    read_config(dir).unwrap().weights_sha256
}

fn exported(from: &Path, name: &str, options: ExportOptions) -> PathBuf {
    let to = from.parent().unwrap().join(name);
    convert::<B>(from, &to, options, false, &device()).unwrap();
    to
}

fn rounded(from: &Path, name: &str, dtype: WeightsDtype) -> PathBuf {
    exported(from, name, ExportOptions { dtype: Some(dtype), ..ExportOptions::default() })
}

fn to(from: &Path, name: &str, format: ExportFormat) -> PathBuf {
    exported(from, name, ExportOptions { format, ..ExportOptions::default() })
}

/// The line that both sections begin with, after a look at what they hold.
fn note(card: &str) -> String {
    let section = |heading: &str| {
        let (_, rest) =
            card.split_once(&format!("\n## {heading}\n\n")).unwrap_or_else(|| panic!("{heading} in\n{card}"));
        rest.split_once("\n## ").map_or(rest, |(body, _)| body).to_owned()
    };
    let (results, devices) = (section("Results"), section(DEVICES_HEADING));
    assert!(results.contains("| c2c | 87.5 % | 82.5 to 92.5 % | 70 of 80 | 12.3 |"), "{results}");
    assert!(devices.contains(DEVICES), "{devices}");
    assert_eq!(card.matches("## Results").count(), 1);
    assert!(card.find("## Results") < card.find(DEVICES_HEADING) && card.find(DEVICES_HEADING) < card.find("## Use"));
    assert_eq!(results.lines().next(), devices.lines().next());
    results.lines().next().unwrap().to_owned()
}

fn same(weights: &str) -> String {
    format!("Measured with the Fuser whose `fuser.safetensors` has sha256 `{weights}`; the values here are the same.")
}

fn before_rounding(weights: &str, dtype: &str) -> String {
    format!(
        "Measured with the Fuser whose `fuser.safetensors` has sha256 `{weights}`, before its values were rounded to \
         {dtype}: the figures are that one's, not this one's."
    )
}

#[test]
fn forms_of_the_same_values_keep_what_was_measured_and_name_the_weights() {
    let tmp = tempfile::tempdir().unwrap();
    let source = measured(tmp.path());
    let weights = sha256(&source);
    // Another folder of the same bytes has the same card.
    assert_eq!(card(&to(&source, "copy", ExportFormat::Safetensors)), card(&source));
    assert_eq!(note(&card(&to(&source, "burnpack", ExportFormat::Burnpack))), same(&weights));
    assert!(card(&tmp.path().join("burnpack")).contains("BurnpackStore::from_file"));
    let published = card(&to(&source, "pytorch", ExportFormat::Pytorch));
    assert!(note(&published).starts_with(&same(&weights)) && published.contains("c2c import"), "{published}");
    let onnx = card(&to(&source, "onnx", ExportFormat::Onnx));
    assert_eq!(note(&onnx), same(&weights));
    assert!(onnx.contains("- onnx\n---\n") && onnx.contains("onnxruntime.InferenceSession"), "{onnx}");
    // But for that, and for how it is used, it is the artefact's own.
    let before_results = |card: &str| card.split_once("\n## Results").unwrap().0.replace("- onnx\n", "");
    assert_eq!(before_results(&onnx), before_results(&card(&source)));
}

#[test]
fn a_rounded_fuser_says_that_the_figures_are_not_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    let source = measured(tmp.path());
    let weights = sha256(&source);
    for dtype in [WeightsDtype::Bf16, WeightsDtype::F16, WeightsDtype::Int8] {
        let dir = rounded(&source, dtype.as_str(), dtype);
        assert_ne!(sha256(&dir), weights);
        assert_eq!(note(&card(&dir)), before_rounding(&weights, dtype.as_str()));
    }
    // Whatever is made of a rounded one has its values, and the figures are still those of the first.
    let bf16 = tmp.path().join("bf16");
    let expected = before_rounding(&weights, "bf16");
    assert_eq!(note(&card(&rounded(&bf16, "wide", WeightsDtype::F32))), expected);
    assert_eq!(note(&card(&to(&bf16, "burnpack", ExportFormat::Burnpack))), expected);
    let onnx = card(&to(&bf16, "onnx", ExportFormat::Onnx));
    assert_eq!(note(&onnx), expected);
    assert!(onnx.contains(" parameters in f32") && onnx.contains("\n| rounded earlier | mean | largest |\n"), "{onnx}");
    // Once it is measured itself, its figures are its own.
    update_card(&bf16, &results(), &Asked::default()).unwrap();
    put_section(&bf16, DEVICES_HEADING, DEVICES).unwrap();
    assert_eq!(note(&card(&rounded(&bf16, "wide2", WeightsDtype::F32))), same(&sha256(&bf16)));
}

#[test]
fn a_kept_section_is_kept_again_under_its_first_hash() {
    let tmp = tempfile::tempdir().unwrap();
    let source = measured(tmp.path());
    let sections = exported(&source, "pruned", ExportOptions { prune: true, ..ExportOptions::default() });
    // No gate is shut: the values are written again, under a description of their own.
    assert_eq!(note(&card(&sections)), same(&sha256(&source)));
    let twice = rounded(&sections, "twice", WeightsDtype::Bf16);
    assert_eq!(note(&card(&twice)), before_rounding(&sha256(&source), "bf16"));
}

fn model(layers: usize, heads: usize, head_dim: usize) -> ImportedModel {
    let mut config = LmConfig::from_dir(&golden().join("c2c/qwen3_from_qwen2_deeper/receiver")).unwrap();
    (config.num_layers, config.num_kv_heads, config.head_dim) = (layers, heads, head_dim);
    ImportedModel { name: "lab/model".into(), config }
}

/// As `c2c import`; the card.
fn imported(dir: &Path, name: &str) -> String {
    let alignment = AlignmentInfo { mode: "aligned".into(), strategy: "longest".into(), sections: "message".into() };
    let (fuser, config) = import::<B>(dir, "x", &model(3, 2, 3), &model(2, 1, 4), alignment, &device()).unwrap();
    let to = dir.parent().unwrap().join(name);
    save_carrying(&fuser, config.clone(), &measurements(dir, &config).unwrap(), &to, false).unwrap();
    artefact::load::<B>(&to, &device()).unwrap();
    card(&to)
}

#[test]
fn a_fuser_that_went_out_and_came_back_has_its_figures_as_long_as_the_files_are_those() {
    let tmp = tempfile::tempdir().unwrap();
    let source = measured(tmp.path());
    let weights = sha256(&source);
    let there = to(&source, "there", ExportFormat::Pytorch);
    assert_eq!(note(&imported(&there, "back")), same(&weights));
    assert_eq!(sha256(&tmp.path().join("back")), weights, "the same bytes");
    let options = ExportOptions { format: ExportFormat::Pytorch, dtype: Some(WeightsDtype::Bf16), prune: false };
    let narrow = exported(&source, "narrow", options);
    assert_eq!(note(&imported(&narrow, "narrow-back")), before_rounding(&weights, "bf16"));

    // Other files beside the same card.
    let other = tmp.path().join("other");
    save(&fuser(6), &info(), &[], &other, false).unwrap();
    let other = to(&other, "other-there", ExportFormat::Pytorch);
    fs::copy(there.join(CARD_FILE), other.join(CARD_FILE)).unwrap();
    let told = imported(&other, "other-back");
    assert!(!told.contains("## Results") && !told.contains(DEVICES_HEADING), "{told}");
    // A card of somebody else, or none.
    for (text, name) in [(Some("# Mine\n\n## Results\n\nvery good\n"), "b1"), (None, "b2")] {
        match text {
            Some(text) => fs::write(there.join(CARD_FILE), text).unwrap(),
            None => fs::remove_file(there.join(CARD_FILE)).unwrap(),
        }
        assert!(!imported(&there, name).contains("## Results"));
    }
}

#[test]
fn without_measurements_there_is_nothing_to_keep() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("source");
    save(&fuser(5), &info(), &[], &source, false).unwrap();
    assert!(!card(&rounded(&source, "bf16", WeightsDtype::Bf16)).contains("Measured with"));
    fs::remove_file(source.join(CARD_FILE)).unwrap();
    assert!(!card(&rounded(&source, "f16", WeightsDtype::F16)).contains("Measured with"));
    assert!(!card(&to(&source, "there", ExportFormat::Pytorch)).contains("Measured with"));
    assert!(!card(&to(&source, "onnx", ExportFormat::Onnx)).contains("Measured with"));
}

#[test]
fn the_licence_that_an_owner_wrote_stays_in_other_forms() {
    let tmp = tempfile::tempdir().unwrap();
    let source = measured(tmp.path());
    let text = card(&source);
    fs::write(source.join(CARD_FILE), text.replacen("---\n", "---\nlicense: cc-by-4.0\n", 1)).unwrap();
    let bf16 = rounded(&source, "bf16", WeightsDtype::Bf16);
    for dir in [&bf16, &to(&source, "there", ExportFormat::Pytorch), &to(&source, "onnx", ExportFormat::Onnx)] {
        let card = card(dir);
        assert!(card.starts_with("---\nlicense: \"cc-by-4.0\"\nlibrary_name: c2c\n"), "{card}");
        assert_eq!(card.matches("license").count(), 1, "{card}");
    }
    let again = rounded(&bf16, "again", WeightsDtype::F32);
    assert!(card(&again).contains("license: \"cc-by-4.0\""));
    let (_, front) = artefact::check(&bf16).unwrap();
    assert_eq!(front.license.as_deref(), Some("cc-by-4.0"));
}
