//! Gradients of adapters and parts against those of the whole model, and what a step leaves alone.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{Tensor, TensorData};
use burn::{Dispatch, DispatchDevice};
use c2c_lm::{Activation, Family, GenerationDefaults, KvCache, Lm, LmConfig, LogitsWanted, TokenBatch, init_random};
use c2c_recipe::{LoraTarget, ModelPart, OptimizerSettings, SingleSettings, Trainable};

use super::batch::{Row, loss};
use super::trainable;
use crate::weights::{Adam, adam_w};

type B = Dispatch;

fn plain() -> DispatchDevice {
    DispatchDevice::Flex(burn_flex::FlexDevice)
}

const HIDDEN: usize = 12;
const INNER: usize = 10;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 4;

fn base(tied: bool) -> Lm<B> {
    let config = LmConfig {
        family: Family::Qwen3,
        vocab_size: 23,
        hidden_size: HIDDEN,
        intermediate_size: INNER,
        num_layers: 3,
        num_heads: HEADS,
        num_kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        rope_local_theta: 1e4,
        tie_embeddings: tied,
        qkv_bias: true,
        o_bias: false,
        activation: Activation::Silu,
        attention_scale: 0.5,
        sliding_windows: vec![None; 3],
        max_position: 32,
        generation: GenerationDefaults { eos: vec![1], pad: Some(0) },
    };
    init_random(&config, 5, &plain()).no_grad()
}

fn rows() -> Vec<Row> {
    let row = |ids: &[u32], from: usize| Row {
        ids: ids.to_vec(),
        labels: ids.iter().enumerate().map(|(at, id)| (at >= from).then_some(*id)).collect(),
    };
    vec![row(&[3, 9, 14, 2, 7, 1], 3), row(&[5, 8, 11, 1], 2)]
}

fn settings(trainable: Trainable) -> SingleSettings {
    SingleSettings { trainable, lora_rank: 3, lora_alpha: 6.0, lora_dropout: 0.0, ..SingleSettings::default() }
}

/// Every tensor of a kind by its path: values of parameters, or their gradients.
struct Collect<'a> {
    path: Vec<String>,
    grads: Option<&'a GradientsParams>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor<B> for Collect<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let data = match self.grads {
            None => Some(param.val().into_data()),
            Some(grads) => grads.get::<B, D>(param.id).map(Tensor::into_data),
        };
        if let Some(data) = data {
            self.found.insert(self.path.join("."), data.iter::<f32>().collect());
        }
    }
}

fn collect(model: &Lm<B>, grads: Option<&GradientsParams>) -> BTreeMap<String, Vec<f32>> {
    let mut collect = Collect { path: Vec::new(), grads, found: BTreeMap::new() };
    Module::<B>::visit(model, &mut collect);
    collect.found
}

fn values(model: &Lm<B>) -> BTreeMap<String, Vec<f32>> {
    collect(model, None)
}

fn loss_of(model: &Lm<B>) -> f64 {
    crate::loss::scalar(loss(model, &rows().iter().collect::<Vec<_>>(), 0).unwrap())
}

fn gradients(model: &Lm<B>) -> (GradientsParams, BTreeMap<String, Vec<f32>>) {
    let rows = rows();
    let loss = loss(model, &rows.iter().collect::<Vec<_>>(), 0).unwrap();
    let grads = GradientsParams::from_grads(loss.backward(), model);
    let found = collect(model, Some(&grads));
    (grads, found)
}

/// Moves adapters away from their start, where half of the gradients are zero.
struct Shake;

impl ModuleMapper<B> for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if !param.is_require_grad() {
            return param;
        }
        param.map(|tensor| {
            let (shape, device) = (tensor.dims(), tensor.device());
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) % 23) as f32 / 40.0 - 0.27).collect();
            Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
        })
    }
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
    assert!(size > 1e-4, "{what} is near zero everywhere, which shows nothing");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 2e-4 * size, "{what}: {a} instead of {b}");
    }
}

/// `a [n, k] @ b [k, m]`.
fn product(a: &[f32], b: &[f32], k: usize, scale: f32) -> Vec<f32> {
    let m = b.len() / k;
    let cell = |i: usize, j: usize| (0..k).map(|x| a[i * k + x] * b[x * m + j]).sum::<f32>() * scale;
    (0..a.len() / k).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

fn transposed(a: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| a.iter().skip(j).step_by(columns).copied().collect::<Vec<_>>()).collect()
}

#[test]
fn new_adapters_change_nothing_and_merged_ones_give_the_same_logits() {
    let tokens = TokenBatch::new(vec![vec![3, 9, 14, 2]], 0).unwrap();
    let logits = |model: &Lm<B>| {
        let mut cache: KvCache<B> = model.new_cache(1);
        model.forward(&tokens, &mut cache, LogitsWanted::All).unwrap().into_data().iter::<f32>().collect::<Vec<_>>()
    };
    let fresh = trainable::<B>(base(true), &settings(Trainable::Lora), 9).unwrap();
    let plain = <Lm<B> as AutodiffModule<B>>::from_inner(base(true));
    assert_eq!(logits(&fresh), logits(&plain), "to the bit");
    let shaken = fresh.map(&mut Shake);
    let merged = shaken.clone().merged();
    assert!(values(&merged).keys().all(|name| !name.contains("lora")));
    close(&logits(&merged), &logits(&shaken), "logits");
    assert!(logits(&merged).iter().zip(logits(&base(true))).any(|(a, b)| (a - b).abs() > 0.1));
}

/// `dL/dB = s dL/dW A^T` and `dL/dA = s B^T dL/dW`, where `dL/dW` is the whole model's gradient at the merged weights.
#[test]
fn gradients_of_adapters_are_those_of_the_whole_model_seen_through_them() {
    let adapted = trainable::<B>(base(true), &settings(Trainable::Lora), 9).unwrap().map(&mut Shake);
    let (_, found) = gradients(&adapted);
    let (_, whole) = gradients(&adapted.clone().merged().thaw());
    let factors = values(&adapted);
    let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let scale = 2.0;
    let mut seen = 0;
    for layer in 0..3 {
        // Name, matrix, first row, rows, columns.
        for (target, matrix, start, count, columns) in [
            ("q_proj", "qkv", 0, q, HIDDEN),
            ("k_proj", "qkv", q, kv, HIDDEN),
            ("v_proj", "qkv", q + kv, kv, HIDDEN),
            ("o_proj", "o", 0, HIDDEN, q),
            ("gate_proj", "gate_up", 0, INNER, HIDDEN),
            ("up_proj", "gate_up", INNER, INNER, HIDDEN),
            ("down_proj", "down", 0, HIDDEN, INNER),
        ] {
            let name = |part: &str| format!("layers.{layer}.{part}");
            let own = &whole[&name(matrix)][start * columns..(start + count) * columns];
            let (a, b) = (&factors[&name(&format!("lora.{target}.a"))], &factors[&name(&format!("lora.{target}.b"))]);
            let expected_b = product(own, &transposed(a, columns), columns, scale);
            close(&found[&name(&format!("lora.{target}.b"))], &expected_b, &format!("B of {target} in {layer}"));
            let expected_a = product(&transposed(b, 3), own, count, scale);
            close(&found[&name(&format!("lora.{target}.a"))], &expected_a, &format!("A of {target} in {layer}"));
            seen += 2;
        }
    }
    assert_eq!(found.len(), seen, "nothing else has a gradient");
}

/// What a plan says without the weights is what is trained.
#[test]
fn parameters_of_a_plan_are_those_that_are_trained() {
    for tied in [false, true] {
        for how in [Trainable::Full, Trainable::Lora, Trainable::Partial] {
            let (model, mut settings) = (base(tied), settings(how));
            use ModelPart::{DownProj, Embedding, FinalNorm, GateUp, Head, Norms, OProj, Qkv};
            let all = [Embedding, Qkv, OProj, GateUp, DownProj, Norms, FinalNorm, Head];
            for parts in [all.as_slice(), &[Qkv, Norms, Head], &[Embedding, FinalNorm]] {
                settings.parts = parts.to_vec();
                let planned = crate::plan::single::trained_parameters(model.config(), &settings).unwrap();
                let trained = trainable::<B>(model.clone(), &settings, 9).unwrap();
                assert_eq!(planned, crate::weights::count(&trained), "{how:?}, tied {tied}, {parts:?}");
            }
        }
    }
}

/// The whole model's gradient itself, by central differences in the directions of some parameters.
#[test]
fn gradients_of_the_whole_model_are_finite_differences() {
    struct Move<'a> {
        path: Vec<String>,
        name: &'a str,
        by: f32,
    }
    impl ModuleMapper<B> for Move<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            if self.path.join(".") != self.name {
                return param;
            }
            let by = self.by;
            param.map(|tensor| {
                let (shape, device) = (tensor.dims(), tensor.device());
                let count = shape.iter().product::<usize>();
                let way: Vec<f32> = (0..count).map(|i| by * direction(i)).collect();
                tensor + Tensor::from_data(TensorData::new(way, shape), &device)
            })
        }
    }
    fn direction(i: usize) -> f32 {
        if i.is_multiple_of(3) { 1.0 } else { -0.5 }
    }
    let model = base(false);
    let whole = trainable::<B>(model.clone(), &settings(Trainable::Full), 9).unwrap();
    let (_, found) = gradients(&whole);
    for name in [
        "embedding",
        "head",
        "final_norm",
        "layers.1.qkv",
        "layers.1.qkv_bias",
        "layers.0.gate_up",
        "layers.2.k_norm",
        "layers.0.q_norm",
    ] {
        let slope: f64 = found[name].iter().enumerate().map(|(i, g)| f64::from(g * direction(i))).sum();
        let step = 2e-3;
        let moved = |by: f32| {
            let moved = <Lm<B> as AutodiffModule<B>>::valid(&whole);
            loss_of(&moved.map(&mut Move { path: Vec::new(), name, by }))
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let bound = 2e-3 + 0.01 * slope.abs();
        assert!((difference - slope).abs() < bound, "{name}: {slope} by the gradient, {difference} by differences");
    }
}

#[test]
fn a_part_has_the_whole_models_gradient_and_nothing_else_has_one() {
    for (tied, parts, expected) in [
        (true, vec![ModelPart::Qkv, ModelPart::Norms, ModelPart::Head], 6),
        (false, vec![ModelPart::DownProj, ModelPart::OProj, ModelPart::FinalNorm, ModelPart::Embedding], 4),
    ] {
        let (_, whole) = gradients(&trainable::<B>(base(tied), &settings(Trainable::Full), 9).unwrap());
        let settings = SingleSettings { first_layer: 1, last_layer: Some(1), parts, ..settings(Trainable::Partial) };
        let (_, found) = gradients(&trainable::<B>(base(tied), &settings, 9).unwrap());
        // Query, key and value have a bias here, and the norms are four.
        assert_eq!(found.len(), if tied { expected + 1 } else { expected }, "{:?}", found.keys());
        for (name, grad) in &found {
            assert!(!name.starts_with("layers.") || name.starts_with("layers.1."), "{name}");
            close(grad, &whole[name], name);
        }
    }
}

#[test]
fn a_step_moves_what_is_trained_and_leaves_the_rest_to_the_bit() {
    let few = SingleSettings { lora_targets: vec![LoraTarget::Value, LoraTarget::Up], ..settings(Trainable::Lora) };
    let part = SingleSettings { parts: vec![ModelPart::GateUp], first_layer: 2, ..settings(Trainable::Partial) };
    for (settings, trained) in [(few, 12), (part, 1)] {
        let model = trainable::<B>(base(true), &settings, 9).unwrap().map(&mut Shake);
        let before = values(&model);
        let (grads, _) = gradients(&model);
        let o = OptimizerSettings {
            learning_rate: 1e-2,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
        };
        let mut adam: Adam<Lm<B>, B> = adam_w(&o);
        let after = values(&adam.step(1e-2, model, grads));
        let moved = before.iter().filter(|(name, value)| after[*name] != **value).count();
        assert_eq!((moved, after.len()), (trained, before.len()));
    }
}

#[test]
fn layers_that_the_model_does_not_have_are_named() {
    let settings = SingleSettings { first_layer: 3, ..settings(Trainable::Partial) };
    let error = trainable::<B>(base(true), &settings, 9).unwrap_err().to_string();
    assert!(error.contains("first_layer = 3") && error.contains("0 to 2"), "{error}");
}

#[test]
fn a_share_of_the_layers_is_rounded_down_and_counted_from_the_last() {
    let share = |share: f64, layers: usize| {
        let settings = SingleSettings { last_share: Some(share), ..settings(Trainable::Partial) };
        super::trained_layers(&settings, layers).map_err(|error| error.to_string())
    };
    assert_eq!(share(0.6, 28), Ok(12..28));
    assert_eq!((share(1.0, 3), share(0.5, 3)), (Ok(0..3), Ok(2..3)));
    assert!(share(0.3, 3).is_err_and(|error| error.contains("last_share = 0.3") && error.contains("larger")));
}
