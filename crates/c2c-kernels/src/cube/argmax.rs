//! The largest value of each row, in two launches: of parts of a row, then of the parts.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty};

/// Units that share a part.
const UNITS: usize = 256;
/// The most parts of a row.
const PARTS: usize = 128;

/// One cube a part of a row; `named` says what the positions stand for, if not themselves. Of equals the first wins, and
/// NaN never does.
#[cube(launch)]
fn argmax_kernel<F: Float>(
    scores: &Array<F>,
    names: &Array<i32>,
    best: &mut Array<f32>,
    position: &mut Array<i32>,
    width: u32,
    part: u32,
    parts: u32,
    #[comptime] named: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let (width, part, parts) = (width as usize, part as usize, parts as usize);
    let unit = UNIT_POS as usize;
    let (row, piece) = (CUBE_POS / parts, CUBE_POS % parts);
    // There may be more cubes than parts: a large count is laid out over several axes.
    if row >= scores.len() / width {
        terminate!();
    }
    let start = row * width;
    let end = RuntimeCell::<usize>::new((piece + 1) * part);
    if end.read() > width {
        end.store(width);
    }
    let mut values = SharedMemory::<f32>::new(units);
    let mut places = SharedMemory::<u32>::new(units);
    let i = RuntimeCell::<usize>::new(piece * part + unit);
    // A unit without an element stands for the part's first one.
    let value = RuntimeCell::<f32>::new(f32::cast_from(scores[start + piece * part]));
    let place = RuntimeCell::<u32>::new((piece * part) as u32);
    while i.read() < end.read() {
        let score = f32::cast_from(scores[start + i.read()]);
        if score > value.read() {
            value.store(score);
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
        best[CUBE_POS] = values[0];
        let at = places[0] as usize;
        position[CUBE_POS] = if comptime!(named) { names[start + at] } else { at as i32 };
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
    pass(&best, Some(&position), rows, parts, parts).1
}

/// The largest values of all parts and where they stand, both `[rows * parts]`.
fn pass<R: CubeRuntime>(
    scores: &CubeTensor<R>,
    names: Option<&CubeTensor<R>>,
    rows: usize,
    width: usize,
    part: usize,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let parts = width.div_ceil(part);
    let best = empty(scores, [rows * parts], DType::F32);
    let position = empty(scores, [rows * parts], DType::I32);
    argmax_kernel::launch::<R>(
        &scores.client,
        cubes(scores, rows * parts),
        CubeDim::new_1d(UNITS as u32),
        array(scores),
        // Not read without names.
        array(names.unwrap_or(&position)),
        array(&best),
        array(&position),
        width as u32,
        part as u32,
        parts as u32,
        names.is_some(),
        UNITS,
        scores.dtype.into(),
    );
    (best, position)
}
