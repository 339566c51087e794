//! JSON files that take more memory than they have bytes, that hide one value behind another, or that steer a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/alloc.rs"]
mod alloc;
mod common;

use std::fs;
use std::path::Path;

use alloc::quick;
use c2c_export::artefact::{load, save};
use c2c_export::published::{self, PublishedRecipe};
use c2c_export::{ExportFormat, ExportOptions, convert};
use c2c_lm::{Checkpoint, LmConfig};
use common::*;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// A list of small numbers of about so many bytes.
fn numbers(bytes: usize) -> String {
    format!("[{}0]", "0,".repeat(bytes / 2))
}

/// Nearly as large as a config may be.
const LARGE: usize = 1_000_000;

/// The error, after checking that it is short, shows no control character and took little memory.
fn told<T>(case: &str, size: usize, work: impl FnMut() -> Result<T, String>) -> String {
    let (result, held) = quick(case, work);
    let error = result.err().unwrap_or_else(|| panic!("{case}: read"));
    // A list of numbers of 8 bytes each, which doubles as it grows.
    assert!(held <= 16 * size + (64 << 10), "{case}: {held} bytes for a file of {size}");
    assert!(error.len() < 1_500, "{case}: {} bytes of error: {}", error.len(), &error[..1_000]);
    assert!(!error.replace('\n', "").contains(char::is_control), "{case}: {error:?}");
    error
}

#[test]
fn configs_of_a_fuser_take_memory_in_proportion() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("fuser");
    save(&fuser(1), &info(), &[], &dir, false).unwrap();
    let path = dir.join("fuser_config.json");
    let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |key: &str, text: &str| {
        let mut config = whole.clone();
        let mut place = &mut config;
        for part in key.split('.') {
            place = &mut place[part];
        }
        *place = "HERE".into();
        config.to_string().replacen("\"HERE\"", text, 1)
    };
    let (list, table) = (numbers(LARGE), format!("{{{}\"z\":0}}", "\"a\":0,".repeat(LARGE / 7)));
    let long = format!("\"{}\"", "x".repeat(LARGE));
    let cases = [
        ("a kind that is a list", with("kind", &list), "kind = a list, expected \"c2c-fuser\""),
        ("a kind that is a table", with("kind", &table), "kind = a table"),
        ("a kind without end", with("kind", &long), "kind = \"xxx"),
        ("a version that is a list", with("schema_version", &list), "schema_version = a list, expected 1"),
        ("a version without end", with("schema_version", &long), "schema_version = \"xxx"),
        ("a version that steers", with("schema_version", r#""\u001b[2J""#), "schema_version = \"\\u{1b}[2J\""),
        ("training data without end", with("training.data", &list), "more than 4096 values"),
        ("training data in depth", with("training.data", &format!("[{list}]")), "more than 4096 values"),
        ("training data with a key twice", with("training.data", r#"[{"a":1,"a":2}]"#), "`a` is there twice"),
        ("training data that is none", with("training.data", r#""all""#), "expected a list"),
        ("layers without end", with("fuser.layer_map", &list), "receiver.layers = 3"),
        ("layers beyond the sharer", with("fuser.layer_map", &list.replace('0', "9")), "layer_map"),
        ("branches without end", with("weights", &format!("{{\"dtype\":\"f32\",\"shut\":{list}}}")), "weights.shut"),
        ("a name without end", with("receiver.layers", &long), "invalid type"),
        ("a file without end", with("training.data", &numbers(LARGE + (1 << 17))), "more than the 1048576"),
    ];
    for (case, text, expected) in cases {
        fs::write(&path, &text).unwrap();
        let error = told(case, text.len(), || load::<B>(&dir, &device()).map_err(|e| e.to_string()));
        assert!(error.contains(expected) && error.contains("fuser_config.json"), "{case}: {error}");
    }
}

fn lm(layers: usize, heads: usize, head_dim: usize) -> LmConfig {
    let mut config = LmConfig::from_dir(&golden().join("c2c/qwen3_from_gemma3/receiver")).unwrap();
    (config.num_layers, config.num_kv_heads, config.head_dim) = (layers, heads, head_dim);
    config
}

/// A small fuser in the published layout.
fn published(tmp: &Path) -> std::path::PathBuf {
    let (ours, theirs) = (tmp.join("ours"), tmp.join("theirs"));
    save(&fuser(1), &info(), &[], &ours, false).unwrap();
    let options = ExportOptions { format: ExportFormat::Pytorch, dtype: None, prune: false };
    convert::<B>(&ours, &theirs, options, false, &device()).unwrap();
    theirs
}

#[test]
fn files_of_the_published_layout_take_memory_in_proportion_and_hide_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = published(tmp.path());
    let (receiver, sharer) = (lm(3, 2, 3), lm(2, 1, 4));
    let read = |dir: &Path| published::load::<B>(dir, &receiver, &sharer, &device()).map_err(|e| e.to_string());
    read(&dir).unwrap();
    let (args, table) = (dir.join("final/projector_0.json"), dir.join("final/projector_config.json"));
    let (whole, layers) = (fs::read_to_string(&args).unwrap(), fs::read_to_string(&table).unwrap());
    let list = numbers(LARGE);
    let pairs = format!("{{\"0\":{{\"1\":{{\"0\":[{}[0,0]]}}}}}}", "[0,0],".repeat(LARGE / 6));
    let many =
        format!("{{\"0\":{{\"1\":{{{}\"z\":[]}}}}}}", (0..90_000).map(|i| format!("\"{i}\":[],")).collect::<String>());
    let first = "\"hidden_dim\": 6";
    assert!(whole.contains(first), "{whole}");
    let cases = [
        (&args, format!("{{\"class\":\"C2CProjector\",\"init_args\":{list}}}"), "more than 4096 values"),
        (&args, whole.replace(first, &format!("{first}, {first}")), "`hidden_dim` is there twice"),
        (&args, whole.replace(first, "\"hidden_dim\": 9, \"hidden_dim\": 6"), "`hidden_dim` is there twice"),
        (&args, whole.replace("\"class\"", "\"class\": \"x\", \"class\""), "duplicate field `class`"),
        (&table, many, "more than 1024 entries"),
        (&table, pairs, "layer 1: missing"),
        (&table, layers.replacen("\"0\": {", "\"0\": {}, \"0\": {", 1), "`0` is there twice"),
        (&table, layers.replacen("\"2\": [", "\"1\": [[1, 2]], \"2\": [", 1), "`1` is there twice"),
        (&table, list.clone(), "expected a table"),
    ];
    for (path, text, expected) in cases {
        let case = format!("{expected} in {}", path.display());
        fs::write(path, &text).unwrap();
        let error = told(&case, text.len(), || read(&dir));
        assert!(error.contains(expected) && error.contains("projector_"), "{case}: {error}");
        fs::write(&args, &whole).unwrap();
        fs::write(&table, &layers).unwrap();
    }
    let recipe = dir.join("config.json");
    for text in [format!("{{\"model\":{list}}}"), format!("model:\n  base_model: {list}"), "x".repeat(2 << 20)] {
        fs::write(&recipe, &text).unwrap();
        let error = told("a recipe", text.len(), || PublishedRecipe::read(&dir).map_err(|e| e.to_string()));
        assert!(error.contains("config.json"), "{error}");
    }
}

#[test]
fn configs_and_indexes_of_models_are_bounded() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let path = dir.join("config.json");
    for (case, text) in [("a list", numbers(2 << 20)), ("spaces", " ".repeat(3 << 20))] {
        fs::write(&path, &text).unwrap();
        let error = told(case, text.len(), || LmConfig::from_dir(dir).map_err(|e| e.to_string()));
        assert!(error.contains("config.json") && error.contains("more than 1048576 bytes"), "{case}: {error}");
    }
    // Within the limit, what is wrong is named and not echoed.
    let text = format!("{{\"model_type\":\"llama\",\"hidden_size\":{}}}", numbers(LARGE));
    fs::write(&path, &text).unwrap();
    let error = LmConfig::from_dir(dir).unwrap_err().to_string();
    assert!(error.contains("hidden_size") && error.len() < 1_000, "{} bytes of error", error.len());
    let index = dir.join("model.safetensors.index.json");
    let list = numbers(4 << 20);
    let map = json!({ "a": "nowhere.safetensors" });
    for (case, text, expected) in [
        ("a list beside the map", format!("{{\"metadata\":{list},\"weight_map\":{map}}}"), "nowhere.safetensors"),
        ("a list as the map", format!("{{\"weight_map\":{list}}}"), "expected a table `weight_map`"),
        ("a list as a name", format!("{{\"weight_map\":{{\"a\":{list}}}}}"), "expected the name of a file"),
        ("no map", list.clone(), "index.json"),
    ] {
        fs::write(&index, &text).unwrap();
        let error = told(case, text.len(), || Checkpoint::open(dir).map(drop).map_err(|e| e.to_string()));
        assert!(error.contains(expected), "{case}: {error}");
    }
}
