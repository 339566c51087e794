//! Attention of single tokens.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::attention::{Mask, allowed, real_or_dummy, window_of};
use super::launch::{array, dense, empty};
use super::{cube_max, cube_sum};

/// Units of a cube, and the widest head.
const UNITS: usize = 256;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Elements that a unit reads at once.
    vector: usize,
    /// Slots that fit into shared memory.
    room: usize,
    has_real: bool,
}

impl Shape {
    /// Vectors a slot.
    fn lanes(self) -> usize {
        self.dim / self.vector
    }

    /// Groups of units that take turns over the slots.
    fn groups(self) -> usize {
        UNITS / self.lanes()
    }

    /// Where the partial sums lie in shared memory: behind the query and a weight a slot.
    fn partial(self) -> usize {
        self.dim + self.room
    }

    /// Elements of shared memory: those and a value a group and element.
    fn shared(self) -> usize {
        self.partial() + UNITS * self.vector
    }
}

/// One cube a batch row and query head: scores into shared memory, softmax, weighted values. A row that may attend to
/// nothing becomes zeros.
#[cube(launch)]
fn decode_kernel<F: Float, N: Size>(
    query: &Array<F>,
    key: &Array<Vector<F, N>>,
    value: &Array<Vector<F, N>>,
    real: &Array<i32>,
    out: &mut Array<F>,
    slots: u32,
    capacity: u32,
    window: u32,
    #[comptime] shape: Shape,
    #[define(F)] _dtype: StorageType,
) {
    let n = comptime!(shape.vector);
    let heads = comptime!(shape.heads);
    let dim = comptime!(shape.dim);
    let units = comptime!(UNITS);
    let lanes = comptime!(shape.lanes());
    let groups = comptime!(shape.groups());
    let weights = comptime!(shape.dim);
    let partial = comptime!(shape.partial());
    let unit = UNIT_POS as usize;
    let (batch, head) = (CUBE_POS_Y as usize, CUBE_POS_X as usize);
    let slots = slots as usize;
    let from = batch * slots;
    let window = window as usize;
    let kv_head = head / comptime!(shape.heads / shape.kv_heads);
    let rows = (batch * comptime!(shape.kv_heads) + kv_head) * capacity as usize;
    let mut shared = SharedMemory::<f32>::new(comptime!(shape.shared()));
    if unit < dim {
        shared[unit] = f32::cast_from(query[(batch * heads + head) * dim + unit]);
    }
    sync_cube();

    let top = RuntimeCell::<f32>::new(-1.0e30_f32);
    let j = RuntimeCell::<usize>::new(unit);
    while j.read() < slots {
        let score = RuntimeCell::<f32>::new(-1.0e30_f32);
        if allowed(real, from, j.read(), slots - 1, window, shape.has_real) {
            let start = (rows + j.read()) * lanes;
            let dot = RuntimeCell::<f32>::new(0.0_f32);
            #[unroll]
            for lane in 0..lanes {
                let k = key[start + lane];
                #[unroll]
                for e in 0..n {
                    dot.store(dot.read() + shared[lane * n + e] * f32::cast_from(k[e]));
                }
            }
            score.store(dot.read());
        }
        shared[weights + j.read()] = score.read();
        if score.read() > top.read() {
            top.store(score.read());
        }
        j.store(j.read() + units);
    }
    let top = cube_max(top.read(), units);
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    j.store(unit);
    while j.read() < slots {
        let score = shared[weights + j.read()];
        let weight = if score > -1.0e29_f32 { f32::exp(score - top) } else { 0.0_f32.runtime() };
        shared[weights + j.read()] = weight;
        sum.store(sum.read() + weight);
        j.store(j.read() + units);
    }
    let sum = cube_sum(sum.read(), units);

    let (group, lane) = (unit / lanes, unit % lanes);
    let mut acc = Array::<f32>::new(n);
    #[unroll]
    for e in 0..n {
        acc[e] = 0.0_f32;
    }
    j.store(group);
    while j.read() < slots {
        let weight = shared[weights + j.read()];
        let v = value[(rows + j.read()) * lanes + lane];
        #[unroll]
        for e in 0..n {
            acc[e] += weight * f32::cast_from(v[e]);
        }
        j.store(j.read() + groups);
    }
    #[unroll]
    for e in 0..n {
        shared[partial + group * dim + lane * n + e] = acc[e];
    }
    sync_cube();
    if unit < dim {
        let all = RuntimeCell::<f32>::new(0.0_f32);
        for g in 0..groups {
            all.store(all.read() + shared[partial + g * dim + unit]);
        }
        let mean = if sum > 0.0_f32 { all.read() / sum } else { 0.0_f32.runtime() };
        out[(batch * heads + head) * dim + unit] = F::cast_from(mean);
    }
}

/// Elements that a unit reads at once: sixteen bytes.
fn vector<R: CubeRuntime>(cache: &CubeTensor<R>, dim: usize) -> usize {
    [8, 4, 2].into_iter().find(|n| dim.is_multiple_of(*n) && n * cache.dtype.size() <= 16).unwrap_or(1)
}

/// Slots whose weights fit into shared memory beside the rest, whatever the model.
pub(crate) fn decode_slots<R: CubeRuntime>(client: &ComputeClient<R>) -> usize {
    const WIDEST_VECTOR: usize = 8;
    // Query, partial sums, and a sum over the cube.
    let rest = UNITS + UNITS * WIDEST_VECTOR + 2 * UNITS;
    let floats = client.properties().hardware.max_shared_memory_size / size_of::<f32>();
    floats.saturating_sub(rest).checked_ilog2().map_or(0, |log| 1 << log)
}

pub(crate) fn decode_attention<R: CubeRuntime>(
    query: CubeTensor<R>,
    key: CubeTensor<R>,
    value: CubeTensor<R>,
    mask: Mask<R>,
) -> CubeTensor<R> {
    let (query, key, value) = (dense(query), dense(key), dense(value));
    let shape = query.meta.shape().clone();
    let (batch, heads, dim) = (shape[0], shape[1], shape[3]);
    assert!(dim.is_power_of_two() && dim <= UNITS, "heads of {dim} elements: expected a power of two up to {UNITS}");
    let cache = key.meta.shape().clone();
    let out = empty(&query, [batch, heads * dim], query.dtype);
    let real = real_or_dummy(&mask, &query);
    let vector = vector(&key, dim);
    decode_kernel::launch::<R>(
        &query.client,
        CubeCount::new_2d(heads as u32, batch as u32),
        CubeDim::new_1d(UNITS as u32),
        vector,
        array(&query),
        array(&key),
        array(&value),
        array(&real),
        array(&out),
        mask.slots as u32,
        cache[2] as u32,
        window_of(&mask),
        Shape {
            heads,
            kv_heads: cache[1],
            dim,
            vector,
            // Few sizes of shared memory, so that few kernels are compiled.
            room: mask.slots.next_power_of_two().max(1024),
            has_real: mask.real.is_some(),
        },
        query.dtype.into(),
    );
    out
}
