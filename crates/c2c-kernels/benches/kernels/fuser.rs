//! The ways into and out of a fuser, and what lies between its products.

use std::cell::RefCell;

use burn::Dispatch;
use c2c_kernels::{FusedLayer, FusedResult, KernelBackend};

use crate::{Bench, EPSILON, HEAD_DIM, HIDDEN, KV_HEADS, LAYERS, TOKENS};

pub(crate) fn all(bench: &mut Bench<'_>) {
    let width = KV_HEADS * HEAD_DIM;
    let (key, value) = (bench.cache(), bench.cache());
    let input = bench.normal([2, TOKENS, 2 * width]);
    bench.time("caches of a layer into a fuser, 512 tokens", || {
        let both = (&key, &value);
        let layer = FusedLayer { sharer: both, own: both, begin: 0, tokens: TOKENS, branches: [Some(0), Some(1)] };
        Dispatch::gather_layer(&input, layer);
    });
    let projected = bench.normal([2, TOKENS, width]);
    let weight = bench.normal([2, TOKENS, KV_HEADS]);
    let gate = bench.ones(2);
    // In place, so that nobody else may hold them.
    let own = RefCell::new(Some([bench.cache(), bench.cache()]));
    bench.time("a fuser's results into a layer, 512 tokens", || {
        let fused = own.take().map(|[key, value]| {
            let result = FusedResult {
                projected: &projected,
                weight: &weight,
                gate: &gate,
                begin: 0,
                tokens: TOKENS,
                branches: [Some(0), Some(1)],
            };
            Dispatch::scatter_layer(key, value, result)
        });
        own.replace(fused);
    });
    let branches = bench.normal([2 * LAYERS, TOKENS, HIDDEN]);
    bench.time("gelu, 56 branches of 512 rows", || drop(Dispatch::exact_gelu(branches.clone())));
    let square = bench.normal([2 * LAYERS, HIDDEN, HIDDEN]);
    bench.time("a block of a fuser, 56 branches of 512 rows", || {
        drop(Dispatch::ffn(branches.clone(), square.clone(), square.clone(), EPSILON));
    });
}
