//! Drawing a token of each row: keys of all logits, with what was seen counted in, in one launch; then a cube a row cuts off what
//! top-k and top-p leave out and draws.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty, owned};
use super::order::{NOTHING, fault_of, key_of, value_of};
use super::search::{BINS, Desk, Kept, Row, WHOLE, find_id, find_key, is_kept, mass, weight};
use super::{cube_sum, cube_top, vector_of};
use crate::{Draw, Sampling};

/// Units that share a part of a row on the way to keys.
const UNITS: usize = 256;
/// The most parts of a row.
const PARTS: usize = 64;
/// The most units that draw from a row: one multiprocessor reads all of it, several times.
const DRAW_UNITS: usize = 1024;
/// Temperatures below the largest logit at which a weight is too small to be drawn: less than half a unit of a row's mass.
const REACH: f64 = 23.0;

/// One cube a part of a row: the keys of its logits and the largest of them.
#[cube(launch)]
fn keys_kernel<F: Float, N: Size>(
    logits: &Array<Vector<F, N>>,
    counts: &Array<Vector<i32, N>>,
    keys: &mut Array<Vector<u32, N>>,
    tops: &mut Array<u32>,
    presence: f32,
    frequency: f32,
    repetition: f32,
    vectors: u32,
    part: u32,
    parts: u32,
    #[comptime] penalised: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let (vectors, part, parts) = (vectors as usize, part as usize, parts as usize);
    // There may be more cubes than parts: a large count is laid out over several axes.
    if CUBE_POS >= tops.len() {
        terminate!();
    }
    let (row, piece) = (CUBE_POS / parts, CUBE_POS % parts);
    let end = RuntimeCell::<usize>::new((piece + 1) * part);
    if end.read() > vectors {
        end.store(vectors);
    }
    let top = RuntimeCell::<u32>::new(0_u32);
    let at = RuntimeCell::<usize>::new(piece * part + UNIT_POS as usize);
    while at.read() < end.read() {
        let place = row * vectors + at.read();
        let vector = logits[place];
        let mut out = Vector::<u32, N>::new(0_u32);
        #[unroll]
        for e in 0..N::value() {
            let logit = RuntimeCell::<f32>::new(f32::cast_from(vector[e]));
            if comptime!(penalised) {
                let count = counts[place][e];
                if count > 0 {
                    logit.store(logit.read() - presence - frequency * f32::cast_from(count));
                    if logit.read() > 0.0_f32 {
                        logit.store(logit.read() / repetition);
                    } else {
                        logit.store(logit.read() * repetition);
                    }
                }
            }
            let key = key_of(logit.read());
            out[e] = key;
            if key > top.read() {
                top.store(key);
            }
        }
        keys[place] = out;
        at.store(at.read() + units);
    }
    let top = cube_top(top.read(), units);
    if UNIT_POS == 0 {
        tops[CUBE_POS] = top;
    }
}

/// One cube a row. `drawn` is a number in units of 2^-24; `top_p`, in units of 2^-32, and `top_k` are 0 where nothing is cut off.
#[cube(launch)]
fn draw_kernel<N: Size>(
    keys: &Array<Vector<u32, N>>,
    tops: &Array<u32>,
    drawn: &Array<i32>,
    counts: &mut Array<i32>,
    out: &mut Array<i32>,
    vectors: u32,
    parts: u32,
    sampled: u32,
    rate: f32,
    reach: f32,
    top_k: u32,
    top_p: u32,
    drops_crossing: u32,
    #[comptime] penalised: bool,
    #[comptime] units: usize,
) {
    let (vectors, parts) = (vectors as usize, parts as usize);
    let unit = UNIT_POS as usize;
    let line = CUBE_POS;
    // There may be more cubes than rows: a large count is laid out over several axes.
    if line >= out.len() {
        terminate!();
    }
    let best = RuntimeCell::<u32>::new(0_u32);
    let at = RuntimeCell::<usize>::new(unit);
    while at.read() < parts {
        let top = tops[line * parts + at.read()];
        if top > best.read() {
            best.store(top);
        }
        at.store(at.read() + units);
    }
    let top = cube_top(best.read(), units);
    let sampled = sampled == 1;
    let fault = fault_of(top, sampled);
    if fault != 0 {
        if unit == 0 {
            out[line] = fault;
        }
        terminate!();
    }

    let row = Row { start: line * vectors, vectors, top, rate };
    let mut desk = Desk::new(units);
    // What is left so far. Greedily nothing but the largest key is.
    let key = RuntimeCell::<u32>::new(top);
    let last = RuntimeCell::<u32>::new(0xffff_ffff_u32);
    let scale = RuntimeCell::<f32>::new(0.0_f32);
    if sampled {
        key.store(key_of(value_of(top) - reach));
        // Not minus infinity, whose weight is no number at an infinite temperature.
        if key.read() <= NOTHING {
            key.store(NOTHING + 1);
        }
    }
    // First the rank cuts off, then the mass.
    let cut = RuntimeCell::<u32>::new(0_u32);
    while sampled && cut.read() < 2 {
        let by_mass = cut.read() == 1;
        if by_mass {
            let kept = Kept { key: key.read(), last: last.read(), scale: 0.0_f32, by_mass };
            scale.store(WHOLE / weights::<N>(keys, &row, &kept, units));
        }
        let kept = Kept { key: key.read(), last: last.read(), scale: scale.read(), by_mass };
        if (by_mass && top_p > 0) || (!by_mass && top_k > 0) {
            let strictly = drops_crossing == 1;
            let edge = find_key::<N>(keys, &mut desk, &row, &kept, top_k - 1, top_p, strictly, units);
            if edge.found {
                let each = mass(&row, &kept, edge.key);
                // Of the tokens at the edge those before the one that crosses it, and that one, too; never none at all.
                let whole = RuntimeCell::<u32>::new(edge.left / each);
                if !(by_mass && strictly) || (whole.read() == 0 && edge.key == top) {
                    whole.store(whole.read() + 1);
                }
                if whole.read() == 0 {
                    key.store(edge.key + 1);
                    last.store(0xffff_ffff_u32);
                } else if whole.read() * each < edge.mass {
                    // The first of those with this key: all of them that are still left come before the others.
                    let tied = Kept { key: edge.key, last: 0xffff_ffff_u32, scale: 0.0_f32, by_mass: false };
                    last.store(find_id::<N>(keys, &mut desk, &row, &tied, edge.key, whole.read() - 1, units));
                    key.store(edge.key);
                } else if edge.key > key.read() {
                    key.store(edge.key);
                    last.store(0xffff_ffff_u32);
                }
                if by_mass {
                    scale.store(scale.read() * WHOLE / f32::cast_from(edge.above + whole.read() * each));
                }
            }
        }
        cut.store(cut.read() + 1);
    }
    let kept = Kept { key: key.read(), last: last.read(), scale: scale.read(), by_mass: sampled };
    let share = if sampled { (drawn[line] as u32) << 8_u32 } else { 0_u32.runtime() };
    let id = find_id::<N>(keys, &mut desk, &row, &kept, top, share, units);
    if unit == 0 {
        out[line] = id as i32;
        if comptime!(penalised) {
            counts[line * vectors * N::value() + id as usize] += 1;
        }
    }
}

/// The sum of the weights of all that is kept.
#[cube]
fn weights<N: Size>(keys: &Array<Vector<u32, N>>, row: &Row, kept: &Kept, #[comptime] units: usize) -> f32 {
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    let at = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while at.read() < row.vectors {
        let vector = keys[row.start + at.read()];
        #[unroll]
        for e in 0..N::value() {
            let (key, id) = (vector[e], (at.read() * N::value() + e) as u32);
            if is_kept(kept, key, id) {
                sum.store(sum.read() + weight(row, key));
            }
        }
        at.store(at.read() + units);
    }
    cube_sum(sum.read(), units)
}

/// An id a row, or a fault; and the counts, with the chosen ids counted in.
///
/// # Shapes
/// `logits` and `counts` (i32): `[rows, vocab]`; `drawn` (i32) and the ids: `[rows]`.
pub(crate) fn sample<R: CubeRuntime>(
    logits: CubeTensor<R>,
    counts: Option<CubeTensor<R>>,
    drawn: CubeTensor<R>,
    sampling: Sampling,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let (logits, counts, drawn) = (dense(logits), counts.map(owned), dense(drawn));
    let [rows, vocab] = logits.meta.shape().dims();
    let penalised = counts.is_some();
    let vector = vector_of(vocab);
    let vectors = vocab / vector;
    // Parts of whole strides of the cube; none is empty.
    let part = vectors.div_ceil(PARTS).next_multiple_of(UNITS);
    let parts = vectors.div_ceil(part);
    let keys = empty(&logits, [rows, vocab], DType::U32);
    let tops = empty(&logits, [rows * parts], DType::U32);
    let out = empty(&logits, [rows], DType::I32);
    // Neither read nor written where nothing is penalised.
    let seen = counts.clone().unwrap_or_else(|| empty(&logits, [4], DType::I32));
    keys_kernel::launch::<R>(
        &logits.client,
        cubes(&logits, rows * parts),
        CubeDim::new_1d(UNITS as u32),
        vector,
        array(&logits),
        array(&seen),
        array(&keys),
        array(&tops),
        sampling.presence as f32,
        sampling.frequency as f32,
        sampling.repetition as f32,
        vectors as u32,
        part as u32,
        parts as u32,
        penalised,
        UNITS,
        logits.dtype.into(),
    );
    let units = draw_units(&logits.client, vectors);
    let draw = sampling.draw;
    draw_kernel::launch::<R>(
        &logits.client,
        cubes(&logits, rows),
        CubeDim::new_1d(units as u32),
        vector,
        array(&keys),
        array(&tops),
        array(&drawn),
        array(&seen),
        array(&out),
        vectors as u32,
        parts as u32,
        u32::from(draw.is_some()),
        // An infinite temperature gives all finite logits one weight, a product of which with infinity must stay a number.
        draw.map_or(1.0, |d| (1.0 / d.temperature) as f32).max(f32::MIN_POSITIVE),
        draw.map_or(0.0, |d| (REACH * d.temperature) as f32).min(f32::MAX),
        draw.and_then(|d| d.top_k).map_or(0, |k| u32::try_from(k).unwrap_or(u32::MAX)),
        draw.map_or(0, share_of),
        u32::from(draw.is_some_and(|d| d.drops_crossing)),
        penalised,
        units,
    );
    (out, counts)
}

/// As many units as a row of so many vectors keeps busy, the device gives a cube, and find room in its shared memory.
fn draw_units<R: CubeRuntime>(client: &ComputeClient<R>, vectors: usize) -> usize {
    let hardware = &client.properties().hardware;
    let fits = |units: usize| {
        // The searches' desk, and a largest and a sum over the cube.
        let shared = size_of::<u32>() * (BINS + 3 * units + 64);
        units <= hardware.max_units_per_cube as usize && shared <= hardware.max_shared_memory_size
    };
    let sizes = [DRAW_UNITS, DRAW_UNITS / 2, UNITS];
    sizes.into_iter().find(|units| *units <= vectors && fits(*units)).unwrap_or(UNITS)
}

/// A share in units of 2^-32; 0 for the whole. It is rounded to the side on which a decimal fraction that some tokens reach exactly
/// means what was written.
fn share_of(draw: Draw) -> u32 {
    let parts = draw.top_p * 2.0_f64.powi(32);
    match draw.top_p >= 1.0 {
        true => 0,
        false => (if draw.drops_crossing { parts.ceil() } else { parts.floor() } as u32).max(1),
    }
}
