//! Where a Fuser's caches lie in the Receiver's space: measured, written and told.

use std::path::Path;

use burn::Dispatch;
use c2c_fuser::{Fuser, PairModels};
use c2c_recipe::TrainRecipe;
use c2c_report::{CacheOf, CachePanel, Cell, Kind, Table, cache_maps};
use c2c_train::TrainExample;
use c2c_train::geometry::{Geometry, GeometryOptions, Map, Origin, Part, Rank, Ranks, measure};

use crate::exit::{Failure, environment};
use crate::measured::{columns, make, part, put, put_csv};

/// The folder of the figures, in a run directory.
pub const GEOMETRY_DIR: &str = "geometry";
/// Tokens in a map unless something else is said.
pub const POINTS: usize = 300;

/// Measures on these examples, as a recipe reads them.
pub fn measured(
    recipe: &TrainRecipe,
    (pair, fuser): (&PairModels<Dispatch>, &Fuser<Dispatch>),
    examples: &[TrainExample],
    (layer, points): (Option<usize>, usize),
) -> Result<Geometry, Failure> {
    let options = GeometryOptions { batch_size: recipe.training.batch_size, layer, points, seed: recipe.seed };
    measure(pair, fuser, examples, options).map_err(environment)
}

/// Writes `layers.csv`, `ranks.csv`, `points.csv` and `map.svg` into a folder; returns the tables for the terminal.
pub fn write(geometry: &Geometry, dir: &Path) -> Result<String, Failure> {
    let (layers, ranks) = (layers(geometry), ranks(geometry));
    make(dir)?;
    put_csv(dir, "layers.csv", &layers)?;
    put_csv(dir, "ranks.csv", &ranks)?;
    put_csv(dir, "points.csv", &points(geometry))?;
    let panels: Vec<CachePanel> = geometry.maps.iter().map(panel).collect();
    put(dir.join("map.svg"), cache_maps("Caches in the Receiver's space", &panels).map_err(environment)?.as_bytes())?;
    Ok(format!("{}\n{}{}", layers.text(None), ranks.text(None), means(geometry)))
}

fn layers(geometry: &Geometry) -> Table {
    let rows = geometry.branches.iter().map(|branch| {
        vec![
            branch.layer.into(),
            part(branch.part).into(),
            branch.cosine_before.into(),
            branch.cosine.into(),
            branch.relative_error.into(),
            branch.explained.into(),
            branch.spread.into(),
        ]
    });
    Table {
        name: "geometry",
        title: format!(
            "The Sharer's cache, transformed, against the Receiver's: {} tokens of {} examples",
            geometry.tokens, geometry.examples
        ),
        about: "docs/analysis.md says what the columns are.".to_owned(),
        columns: columns(&[
            ("layer", Kind::Count),
            ("part", Kind::Text),
            ("cosine_before", Kind::Number),
            ("cosine", Kind::Number),
            ("relative_error", Kind::Number),
            ("explained", Kind::Share),
            ("spread", Kind::Number),
        ]),
        rows: rows.collect(),
    }
}

/// The caches in the order in which a token goes through them, and whether the mean was taken off.
const RANKS: [&str; 6] = ["sharer", "receiver", "fused", "sharer_centred", "receiver_centred", "fused_centred"];

fn of_all(ranks: &Ranks) -> [Option<f64>; 6] {
    let of = |rank: fn(Rank) -> Option<f64>| [ranks.sharer, ranks.receiver, ranks.fused].map(rank);
    let ([a, b, c], [d, e, f]) = (of(|rank| rank.plain), of(|rank| rank.centred));
    [a, b, c, d, e, f]
}

fn ranks(geometry: &Geometry) -> Table {
    let names: Vec<(&str, Kind)> = [("layer", Kind::Count), ("part", Kind::Text)]
        .into_iter()
        .chain(RANKS.map(|name| (name, Kind::Number)))
        .collect();
    let rows = geometry.branches.iter().map(|branch| {
        let cells = [branch.layer.into(), part(branch.part).into()];
        cells.into_iter().chain(of_all(&branch.ranks).map(Cell::from)).collect()
    });
    Table {
        name: "ranks",
        title: format!(
            "Effective rank of each cache, as it is and less its mean: {} tokens, {} of them the Sharer's, too",
            geometry.tokens, geometry.sharer_tokens
        ),
        about: "docs/analysis.md says what an effective rank is.".to_owned(),
        columns: columns(&names),
        rows: rows.collect(),
    }
}

/// The mean over layers, a line for the keys and one for the values.
fn means(geometry: &Geometry) -> String {
    let line = |of: Part| {
        let told = |(name, rank): (&str, Option<f64>)| rank.map(|rank| format!("{} {rank:.2}", name.replace('_', " ")));
        let ranks = RANKS.into_iter().zip(of_all(&geometry.mean_ranks(of)));
        format!("  mean of {}: {}\n", part(of), ranks.filter_map(told).collect::<Vec<_>>().join(", "))
    };
    [Part::Key, Part::Value].map(line).concat()
}

fn points(geometry: &Geometry) -> Table {
    let point = |map: &Map| {
        let (layer, part) = (map.layer, part(map.part));
        let row = move |point: &c2c_train::geometry::Point| -> Vec<Cell> {
            let origin = match point.origin {
                Origin::Source => "source",
                Origin::Transformed => "transformed",
                Origin::Target => "target",
            };
            vec![
                layer.into(),
                part.into(),
                point.example.clone().into(),
                point.token.into(),
                origin.into(),
                point.x.into(),
                point.y.into(),
            ]
        };
        map.points.iter().map(row).collect::<Vec<_>>()
    };
    Table {
        name: "points",
        title: "Tokens along the first two principal components".to_owned(),
        about: String::new(),
        columns: columns(&[
            ("layer", Kind::Count),
            ("part", Kind::Text),
            ("example", Kind::Text),
            ("token", Kind::Count),
            ("cache", Kind::Text),
            ("x", Kind::Number),
            ("y", Kind::Number),
        ]),
        rows: geometry.maps.iter().flat_map(point).collect(),
    }
}

fn panel(map: &Map) -> CachePanel {
    let axis = |place: &str, share: f64| format!("{place} principal component, {:.1} % of the variance", 100.0 * share);
    let of = |origin: Origin| match origin {
        Origin::Source => CacheOf::Sharer,
        Origin::Transformed => CacheOf::Fuser,
        Origin::Target => CacheOf::Receiver,
    };
    CachePanel {
        title: format!("{} of the Receiver's layer {}", part(map.part), map.layer),
        axes: [axis("first", map.shares[0]), axis("second", map.shares[1])],
        points: map.points.iter().map(|point| (of(point.origin), point.x, point.y)).collect(),
    }
}
