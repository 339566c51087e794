//! From joined projections to queries and cache.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cube_sum;
use super::launch::{array, cubes, dense, empty};

/// The tensors of [`crate::QkvToCache`] on one runtime.
pub(crate) struct Args<R: CubeRuntime> {
    pub(crate) joined: CubeTensor<R>,
    pub(crate) bias: Option<CubeTensor<R>>,
    pub(crate) norms: Option<(CubeTensor<R>, CubeTensor<R>)>,
    pub(crate) cos: CubeTensor<R>,
    pub(crate) sin: CubeTensor<R>,
    pub(crate) positions: CubeTensor<R>,
    pub(crate) key: CubeTensor<R>,
    pub(crate) value: CubeTensor<R>,
    pub(crate) past: usize,
    pub(crate) tail: usize,
    pub(crate) heads: usize,
    pub(crate) scale: f64,
    pub(crate) eps: f64,
}

/// One cube a row and head, one unit an element of the head. Heads: queries, keys, values.
#[cube(launch)]
fn qkv_kernel<F: Float>(
    joined: &Array<F>,
    bias: &Array<F>,
    q_norm: &Array<f32>,
    k_norm: &Array<f32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    positions: &Array<i32>,
    query: &mut Array<F>,
    key: &mut Array<F>,
    value: &mut Array<F>,
    tokens: u32,
    tail: u32,
    past: u32,
    capacity: u32,
    scale: f32,
    eps: f32,
    #[comptime] heads: usize,
    #[comptime] kv_heads: usize,
    #[comptime] dim: usize,
    #[comptime] has_bias: bool,
    #[comptime] has_norms: bool,
    #[define(F)] _dtype: StorageType,
) {
    let unit = UNIT_POS as usize;
    let head = CUBE_POS % comptime!(heads + 2 * kv_heads);
    let row = CUBE_POS / comptime!(heads + 2 * kv_heads);
    // There may be more cubes than rows: a large count is laid out over several axes.
    let tokens = tokens as usize;
    let written = tokens + tail as usize;
    let (batch, token) = (row / written, row % written);
    if batch * tokens >= positions.len() {
        terminate!();
    }
    let slot = past as usize + token;
    if token >= tokens {
        // Slots behind the new tokens that a product may read: what isn't a number would spoil it even at weight 0.
        if head >= heads + kv_heads {
            let at = ((batch * kv_heads + head - heads - kv_heads) * capacity as usize + slot) * dim + unit;
            value[at] = F::cast_from(0.0_f32);
        } else if head >= heads {
            let at = ((batch * kv_heads + head - heads) * capacity as usize + slot) * dim + unit;
            key[at] = F::cast_from(0.0_f32);
        }
        terminate!();
    }
    let row = batch * tokens + token;
    let column = head * dim + unit;
    let mut x = f32::cast_from(joined[row * ((heads + 2 * kv_heads) * dim) + column]);
    if comptime!(has_bias) {
        x = f32::cast_from(F::cast_from(x + f32::cast_from(bias[column])));
    }
    if head >= heads + kv_heads {
        let at = ((batch * kv_heads + head - heads - kv_heads) * capacity as usize + slot) * dim + unit;
        value[at] = F::cast_from(x);
    } else {
        if comptime!(has_norms) {
            let total = cube_sum(x * x, dim);
            let weight = if head < heads { q_norm[unit] } else { k_norm[unit] };
            x = x / f32::sqrt(total / (dim as f32) + eps) * weight;
            x = f32::cast_from(F::cast_from(x));
        }
        let mut pair = SharedMemory::<f32>::new(dim);
        pair[unit] = x;
        sync_cube();
        let half = dim / 2;
        let turned = if unit < half { -pair[unit + half] } else { pair[unit - half] };
        let angle = positions[row] as usize * dim + unit;
        let rotated = x * cos[angle] + turned * sin[angle];
        if head < heads {
            query[((batch * heads + head) * tokens + token) * dim + unit] = F::cast_from(rotated * scale);
        } else {
            let at = ((batch * kv_heads + head - heads) * capacity as usize + slot) * dim + unit;
            key[at] = F::cast_from(rotated);
        }
    }
}

pub(crate) fn qkv_to_cache<R: CubeRuntime>(args: Args<R>) -> CubeTensor<R> {
    // They are written in place, so a copy wouldn't do.
    for cache in [&args.key, &args.value] {
        assert!(
            cache.is_contiguous(),
            "a cache of shape {:?} has strides {:?}",
            cache.meta.shape(),
            cache.meta.strides()
        );
    }
    let joined = dense(args.joined);
    let (cos, sin, positions) = (dense(args.cos), dense(args.sin), dense(args.positions));
    let bias = args.bias.map(dense);
    let norms = args.norms.map(|(q, k)| (dense(q), dense(k)));
    let cache = args.key.meta.shape().clone();
    let (batch, kv_heads, capacity, dim) = (cache[0], cache[1], cache[2], cache[3]);
    let rows = joined.meta.shape()[0];
    let tokens = rows / batch;
    let query = empty(&joined, [batch, args.heads, tokens, dim], joined.dtype);
    let (q_norm, k_norm) = norms.as_ref().map_or((&cos, &cos), |(q, k)| (q, k));
    qkv_kernel::launch::<R>(
        &joined.client,
        cubes(&joined, (args.heads + 2 * kv_heads) * batch * (tokens + args.tail)),
        CubeDim::new_1d(dim as u32),
        array(&joined),
        array(bias.as_ref().unwrap_or(&joined)),
        array(q_norm),
        array(k_norm),
        array(&cos),
        array(&sin),
        array(&positions),
        array(&query),
        array(&args.key),
        array(&args.value),
        tokens as u32,
        args.tail as u32,
        args.past as u32,
        capacity as u32,
        args.scale as f32,
        args.eps as f32,
        args.heads,
        kv_heads,
        dim,
        bias.is_some(),
        norms.is_some(),
        joined.dtype.into(),
    );
    query
}
