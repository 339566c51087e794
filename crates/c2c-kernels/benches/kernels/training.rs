//! The way back through a frozen model, the loss, and the optimiser.

use std::cell::RefCell;

use burn::Dispatch;
use c2c_kernels::{Act, AdamWStep, KernelBackend, QkvBackward};

use crate::{Bench, EPSILON, HEAD_DIM, HEADS, HIDDEN, INNER, KV_HEADS, LAYERS, TOKENS, VOCABULARY};

/// Rows of a response, whose logits are a training step's largest tensor.
const RESPONSE: usize = 128;

pub(crate) fn all(bench: &mut Bench<'_>) {
    backward(bench);
    loss(bench);
    optimiser(bench);
}

fn backward(bench: &mut Bench<'_>) {
    let (x, grad) = (bench.normal([TOKENS, HIDDEN]), bench.normal([TOKENS, HIDDEN]));
    let norm = bench.ones(HIDDEN);
    bench.time("back through a norm, 512 rows", || {
        drop(Dispatch::rms_norm_backward(x.clone(), norm.clone(), grad.clone(), Some(x.clone()), EPSILON));
    });
    let (both, grad) = (bench.normal([2, TOKENS, INNER]), bench.normal([TOKENS, INNER]));
    bench.time("back through a gate, 512 rows", || {
        drop(Dispatch::gated_backward(both.clone(), grad.clone(), Act::Silu));
    });
    let scores = || bench.normal([1, KV_HEADS, HEADS / KV_HEADS * TOKENS, TOKENS]);
    let (weights, grad) = (scores(), scores());
    // In place: each run reads what the one before left, which takes no other time.
    bench.time("back through a softmax, 512 tokens", || {
        drop(Dispatch::softmax_backward(weights.clone(), grad.clone()));
    });
    let joined = bench.normal([TOKENS, (HEADS + 2 * KV_HEADS) * HEAD_DIM]);
    let (cos, sin) = (bench.normal_f32([TOKENS, HEAD_DIM]), bench.normal_f32([TOKENS, HEAD_DIM]));
    let positions = bench.ints(0..TOKENS as i32);
    let norm = bench.ones(HEAD_DIM);
    let (query, key, value) = (bench.normal([1, HEADS, TOKENS, HEAD_DIM]), bench.cache(), bench.cache());
    bench.time("back to the projections, 512 tokens", || {
        drop(Dispatch::qkv_backward(QkvBackward {
            joined: &joined,
            bias: None,
            norms: Some((norm.clone(), norm.clone())),
            tables: (&cos, &sin),
            positions: &positions,
            query: query.clone(),
            key: key.clone(),
            value: value.clone(),
            past: 0,
            scale: 0.1,
            eps: EPSILON,
        }));
    });
}

fn loss(bench: &mut Bench<'_>) {
    let logits = bench.normal([RESPONSE, VOCABULARY]);
    let targets = bench.ints((0..RESPONSE).map(|row| (1000 * row) as i32));
    let shares = bench.ones(RESPONSE);
    bench.time("log-sum-exp of a vocabulary, 128 rows", || drop(Dispatch::log_sum_exp(logits.clone())));
    bench.time("cross entropy and a copy, 128 rows", || {
        drop(Dispatch::cross_entropy(logits.clone(), targets.clone(), shares.clone()));
    });
}

/// A weight of half the branches of a fuser, 29 million elements, and what a training step does with it.
fn optimiser(bench: &mut Bench<'_>) {
    let branches = |rows: usize| bench.normal_f32([LAYERS, rows, HIDDEN]);
    let (weight, norm, dtype) = (branches(HIDDEN), branches(1), bench.dtype);
    let moments = [branches(HIDDEN), branches(HIDDEN).abs()];
    bench.time("weight scaled by a norm", || drop(Dispatch::scaled_weight(weight.clone(), norm.clone(), dtype)));
    let gradient = weight.clone().cast(dtype);
    bench.time("sum of squares", || {
        let flat = gradient.clone().reshape([LAYERS * HIDDEN * HIDDEN]);
        drop(Dispatch::sum_of_squares(vec![flat]));
    });
    // In place, so that nobody else may hold them.
    let [first, second] = moments;
    let state = RefCell::new(Some([weight, first, second]));
    let step =
        AdamWStep { factor: 0.5, rate: 1e-4, decay: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, time: 1000 };
    bench.time("step of AdamW", || {
        let moved = state
            .take()
            .map(|[weight, first, second]| Dispatch::adamw(weight, gradient.clone(), Some([first, second]), step));
        state.replace(moved);
    });
}
