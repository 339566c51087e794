//! Cross entropy over a vocabulary and its gradient, and what a row's probabilities are divided by, a row of logits at a time.
//!
//! Composed from reductions it reads long rows with few units, and each of its steps makes a tensor of the logits' size.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty, owned};
use super::{cube_max, cube_sum};

/// Units that share a row.
const UNITS: usize = 256;

/// The largest value of a row and the sum of the exponentials of what its values are below that.
#[cube]
fn top_and_sum<F: Float>(logits: &Array<F>, start: usize, width: usize, #[comptime] units: usize) -> (f32, f32) {
    let top = RuntimeCell::<f32>::new(-1.0e30_f32);
    let j = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while j.read() < width {
        let value = f32::cast_from(logits[start + j.read()]);
        if value > top.read() {
            top.store(value);
        }
        j.store(j.read() + units);
    }
    let top = cube_max(top.read(), units);
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    j.store(UNIT_POS as usize);
    while j.read() < width {
        sum.store(sum.read() + f32::exp(f32::cast_from(logits[start + j.read()]) - top));
        j.store(j.read() + units);
    }
    (top, cube_sum(sum.read(), units))
}

/// One cube a row.
#[cube(launch)]
fn log_sum_exp_kernel<F: Float>(
    logits: &Array<F>,
    out: &mut Array<f32>,
    width: u32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let width = width as usize;
    // There may be more cubes than rows: a large count is laid out over several axes.
    if CUBE_POS >= out.len() {
        terminate!();
    }
    let (top, sum) = top_and_sum::<F>(logits, CUBE_POS * width, width, units);
    if UNIT_POS == 0 {
        out[CUBE_POS] = f32::ln(sum) + top;
    }
}

/// The logarithm of the sum of each row's exponentials.
///
/// # Shapes
/// `logits`: `[rows, width]`; returns `[rows]`, f32.
pub(crate) fn log_sum_exp<R: CubeRuntime>(logits: CubeTensor<R>) -> CubeTensor<R> {
    let logits = dense(logits);
    let [rows, width] = logits.meta.shape().dims();
    let out = empty(&logits, [rows], DType::F32);
    log_sum_exp_kernel::launch::<R>(
        &logits.client,
        cubes(&logits, rows),
        CubeDim::new_1d(UNITS as u32),
        array(&logits),
        array(&out),
        width as u32,
        UNITS,
        logits.dtype.into(),
    );
    out
}

/// One cube a row; the logits become their gradient.
#[cube(launch)]
fn cross_entropy_kernel<F: Float>(
    logits: &mut Array<F>,
    targets: &Array<i32>,
    shares: &Array<f32>,
    losses: &mut Array<f32>,
    width: u32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let width = width as usize;
    let row = CUBE_POS;
    // There may be more cubes than rows: a large count is laid out over several axes.
    if row >= losses.len() {
        terminate!();
    }
    let start = row * width;
    let target = targets[row] as usize;
    let share = shares[row];
    let chosen = f32::cast_from(logits[start + target]);
    // Nobody writes before everybody has read.
    let (top, sum) = top_and_sum::<F>(logits, start, width, units);
    if UNIT_POS == 0 {
        losses[row] = share * (f32::ln(sum) + top - chosen);
    }
    let j = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while j.read() < width {
        let at = start + j.read();
        let mut wrong = f32::exp(f32::cast_from(logits[at]) - top) / sum;
        if j.read() == target {
            wrong -= 1.0_f32;
        }
        logits[at] = F::cast_from(wrong * share);
        j.store(j.read() + units);
    }
}

/// The loss of each row and the gradient of its logits, both multiplied by the row's share.
///
/// # Shapes
/// `logits` and its gradient: `[rows, width]`; `targets`: `[rows]`, i32; `shares` and losses: `[rows]`, f32.
pub(crate) fn cross_entropy<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    shares: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (logits, targets, shares) = (owned(logits), dense(targets), dense(shares));
    let [rows, width] = logits.meta.shape().dims();
    let losses = empty(&logits, [rows], DType::F32);
    cross_entropy_kernel::launch::<R>(
        &logits.client,
        cubes(&logits, rows),
        CubeDim::new_1d(UNITS as u32),
        array(&logits),
        array(&targets),
        array(&shares),
        array(&losses),
        width as u32,
        UNITS,
        logits.dtype.into(),
    );
    (losses, logits)
}
