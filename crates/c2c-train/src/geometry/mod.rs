//! Where mapped caches lie in the Receiver's space (paper, section 3.2 and figure 3).
//!
//! For the keys and the values of each layer: how near what a Fuser makes of the Sharer's cache is to the Receiver's own
//! cache of the same tokens. For one layer also a map: tokens of the three caches in the plane of their first two
//! principal components. A token's vector has all heads of a layer joined; the narrower of the two models' vectors is
//! filled with zeros for the map, which keeps its distances. And how many directions the keys and the values of each layer
//! spread over, in each of the three caches: their effective ranks (paper, table 2).
//!
//! Each model reads an example alone, so that a Fuser that reads the Receiver's cache gets an unfused one.

mod pca;
mod rank;
mod sampled;
mod sums;

use burn::tensor::{Tensor, backend::Backend};
use c2c_fuser::{CachePairs, Fuser, FuserMode, PairBatch, PairModels};
use c2c_kernels::KernelBackend;
use c2c_lm::{LayerKv, LmError, to_f32};
use c2c_text::Prompt;
use serde::Serialize;

use crate::{TrainError, TrainExample};
use rank::RankSums;
pub use rank::{Rank, Ranks};
use sampled::Sampled;
use sums::Sums;

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Keys, after rotary embedding.
    Key,
    /// Values.
    Value,
}

/// Whose cache a point is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The Sharer's, as it is.
    Source,
    /// What the Fuser makes of it.
    Transformed,
    /// The Receiver's own.
    Target,
}

/// How near the mapped keys or values of a layer are to the Receiver's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// The Receiver's layer.
    pub layer: usize,
    /// Keys or values.
    pub part: Part,
    /// Mean cosine of the Sharer's and the Receiver's vectors; `None` where their widths differ.
    pub cosine_before: Option<f64>,
    /// Mean cosine of mapped and own vectors.
    pub cosine: f64,
    /// Length of all errors over the length of all own vectors.
    pub relative_error: f64,
    /// Share of the own vectors' variance that the mapped ones explain: 1 is exact, 0 is no better than their mean.
    pub explained: f64,
    /// Variance of the mapped vectors over that of the own ones.
    pub spread: f64,
    /// Over how many directions each of the three caches spreads.
    pub ranks: Ranks,
}

/// A token in the plane of a map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The example's identifier.
    pub example: String,
    /// Which of the example's mapped tokens it is, from 0.
    pub token: usize,
    /// Whose cache.
    pub origin: Origin,
    /// Along the first principal component.
    pub x: f64,
    /// Along the second.
    pub y: f64,
}

/// Tokens of the three caches in one plane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Map {
    /// The Receiver's layer.
    pub layer: usize,
    /// Keys or values.
    pub part: Part,
    /// Shares of the variance of all points that the two axes have.
    pub shares: [f64; 2],
    /// Three of each token.
    pub points: Vec<Point>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Geometry {
    /// Examples read.
    pub examples: usize,
    /// Their mapped tokens.
    pub tokens: usize,
    /// Those of them in whose slots the Sharer has a token, too: the effective ranks of its cache are of these.
    pub sharer_tokens: usize,
    /// Keys, then values, of each layer.
    pub branches: Vec<Branch>,
    /// Keys and values of one layer.
    pub maps: Vec<Map>,
}

impl Geometry {
    /// The means of the effective ranks of all layers' keys or values.
    pub fn mean_ranks(&self, part: Part) -> Ranks {
        Ranks::mean(self.branches.iter().filter(|branch| branch.part == part).map(|branch| &branch.ranks))
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct GeometryOptions {
    /// Examples in one pass.
    pub batch_size: usize,
    /// The layer of the maps; `None` is the last.
    pub layer: Option<usize>,
    /// Tokens in a map, at most.
    pub points: usize,
    /// Seed of their choice.
    pub seed: u64,
}

/// Measures a Fuser between two models on some examples.
///
/// # Errors
/// No token that is mapped; a layer that the Receiver doesn't have; what the models refuse.
pub fn measure<B: KernelBackend>(
    pair: &PairModels<B>,
    fuser: &Fuser<B>,
    examples: &[TrainExample],
    options: GeometryOptions,
) -> Result<Geometry, TrainError> {
    let config = fuser.config();
    let shown = options.layer.unwrap_or(config.layers() - 1);
    if shown >= config.layers() {
        let last = config.layers() - 1;
        return Err(TrainError::Stopped(format!("layer {shown}: the receiver's layers are 0 to {last}; choose one")));
    }
    let mut sampled = Sampled::new(examples, options);
    let mut sums = vec![Sums::default(); config.branches()];
    let mut ranks =
        RankSums::new((config.sharer_depth(), config.sharer_width()), (config.layers(), config.receiver_width()));
    let same_width = config.sharer_width() == config.receiver_width();
    let (mut before, mut sharer_tokens) = (0, 0);
    let tokens = each_batch(pair, fuser, examples, options.batch_size, |examples, caches| {
        let mapped = fuser.fuse(&caches.sharer, &caches.receiver, FuserMode::Infer)?;
        let taken = sampled.of(caches.tokens(), before);
        for (layer, (mapped, own)) in mapped.iter().zip(&caches.receiver).enumerate() {
            let read = config.layer_map[layer];
            let source = &caches.sharer[read];
            // Several of the Receiver's layers may read one of the Sharer's, whose tokens count once.
            let first = !config.layer_map[..layer].contains(&read);
            for (side, part) in [(0, Part::Key), (1, Part::Value)] {
                let [own, mapped] = [own, mapped].map(|kv| vectors(kv, part));
                let (own, mapped) = (own?, mapped?);
                let wanted = first || same_width || (layer == shown && !taken.is_empty());
                let source = if wanted { Some(vectors(source, part)?) } else { None };
                ranks.add_receiver(layer, side, &own.values, &mapped.values);
                if let Some(source) = source.as_ref().filter(|_| first) {
                    ranks.add_sharer(read, side, &source.where_set(&caches.shared));
                }
                for token in 0..caches.tokens() {
                    let source = source.as_ref().filter(|_| same_width).map(|source| source.of(token));
                    sums[2 * layer + side].add(own.of(token), mapped.of(token), source);
                }
                if let Some(source) = source.filter(|_| layer == shown) {
                    for token in &taken {
                        sampled.keep(side, [source.of(*token), mapped.of(*token), own.of(*token)]);
                    }
                }
            }
        }
        for token in taken {
            let (row, token) = caches.places[token];
            sampled.names.push((examples[row].id.clone(), token));
        }
        before += caches.tokens();
        sharer_tokens += caches.shared.iter().filter(|shared| **shared).count();
        Ok(())
    })?;
    let part = |branch: usize| if branch.is_multiple_of(2) { Part::Key } else { Part::Value };
    let ranks = ranks.figures(&config.layer_map);
    let figures = sums.iter().zip(ranks).enumerate();
    let figures = figures.map(|(branch, (sums, ranks))| sums.figures(branch / 2, part(branch), ranks));
    let maps = [Part::Key, Part::Value].into_iter().enumerate().map(|(side, part)| sampled.map(side, shown, part));
    Ok(Geometry { examples: examples.len(), tokens, sharer_tokens, branches: figures.collect(), maps: maps.collect() })
}

/// Runs both models on the examples, so many at a time, and hands over what they hold of the tokens that are fused; returns
/// how many those were.
///
/// # Errors
/// No token that is fused; what the models, or whoever gets the caches, refuse.
pub(crate) fn each_batch<B: KernelBackend>(
    pair: &PairModels<B>,
    fuser: &Fuser<B>,
    examples: &[TrainExample],
    batch_size: usize,
    mut take: impl FnMut(&[TrainExample], &CachePairs<B>) -> Result<(), TrainError>,
) -> Result<usize, TrainError> {
    let pads = (pair.text.receiver().pad_id(), pair.text.sharer().pad_id());
    let mut tokens = 0;
    for examples in examples.chunks(batch_size.max(1)) {
        let prompts: Vec<&Prompt> = examples.iter().map(|example| &*example.prompt).collect();
        let batch = PairBatch::collate(&prompts, pads.0, pads.1)?;
        let depth = fuser.config().sharer_depth();
        let Some(caches) = CachePairs::compute(&pair.receiver, &pair.sharer, depth, &batch)? else { continue };
        take(examples, &caches)?;
        tokens += caches.tokens();
    }
    if tokens == 0 {
        return Err(TrainError::Stopped("no example has a token that is fused: there is nothing to measure".into()));
    }
    Ok(tokens)
}

/// Vectors of tokens, one after the other.
struct Vectors {
    width: usize,
    values: Vec<f32>,
}

impl Vectors {
    fn of(&self, token: usize) -> &[f32] {
        &self.values[token * self.width..(token + 1) * self.width]
    }

    /// Those of the tokens that are marked.
    fn where_set(&self, marks: &[bool]) -> Vec<f32> {
        marks.iter().enumerate().filter(|(_, mark)| **mark).flat_map(|(token, _)| self.of(token)).copied().collect()
    }
}

/// The vectors of a layer's tokens on the host, heads joined.
fn vectors<B: Backend>(kv: &LayerKv<B>, part: Part) -> Result<Vectors, TrainError> {
    let tensor: &Tensor<B, 4> = match part {
        Part::Key => &kv.key,
        Part::Value => &kv.value,
    };
    let [_, heads, tokens, head_dim] = tensor.dims();
    let width = heads * head_dim;
    let data = to_f32(tensor.clone()).swap_dims(1, 2).reshape([tokens * width]).try_into_data();
    let values = data.map_err(|e| LmError::Readback(format!("{e:?}")))?.iter::<f32>().collect();
    Ok(Vectors { width, values })
}
