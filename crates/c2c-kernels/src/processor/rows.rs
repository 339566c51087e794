//! Passes over the rows of a matrix.

use rayon::prelude::*;

use super::maths::{both, dot, gelu_tanh, norm_row, silu, wide};
use super::product::{Matrix, Target, Threads, product};
use crate::Act;

/// Elements from which a pass is worth a second thread.
const PARALLEL: usize = 1 << 15;
/// Sums of a product with a single row that one thread makes at a time.
const OUTPUTS: usize = 32;
/// Elements of a part of an element-wise pass.
const PART: usize = 4096;
/// Rows that are turned together: those of a cache line.
const TURNED: usize = 16;

/// Calls `pass(part, values)` for every part of this size; the last may be shorter.
pub(super) fn each_part(values: &mut [f32], size: usize, pass: impl Fn(usize, &mut [f32]) + Sync) {
    let size = size.max(1);
    if values.len() < PARALLEL {
        values.chunks_mut(size).enumerate().for_each(|(part, values)| pass(part, values));
    } else {
        let least = (PARALLEL / 2 / size).max(1);
        values.par_chunks_mut(size).with_min_len(least).enumerate().for_each(|(part, values)| pass(part, values));
    }
}

/// RMSNorm of rows of the weight's width.
pub(super) fn norm(x: &[f32], weight: &[f32], eps: f64) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    each_part(&mut out, width, |row, out| {
        wide(
            #[inline(always)]
            || norm_row(&x[row * width..][..width], weight, eps, out),
        )
    });
    out
}

/// Columns `[cols, rows]` as rows `[rows, cols]`, with a bias.
fn turned_back(columns: &[f32], rows: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let cols = columns.len() / rows;
    let mut out = vec![0.0; columns.len()];
    each_part(&mut out, TURNED * cols, |block, out| {
        for start in (0..cols).step_by(TURNED) {
            let end = (start + TURNED).min(cols);
            for (row, out) in out.chunks_exact_mut(cols).enumerate() {
                let row = block * TURNED + row;
                match bias {
                    Some(bias) => (start..end).for_each(|col| out[col] = columns[col * rows + row] + bias[col]),
                    None => (start..end).for_each(|col| out[col] = columns[col * rows + row]),
                }
            }
        }
    });
    out
}

/// `x @ weight^T + bias`; `weight`: `[out, in]`.
///
/// A product of many rows is made as `weight @ x^T`: of the factors one is brought into another order first, and it should be the
/// small one.
pub(super) fn linear(x: &[f32], weight: &[f32], width: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, cols) = (x.len() / width, weight.len() / width);
    let mut out = vec![0.0; rows * cols];
    if rows > 1 {
        let (x, weight) = (Matrix::new(x, rows, width), Matrix::new(weight, cols, width));
        product(Target { values: &mut out, steps: [1, rows], add: false }, x, weight.turned(), Threads::All);
        return turned_back(&out, rows, bias);
    }
    single(x, weight, &mut out);
    for (out, bias) in out.iter_mut().zip(bias.unwrap_or_default()) {
        *out += bias;
    }
    out
}

/// `weight @ x` of a single row, by all threads: it takes as long as reading the weight.
fn single(x: &[f32], weight: &[f32], out: &mut [f32]) {
    let width = x.len();
    let work = |part: usize, out: &mut [f32]| {
        let weight = &weight[part * OUTPUTS * width..];
        wide(
            #[inline(always)]
            || {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = dot(x, &weight[i * width..][..width]);
                }
            },
        );
    };
    if weight.len() < PARALLEL {
        out.chunks_mut(OUTPUTS).enumerate().for_each(|(part, out)| work(part, out));
    } else {
        out.par_chunks_mut(OUTPUTS).enumerate().for_each(|(part, out)| work(part, out));
    }
}

/// `(act(x @ gate^T) * (x @ up^T)) @ down^T`; `gate_up`: `[2, inner, width]`, `down`: `[width, inner]`.
pub(super) fn mlp(x: &[f32], gate_up: &[f32], down: &[f32], width: usize, act: Act) -> Vec<f32> {
    let (rows, inner) = (x.len() / width, down.len() / width);
    if rows == 0 {
        return Vec::new();
    }
    // Tokens are columns from the first product to the last.
    let mut joined = vec![0.0; 2 * inner * rows];
    if rows > 1 {
        let target = Target { values: &mut joined, steps: [1, rows], add: false };
        let weight = Matrix::new(gate_up, 2 * inner, width);
        product(target, Matrix::new(x, rows, width), weight.turned(), Threads::All);
    } else {
        single(x, gate_up, &mut joined);
    }
    let (gate, up) = joined.split_at_mut(inner * rows);
    each_part(gate, PART, |part, gate| {
        let up = &up[part * PART..][..gate.len()];
        match act {
            Act::Silu => wide(
                #[inline(always)]
                || both(gate, up, |gate, up| silu(gate) * up),
            ),
            Act::GeluTanh => wide(
                #[inline(always)]
                || both(gate, up, |gate, up| gelu_tanh(gate) * up),
            ),
        }
    });
    let mut out = vec![0.0; width * rows];
    if rows == 1 {
        single(gate, down, &mut out);
        return out;
    }
    let gated = Matrix::new(gate, inner, rows).turned();
    let target = Target { values: &mut out, steps: [1, rows], add: false };
    product(target, gated, Matrix::new(down, width, inner).turned(), Threads::All);
    turned_back(&out, rows, None)
}
