//! Penalties, filters and the distribution a token is drawn from.

use c2c_lm::{SamplingCompat, SamplingParams};
use c2c_tests::{Array, Fixture, assert_close, golden_dir};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde_json::Value;

/// Draws per case of the frequency test.
const DRAWS: usize = 4000;

struct Case {
    index: usize,
    params: SamplingParams,
    logits: Vec<f32>,
    history: Vec<u32>,
    adjusted: Array,
    probs: Array,
    argmax: u32,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden_dir().join("sampling.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let tensors = Fixture::open(&golden_dir().join("sampling.safetensors"));
    let row = |name: &str, i: usize| tensors.get(name).narrow(0, i, 1);
    let list = json["cases"].as_array().unwrap();
    assert_eq!(list.len(), tensors.get("logits").shape[0], "sampling.json and sampling.safetensors differ");
    assert!(!list.is_empty(), "no sampling case");
    let case = |case: &Value| {
        let number = |key: &str| case[key].as_f64().unwrap();
        let index = case["index"].as_u64().unwrap() as usize;
        Case {
            index,
            params: SamplingParams {
                do_sample: case["do_sample"].as_bool().unwrap(),
                temperature: number("temperature"),
                top_k: usize::try_from(case["top_k"].as_i64().unwrap()).ok().filter(|k| *k > 0),
                top_p: number("top_p"),
                repetition_penalty: number("repetition_penalty"),
                presence_penalty: number("presence_penalty"),
                frequency_penalty: number("frequency_penalty"),
                compat: SamplingCompat::Reference,
            },
            logits: row("logits", index).f32s(),
            history: tensors.get(&format!("history.{index}")).id_list(),
            adjusted: row("adjusted_logits", index),
            probs: row("probs", index),
            argmax: tensors.get("argmax").narrow(0, index, 1).id_list()[0],
        }
    };
    list.iter().map(case).collect()
}

fn array(values: &[f32]) -> Array {
    Array { shape: vec![1, values.len()], values: values.iter().map(|v| f64::from(*v)).collect() }
}

#[test]
fn adjusted_logits_and_probabilities_match() {
    for case in cases() {
        let name = format!("case {} {:?}", case.index, case.params);
        case.params.validate().unwrap();
        let mut logits = case.logits.clone();
        case.params.adjust(&mut logits, &case.history);
        assert_close(&format!("{name}: adjusted"), &array(&logits), &case.adjusted, 1e-5);
        let probs = case.params.probabilities(&logits);
        assert_close(&format!("{name}: probs"), &array(&probs), &case.probs, 1e-5);
        let support = |values: &[f64]| values.iter().map(|p| *p > 0.0).collect::<Vec<_>>();
        assert_eq!(support(&array(&probs).values), support(&case.probs.values), "{name}: support");
        let total: f32 = probs.iter().sum();
        assert!((total - 1.0).abs() < 1e-5, "{name}: probabilities sum to {total}");
    }
}

#[test]
fn greedy_takes_the_best_adjusted_logit() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for case in cases() {
        let greedy = SamplingParams { do_sample: false, ..case.params.clone() };
        let chosen = greedy.choose(case.logits.clone(), &case.history, &mut rng);
        assert_eq!(chosen, Ok(case.argmax), "case {}", case.index);
    }
}

#[test]
fn draws_follow_the_distribution() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for case in cases() {
        let mut counts = vec![0.0; case.logits.len()];
        for _ in 0..DRAWS {
            counts[case.params.choose(case.logits.clone(), &case.history, &mut rng).unwrap() as usize] += 1.0;
        }
        for (id, (count, p)) in counts.iter().zip(&case.probs.values).enumerate() {
            let n = DRAWS as f64;
            // Five standard deviations, and one draw for the very rare ids.
            let limit = 5.0 * (n * p * (1.0 - p)).sqrt() + if *p > 0.0 { 1.0 } else { 0.0 };
            assert!(
                (count - n * p).abs() <= limit,
                "case {}: id {id} was drawn {count} times of {n}, p = {p}",
                case.index
            );
        }
    }
}
