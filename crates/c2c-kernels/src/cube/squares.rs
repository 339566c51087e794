//! The sum of the squares of several tensors: of parts of each, then of all parts. No atomics, so that equal numbers give
//! equal sums.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cube_sum;
use super::launch::{array, cubes, dense, empty};
use super::norm::by_vectors;

/// Units that share a part.
const UNITS: usize = 256;
/// The most parts of a tensor: enough of them to keep the memory of a large device busy.
const PARTS: usize = 1024;
/// A tensor has a multiple of so many parts, which the last sum reads as one vector.
const TOGETHER: usize = 4;

/// One cube a part; the vectors go round the parts.
#[cube(launch)]
fn sum_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    sums: &mut Array<f32>,
    first: u32,
    parts: u32,
    vectors: u32,
    #[comptime] square: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let (parts, vectors) = (parts as usize, vectors as usize);
    // There may be more cubes than parts: a large count is laid out over several axes.
    if CUBE_POS >= parts {
        terminate!();
    }
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    let i = RuntimeCell::<usize>::new(CUBE_POS * units + UNIT_POS as usize);
    while i.read() < vectors {
        let vector = x[i.read()];
        #[unroll]
        for e in 0..N::value() {
            let mut value = f32::cast_from(vector[e]);
            if comptime!(square) {
                value *= value;
            }
            sum.store(sum.read() + value);
        }
        i.store(i.read() + parts * units);
    }
    let total = cube_sum(sum.read(), units);
    if UNIT_POS == 0 {
        sums[first as usize + CUBE_POS] = total;
    }
}

/// The sum of the squares of all elements, `[1]`, f32. The tensors are of one device and at least one.
pub(crate) fn sum_of_squares<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let tensors: Vec<_> = tensors.into_iter().map(dense).collect();
    let parts = |x: &CubeTensor<R>| {
        let (.., vectors) = by_vectors(x);
        (vectors as usize).div_ceil(UNITS).clamp(1, PARTS).next_multiple_of(TOGETHER)
    };
    let sums = empty(&tensors[0], [tensors.iter().map(parts).sum::<usize>()], DType::F32);
    let mut first = 0;
    for x in &tensors {
        let parts = parts(x);
        launch(x, &sums, first, parts, true);
        first += parts;
    }
    let sum = empty(&sums, [1], DType::F32);
    launch(&sums, &sum, 0, 1, false);
    sum
}

fn launch<R: CubeRuntime>(x: &CubeTensor<R>, sums: &CubeTensor<R>, first: usize, parts: usize, square: bool) {
    let (_, _, vector, vectors) = by_vectors(x);
    sum_kernel::launch::<R>(
        &x.client,
        cubes(x, parts),
        CubeDim::new_1d(UNITS as u32),
        vector,
        array(x),
        array(sums),
        first as u32,
        parts as u32,
        vectors,
        square,
        UNITS,
        x.dtype.into(),
    );
}
