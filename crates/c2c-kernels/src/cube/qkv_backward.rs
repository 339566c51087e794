//! From the gradients of queries, keys and values back to that of the joined projections.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cube_sum;
use super::launch::{array, cubes, dense, empty};

/// The tensors of [`crate::QkvBackward`] on one runtime.
pub(crate) struct Args<R: CubeRuntime> {
    pub(crate) joined: CubeTensor<R>,
    pub(crate) bias: Option<CubeTensor<R>>,
    pub(crate) norms: Option<(CubeTensor<R>, CubeTensor<R>)>,
    pub(crate) cos: CubeTensor<R>,
    pub(crate) sin: CubeTensor<R>,
    pub(crate) positions: CubeTensor<R>,
    pub(crate) query: CubeTensor<R>,
    pub(crate) key: CubeTensor<R>,
    pub(crate) value: CubeTensor<R>,
    pub(crate) past: usize,
    pub(crate) scale: f64,
    pub(crate) eps: f64,
}

/// One cube a row and head, one unit an element of the head; the mirror of the kernel that goes forwards.
#[cube(launch)]
fn qkv_backward_kernel<F: Float>(
    joined: &Array<F>,
    bias: &Array<F>,
    q_norm: &Array<f32>,
    k_norm: &Array<f32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    positions: &Array<i32>,
    query: &Array<F>,
    key: &Array<F>,
    value: &Array<F>,
    out: &mut Array<F>,
    tokens: u32,
    past: u32,
    slots: u32,
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
    if row >= positions.len() {
        terminate!();
    }
    let tokens = tokens as usize;
    let (batch, token) = (row / tokens, row % tokens);
    let slot = past as usize + token;
    let column = head * dim + unit;
    let to = row * ((heads + 2 * kv_heads) * dim) + column;
    if head >= heads + kv_heads {
        out[to] = value[((batch * kv_heads + head - heads - kv_heads) * slots as usize + slot) * dim + unit];
    } else {
        let grad = if head < heads {
            f32::cast_from(query[((batch * heads + head) * tokens + token) * dim + unit]) * scale
        } else {
            f32::cast_from(key[((batch * kv_heads + head - heads) * slots as usize + slot) * dim + unit])
        };
        let mut pair = SharedMemory::<f32>::new(dim);
        pair[unit] = grad;
        sync_cube();
        let half = dim / 2;
        let row_of_tables = positions[row] as usize * dim;
        // The rotation's transpose: what an element gave to its partner comes back.
        let other = if unit < half { unit + half } else { unit - half };
        let turned = pair[other] * sin[row_of_tables + other];
        let mut g = grad * cos[row_of_tables + unit];
        if unit < half {
            g += turned;
        } else {
            g -= turned;
        }
        if comptime!(has_norms) {
            let mut x = f32::cast_from(joined[to]);
            if comptime!(has_bias) {
                x = f32::cast_from(F::cast_from(x + f32::cast_from(bias[column])));
            }
            let weight = if head < heads { q_norm[unit] } else { k_norm[unit] };
            let total = cube_sum(x * x, dim);
            let dot = cube_sum(x * g * weight, dim);
            let root = 1.0_f32 / f32::sqrt(total / (dim as f32) + eps);
            g = root * g * weight - root * root * root * dot / (dim as f32) * x;
        }
        out[to] = F::cast_from(g);
    }
}

pub(crate) fn qkv_backward<R: CubeRuntime>(args: Args<R>) -> CubeTensor<R> {
    let joined = dense(args.joined);
    let (query, key, value) = (dense(args.query), dense(args.key), dense(args.value));
    let (cos, sin, positions) = (dense(args.cos), dense(args.sin), dense(args.positions));
    let bias = args.bias.map(dense);
    let norms = args.norms.map(|(q, k)| (dense(q), dense(k)));
    let (queries, keys) = (query.meta.shape().clone(), key.meta.shape().clone());
    let (heads, tokens, dim) = (queries[1], queries[2], queries[3]);
    let (kv_heads, slots) = (keys[1], keys[2]);
    let rows = joined.meta.shape()[0];
    let out = empty(&joined, joined.meta.shape().clone(), joined.dtype);
    let (q_norm, k_norm) = norms.as_ref().map_or((&cos, &cos), |(q, k)| (q, k));
    qkv_backward_kernel::launch::<R>(
        &joined.client,
        cubes(&joined, (heads + 2 * kv_heads) * rows),
        CubeDim::new_1d(dim as u32),
        array(&joined),
        array(bias.as_ref().unwrap_or(&joined)),
        array(q_norm),
        array(k_norm),
        array(&cos),
        array(&sin),
        array(&positions),
        array(&query),
        array(&key),
        array(&value),
        array(&out),
        tokens as u32,
        args.past as u32,
        slots as u32,
        args.scale as f32,
        args.eps as f32,
        heads,
        kv_heads,
        dim,
        bias.is_some(),
        norms.is_some(),
        joined.dtype.into(),
    );
    out
}
