//! The masked softmax of a prefill, and attention of single tokens.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty};
use super::{cube_max, cube_sum};

/// Units that share a row of scores.
const UNITS: usize = 128;

/// What [`crate::SoftmaxMask`] says, on one runtime.
pub(crate) struct Mask<R: CubeRuntime> {
    pub(crate) real: Option<CubeTensor<R>>,
    pub(crate) tokens: usize,
    pub(crate) slots: usize,
    pub(crate) window: Option<usize>,
}

/// True if slot `j` may be attended by the query in slot `query`; `from` is the row's start in `real`.
#[cube]
fn allowed(real: &Array<i32>, from: usize, j: usize, query: usize, window: usize, #[comptime] has_real: bool) -> bool {
    let seen = j <= query && j + window > query;
    if comptime!(has_real) { seen && real[from + j] != 0 } else { seen }
}

/// One cube a row of scores. A row that may attend to nothing becomes zeros.
#[cube(launch)]
fn softmax_kernel<F: Float>(
    scores: &mut Array<F>,
    real: &Array<i32>,
    tokens: u32,
    slots: u32,
    window: u32,
    rows_per_batch: u32,
    #[comptime] has_real: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let slots = slots as usize;
    let row = CUBE_POS;
    // There may be more cubes than rows: a large count is laid out over several axes.
    if row >= scores.len() / slots {
        terminate!();
    }
    let from = row / rows_per_batch as usize * slots;
    let query = slots - tokens as usize + row % tokens as usize;
    let window = window as usize;
    let start = row * slots;
    let top = RuntimeCell::<f32>::new(-1.0e30_f32);
    let j = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while j.read() < slots {
        if allowed(real, from, j.read(), query, window, has_real) {
            let score = f32::cast_from(scores[start + j.read()]);
            if score > top.read() {
                top.store(score);
            }
        }
        j.store(j.read() + units);
    }
    let top = cube_max(top.read(), units);
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    j.store(UNIT_POS as usize);
    while j.read() < slots {
        if allowed(real, from, j.read(), query, window, has_real) {
            sum.store(sum.read() + f32::exp(f32::cast_from(scores[start + j.read()]) - top));
        }
        j.store(j.read() + units);
    }
    let sum = cube_sum(sum.read(), units);
    j.store(UNIT_POS as usize);
    while j.read() < slots {
        let at = start + j.read();
        if allowed(real, from, j.read(), query, window, has_real) {
            scores[at] = F::cast_from(f32::exp(f32::cast_from(scores[at]) - top) / sum);
        } else {
            scores[at] = F::cast_from(0.0_f32);
        }
        j.store(j.read() + units);
    }
}

/// An argument for the kernel even where it reads none.
fn real_or_dummy<R: CubeRuntime>(mask: &Mask<R>, like: &CubeTensor<R>) -> CubeTensor<R> {
    mask.real.clone().map(dense).unwrap_or_else(|| empty(like, [1], DType::I32))
}

fn window_of<R: CubeRuntime>(mask: &Mask<R>) -> u32 {
    mask.window.unwrap_or(mask.slots + 1) as u32
}

pub(crate) fn masked_softmax<R: CubeRuntime>(scores: CubeTensor<R>, mask: Mask<R>) -> CubeTensor<R> {
    let scores = dense(scores);
    let shape = scores.meta.shape().clone();
    let rows_per_batch = shape[1] * shape[2];
    let real = real_or_dummy(&mask, &scores);
    softmax_kernel::launch::<R>(
        &scores.client,
        cubes(&scores, shape[0] * rows_per_batch),
        CubeDim::new_1d(UNITS as u32),
        array(&scores),
        array(&real),
        mask.tokens as u32,
        mask.slots as u32,
        window_of(&mask),
        rows_per_batch as u32,
        mask.real.is_some(),
        UNITS,
        scores.dtype.into(),
    );
    scores
}

/// One cube a batch row and query head: scores into shared memory, softmax, weighted values. A row that may attend to
/// nothing becomes zeros.
#[cube(launch)]
fn decode_kernel<F: Float>(
    query: &Array<F>,
    key: &Array<F>,
    value: &Array<F>,
    real: &Array<i32>,
    out: &mut Array<F>,
    slots: u32,
    capacity: u32,
    window: u32,
    #[comptime] heads: usize,
    #[comptime] kv_heads: usize,
    #[comptime] dim: usize,
    #[comptime] room: usize,
    #[comptime] has_real: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let unit = UNIT_POS as usize;
    let (batch, head) = (CUBE_POS_Y as usize, CUBE_POS_X as usize);
    let slots = slots as usize;
    let from = batch * slots;
    let window = window as usize;
    let rows = (batch * kv_heads + head / (heads / kv_heads)) * capacity as usize;
    // One allocation with three parts: the query, a weight a slot, and a value a unit.
    let mut shared = SharedMemory::<f32>::new(comptime!(dim + room + units));
    let weights = comptime!(dim);
    let partial = comptime!(dim + room);
    let c = RuntimeCell::<usize>::new(unit);
    while c.read() < dim {
        shared[c.read()] = f32::cast_from(query[(batch * heads + head) * dim + c.read()]);
        c.store(c.read() + units);
    }
    sync_cube();

    let top = RuntimeCell::<f32>::new(-1.0e30_f32);
    let j = RuntimeCell::<usize>::new(unit);
    while j.read() < slots {
        let score = RuntimeCell::<f32>::new(-1.0e30_f32);
        if allowed(real, from, j.read(), slots - 1, window, has_real) {
            let start = (rows + j.read()) * dim;
            let dot = RuntimeCell::<f32>::new(0.0_f32);
            #[unroll]
            for i in 0..dim {
                dot.store(dot.read() + shared[i] * f32::cast_from(key[start + i]));
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

    // Groups of `dim` units take turns over the slots.
    let groups = comptime!(if units > dim { units / dim } else { 1 });
    let group = unit / dim;
    c.store(unit % dim);
    while c.read() < dim {
        let acc = RuntimeCell::<f32>::new(0.0_f32);
        if group < groups {
            j.store(group);
            while j.read() < slots {
                acc.store(
                    acc.read() + shared[weights + j.read()] * f32::cast_from(value[(rows + j.read()) * dim + c.read()]),
                );
                j.store(j.read() + groups);
            }
        }
        shared[partial + unit] = acc.read();
        sync_cube();
        if group == 0 {
            let all = RuntimeCell::<f32>::new(0.0_f32);
            for g in 0..groups {
                all.store(all.read() + shared[partial + g * dim + unit % dim]);
            }
            let mean = if sum > 0.0_f32 { all.read() / sum } else { 0.0_f32.runtime() };
            out[(batch * heads + head) * dim + c.read()] = F::cast_from(mean);
        }
        sync_cube();
        c.store(c.read() + units);
    }
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
    let cache = key.meta.shape().clone();
    let out = empty(&query, [batch, heads * dim], query.dtype);
    let real = real_or_dummy(&mask, &query);
    // Few sizes of shared memory, so that few kernels are compiled.
    let room = mask.slots.next_power_of_two().max(1024);
    decode_kernel::launch::<R>(
        &query.client,
        CubeCount::new_2d(heads as u32, batch as u32),
        CubeDim::new_1d(UNITS as u32),
        array(&query),
        array(&key),
        array(&value),
        array(&real),
        array(&out),
        mask.slots as u32,
        cache[2] as u32,
        window_of(&mask),
        heads,
        cache[1],
        dim,
        room,
        mask.real.is_some(),
        UNITS,
        query.dtype.into(),
    );
    out
}
