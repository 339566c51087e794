//! Damaged and malicious artefacts: an error that names the trouble, never a panic, never an allocation beyond the file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;

use c2c_export::artefact::{Asked, WEIGHTS_FILE, copy, load, read_config, save, update_card};
use common::*;
use serde_json::{Value, json};

/// The error of loading, after checking that every way in refuses the folder.
fn refused(dir: &Path, case: &str) -> String {
    let error = load::<B>(dir, &device()).err().unwrap_or_else(|| panic!("{case}: loaded")).to_string();
    assert!(update_card(dir, &[], &Asked::default()).is_err(), "{case}: update_card");
    assert!(copy(dir, &dir.with_extension("copy"), false).is_err(), "{case}: copy");
    assert!(!dir.with_extension("copy").exists(), "{case}: a copy stayed");
    error
}

fn fresh(tmp: &Path) -> std::path::PathBuf {
    let dir = tmp.join("fuser");
    save(&fuser(1), &info(), &[], &dir, true).unwrap();
    dir
}

#[test]
fn truncated_weights() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = fresh(tmp.path());
    let whole = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    assert!(whole.len() > 20 * 97);
    for end in (0..whole.len()).step_by(97).chain([7, 8, 9, whole.len() - 1]) {
        fs::write(dir.join(WEIGHTS_FILE), &whole[..end]).unwrap();
        let error = refused(&dir, &format!("{end} bytes"));
        assert!(error.contains("not a whole safetensors file"), "{end}: {error}");
    }
    for end in (0..whole.len()).step_by(97) {
        plant_weights(&dir, &whole[..end]);
        let error = refused(&dir, &format!("{end} bytes with their hash"));
        assert!(error.contains(WEIGHTS_FILE) && error.contains("copy it again"), "{end}: {error}");
    }
}

#[test]
fn flipped_bytes_change_the_hash() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = fresh(tmp.path());
    let whole = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    let (_, data) = split_weights(&whole);
    for at in (whole.len() - data.len()..whole.len()).step_by(997) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(dir.join(WEIGHTS_FILE), bytes).unwrap();
        let error = refused(&dir, &format!("byte {at}"));
        assert!(error.contains("sha256") && error.contains("weights_sha256"), "{at}: {error}");
    }
}

#[test]
fn malicious_headers() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = fresh(tmp.path());
    let whole = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    let (header, data) = split_weights(&whole);
    let text = header.to_string();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        edit(&mut header);
        join_weights(&header.to_string(), &data)
    };
    let length = |n: u64| {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    let bias = text.find("\"input.bias\"").unwrap();
    let twice = format!("{}{},{}", &text[..bias], &text[bias..text.len() - 1], &text[bias..]);
    let trailing = [whole.clone(), vec![0; 4]].concat();
    let not_utf8 = {
        let mut bytes = whole.clone();
        bytes[20] = 0xff;
        bytes
    };
    let deep = join_weights(&"[".repeat(100_000), &data);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("header length 2^64-1", length(u64::MAX), "18446744073709551615"),
        ("header length 2^40", length(1 << 40), "at most"),
        ("header length 0", length(0), "header"),
        ("header one byte short", length(whole.len() as u64 - 8 - data.len() as u64 - 1), "safetensors"),
        ("header to the end", length(whole.len() as u64 - 8), "header"),
        ("not utf-8", not_utf8, "header"),
        ("deep nesting", deep, "header"),
        ("a list", join_weights("[]", &data), "header"),
        ("no tensors", join_weights("{}", &[]), "format"),
        ("tensor twice", join_weights(&twice, &data), "twice"),
        ("trailing bytes", trailing, "bytes of tensors"),
        (
            "same offsets",
            with(&|h| h["input.bias"]["data_offsets"] = h["gate_logit"]["data_offsets"].clone()),
            "offset",
        ),
        ("overlapping offsets", with(&|h| h["input.weight"]["data_offsets"] = json!([20, 24])), "offset"),
        ("backward offsets", with(&|h| h["gate_logit"]["data_offsets"] = json!([24, 0])), "offset"),
        ("negative offsets", with(&|h| h["gate_logit"]["data_offsets"] = json!([-24, 0])), "header"),
        ("offsets at 2^63", with(&|h| h["gate_logit"]["data_offsets"] = json!([0, 1u64 << 63])), "header"),
        ("shape of 2^60", with(&|h| h["gate_logit"]["shape"] = json!([1u64 << 60, 1, 1])), "header"),
        ("shape that overflows", with(&|h| h["gate_logit"]["shape"] = json!([1u64 << 40, 1u64 << 40, 1])), "header"),
        (
            "another dtype",
            with(&|h| h["gate_logit"]["dtype"] = "I32".into()),
            "gate_logit: found dtype I32, expected F32",
        ),
        ("an unknown dtype", with(&|h| h["gate_logit"]["dtype"] = "F31".into()), "header"),
        (
            "transposed",
            with(&|h| h["trunk.w1"]["shape"] = json!([6, 5, 6])),
            "trunk.w1: found shape [6, 5, 6], expected [6, 6, 5]",
        ),
        ("flat", with(&|h| h["gate_logit"]["shape"] = json!([6])), "gate_logit: found shape [6], expected [6, 1, 1]"),
        ("another format", with(&|h| h["__metadata__"]["format"] = "pt".into()), "`pt`, expected `c2c-fuser`"),
        (
            "another version",
            with(&|h| h["__metadata__"]["schema_version"] = "2".into()),
            "schema_version = 2, expected 1",
        ),
        ("a picture", [0x89, b'P', b'N', b'G'].repeat(100), "header"),
    ];
    for (case, bytes, expected) in cases {
        assert_ne!(bytes, whole, "{case}: changes nothing");
        plant_weights(&dir, &bytes);
        let error = refused(&dir, case);
        assert!(error.contains(expected), "{case}: {error}");
        assert!(error.contains(WEIGHTS_FILE), "{case}: {error}");
    }
    plant_weights(&dir, &whole);
    load::<B>(&dir, &device()).expect("the last step of every case is sound");
}

#[test]
fn all_wrong_tensors_are_listed() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = fresh(tmp.path());
    let (header, data) = split_weights(&fs::read(dir.join(WEIGHTS_FILE)).unwrap());
    let text = header.to_string().replace("\"output.bias\"", "\"extra\"").replace("\"input.bias\"", "\"input.b\"");
    plant_weights(&dir, &join_weights(&text, &data));
    let error = refused(&dir, "renamed");
    for line in [
        "  output.bias: missing, expected shape [6, 1, 6]",
        "  input.bias: missing",
        "  extra: unused",
        "  input.b: unused",
    ] {
        assert!(error.contains(line), "{line}: {error}");
    }
}

#[test]
fn malicious_configs() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = fresh(tmp.path());
    let path = dir.join("fuser_config.json");
    let whole = fs::read(&path).unwrap();
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit, &str); 22] = [
        ("unknown key", |c| c["colour"] = "red".into(), "unknown field `colour`"),
        ("unknown fuser key", |c| c["fuser"]["colour"] = "red".into(), "unknown field `colour`"),
        ("unknown model key", |c| c["sharer"]["colour"] = "red".into(), "unknown field `colour`"),
        ("later version", |c| c["schema_version"] = 2.into(), "schema_version = 2, expected 1"),
        ("version as text", |c| c["schema_version"] = "1".into(), "schema_version = \"1\", expected 1"),
        ("another kind", |c| c["kind"] = "adapter".into(), "kind = \"adapter\", expected \"c2c-fuser\""),
        ("no training", |c| drop(c.as_object_mut().unwrap().remove("training")), "training and origin = neither"),
        ("another hash", |c| c["weights_sha256"] = "00".into(), "sha256"),
        ("hidden_dim 2^40", |c| c["fuser"]["hidden_dim"] = (1u64 << 40).into(), "hidden_dim"),
        ("hidden_dim 2^20", |c| c["fuser"]["hidden_dim"] = (1u64 << 20).into(), "found shape"),
        ("hidden_dim 0", |c| c["fuser"]["hidden_dim"] = 0.into(), "hidden_dim = 0"),
        ("hidden_dim -1", |c| c["fuser"]["hidden_dim"] = (-1).into(), "invalid value"),
        ("num_layers 2^50", |c| c["fuser"]["num_layers"] = (1u64 << 50).into(), "num_layers"),
        ("num_layers 2", |c| c["fuser"]["num_layers"] = 2.into(), "num_layers = 2"),
        ("num_layers 5", |c| c["fuser"]["num_layers"] = 5.into(), "projection.2.w1: missing"),
        ("map beyond the sharer", |c| c["fuser"]["layer_map"] = json!([0, 0, 2]), "layer_map"),
        ("map at 2^64-1", |c| c["fuser"]["layer_map"] = json!([0, 0, u64::MAX]), "layer_map"),
        ("map without layers", |c| c["fuser"]["layer_map"] = json!([]), "layer_map"),
        ("a longer map", |c| c["fuser"]["layer_map"] = json!([0, 0, 0, 1]), "receiver.layers = 3, expected 4"),
        ("heads that overflow", |c| c["fuser"]["sharer_heads"] = (1u64 << 62).into(), "expected"),
        ("temperature 0", |c| c["fuser"]["final_temperature"] = 0.into(), "final_temperature"),
        ("another receiver", |c| c["receiver"]["head_dim"] = 8.into(), "receiver.head_dim = 8, expected 3"),
    ];
    for (case, edit, expected) in cases {
        fs::write(&path, &whole).unwrap();
        edit_config(&dir, edit);
        let error = refused(&dir, case);
        assert!(error.contains(expected), "{case}: {error}");
    }
    for (case, bytes) in [
        ("empty", Vec::new()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("deep", b"[".repeat(200_000)),
        ("key twice", String::from_utf8(whole.clone()).unwrap().replacen('{', "{\"training\": 1, ", 1).into_bytes()),
        ("number out of range", String::from_utf8(whole.clone()).unwrap().replace("0.1,", "1e999,").into_bytes()),
        ("too large", vec![b' '; (16 << 20) + 1]),
    ] {
        assert_ne!(bytes, whole, "{case}: changes nothing");
        fs::write(&path, bytes).unwrap();
        assert!(read_config(&dir).is_err(), "{case}");
        let error = refused(&dir, case);
        assert!(error.contains("fuser_config.json"), "{case}: {error}");
    }
    for end in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..end]).unwrap();
        refused(&dir, &format!("config of {end} bytes"));
    }
}
