//! The ONNX graph computes what the fuser computes; its weights are the fuser's, inside and outside the file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/graph.rs"]
mod graph;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Tensor;
use c2c_export::artefact::{CARD_FILE, CardSections, WeightsDtype, load, save};
use c2c_export::{
    EXTERNAL_FROM, ExportError, ExportFormat, ExportOptions, ONNX_DATA_FILE, ONNX_FILE, convert, random_caches,
    write_onnx,
};
use c2c_fuser::{Fuser, FuserMode, FuserParts};
use c2c_lm::LayerKv;
use common::*;
use graph::{Array, initializer, read, run};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

fn array(cache: &[LayerKv<B>], side: &str) -> Array {
    let pick = |kv: &LayerKv<B>| if side == "key" { kv.key.clone() } else { kv.value.clone() };
    let stacked: Tensor<B, 5> = Tensor::stack(cache.iter().map(pick).collect(), 0);
    Array(stacked.dims().to_vec(), stacked.into_data().iter::<f64>().collect())
}

/// A fuser with open and shut gates.
fn mixed(parts: FuserParts) -> Fuser<B> {
    let mut config = config();
    config.parts = parts;
    let plain = Fuser::<B>::init(&config, 3, &device()).unwrap();
    let read = |name: &str, _: [usize; 3]| {
        let params = plain.named_params();
        let values = params.iter().find(|p| p.0 == name).unwrap().1.val().into_data();
        Ok(if name == "gate_logit" { vec![0.5, -1.0, 0.0, 2.0, -0.1, 0.1] } else { values.iter::<f32>().collect() })
    };
    Fuser::load(&config, &device(), read).unwrap()
}

#[test]
fn the_graph_computes_the_fusion() {
    let all = FuserParts::default();
    for (parts, external_from) in [
        (all, EXTERNAL_FROM),
        (all, 1),
        (FuserParts { weights: false, ..all }, EXTERNAL_FROM),
        (FuserParts { gates: false, ..all }, EXTERNAL_FROM),
        (FuserParts { weights: false, gates: false, receiver: false }, 1),
    ] {
        let tmp = tempfile::tempdir().unwrap();
        let (ours, dir) = (tmp.path().join("ours"), tmp.path().join("onnx"));
        let fuser = mixed(parts);
        save(&fuser, &info(), &[], &ours, false).unwrap();
        let config = load::<B>(&ours, &device()).unwrap().config;
        write_onnx(&fuser, &config, &CardSections::default(), &dir, external_from, false).unwrap();
        assert_eq!(names(&dir).len(), if external_from == 1 { 3 } else { 2 });
        let model = read(&dir.join(ONNX_FILE));
        for (batch, tokens) in [(1, 1), (1, 2), (2, 5), (3, 1), (1, 12)] {
            let seed = (batch * 100 + tokens) as u64;
            let [sharer, receiver] = random_caches::<B>(fuser.config(), batch, tokens, seed, &device());
            let inputs = [
                ("sharer_key", array(&sharer, "key")),
                ("sharer_value", array(&sharer, "value")),
                ("receiver_key", array(&receiver, "key")),
                ("receiver_value", array(&receiver, "value")),
            ];
            let found = run(&model, &dir, &inputs);
            let expected = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
            for side in ["key", "value"] {
                let (found, expected) = (&found[&format!("fused_{side}")], array(&expected, side));
                assert_eq!(found.0, expected.0, "{parts:?}");
                for (found, expected) in found.1.iter().zip(&expected.1) {
                    assert!((found - expected).abs() < 1e-5, "{parts:?}, {batch} x {tokens}: {found} {expected}");
                }
            }
        }
    }
}

#[test]
fn the_file_says_what_it_is_and_holds_the_weights() {
    let tmp = tempfile::tempdir().unwrap();
    let (ours, dir) = (tmp.path().join("ours"), tmp.path().join("onnx"));
    let fuser = mixed(FuserParts::default());
    save(&fuser, &info(), &[], &ours, false).unwrap();
    let config = load::<B>(&ours, &device()).unwrap().config;
    write_onnx(&fuser, &config, &CardSections::default(), &dir, 1, false).unwrap();
    assert_eq!(names(&dir), [CARD_FILE, ONNX_FILE, ONNX_DATA_FILE]);
    let model = read(&dir.join(ONNX_FILE));
    assert_eq!((model.opset_import.len(), model.opset_import[0].version), (1, 18));

    let axes = |v: &onnx_protobuf::ValueInfoProto| -> Vec<String> {
        let Some(onnx_protobuf::type_proto::Value::TensorType(tensor)) = &v.type_.value else { panic!("{}", v.name) };
        let dim = |d: &onnx_protobuf::tensor_shape_proto::Dimension| match d.value.as_ref().unwrap() {
            onnx_protobuf::tensor_shape_proto::dimension::Value::DimValue(n) => n.to_string(),
            onnx_protobuf::tensor_shape_proto::dimension::Value::DimParam(name) => name.clone(),
            _ => panic!("{}", v.name),
        };
        tensor.shape.dim.iter().map(dim).collect()
    };
    let inputs: Vec<(&str, Vec<String>)> = model.graph.input.iter().map(|v| (v.name.as_str(), axes(v))).collect();
    assert_eq!(
        inputs.iter().map(|i| i.0).collect::<Vec<_>>(),
        ["sharer_key", "sharer_value", "receiver_key", "receiver_value"]
    );
    assert_eq!(inputs[0].1, ["sharer_layers", "batch", "1", "tokens", "4"]);
    assert_eq!(inputs[3].1, ["3", "batch", "2", "tokens", "3"]);
    assert_eq!(model.graph.output.iter().map(axes).collect::<Vec<_>>(), [inputs[2].1.clone(), inputs[3].1.clone()]);

    // The card tells of each, and that the weights lie in a file of their own.
    let card = fs::read_to_string(dir.join(CARD_FILE)).unwrap();
    for (what, caches) in [("input", &model.graph.input), ("output", &model.graph.output)] {
        for cache in caches {
            let row = format!("| {what} | `{}` | `[{}]` |", cache.name, axes(cache).join(", "));
            assert!(card.contains(&row), "{row} in\n{card}");
            assert!(card.contains(&format!("\"{}\"", cache.name)), "the example has {}", cache.name);
        }
    }
    assert!(card.contains(ONNX_DATA_FILE) && card.contains("are read: all 2."), "{card}");

    let metadata = |key: &str| {
        let found = model.metadata_props.iter().find(|e| e.key == format!("c2c.{key}"));
        found.unwrap_or_else(|| panic!("{key}")).value.clone()
    };
    assert_eq!(metadata("receiver"), "lab/receiver|1");
    assert_eq!(metadata("sharer_weights_sha256"), "ab".repeat(32));
    assert_eq!(metadata("layer_map"), "[0,0,1]");
    assert_eq!(metadata("fuser_weights_sha256"), config.weights_sha256);
    let whole: c2c_export::artefact::ArtefactConfig = serde_json::from_str(&metadata("fuser_config")).unwrap();
    assert_eq!(whole, config);

    let find = |name: &str| model.graph.initializer.iter().find(|t| t.name == name).unwrap();
    for (name, param) in fuser.named_params().into_iter().filter(|p| p.0 != "gate_logit") {
        let tensor = find(&name);
        assert_eq!(tensor.raw_data.len(), 0, "{name} lies outside");
        let offset = tensor.external_data.iter().find(|e| e.key == "offset").unwrap();
        assert_eq!(offset.value.parse::<u64>().unwrap() % 4096, 0, "{name} can be mapped");
        let expected = param.val();
        let values: Vec<f64> = expected.to_data().iter::<f64>().collect();
        assert_eq!(initializer(tensor, &dir), Array(expected.dims().to_vec(), values), "{name}");
    }
    assert_eq!(initializer(find("gate"), &dir).1, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn what_onnx_cannot_hold_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (ours, pruned, dir) = (tmp.path().join("ours"), tmp.path().join("pruned"), tmp.path().join("onnx"));
    save(&mixed(FuserParts::default()), &info(), &[], &ours, false).unwrap();
    let to = |from: &std::path::Path, to: &std::path::Path, format, dtype, prune| {
        convert::<B>(from, to, ExportOptions { format, dtype, prune }, false, &device())
    };
    for (dtype, prune) in [(Some(WeightsDtype::Bf16), false), (Some(WeightsDtype::Int8), false), (None, true)] {
        let error = to(&ours, &dir, ExportFormat::Onnx, dtype, prune).unwrap_err();
        assert!(matches!(error, ExportError::Option { .. }), "{error}");
    }
    to(&ours, &pruned, ExportFormat::Safetensors, None, true).unwrap();
    let error = to(&pruned, &dir, ExportFormat::Onnx, None, false).unwrap_err().to_string();
    assert!(error.contains("need all of its layers"), "{error}");
    let held = load::<B>(&pruned, &device()).unwrap();
    let error =
        write_onnx(&held.fuser, &held.config, &CardSections::default(), &dir, 1, false).unwrap_err().to_string();
    assert!(error.contains("3 branches") && error.contains("all 6"), "{error}");
    assert_eq!(names(tmp.path()), ["ours", "pruned"], "nothing half written stays");

    // Weights in int8 are f32 in the graph.
    let int8 = tmp.path().join("int8");
    to(&ours, &int8, ExportFormat::Safetensors, Some(WeightsDtype::Int8), false).unwrap();
    to(&int8, &dir, ExportFormat::Onnx, None, false).unwrap();
    assert!(fs::metadata(dir.join(ONNX_FILE)).unwrap().len() > 0);
}

/// Batch and tokens of the cases of the import.
const REIMPORTED: [[usize; 2]; 4] = [[1, 1], [2, 5], [3, 2], [1, 12]];

/// Caches and what they are fused to, as `n.<who>_<side>`.
fn reimport_cases(fuser: &Fuser<B>) -> BTreeMap<String, Array> {
    let mut out = BTreeMap::new();
    for (n, [batch, tokens]) in REIMPORTED.into_iter().enumerate() {
        let [sharer, receiver] = random_caches::<B>(fuser.config(), batch, tokens, n as u64, &device());
        let fused = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
        for (who, cache) in [("sharer", &sharer), ("receiver", &receiver), ("fused", &fused)] {
            for side in ["key", "value"] {
                out.insert(format!("{n}.{who}_{side}"), array(cache, side));
            }
        }
    }
    out
}

/// `tests/reimport` reads these two files with Burn's importer. With `C2C_WRITE_FIXTURES` set they are written.
#[test]
fn the_files_of_the_reimport_are_what_is_exported() {
    let tmp = tempfile::tempdir().unwrap();
    let (ours, dir) = (tmp.path().join("ours"), tmp.path().join("onnx"));
    let fuser = mixed(FuserParts::default());
    save(&fuser, &info(), &[], &ours, false).unwrap();
    let config = load::<B>(&ours, &device()).unwrap().config;
    write_onnx(&fuser, &config, &CardSections::default(), &dir, EXTERNAL_FROM, false).unwrap();
    let cases = reimport_cases(&fuser);

    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/reimport");
    let (graph_file, cases_file) = (root.join(ONNX_FILE), root.join("cases.safetensors"));
    if std::env::var_os("C2C_WRITE_FIXTURES").is_some() {
        fs::copy(dir.join(ONNX_FILE), &graph_file).unwrap();
        let bytes: BTreeMap<_, (Vec<usize>, Vec<u8>)> = cases
            .iter()
            .map(|(n, x)| (n, (x.0.clone(), x.1.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())))
            .collect();
        let view = |(n, (shape, bytes))| (n, TensorView::new(Dtype::F32, shape, bytes).unwrap());
        let views = bytes.iter().map(|(n, (shape, bytes))| (n, (shape.clone(), bytes.as_slice()))).map(view);
        safetensors::serialize_to_file(views, None, &cases_file).unwrap();
    }
    let again = "run this test with C2C_WRITE_FIXTURES=1, then the one in tests/reimport";
    let (mut held, mut made) = (read(&graph_file), read(&dir.join(ONNX_FILE)));
    (held.producer_version, made.producer_version) = Default::default();
    assert!(held == made, "the graph is another one: {again}");
    let bytes = fs::read(cases_file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names().len(), cases.len(), "{again}");
    for (name, made) in cases {
        let held = file.tensor(&name).unwrap();
        assert_eq!(held.shape(), made.0, "{name}: {again}");
        for (held, made) in held.data().as_chunks::<4>().0.iter().zip(made.1) {
            // The last bits may depend on the machine.
            assert!((f64::from(f32::from_le_bytes(*held)) - made).abs() < 1e-5, "{name}: {again}");
        }
    }
}
