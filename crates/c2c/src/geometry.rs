//! Where a Fuser's caches lie in the Receiver's space: measured, written and told.

use std::path::{Path, PathBuf};

use burn::Dispatch;
use c2c_fuser::{Fuser, PairModels};
use c2c_recipe::TrainRecipe;
use c2c_report::{CacheOf, CachePanel, Cell, Column, Kind, Table, cache_maps};
use c2c_train::PairMaterial;
use c2c_train::geometry::{Geometry, GeometryOptions, Map, Origin, Part, measure};

use crate::exit::{Failure, environment};

/// The folder of the figures, in a run directory.
pub const GEOMETRY_DIR: &str = "geometry";
/// Tokens in a map unless something else is said.
pub const POINTS: usize = 300;

/// Measures on the examples of a recipe that are held out, or on all if none is; at most so many.
pub fn of_run(
    recipe: &TrainRecipe,
    (pair, fuser): (&PairModels<Dispatch>, &Fuser<Dispatch>),
    material: &PairMaterial,
    (layer, points, limit): (Option<usize>, usize, Option<usize>),
) -> Result<Geometry, Failure> {
    let examples = material.material().held_out();
    let examples = &examples[..limit.unwrap_or(examples.len()).min(examples.len())];
    let options = GeometryOptions { batch_size: recipe.training.batch_size, layer, points, seed: recipe.seed };
    measure(pair, fuser, examples, options).map_err(environment)
}

/// Writes `layers.csv`, `points.csv` and `map.svg` into a folder; returns the table for the terminal.
pub fn write(geometry: &Geometry, dir: &Path) -> Result<String, Failure> {
    let layers = layers(geometry);
    std::fs::create_dir_all(dir).map_err(|e| environment(anyhow::anyhow!("cannot make {}: {e}", dir.display())))?;
    for (name, table) in [("layers.csv", &layers), ("points.csv", &points(geometry))] {
        let mut csv = Vec::new();
        table.write_csv(&mut csv).map_err(environment)?;
        put(dir.join(name), &csv)?;
    }
    let panels: Vec<CachePanel> = geometry.maps.iter().map(panel).collect();
    put(dir.join("map.svg"), cache_maps("Caches in the Receiver's space", &panels).map_err(environment)?.as_bytes())?;
    Ok(layers.text(None))
}

fn put(path: PathBuf, bytes: &[u8]) -> Result<(), Failure> {
    c2c_lm::write_beside(&path, bytes).map_err(environment)
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Key => "keys",
        Part::Value => "values",
    }
}

fn columns(columns: &[(&str, Kind)]) -> Vec<Column> {
    columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect()
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
        about: "docs/baseline-training.md says what the columns are.".to_owned(),
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
