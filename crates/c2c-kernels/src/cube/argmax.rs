//! The largest value of each row, in two launches: of parts of a row, then of the parts.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty};
use super::order::{fault_of, key_of};

/// Units that share a part.
const UNITS: usize = 256;
/// The most parts of a row.
const PARTS: usize = 128;

/// One cube a part of a row: the first place of the largest key, or what is wrong with the row. `again` looks among the results of
/// parts, `keys` and their `names`.
#[cube(launch)]
fn argmax_kernel<F: Float>(
    scores: &Array<F>,
    keys: &Array<u32>,
    names: &Array<i32>,
    best: &mut Array<u32>,
    position: &mut Array<i32>,
    width: u32,
    part: u32,
    parts: u32,
    #[comptime] again: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let (width, part, parts) = (width as usize, part as usize, parts as usize);
    let unit = UNIT_POS as usize;
    // There may be more cubes than parts: a large count is laid out over several axes.
    if CUBE_POS >= best.len() {
        terminate!();
    }
    let (row, piece) = (CUBE_POS / parts, CUBE_POS % parts);
    let start = row * width;
    let end = RuntimeCell::<usize>::new((piece + 1) * part);
    if end.read() > width {
        end.store(width);
    }
    let mut values = SharedMemory::<u32>::new(units);
    let mut places = SharedMemory::<u32>::new(units);
    let i = RuntimeCell::<usize>::new(piece * part + unit);
    // No key is 0, so that a unit without an element never wins.
    let value = RuntimeCell::<u32>::new(0_u32);
    let place = RuntimeCell::<u32>::new(0_u32);
    while i.read() < end.read() {
        let at = start + i.read();
        let key = if comptime!(again) { keys[at] } else { key_of(f32::cast_from(scores[at])) };
        if key > value.read() {
            value.store(key);
            place.store(i.read() as u32);
        }
        i.store(i.read() + units);
    }
    values[unit] = value.read();
    places[unit] = place.read();
    sync_cube();
    let half = RuntimeCell::<usize>::new(units / 2);
    while half.read() > 0 {
        if unit < half.read() {
            let (a, b) = (values[unit], values[unit + half.read()]);
            let (at, other) = (places[unit], places[unit + half.read()]);
            if b > a || (b == a && other < at) {
                values[unit] = b;
                places[unit] = other;
            }
        }
        sync_cube();
        half.store(half.read() / 2);
    }
    if unit == 0 {
        let at = places[0] as usize;
        best[CUBE_POS] = values[0];
        let fault = fault_of(values[0], false);
        position[CUBE_POS] = if comptime!(again) { names[start + at] } else { at as i32 };
        if fault != 0 {
            position[CUBE_POS] = fault;
        }
    }
}

pub(crate) fn argmax<R: CubeRuntime>(scores: CubeTensor<R>) -> CubeTensor<R> {
    let scores = dense(scores);
    let (rows, width) = (scores.meta.shape()[0], scores.meta.shape()[1]);
    // Parts of whole strides of the cube; none is empty.
    let part = width.div_ceil(PARTS).next_multiple_of(UNITS);
    let parts = width.div_ceil(part);
    let (best, position) = pass(&scores, None, rows, width, part);
    if parts == 1 {
        return position;
    }
    pass(&scores, Some((&best, &position)), rows, parts, parts).1
}

/// The largest keys of all parts and where they stand, both `[rows * parts]`; of the scores, or of parts' results.
fn pass<R: CubeRuntime>(
    scores: &CubeTensor<R>,
    results: Option<(&CubeTensor<R>, &CubeTensor<R>)>,
    rows: usize,
    width: usize,
    part: usize,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let parts = width.div_ceil(part);
    let best = empty(scores, [rows * parts], DType::U32);
    let position = empty(scores, [rows * parts], DType::I32);
    // Not read without results.
    let (keys, names) = results.unwrap_or((&best, &position));
    argmax_kernel::launch::<R>(
        &scores.client,
        cubes(scores, rows * parts),
        CubeDim::new_1d(UNITS as u32),
        array(scores),
        array(keys),
        array(names),
        array(&best),
        array(&position),
        width as u32,
        part as u32,
        parts as u32,
        results.is_some(),
        UNITS,
        scores.dtype.into(),
    );
    (best, position)
}
