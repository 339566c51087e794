//! All-in-one networks on the device under test: the numbers and the gradients that PyTorch computes in f32, for every
//! choice that they have (`tests/interop/all_in_one.py` made the cases).

use std::path::{Path, PathBuf};

use burn::DispatchDevice;
use burn::tensor::{DType, Tensor, TensorData};
use c2c_export::artefact::AlignmentInfo;
use c2c_export::published::{ImportedModel, import};
use c2c_fuser::{Activation, Features, Fuser, FuserMode, GateDraw, Granularity, ReceiverTerm};
use c2c_lm::{LayerKv, LmConfig};
use c2c_tests::{Array, B, Fixture, assert_close, autodiff_device, device, golden_dir};
use serde_json::Value;

/// The largest difference, as a share of the largest value. Of fused caches, of the largest change that fusing makes.
const LIMIT: f64 = 1e-4;
/// Of the training step, as in the script.
const TEMPERATURE: f64 = 0.7;
const DRAW: f64 = 0.3;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../crates/c2c-export/tests/all_in_one");
    let mut out: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    out.sort();
    assert_eq!(out.len(), 9);
    out
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// Values from a folder of the published layout, as a fuser without dropout.
fn fuser(dir: &Path, device: &DispatchDevice) -> Fuser<B> {
    let text = std::fs::read_to_string(dir.join("final/projector_0.json")).unwrap();
    let width = serde_json::from_str::<Value>(&text).unwrap()["init_args"]["source_dim"].as_u64().unwrap() as usize;
    let model = |layers, head_dim| {
        let mut config = LmConfig::from_dir(&golden_dir().join("c2c/qwen3_from_qwen2_deeper/receiver")).unwrap();
        (config.num_layers, config.num_kv_heads, config.head_dim) = (layers, 2, head_dim);
        ImportedModel { name: "a/model".into(), config }
    };
    let alignment = AlignmentInfo { mode: "shared".into(), strategy: "first".into(), sections: "message".into() };
    let (read, _) = import::<B>(dir, "a/fuser", &model(3, 4), &model(2, width), alignment, device)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut config = read.config().clone();
    config.dropout = 0.0;
    let params = read.named_params();
    Fuser::load(&config, device, |name, _| {
        let (_, param) = params.iter().find(|(other, _)| other == name).unwrap();
        Ok(Array::of(&param.val()).f32s())
    })
    .unwrap()
}

fn caches(file: &Fixture, who: &str, device: &DispatchDevice) -> Vec<LayerKv<B>> {
    let read = |side: &str| {
        let array = file.get(&format!("{who}_{side}"));
        let shape: [usize; 5] = array.shape.clone().try_into().unwrap();
        let data = TensorData::new(array.f32s(), shape);
        let layers = Tensor::<B, 5>::from_data(data, device).iter_dim(0);
        layers.map(|layer| layer.squeeze_dim::<4>(0)).collect::<Vec<_>>()
    };
    read("key").into_iter().zip(read("value")).map(|(key, value)| LayerKv { key, value }).collect()
}

/// Keys of all layers, then values.
fn tensors(caches: &[LayerKv<B>]) -> Vec<Tensor<B, 4>> {
    caches.iter().map(|kv| kv.key.clone()).chain(caches.iter().map(|kv| kv.value.clone())).collect()
}

#[test]
fn every_choice_fuses_as_in_pytorch_on_this_device() {
    for case in cases() {
        let file = Fixture::open(&case.join("expected.safetensors"));
        let [sharer, receiver, expected] = ["sharer", "receiver", "fused"].map(|who| caches(&file, who, &device()));
        let trained = fuser(&case, &device());
        let ready = trained.clone().for_inference(DType::F32).unwrap();
        for fuser in [trained, ready] {
            let fused = fuser.fuse(&sharer, &receiver, FuserMode::Infer).unwrap();
            let pairs = tensors(&fused).into_iter().zip(tensors(&expected)).zip(tensors(&receiver));
            for (branch, ((fused, expected), own)) in pairs.enumerate() {
                let change = Array::of(&(expected.clone() - own)).max_abs();
                // A shut gate that leaves the cache as it is has no size to compare with.
                let limit = LIMIT * if change == 0.0 { Array::of(&expected).max_abs() } else { change };
                let what = format!("{}: branch {branch}", name(&case));
                assert_close(&what, &Array::of(&fused), &Array::of(&expected), limit);
            }
        }
    }
}

#[test]
fn every_choice_trains_as_in_pytorch_on_this_device() {
    for case in cases() {
        let file = Fixture::open(&case.join("expected.safetensors"));
        let [sharer, receiver, weights] =
            ["sharer", "receiver", "fused"].map(|who| caches(&file, who, &autodiff_device()));
        let trained = fuser(&case, &autodiff_device());
        let mode = FuserMode::Train { temperature: TEMPERATURE, draw: GateDraw::Fixed(DRAW) };
        let fused = trained.fuse(&sharer, &receiver, mode).unwrap();
        let terms = tensors(&fused).into_iter().zip(tensors(&weights)).map(|(fused, weight)| (fused * weight).sum());
        let grads = terms.reduce(|a, b| a + b).unwrap().backward();
        let expected = fuser(&case.join("gradients"), &device());
        let expected = expected.named_params();
        let found = trained.named_params();
        assert_eq!(found.len(), expected.len());
        for ((parameter, param), (other, expected)) in found.iter().zip(&expected) {
            assert_eq!(parameter, other);
            let what = format!("{}: {parameter}", name(&case));
            let grad = param.val().grad(&grads).unwrap_or_else(|| panic!("{what} has no gradient"));
            let (grad, expected) = (Array::of(&grad), Array::of(&expected.val()));
            assert!(expected.max_abs() > 0.0, "{what}: nothing to compare with");
            assert_close(&what, &grad, &expected, LIMIT * expected.max_abs());
        }
    }
}

/// A choice that no case has would be compared with nothing.
#[test]
fn the_cases_have_every_choice() {
    let configs: Vec<_> = cases().iter().map(|case| fuser(case, &device()).config().clone()).collect();
    let all: Vec<_> = configs.iter().map(|config| config.all_in_one.clone().unwrap()).collect();
    let has = |what: &str, yes: &dyn Fn(&c2c_fuser::AllInOneConfig) -> bool| assert!(all.iter().any(yes), "no {what}");
    for activation in [Activation::Gelu, Activation::Relu, Activation::Silu] {
        has("activation", &|c| c.activation == activation && !c.swiglu);
    }
    for term in [ReceiverTerm::Added, ReceiverTerm::Blended, ReceiverTerm::Replaced] {
        has("receiver term", &|c| c.receiver == term);
    }
    for on in [true, false] {
        has("LayerNorm", &|c| c.layer_norm == on);
        has("SwiGLU", &|c| c.swiglu == on);
        has("combiner", &|c| c.combine == on);
    }
    // The residual path counts where the widths agree.
    assert!(configs.iter().any(|c| c.all_in_one.as_ref().unwrap().residual && c.sharer_width() == c.receiver_width()));
    for granularity in [Granularity::Scalar, Granularity::Token, Granularity::Head, Granularity::Value] {
        has("parameter gate", &|c| c.gate.features.is_none() && c.gate.granularity == granularity);
        has("parameter weight", &|c| c.weight.features.is_none() && c.weight.granularity == granularity);
    }
    for granularity in [Granularity::Scalar, Granularity::Head, Granularity::HeadMerged, Granularity::Value] {
        has("made gate", &|c| c.gate.features.is_some() && c.gate.granularity == granularity);
        has("made weight", &|c| c.weight.features.is_some() && c.weight.granularity == granularity);
    }
    has("made weight a token", &|c| c.weight.features.is_some() && c.weight.granularity == Granularity::Token);
    for features in [
        Features::ReceiverKey,
        Features::ReceiverValue,
        Features::ReceiverBoth,
        Features::ProjectedKey,
        Features::ProjectedValue,
        Features::ProjectedBoth,
    ] {
        has("features", &|c| [c.gate.features, c.weight.features].contains(&Some(features)));
    }
}
