//! Malformed safetensors headers, made one fault at a time: of a fuser and of a model's checkpoint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/alloc.rs"]
mod alloc;
mod common;

use std::fs;
use std::path::Path;

use alloc::quick;
use c2c_export::artefact::{WEIGHTS_FILE, load, save};
use c2c_lm::Checkpoint;
use common::*;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What an error about a header that can't be read says, or one whose tensors don't lie one behind the other.
const HEADER: [&str; 2] = ["header", "bytes of tensors"];

/// Another file than `whole` in each: the length of the header, its text, or one entry. With words of which the error has to
/// have one: they name the fault.
fn malformed(whole: &[u8]) -> Vec<(String, Vec<u8>, Vec<String>)> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (header, data) = split_weights(whole);
    let length = whole.len() - data.len() - 8;
    let mut out = Vec::new();
    let lengths = (0..64).map(|bit| 1u64 << bit).chain([0, u64::MAX, length as u64 - 1, length as u64 + 1]);
    for n in lengths.filter(|n| *n != length as u64) {
        let mut bytes = whole.to_vec();
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        out.push((format!("a header of {n} bytes"), bytes, words(&HEADER)));
    }
    for at in (8..8 + length).step_by(29) {
        for byte in [0, b'{', b'"', 0xff] {
            let mut bytes = whole.to_vec();
            if bytes[at] != byte && !bytes[at].is_ascii_whitespace() {
                bytes[at] = byte;
                let other = ["found", "missing", "unused", "metadata", "schema_version", "twice"];
                out.push((format!("byte {at} is {byte:#x}"), bytes, words(&[&HEADER[..], &other].concat())));
            }
        }
    }
    let names: Vec<&String> = header.as_object().unwrap().keys().filter(|k| *k != "__metadata__").collect();
    type Edit = fn(&mut Value);
    let faults: [(&str, Edit); 17] = [
        ("is missing", |e| *e = json!("remove")),
        ("is null", |e| *e = Value::Null),
        ("is a list", |e| *e = json!([])),
        ("has no dtype", |e| drop(e.as_object_mut().unwrap().remove("dtype"))),
        ("has no shape", |e| drop(e.as_object_mut().unwrap().remove("shape"))),
        ("has no offsets", |e| drop(e.as_object_mut().unwrap().remove("data_offsets"))),
        ("is of an unknown dtype", |e| e["dtype"] = "F33".into()),
        ("is of another dtype", |e| e["dtype"] = "I32".into()),
        ("has a negative size", |e| e["shape"][0] = (-1).into()),
        ("has half a size", |e| e["shape"][0] = json!(1.5)),
        ("has a size of 2^62", |e| e["shape"][0] = (1u64 << 62).into()),
        ("has sizes that overflow", |e| e["shape"] = json!([1u64 << 40, 1u64 << 40, 1u64 << 40])),
        ("has an axis more", |e| e["shape"].as_array_mut().unwrap().push(2.into())),
        ("starts at -1", |e| e["data_offsets"][0] = (-1).into()),
        ("starts 4 later", |e| e["data_offsets"][0] = json!(e["data_offsets"][0].as_u64().unwrap() + 4)),
        ("ends at 2^63", |e| e["data_offsets"][1] = (1u64 << 63).into()),
        ("has three offsets", |e| e["data_offsets"] = json!([0, 4, 8])),
    ];
    for name in names {
        for (fault, edit) in &faults {
            let mut header = header.clone();
            edit(&mut header[name]);
            if header[name] == "remove" {
                header.as_object_mut().unwrap().remove(name);
            }
            let named = words(&[&HEADER[..], &[name.as_str()]].concat());
            out.push((format!("{name} {fault}"), join_weights(&header.to_string(), &data), named));
        }
    }
    let many: String =
        (0..20_000).map(|i| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}},")).collect();
    out.push((
        "20,000 tensors more".into(),
        join_weights(&header.to_string().replacen('{', &format!("{{{many}"), 1), &data),
        words(&HEADER),
    ));
    let deep = join_weights(&format!("{{\"a\":{}", "[".repeat(500_000)), &data);
    out.push(("a deep list".into(), deep, words(&HEADER)));
    let long = join_weights(&format!("{{\"{}\":1}}", "a".repeat(1 << 20)), &data);
    out.push(("a name of 1 MB".into(), long, words(&HEADER)));
    out
}

#[test]
fn malformed_headers_are_refused_within_the_files_size() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("fuser");
    save(&fuser(1), &info(), &[], &dir, false).unwrap();
    let whole = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    let cases = malformed(&whole);
    assert!(cases.len() >= 200, "{}", cases.len());
    for (case, bytes, words) in cases {
        assert_ne!(bytes, whole, "{case}: changes nothing");
        plant_weights(&dir, &bytes);
        let (result, held) = quick(&case, || load::<B>(&dir, &device()));
        let error = result.err().unwrap_or_else(|| panic!("{case}: loaded")).to_string();
        assert!(error.contains(WEIGHTS_FILE), "{case}: {error}");
        let said = error.replace(WEIGHTS_FILE, "").replace("not a whole safetensors file", "");
        assert!(words.iter().any(|word| said.contains(word)), "{case}: none of {words:?} in {error}");
        // The buffer that the hash goes through has 1 MiB.
        assert!(held <= 8 * bytes.len() + (2 << 20), "{case}: {held} bytes for a file of {}", bytes.len());
    }
}

fn refused(dir: &Path, case: &str, size: usize) -> String {
    let (result, held) = quick(case, || Checkpoint::open(dir));
    assert!(held <= 8 * size + (64 << 10), "{case}: {held} bytes for files of {size}");
    match result {
        Ok(_) => panic!("{case}: opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn malformed_headers_of_a_checkpoint_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let whole = safetensors(&[("a", 24), ("b", 8)]);
    // What only a fuser's reader knows: which tensors there have to be, of which shape and dtype.
    let harmless = ["is missing", "is of another dtype", "tensors more"];
    let mut count = 0;
    for (case, bytes, _) in malformed(&whole) {
        if harmless.iter().any(|word| case.ends_with(word)) || case.starts_with("byte ") {
            continue;
        }
        fs::write(dir.join("model.safetensors"), &bytes).unwrap();
        let error = refused(dir, &case, bytes.len());
        assert!(error.contains("model.safetensors"), "{case}: {error}");
        count += 1;
    }
    assert!(count > 90, "{count}");
}

fn safetensors(tensors: &[(&str, usize)]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, bytes) in tensors {
        let start = end;
        end += bytes;
        let entry = json!({ "dtype": "F32", "shape": [bytes / 4], "data_offsets": [start, end] });
        header.insert((*name).to_owned(), entry);
    }
    join_weights(&Value::Object(header).to_string(), &vec![0; end])
}

#[test]
fn an_index_that_leads_away_or_to_itself_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("model");
    fs::create_dir(&dir).unwrap();
    fs::write(tmp.path().join("secret.safetensors"), safetensors(&[("a", 4)])).unwrap();
    let index = "model.safetensors.index.json";
    let absolute = tmp.path().join("secret.safetensors").display().to_string();
    let cases = [
        ("../secret.safetensors", "expected the name of a file in the same folder"),
        (absolute.as_str(), "expected the name of a file in the same folder"),
        ("..", "expected the name of a file in the same folder"),
        ("sub/../../secret.safetensors", "expected the name of a file in the same folder"),
        ("..\\secret.safetensors", "expected the name of a file in the same folder"),
        // An index that names itself as its shard.
        (index, "safetensors"),
        ("nowhere.safetensors", "nowhere.safetensors"),
    ];
    for (shard, expected) in cases {
        let text = json!({ "weight_map": { "a": shard } }).to_string();
        fs::write(dir.join(index), &text).unwrap();
        let error = refused(&dir, shard, text.len());
        assert!(error.contains(expected), "{shard}: {error}");
    }
    // JSON has no references; what looks like one is a value of the wrong kind.
    for (text, expected) in [
        (r##"{"weight_map": {"a": {"$ref": "#/weight_map/a"}}}"##, "expected the name of a file in the same folder"),
        (r##"{"weight_map": {"a": "#/weight_map/a"}}"##, "expected the name of a file in the same folder"),
        (r##"{"weight_map": {"$ref": "#"}}"##, "cannot read"),
        (r##"{"weight_map": "#/weight_map"}"##, "expected a table `weight_map`"),
        (r##"{"$ref": "model.safetensors.index.json"}"##, "missing field `weight_map`"),
        (r##"{"weight_map": [["a", "b"]]}"##, "expected a table `weight_map`"),
    ] {
        fs::write(dir.join(index), text).unwrap();
        let error = refused(&dir, text, text.len());
        assert!(error.contains(expected), "{text}: {error}");
    }
}
