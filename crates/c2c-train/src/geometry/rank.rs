//! Effective ranks of caches: over how many directions the tokens' vectors spread (paper, table 2).
//!
//! With the singular values `s` of the matrix of tokens by features and `p = s / sum(s)`, the effective rank is
//! `exp(-sum(p ln p))` (O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007): 1
//! where all tokens lie on one line, as many as there are features where all directions are alike.
//!
//! The singular values are the roots of the eigenvalues of the Gram matrix, which is summed in f64: what is held is the
//! width squared, however many tokens there are. Singular values that can't be told from the rounding of that sum count as 0:
//! those below `sqrt(width * 2^-52)` of the largest, 1e-7 for a width of 64, 5e-7 for 1024.

use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use serde::Serialize;

/// Columns of a Gram matrix that one thread adds to at a time.
const COLUMNS: usize = 64;

/// An effective rank, from 1 to the lesser of features and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rank {
    /// Of the vectors as they are; nothing if all are zero, or one isn't finite.
    pub plain: Option<f64>,
    /// Of the vectors less their mean; nothing if all are equal, or one isn't finite.
    pub centred: Option<f64>,
}

/// The effective ranks of the three caches, for the keys or the values of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ranks {
    /// Of the Sharer's layer that is read, over the tokens that the Sharer has.
    pub sharer: Rank,
    /// Of the Receiver's own.
    pub receiver: Rank,
    /// Of what the Fuser makes of them.
    pub fused: Rank,
}

impl Ranks {
    /// The means over some layers, of each figure over the layers that have it.
    pub fn mean<'a>(layers: impl Iterator<Item = &'a Ranks> + Clone) -> Self {
        let mean = |of: &dyn Fn(&Ranks) -> Option<f64>| {
            let (mut sum, mut count) = (0.0, 0usize);
            for rank in layers.clone().filter_map(of) {
                sum += rank;
                count += 1;
            }
            (count > 0).then(|| sum / count as f64)
        };
        let both = |of: fn(&Ranks) -> Rank| Rank {
            plain: mean(&|ranks| of(ranks).plain),
            centred: mean(&|ranks| of(ranks).centred),
        };
        Self { sharer: both(|r| r.sharer), receiver: both(|r| r.receiver), fused: both(|r| r.fused) }
    }
}

/// The Gram matrix of vectors of one width, and their sum.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    tokens: usize,
    sum: DVector<f64>,
    /// Its lower triangle.
    products: DMatrix<f64>,
}

impl Gram {
    pub(super) fn new(width: usize) -> Self {
        Self { tokens: 0, sum: DVector::zeros(width), products: DMatrix::zeros(width, width) }
    }

    /// Adds vectors that stand one after the other.
    pub(super) fn add(&mut self, vectors: &[f32]) {
        let width = self.sum.len();
        let tokens = vectors.len() / width.max(1);
        if tokens == 0 {
            return;
        }
        let vectors: Vec<f64> = vectors.iter().map(|x| f64::from(*x)).collect();
        let of_tokens = DMatrixView::from_slice(&vectors, width, tokens);
        let features = of_tokens.transpose();
        self.tokens += tokens;
        self.sum += of_tokens.column_sum();
        // A block of columns is one thread's, so that no sum depends on how many there are.
        let blocks = self.products.as_mut_slice().par_chunks_mut(COLUMNS * width);
        blocks.enumerate().for_each(|(block, columns)| {
            let (from, count) = (block * COLUMNS, columns.len() / width);
            let mut columns = DMatrixViewMut::from_slice(columns, width, count);
            let mut below = columns.rows_mut(from, width - from);
            below.gemm(1.0, &of_tokens.rows(from, width - from), &features.columns(from, count), 1.0);
        });
    }

    pub(super) fn rank(&self) -> Rank {
        let mut centred = self.products.clone();
        centred.ger(-1.0 / self.tokens.max(1) as f64, &self.sum, &self.sum, 1.0);
        // What subtracting leaves of vectors that are all equal is the rounding of their sum.
        let rounding = f64::EPSILON * (self.sum.len() + self.tokens) as f64;
        let flat = centred.trace() <= self.products.trace() * rounding;
        Rank { plain: effective(self.products.clone()), centred: if flat { None } else { effective(centred) } }
    }
}

/// The effective rank that belongs to a Gram matrix; of the matrix only the lower triangle is read.
fn effective(gram: DMatrix<f64>) -> Option<f64> {
    if gram.is_empty() || !gram.iter().all(|x| x.is_finite()) {
        return None;
    }
    let squares = gram.symmetric_eigenvalues();
    let least = squares.max() * f64::EPSILON * squares.len() as f64;
    let singular: Vec<f64> = squares.iter().filter(|square| **square > least).map(|square| square.sqrt()).collect();
    effective_rank(&singular)
}

/// `exp` of the entropy of what each singular value is of all; nothing if there is none above 0.
fn effective_rank(singular: &[f64]) -> Option<f64> {
    let sum: f64 = singular.iter().sum();
    let shares = singular.iter().map(|s| s / sum).filter(|p| *p > 0.0);
    (sum > 0.0).then(|| (-shares.map(|p| p * p.ln()).sum::<f64>()).exp())
}

/// What is added up for all layers.
pub(super) struct RankSums {
    /// By the Sharer's layer: keys, then values. Only layers that are read are ever added to.
    sharer: Vec<Gram>,
    /// By the Receiver's layer.
    receiver: Vec<Gram>,
    fused: Vec<Gram>,
}

impl RankSums {
    /// For so many of the Sharer's and the Receiver's layers, of these widths.
    pub(super) fn new(sharer: (usize, usize), receiver: (usize, usize)) -> Self {
        let grams = |(layers, width): (usize, usize)| vec![Gram::new(width); 2 * layers];
        Self { sharer: grams(sharer), receiver: grams(receiver), fused: grams(receiver) }
    }

    pub(super) fn add_sharer(&mut self, layer: usize, side: usize, vectors: &[f32]) {
        self.sharer[2 * layer + side].add(vectors);
    }

    pub(super) fn add_receiver(&mut self, layer: usize, side: usize, own: &[f32], fused: &[f32]) {
        self.receiver[2 * layer + side].add(own);
        self.fused[2 * layer + side].add(fused);
    }

    /// Of each layer its keys', then its values'.
    pub(super) fn figures(&self, layer_map: &[usize]) -> Vec<Ranks> {
        let of = |grams: &[Gram]| -> Vec<Rank> { grams.into_par_iter().map(Gram::rank).collect() };
        let (sharer, receiver, fused) = (of(&self.sharer), of(&self.receiver), of(&self.fused));
        let ranks = |branch: usize| Ranks {
            sharer: sharer[2 * layer_map[branch / 2] + branch % 2],
            receiver: receiver[branch],
            fused: fused[branch],
        };
        (0..receiver.len()).map(ranks).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rank(width: usize, vectors: &[f32]) -> Rank {
        let mut gram = Gram::new(width);
        gram.add(vectors);
        gram.rank()
    }

    fn close(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    #[test]
    fn the_identity_has_all_directions_and_a_line_one() {
        // Wider than a block of columns.
        let width = COLUMNS + 6;
        let identity: Vec<f32> =
            (0..width * width).map(|i| if i.is_multiple_of(width + 1) { 3.0 } else { 0.0 }).collect();
        let found = rank(width, &identity);
        close(found.plain, width as f64);
        // Without their mean the unit vectors span one direction less, all alike.
        close(found.centred, width as f64 - 1.0);
        let line: Vec<f32> = (0..5 * width).map(|i| (i / width + 1) as f32 * (1.0 + (i % width) as f32)).collect();
        let found = rank(width, &line);
        close(found.plain, 1.0);
        close(found.centred, 1.0);
    }

    #[test]
    fn a_spectrum_by_hand_turned_out_of_its_axes() {
        // Singular values 5, 3, 2 and shares 0.5, 0.3, 0.2; rows U S V with rotations on both sides.
        let entropy = -(0.5f64 * 0.5f64.ln() + 0.3 * 0.3f64.ln() + 0.2 * 0.2f64.ln());
        close(effective_rank(&[5.0, 3.0, 2.0, 0.0]), entropy.exp());
        let thirds = [[2.0, 2.0, 1.0], [-2.0, 1.0, 2.0], [1.0, -2.0, 2.0]].map(|row: [f64; 3]| row.map(|x| x / 3.0));
        let halves = [[0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5], [0.5, -0.5, -0.5]];
        let s = [5.0, 3.0, 2.0];
        let mut vectors: Vec<f32> = Vec::new();
        for left in halves {
            let at = |column: usize| -> f64 { (0..3).map(|k| left[k] * s[k] * thirds[k][column]).sum() };
            vectors.extend((0..3).map(|column| at(column) as f32));
        }
        close(rank(3, &vectors).plain, entropy.exp());
        // Two parts are one whole.
        let mut gram = Gram::new(3);
        gram.add(&vectors[..3]);
        gram.add(&vectors[3..]);
        close(gram.rank().plain, entropy.exp());
    }

    #[test]
    fn fewer_tokens_than_features_give_what_numpy_finds() {
        // The matrix's own singular values, by numpy.linalg.svd in f64; every number is exact in f32.
        let number = |token: usize, feature: usize| {
            let drawn = (37 * token + 101 * feature + 13 * token * feature) % 97;
            drawn as f32 / 16.0 + (token % 7 * (feature % 5)) as f32 * 0.25 - 1.5
        };
        let vectors: Vec<f32> = (0..40).flat_map(|token| (0..70).map(move |feature| number(token, feature))).collect();
        let found = rank(70, &vectors);
        close(found.plain, 25.972_438_385_943);
        close(found.centred, 33.823_950_267_474);
    }

    #[test]
    fn equal_vectors_have_one_direction_and_none_around_their_mean() {
        let same: Vec<f32> = [0.1f32, -0.7, 1.3, 0.0].repeat(50);
        let found = rank(4, &same);
        close(found.plain, 1.0);
        assert_eq!(found.centred, None);
        assert_eq!(rank(4, &[0.0; 12]), Rank::default());
        assert_eq!(rank(2, &[1.0, f32::NAN, 0.0, 1.0]), Rank::default());
        assert_eq!(rank(2, &[]), Rank::default());
    }

    #[test]
    fn means_are_over_the_layers_that_have_a_figure() {
        let of = |plain: f64, centred: Option<f64>| Rank { plain: Some(plain), centred };
        let layers = [
            Ranks { sharer: of(2.0, None), receiver: of(1.0, Some(3.0)), fused: Rank::default() },
            Ranks { sharer: of(5.0, None), receiver: of(2.0, None), fused: Rank::default() },
        ];
        let mean = Ranks::mean(layers.iter());
        assert_eq!((mean.sharer, mean.receiver), (of(3.5, None), of(1.5, Some(3.0))));
        assert_eq!(mean.fused, Rank::default());
    }
}
