//! The tokens that are shown in the maps.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::index;

use super::{GeometryOptions, Map, Origin, Part, Point, pca};
use crate::TrainExample;

/// The tokens of the maps, drawn before any is seen.
pub(super) struct Sampled {
    /// Ascending, among all tokens.
    chosen: Vec<usize>,
    /// Of each token its example, and which of that example's tokens it is.
    pub(super) names: Vec<(String, usize)>,
    /// Of keys and of values, three a token, in the order of [`ORIGINS`].
    kept: [Vec<Vec<f64>>; 2],
}

const ORIGINS: [Origin; 3] = [Origin::Source, Origin::Transformed, Origin::Target];

impl Sampled {
    pub(super) fn new(examples: &[TrainExample], options: GeometryOptions) -> Self {
        let fused = |example: &TrainExample| -> usize {
            let sections = example.prompt.sections.iter().filter(|section| section.fuse);
            sections.flat_map(|section| &section.receiver_mask).filter(|real| **real).count()
        };
        let total = examples.iter().map(fused).sum();
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x6e0_3e72);
        let mut chosen = index::sample(&mut rng, total, options.points.min(total)).into_vec();
        chosen.sort_unstable();
        Self { chosen, names: Vec::new(), kept: Default::default() }
    }

    /// Which of the next `count` tokens are chosen, counted from the first of them; `before` have been seen.
    pub(super) fn of(&self, count: usize, before: usize) -> Vec<usize> {
        let at = |token: usize| self.chosen.partition_point(|chosen| *chosen < token);
        self.chosen[at(before)..at(before + count)].iter().map(|chosen| chosen - before).collect()
    }

    pub(super) fn keep(&mut self, side: usize, vectors: [&[f32]; 3]) {
        let width = vectors.iter().map(|vector| vector.len()).max().unwrap_or(0);
        for vector in vectors {
            let mut wide: Vec<f64> = vector.iter().map(|x| f64::from(*x)).collect();
            wide.resize(width, 0.0);
            self.kept[side].push(wide);
        }
    }

    pub(super) fn map(&self, side: usize, layer: usize, part: Part) -> Map {
        let plane = pca::plane(&self.kept[side]);
        let names = self.names.iter().flat_map(|name| ORIGINS.map(|origin| (name, origin)));
        let point = |(((example, token), origin), [x, y]): ((&(String, usize), Origin), &[f64; 2])| Point {
            example: example.clone(),
            token: *token,
            origin,
            x: *x,
            y: *y,
        };
        Map { layer, part, shares: plane.shares, points: names.zip(&plane.points).map(point).collect() }
    }
}
