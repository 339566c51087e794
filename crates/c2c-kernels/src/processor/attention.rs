//! Queries, keys and values on their way into the cache, and attention over it.

use std::ops::Range;

use rayon::prelude::*;

use super::maths::{exp, largest, norm_row, sum, wide};
use super::product::{Matrix, Target, Threads, product};
use super::rows::each_part;

/// Queries that are attended together.
const QUERIES: usize = 32;

/// The joined projections and how they become queries, keys and values.
pub(super) struct Qkv<'a> {
    /// `[rows, (heads + 2 * kv_heads) * head_dim]`, with bias.
    pub(super) joined: &'a [f32],
    /// Weights of the norms of query and key heads, `[head_dim]`, and epsilon.
    pub(super) norms: Option<(&'a [f32], &'a [f32], f64)>,
    /// Cosines and sines, `[positions, head_dim]`.
    pub(super) tables: (&'a [f32], &'a [f32]),
    /// Of each row.
    pub(super) positions: &'a [usize],
    /// Tokens of a row of the batch.
    pub(super) tokens: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// What queries are multiplied by.
    pub(super) scale: f32,
}

impl Qkv<'_> {
    /// Queries `[batch, heads, tokens, head_dim]`, keys and values `[batch, kv_heads, tokens, head_dim]`.
    pub(super) fn split(&self) -> [Vec<f32>; 3] {
        let (q_norm, k_norm, eps) = match self.norms {
            Some((q, k, eps)) => (Some(q), Some(k), eps),
            None => (None, None, 0.0),
        };
        let query = self.heads_of(0, self.heads, |source, at, out| {
            self.rotate(source, at, q_norm, eps, out);
            out.iter_mut().for_each(|x| *x *= self.scale);
        });
        let key = self.heads_of(self.heads, self.kv_heads, |source, at, out| {
            self.rotate(source, at, k_norm, eps, out);
        });
        let value = self.heads_of(self.heads + self.kv_heads, self.kv_heads, |source, _, out| {
            out.copy_from_slice(source);
        });
        [query, key, value]
    }

    /// Some heads from `first` on; `make(source, position, out)` makes each.
    fn heads_of(&self, first: usize, heads: usize, make: impl Fn(&[f32], usize, &mut [f32]) + Sync) -> Vec<f32> {
        let (width, d, tokens) = ((self.heads + 2 * self.kv_heads) * self.head_dim, self.head_dim, self.tokens);
        let mut out = vec![0.0; self.positions.len() * heads * d];
        each_part(&mut out, tokens * d, |part, out| {
            let (row, head) = (part / heads * tokens, first + part % heads);
            for (token, out) in out.chunks_exact_mut(d).enumerate() {
                let source = &self.joined[(row + token) * width + head * d..][..d];
                make(source, self.positions[row + token], out);
            }
        });
        out
    }

    /// Norm and rotation of one head.
    fn rotate(&self, source: &[f32], position: usize, norm: Option<&[f32]>, eps: f64, out: &mut [f32]) {
        match norm {
            Some(weight) => wide(
                #[inline(always)]
                || norm_row(source, weight, eps, out),
            ),
            None => out.copy_from_slice(source),
        }
        let d = self.head_dim;
        let (cos, sin) = (&self.tables.0[position * d..][..d], &self.tables.1[position * d..][..d]);
        let half = d / 2;
        let (first, second) = out.split_at_mut(half);
        wide(
            #[inline(always)]
            || {
                for i in 0..half {
                    let (a, b) = (first[i], second[i]);
                    first[i] = a * cos[i] - b * sin[i];
                    second[i] = b * cos[half + i] + a * sin[half + i];
                }
            },
        );
    }
}

/// Attention over a cache.
pub(super) struct Attention<'a> {
    /// `[batch, heads, tokens, head_dim]`, scaled.
    pub(super) query: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub(super) key: &'a [f32],
    /// As `key`.
    pub(super) value: &'a [f32],
    /// Which slots are real, a row of the batch; all that are filled.
    pub(super) real: &'a [Vec<bool>],
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) tokens: usize,
    pub(super) capacity: usize,
    pub(super) head_dim: usize,
    /// How many slots back a query sees, itself included.
    pub(super) window: Option<usize>,
}

impl Attention<'_> {
    /// The attended values, `[batch * tokens, heads * head_dim]`.
    pub(super) fn attend(&self) -> Vec<f32> {
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let width = self.heads * d;
        let mut out = vec![0.0; self.real.len() * self.tokens * width];
        if self.tokens == 1 {
            // The heads that share a key head lie together.
            let parts = out.par_chunks_exact_mut(group * d).enumerate();
            parts.for_each_init(Vec::new, |scores, (part, out)| {
                let (row, kv) = (part / self.kv_heads, part % self.kv_heads);
                let query = Matrix::new(&self.query[part * group * d..][..group * d], group, d);
                self.head(row, kv, query, 0, Target { values: out, steps: [d, 1], add: false }, scores);
            });
            return out;
        }
        out.par_chunks_exact_mut(self.tokens * width).enumerate().for_each(|(row, out)| {
            let blocks = out.par_chunks_mut(QUERIES * width).enumerate();
            blocks.for_each_init(Vec::new, |scores, (block, out)| {
                let (first, queries) = (block * QUERIES, out.len() / width);
                for head in 0..self.heads {
                    let start = ((row * self.heads + head) * self.tokens + first) * d;
                    let query = Matrix::new(&self.query[start..][..queries * d], queries, d);
                    let target = Target { values: &mut out[head * d..], steps: [width, 1], add: false };
                    self.head(row, head / group, query, first, target, scores);
                }
            });
        });
        out
    }

    /// Queries of one key head: of tokens from `first` on, or, of a single token, of all heads that share it.
    fn head(&self, row: usize, kv: usize, query: Matrix<'_>, first: usize, out: Target<'_>, scores: &mut Vec<f32>) {
        let real = &self.real[row];
        let past = real.len() - self.tokens;
        let queries = query.rows();
        let newest = |i: usize| if self.tokens == 1 { past } else { past + first + i };
        let seen = |i: usize| self.seen(newest(i));
        let slots = seen(0).start..seen(queries - 1).end;
        let of = |cache| self.slots(cache, row, kv, slots.clone());
        scores.clear();
        scores.resize(queries * slots.len(), 0.0);
        let target = Target { values: scores, steps: [slots.len(), 1], add: false };
        product(target, query, of(self.key).turned(), Threads::One);
        for (i, scores) in scores.chunks_exact_mut(slots.len()).enumerate() {
            let seen = seen(i);
            wide(
                #[inline(always)]
                || softmax(scores, seen.start - slots.start..seen.end - slots.start, &real[slots.clone()]),
            );
        }
        product(out, Matrix::new(scores, queries, slots.len()), of(self.value), Threads::One);
    }

    /// The slots that the query in `slot` may see, padding included.
    fn seen(&self, slot: usize) -> Range<usize> {
        self.window.map_or(0, |window| (slot + 1).saturating_sub(window))..slot + 1
    }

    fn slots<'a>(&self, cache: &'a [f32], row: usize, kv: usize, slots: Range<usize>) -> Matrix<'a> {
        let (d, start) = (self.head_dim, (row * self.kv_heads + kv) * self.capacity + slots.start);
        Matrix::new(&cache[start * d..][..slots.len() * d], slots.len(), d)
    }
}

/// The softmax over what is seen and real; everything else becomes 0, and so does all of a row that sees nothing.
#[inline(always)]
fn softmax(scores: &mut [f32], seen: Range<usize>, real: &[bool]) {
    let (before, rest) = scores.split_at_mut(seen.start);
    let (scores, behind) = rest.split_at_mut(seen.len());
    before.fill(0.0);
    behind.fill(0.0);
    let real = &real[seen];
    let padded = !real.iter().all(|real| *real);
    if padded {
        let hidden = scores.iter_mut().zip(real).filter(|(_, real)| !**real);
        hidden.for_each(|(score, _)| *score = f32::NEG_INFINITY);
    }
    let top = largest(scores);
    if top == f32::NEG_INFINITY {
        scores.fill(0.0);
        return;
    }
    scores.iter_mut().for_each(|score| *score = exp(*score - top));
    if padded {
        let hidden = scores.iter_mut().zip(real).filter(|(_, real)| !**real);
        hidden.for_each(|(score, _)| *score = 0.0);
    }
    let factor = 1.0 / sum(scores);
    scores.iter_mut().for_each(|score| *score *= factor);
}
