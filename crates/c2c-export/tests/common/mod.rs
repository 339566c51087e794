//! A small fuser and its info.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use burn::{Dispatch, DispatchDevice};
use c2c_export::artefact::{AlignmentInfo, ArtefactInfo, ModelId, ResultRow, TrainingInfo, WEIGHTS_FILE};
use c2c_fuser::{Fuser, FuserConfig, GateNoise, LayerMapping};

pub type B = Dispatch;

pub fn device() -> DispatchDevice {
    DispatchDevice::Flex(burn_flex::FlexDevice)
}

pub fn config() -> FuserConfig {
    FuserConfig {
        sharer_heads: 1,
        sharer_head_dim: 4,
        sharer_layers: 2,
        receiver_heads: 2,
        receiver_head_dim: 3,
        layer_map: vec![0, 0, 1],
        hidden_dim: 6,
        intermediate_dim: 5,
        num_layers: 4,
        dropout: 0.1,
        initial_temperature: 1.0,
        final_temperature: 0.001,
        anneal_steps: 100,
        gate_noise: GateNoise::Gumbel,
        initial_gate_logit: 0.5,
        zero_init: false,
        parts: Default::default(),
        all_in_one: None,
    }
}

pub fn fuser(seed: u64) -> Fuser<B> {
    Fuser::init(&config(), seed, &device()).unwrap()
}

pub fn model(name: &str, layers: usize, kv_heads: usize, head_dim: usize) -> ModelId {
    ModelId {
        name: name.into(),
        model_type: "qwen3".into(),
        layers,
        kv_heads,
        head_dim,
        vocab_size: 512,
        dtype: Some("f32".into()),
        weights_sha256: Some("ab".repeat(32)),
    }
}

pub fn info() -> ArtefactInfo {
    ArtefactInfo {
        layer_mapping: LayerMapping::LastAligned,
        receiver: model("lab/receiver|1", 3, 2, 3),
        sharer: model("lab/sharer", 2, 1, 4),
        alignment: AlignmentInfo { mode: "aligned".into(), strategy: "longest".into(), sections: "message".into() },
        training: TrainingInfo {
            recipe_name: "tiny".into(),
            recipe_hash: "cd".repeat(32),
            steps: 7,
            seed: 42,
            final_temperature: 0.001f64.powf(0.07),
            data: vec![serde_json::json!({ "kind": "pocket", "sha256": "ef" })],
        },
    }
}

pub fn results() -> Vec<ResultRow> {
    let row = |method: &str, correct, accuracy| ResultRow {
        method: method.into(),
        correct,
        total: 80,
        accuracy,
        low: accuracy - 0.05,
        high: accuracy + 0.05,
        ms_per_question: 12.34,
    };
    vec![row("receiver", 20, 0.25), row("c2c", 70, 0.875)]
}

/// Name, shape and bits of every parameter.
pub fn bits(fuser: &Fuser<B>) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    fuser
        .named_params()
        .into_iter()
        .map(|(name, param)| {
            let data = param.val().into_data();
            let values = data.iter::<f32>().map(f32::to_bits).collect();
            (name, param.val().dims().to_vec(), values)
        })
        .collect()
}

pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap()))
        .collect();
    out.sort();
    out
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut out: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    out.sort();
    out
}

/// Header and data of a safetensors file.
pub fn split_weights(bytes: &[u8]) -> (serde_json::Value, Vec<u8>) {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + n]).unwrap(), bytes[8 + n..].to_vec())
}

pub fn join_weights(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// Writes other weights, and their hash into the config: an attacker would.
pub fn plant_weights(dir: &Path, bytes: &[u8]) {
    use sha2::{Digest, Sha256};
    std::fs::write(dir.join(WEIGHTS_FILE), bytes).unwrap();
    let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    edit_config(dir, |config| config["weights_sha256"] = hash.into());
}

pub fn edit_config(dir: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join("fuser_config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
}

pub fn golden() -> PathBuf {
    match std::env::var_os("C2C_GOLDEN") {
        Some(dir) => dir.into(),
        None => format!("{}/../../tests/golden", std::env::var("CARGO_MANIFEST_DIR").unwrap()).into(),
    }
}
