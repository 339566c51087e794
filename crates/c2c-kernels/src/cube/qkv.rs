//! From joined projections to queries and cache.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty};
use super::{vector_of, vector_sum};

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

/// How the work is cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Elements that a unit reads at once.
    vector: usize,
    has_bias: bool,
    has_norms: bool,
}

impl Shape {
    /// Queries, keys and values of a row.
    fn all_heads(self) -> usize {
        self.heads + 2 * self.kv_heads
    }

    /// Units that share a head: each has a vector of the first half and the one of the second half that it is rotated with.
    fn lanes(self) -> usize {
        self.dim / 2 / self.vector
    }
}

/// Units of a cube.
const UNITS: usize = 128;

/// A vector in f32.
#[cube]
fn widened<F: Float, N: Size>(x: Vector<F, N>) -> Vector<f32, N> {
    Vector::<f32, N>::cast_from(x)
}

/// As it will be once it was stored.
#[cube]
fn rounded<F: Float, N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    Vector::<f32, N>::cast_from(Vector::<F, N>::cast_from(x))
}

/// Several units a row and head. Heads: queries, keys, values.
#[cube(launch)]
fn qkv_kernel<F: Float, N: Size>(
    joined: &Array<Vector<F, N>>,
    bias: &Array<Vector<F, N>>,
    q_norm: &Array<Vector<f32, N>>,
    k_norm: &Array<Vector<f32, N>>,
    cos: &Array<Vector<f32, N>>,
    sin: &Array<Vector<f32, N>>,
    positions: &Array<i32>,
    query: &mut Array<Vector<F, N>>,
    key: &mut Array<Vector<F, N>>,
    value: &mut Array<Vector<F, N>>,
    rows: u32,
    tokens: u32,
    tail: u32,
    past: u32,
    capacity: u32,
    scale: f32,
    eps: f32,
    #[comptime] shape: Shape,
    #[define(F)] _dtype: StorageType,
) {
    let (heads, kv_heads) = comptime!((shape.heads, shape.kv_heads));
    let all_heads = comptime!(shape.all_heads());
    let lanes = comptime!(shape.lanes());
    // Vectors of a head, and of its half.
    let (width, half) = comptime!((2 * shape.lanes(), shape.lanes()));
    let lane = UNIT_POS as usize % lanes;
    let at = ABSOLUTE_POS / lanes;
    let (head, row) = (at % all_heads, at / all_heads);
    let tokens = tokens as usize;
    let written = tokens + tail as usize;
    let (batch, token) = (row / written, row % written);
    // There may be more units than work, and slots behind the new tokens have no row.
    let there = row < rows as usize;
    let new = there && token < tokens;
    let row = batch * tokens + token;
    let column = head * width + lane;
    let from = if new { row * comptime!(all_heads * 2 * shape.lanes()) + column } else { 0usize.runtime() };
    let mut x = widened::<F, N>(joined[from]);
    let mut y = widened::<F, N>(joined[from + half]);
    if comptime!(shape.has_bias) {
        x = rounded::<F, N>(x + widened::<F, N>(bias[column]));
        y = rounded::<F, N>(y + widened::<F, N>(bias[column + half]));
    }
    let turned = head < heads + kv_heads;
    if comptime!(shape.has_norms) {
        let mut squares = SharedMemory::<f32>::new(UNITS);
        squares[UNIT_POS as usize] = vector_sum::<N>(x * x + y * y, shape.vector);
        sync_cube();
        let first = UNIT_POS as usize - lane;
        let total = RuntimeCell::<f32>::new(0.0_f32);
        #[unroll]
        for other in 0..lanes {
            total.store(total.read() + squares[first + other]);
        }
        if turned {
            let rms = Vector::<f32, N>::new(f32::sqrt(total.read() / (comptime!(shape.dim) as f32) + eps));
            let (v, w) =
                if head < heads { (q_norm[lane], q_norm[lane + half]) } else { (k_norm[lane], k_norm[lane + half]) };
            x = rounded::<F, N>(x / rms * v);
            y = rounded::<F, N>(y / rms * w);
        }
    }
    if !there {
        terminate!();
    }
    // Values after keys, as heads of the cache.
    let cached = if head >= heads + kv_heads { head - (heads + kv_heads) } else { head - heads };
    let slot = ((batch * kv_heads + cached) * capacity as usize + past as usize + token) * width + lane;
    if token >= tokens {
        // Slots behind the new tokens that a product may read: what isn't a number would spoil it even at weight 0.
        let zero = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0_f32));
        if !turned {
            value[slot] = zero;
            value[slot + half] = zero;
        } else if head >= heads {
            key[slot] = zero;
            key[slot + half] = zero;
        }
        terminate!();
    }
    if !turned {
        value[slot] = Vector::<F, N>::cast_from(x);
        value[slot + half] = Vector::<F, N>::cast_from(y);
    } else {
        let angle = positions[row] as usize * width + lane;
        let first = x * cos[angle] - y * sin[angle];
        let second = y * cos[angle + half] + x * sin[angle + half];
        if head < heads {
            let to = ((batch * heads + head) * tokens + token) * width + lane;
            let scale = Vector::<f32, N>::new(scale);
            query[to] = Vector::<F, N>::cast_from(first * scale);
            query[to + half] = Vector::<F, N>::cast_from(second * scale);
        } else {
            key[slot] = Vector::<F, N>::cast_from(first);
            key[slot + half] = Vector::<F, N>::cast_from(second);
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
    let shape = Shape {
        heads: args.heads,
        kv_heads,
        dim,
        vector: vector_of(dim / 2),
        has_bias: bias.is_some(),
        has_norms: norms.is_some(),
    };
    let rows = batch * (tokens + args.tail);
    qkv_kernel::launch::<R>(
        &joined.client,
        cubes(&joined, (rows * shape.all_heads() * shape.lanes()).div_ceil(UNITS)),
        CubeDim::new_1d(UNITS as u32),
        shape.vector,
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
        rows as u32,
        tokens as u32,
        args.tail as u32,
        args.past as u32,
        capacity as u32,
        args.scale as f32,
        args.eps as f32,
        shape,
        joined.dtype.into(),
    );
    query
}
