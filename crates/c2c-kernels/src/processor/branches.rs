//! Layers whose weights are stacked over a fuser's branches: a branch is done whole before the next, so that what lies between its
//! products stays in the processor's cache.

use rayon::prelude::*;

use super::maths::{both, gelu, norm_row, rms_factor, wide};
use super::product::{Matrix, Target, Threads, product};

/// Branches as long as all threads have one; fewer are done one after the other by all threads together.
fn each_branch<S: Send>(
    values: &mut [f32],
    size: usize,
    scratch: impl Fn() -> S + Sync + Send,
    pass: impl Fn(usize, &mut [f32], &mut S, Threads) + Sync + Send,
) {
    if size == 0 {
        return;
    }
    if values.len() / size >= rayon::current_num_threads() {
        let branches = values.par_chunks_exact_mut(size).enumerate();
        branches.for_each_init(&scratch, |scratch, (branch, values)| pass(branch, values, scratch, Threads::One));
    } else {
        let mut scratch = scratch();
        let branches = values.chunks_exact_mut(size).enumerate();
        branches.for_each(|(branch, values)| pass(branch, values, &mut scratch, Threads::All));
    }
}

/// The sizes of stacked weights.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) branches: usize,
    pub(super) rows: usize,
    /// Of a row of `x`.
    pub(super) width: usize,
    /// Of a row of the result, or inside a block.
    pub(super) inner: usize,
}

/// `x @ weight + bias`; `x`: `[branches, rows, width]`, `weight`: `[branches, width, inner]`, `bias`: `[branches, 1, inner]`.
pub(super) fn linear(x: &[f32], weight: &[f32], bias: &[f32], sizes: Sizes) -> Vec<f32> {
    let Sizes { branches, rows, width, inner } = sizes;
    let mut out = vec![0.0; branches * rows * inner];
    each_branch(
        &mut out,
        rows * inner,
        || (),
        |branch, out, (), threads| {
            let bias = &bias[branch * inner..][..inner];
            out.chunks_exact_mut(inner).for_each(|row| row.copy_from_slice(bias));
            let x = Matrix::new(&x[branch * rows * width..][..rows * width], rows, width);
            let weight = Matrix::new(&weight[branch * width * inner..][..width * inner], width, inner);
            product(Target { values: out, steps: [inner, 1], add: true }, x, weight, threads);
        },
    );
    out
}

/// `x += gelu(norm(x) @ w1) @ w2`, without biases; `norm`, `[branches, width]`, where `w1` doesn't hold it already.
pub(super) fn ffn(x: &mut [f32], norm: Option<&[f32]>, w1: &[f32], w2: &[f32], eps: f64, sizes: Sizes) {
    let Sizes { rows, width, inner, .. } = sizes;
    let scratch = || (vec![0.0; rows * width], vec![0.0; rows * inner]);
    each_branch(x, rows * width, scratch, |branch, x, (normed, hidden), threads| {
        let norm = norm.map(|norm| &norm[branch * width..][..width]);
        wide(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(normed.chunks_exact_mut(width)) {
                    match norm {
                        Some(norm) => norm_row(x, norm, eps, out),
                        None => {
                            let factor = rms_factor(x, eps);
                            both(out, x, |_, x| x * factor);
                        }
                    }
                }
            },
        );
        let first = Matrix::new(&w1[branch * width * inner..][..width * inner], width, inner);
        let target = Target { values: hidden, steps: [inner, 1], add: false };
        product(target, Matrix::new(normed, rows, width), first, threads);
        wide(
            #[inline(always)]
            || hidden.iter_mut().for_each(|x| *x = gelu(*x)),
        );
        let second = Matrix::new(&w2[branch * width * inner..][..width * inner], inner, width);
        product(Target { values: x, steps: [width, 1], add: true }, Matrix::new(hidden, rows, inner), second, threads);
    });
}
