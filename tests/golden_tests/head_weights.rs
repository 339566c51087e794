//! The dynamic weights by themselves: those that fusion multiplies by, of every branch that is held.

use burn::tensor::{DType, Distribution, Tensor};
use c2c_fuser::{Fuser, FuserConfig, FuserError, FuserMode, FuserParts, GateNoise, HeadWeights};
use c2c_lm::LayerKv;
use c2c_tests::{Array, B, assert_close, assert_equal, device};

const ROWS: usize = 2;
const TOKENS: usize = 7;
/// Of keys, then of values: the second key and the first value branch are shut.
const LOGITS: [f32; 6] = [0.5, -0.1, 2.0, 0.0, 0.1, 1.0];

fn config(parts: FuserParts) -> FuserConfig {
    FuserConfig {
        sharer_heads: 2,
        sharer_head_dim: 4,
        sharer_layers: 2,
        receiver_heads: 3,
        receiver_head_dim: 8,
        layer_map: vec![0, 0, 1],
        hidden_dim: 20,
        intermediate_dim: 12,
        num_layers: 3,
        dropout: 0.3,
        initial_temperature: 1.0,
        final_temperature: 0.1,
        anneal_steps: 1,
        gate_noise: GateNoise::default(),
        initial_gate_logit: 1.0,
        zero_init: false,
        parts,
        all_in_one: None,
    }
}

fn cache(layers: usize, heads: usize, width: usize) -> Vec<LayerKv<B>> {
    let drawn = || Tensor::random([ROWS, heads, TOKENS, width], Distribution::Normal(0.0, 1.0), &device());
    (0..layers).map(|_| LayerKv { key: drawn(), value: drawn() }).collect()
}

/// A fuser with these parts, all with the same parameters but for the gates.
fn fuser(parts: FuserParts) -> Fuser<B> {
    let drawn = Fuser::<B>::init(&config(FuserParts::default()), 11, &device()).unwrap();
    let params: Vec<(String, Vec<f32>)> =
        drawn.named_params().into_iter().map(|(name, param)| (name, Array::of(&param.val()).f32s())).collect();
    let read = |name: &str, _: [usize; 3]| match name {
        "gate_logit" => Ok(LOGITS.to_vec()),
        // Weights that differ between tokens: far from one half for all.
        "weight_head.weight" => Ok(of(&params, name).iter().map(|x| 8.0 * x).collect()),
        name => Ok(of(&params, name)),
    };
    Fuser::load(&config(parts), &device(), read).unwrap()
}

fn of(params: &[(String, Vec<f32>)], name: &str) -> Vec<f32> {
    params.iter().find(|(other, _)| other == name).unwrap().1.clone()
}

fn branches(weights: &[HeadWeights<B>]) -> Vec<Option<Array>> {
    let of = |side: fn(&HeadWeights<B>) -> &Option<Tensor<B, 3>>| weights.iter().map(move |w| side(w).as_ref());
    of(|w| &w.key).chain(of(|w| &w.value)).map(|w| w.map(Array::of)).collect()
}

#[test]
fn weights_times_the_projection_are_what_fusion_adds() {
    let (sharer, own) = (cache(2, 2, 4), cache(3, 3, 8));
    // Without weights and gates fusion adds the projection itself, without gates the weighted one.
    let bare = fuser(FuserParts { weights: false, gates: false, receiver: true });
    let weighted = fuser(FuserParts { weights: true, gates: false, receiver: true });
    let whole = fuser(FuserParts::default());
    let fused = |fuser: &Fuser<B>| fuser.fuse(&sharer, &own, FuserMode::Infer).unwrap();
    let (projected, scaled) = (fused(&bare), fused(&weighted));
    let weights = whole.head_weights(&sharer, &own).unwrap();
    assert_eq!(weights.len(), 3);
    let mut spread = (1.0f64, 0.0f64);
    for (layer, weights) in weights.iter().enumerate() {
        for (kind, side, weights) in [
            ("key", (|kv| &kv.key) as fn(&LayerKv<B>) -> &Tensor<B, 4>, &weights.key),
            ("value", |kv| &kv.value, &weights.value),
        ] {
            let weights = weights.clone().unwrap();
            assert_eq!(weights.dims(), [ROWS, 3, TOKENS]);
            for weight in Array::of(&weights).values {
                spread = (spread.0.min(weight), spread.1.max(weight));
            }
            let added = |of: &[LayerKv<B>]| side(&of[layer]).clone() - side(&own[layer]).clone();
            let expected = Array::of(&(added(&projected) * weights.reshape([ROWS, 3, TOKENS, 1])));
            assert_close(&format!("{kind} {layer}"), &Array::of(&added(&scaled)), &expected, 1e-6);
        }
    }
    assert!(spread.0 < 0.35 && spread.1 > 0.65 && spread.1 < 1.0, "{spread:?}: all alike would show nothing");
}

#[test]
fn shut_branches_that_are_left_out_have_no_weights_and_the_others_the_same() {
    let (sharer, own) = (cache(2, 2, 4), cache(3, 3, 8));
    let whole = fuser(FuserParts::default());
    let ready = whole.clone().for_inference(DType::F32).unwrap();
    let weights = |fuser: &Fuser<B>| branches(&fuser.head_weights(&sharer, &own).unwrap());
    let (all, held) = (weights(&whole), weights(&ready));
    for (branch, logit) in LOGITS.into_iter().enumerate() {
        let all = all[branch].as_ref().expect("the whole fuser holds every branch");
        assert_eq!(held[branch].is_some(), logit > 0.0, "branch {branch}");
        if let Some(held) = &held[branch] {
            assert_close(&format!("branch {branch}"), held, all, 1e-6);
        }
    }
    // Open or shut, a gate changes no weight.
    let shut = Fuser::load(&config(FuserParts::default()), &device(), |name, _| {
        let params: Vec<(String, Vec<f32>)> =
            whole.named_params().into_iter().map(|(name, param)| (name, Array::of(&param.val()).f32s())).collect();
        Ok(if name == "gate_logit" { vec![-1.0; 6] } else { of(&params, name) })
    });
    for (branch, weights) in weights(&shut.unwrap()).iter().enumerate() {
        assert_equal(&format!("branch {branch}"), weights.as_ref().unwrap(), all[branch].as_ref().unwrap());
    }
    assert!(weights(&whole.with_gates_shut().for_inference(DType::F32).unwrap()).iter().all(Option::is_none));
}

#[test]
fn fusers_without_weights_and_foreign_caches_are_refused() {
    let (sharer, own) = (cache(2, 2, 4), cache(3, 3, 8));
    let bare = fuser(FuserParts { weights: false, gates: true, receiver: true });
    let error = bare.head_weights(&sharer, &own).unwrap_err();
    assert!(matches!(error, FuserError::NoHeadWeights { .. }) && error.to_string().contains("fuser.level"), "{error}");
    let error = fuser(FuserParts::default()).head_weights(&sharer, &own[..2]).unwrap_err();
    assert!(matches!(error, FuserError::Shape { what: "receiver layers", .. }), "{error}");
}
