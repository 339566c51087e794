//! The masked softmax of a prefill.

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
pub(super) fn allowed(
    real: &Array<i32>,
    from: usize,
    j: usize,
    query: usize,
    window: usize,
    #[comptime] has_real: bool,
) -> bool {
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
    width: u32,
    window: u32,
    rows_per_batch: u32,
    #[comptime] has_real: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let (slots, width) = (slots as usize, width as usize);
    let row = CUBE_POS;
    // There may be more cubes than rows: a large count is laid out over several axes.
    if row >= scores.len() / width {
        terminate!();
    }
    let from = row / rows_per_batch as usize * slots;
    let query = slots - tokens as usize + row % tokens as usize;
    let window = window as usize;
    let start = row * width;
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
    while j.read() < width {
        let at = start + j.read();
        if j.read() < slots && allowed(real, from, j.read(), query, window, has_real) {
            scores[at] = F::cast_from(f32::exp(f32::cast_from(scores[at]) - top) / sum);
        } else {
            scores[at] = F::cast_from(0.0_f32);
        }
        j.store(j.read() + units);
    }
}

/// An argument for the kernel even where it reads none.
pub(crate) fn real_or_dummy<R: CubeRuntime>(mask: &Mask<R>, like: &CubeTensor<R>) -> CubeTensor<R> {
    mask.real.clone().map(dense).unwrap_or_else(|| empty(like, [1], DType::I32))
}

/// The window of a launch. One of all slots hides none: what is larger would only overflow where a slot is added to it.
pub(crate) fn window_of<R: CubeRuntime>(mask: &Mask<R>) -> u32 {
    mask.window.map_or(mask.slots, |window| window.min(mask.slots)) as u32
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
        shape[3] as u32,
        window_of(&mask),
        rows_per_batch as u32,
        mask.real.is_some(),
        UNITS,
        scores.dtype.into(),
    );
    scores
}
