//! A model's passes and the choice of the next token.

use burn::Dispatch;
use burn::tensor::{Int, Tensor};
use c2c_kernels::{Act, Draw, Gemv, KernelBackend, QkvToCache, Sampling, SoftmaxMask};

use crate::{Bench, EPSILON, HEAD_DIM, HEADS, HIDDEN, INNER, KV_HEADS, TOKENS, VOCABULARY};

pub(crate) fn all(bench: &mut Bench<'_>) {
    rows(bench);
    attention(bench);
    choice(bench);
}

fn rows(bench: &mut Bench<'_>) {
    let (x, y) = (bench.normal([TOKENS, HIDDEN]), bench.normal([TOKENS, HIDDEN]));
    let norm = bench.ones(HIDDEN);
    bench.time("norm of a sum, 512 rows", || {
        drop(Dispatch::add_rms_norm(x.clone(), Some(y.clone()), norm.clone(), EPSILON));
    });
    bench.time("rows by their root mean square, 512 rows", || drop(Dispatch::rms_scale(x.clone(), EPSILON)));
    let both = bench.normal([2, TOKENS, INNER]);
    bench.time("gated, 512 rows", || drop(Dispatch::gated(both.clone(), Act::Silu)));
    let weight = bench.normal([INNER, HIDDEN]);
    bench.time("product, 512 rows", || drop(Dispatch::product(x.clone(), weight.clone().transpose())));
    if Dispatch::has_gemv(&bench.device) {
        let row = bench.normal([1, HIDDEN]);
        bench.time("product, 1 row", || {
            let plain = Gemv { x: row.clone(), weight: &weight, norm: None, bias: None, residual: None, gated: None };
            drop(Dispatch::gemv(plain));
        });
    }
}

fn attention(bench: &mut Bench<'_>) {
    let (key, value) = (bench.cache(), bench.cache());
    let joined = bench.normal([TOKENS, (HEADS + 2 * KV_HEADS) * HEAD_DIM]);
    let (cos, sin) = (bench.normal_f32([TOKENS, HEAD_DIM]), bench.normal_f32([TOKENS, HEAD_DIM]));
    let positions = bench.ints(0..TOKENS as i32);
    let norm = bench.ones(HEAD_DIM);
    bench.time("projections into a cache, 512 tokens", || {
        drop(Dispatch::qkv_to_cache(QkvToCache {
            joined: joined.clone(),
            bias: None,
            norms: Some((norm.clone(), norm.clone())),
            tables: (&cos, &sin),
            positions: &positions,
            key: &key,
            value: &value,
            past: 0,
            tail: 0,
            heads: HEADS,
            scale: 0.1,
            eps: EPSILON,
        }));
    });
    let mask = SoftmaxMask { real: None, tokens: TOKENS, slots: TOKENS, window: None };
    // In place: each run reads what the one before left, which takes no other time.
    let scores = bench.normal([1, KV_HEADS, HEADS / KV_HEADS * TOKENS, TOKENS]);
    bench.time("masked softmax, 512 tokens", || drop(Dispatch::masked_softmax(scores.clone(), mask)));
    let query = bench.normal([1, HEADS, TOKENS, HEAD_DIM]);
    bench.time("attention of 512 tokens", || {
        drop(Dispatch::prefill_attention(query.clone(), key.clone(), value.clone(), mask));
    });
    let query = bench.normal([1, HEADS, 1, HEAD_DIM]);
    let mask = SoftmaxMask { tokens: 1, ..mask };
    bench.time("attention of a token, 512 slots", || {
        drop(Dispatch::decode_attention(query.clone(), &key, &value, mask));
    });
}

fn choice(bench: &mut Bench<'_>) {
    let draw = Draw { temperature: 0.7, top_k: None, top_p: 1.0, drops_crossing: false };
    let plain = Sampling { presence: 0.0, frequency: 0.0, repetition: 1.0, draw: Some(draw) };
    let cut = Sampling { draw: Some(Draw { top_k: Some(20), top_p: 0.8, ..draw }), ..plain };
    let penalised = Sampling { presence: 1.5, ..cut };
    for rows in [1, 16] {
        // As wide as a model's, so that a few tokens have most of the mass.
        let logits = bench.normal([rows, VOCABULARY]) * 3.0;
        bench.time(&format!("argmax of a vocabulary, {rows} rows"), || drop(Dispatch::argmax(logits.clone())));
        let drawn = bench.ints((0..rows).map(|row| (row << 20) as i32));
        let zeros = || Tensor::<Dispatch, 2, Int>::zeros([rows, VOCABULARY], &bench.device);
        let counts = std::cell::RefCell::new(Some(zeros()));
        for (name, sampling) in [("a draw", plain), ("a draw with top-k and top-p", cut), ("with penalties", penalised)]
        {
            bench.time(&format!("{name} from a vocabulary, {rows} rows"), || {
                let counted = if sampling.presence == 0.0 { None } else { counts.take() };
                let (_, after) = Dispatch::sample(logits.clone(), counted, drawn.clone(), sampling);
                if after.is_some() {
                    counts.replace(after);
                }
            });
        }
    }
}
