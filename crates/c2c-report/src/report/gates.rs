//! How the gates moved while a Fuser was trained, layer by layer, from `gates.jsonl`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::{Report, tables};
use crate::{Kind, ReportError, Table};

/// All gates after a step.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Look {
    /// Optimiser steps taken.
    pub step: f64,
    /// The logits of the gates of keys, by layer.
    pub keys: Vec<f64>,
    /// Those of values.
    pub values: Vec<f64>,
}

/// The gates of a training, in the order of its steps: a line or more, all of them over the same layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gates {
    pub looks: Vec<Look>,
}

impl Gates {
    /// Reads them; none if the run has no such file, or no gates. Lines that hold no gates are passed over, and so is the last line
    /// of a run that was cut off.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, ReportError> {
        let read = |err: std::io::Error| ReportError::Read { path: path.to_owned(), reason: err.to_string() };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(read(err)),
        };
        let mut looks: Vec<Look> = Vec::new();
        for line in BufReader::new(file).lines() {
            let Ok(look) = serde_json::from_str::<Look>(&line.map_err(read)?) else { continue };
            let layers = looks.first().map_or(look.keys.len(), |first| first.keys.len());
            if layers > 0 && look.keys.len() == layers && look.values.len() == layers {
                looks.push(look);
            }
        }
        Ok((!looks.is_empty()).then_some(Self { looks }))
    }

    /// Layers of the Receiver.
    pub(crate) fn layers(&self) -> usize {
        self.looks.first().map_or(0, |look| look.keys.len())
    }

    /// The first and the last look.
    pub(crate) fn ends(&self) -> Option<(&Look, &Look)> {
        Some((self.looks.first()?, self.looks.last()?))
    }
}

/// A row a layer: the gates at the first and at the last look.
pub(super) fn table(report: &Report) -> Table {
    let about = "Logits of the gates of keys and values by layer, when they were first looked at and at the end. Above 0 a gate is open.";
    let columns = [
        ("layer", Kind::Count),
        ("first_step", Kind::Count),
        ("keys_first", Kind::Number),
        ("values_first", Kind::Number),
        ("last_step", Kind::Count),
        ("keys_last", Kind::Number),
        ("values_last", Kind::Number),
        ("open", Kind::Text),
    ];
    let mut table = tables::table("gates", "Gates by layer", about, &columns);
    for run in &report.runs {
        let Some((first, last)) = run.gates.as_ref().and_then(Gates::ends) else { continue };
        for layer in 0..first.keys.len() {
            let open = match (last.keys[layer] > 0.0, last.values[layer] > 0.0) {
                (true, true) => "both",
                (true, false) => "keys",
                (false, true) => "values",
                (false, false) => "none",
            };
            let ends = [first, last]
                .map(|look| [(look.step as usize).into(), look.keys[layer].into(), look.values[layer].into()]);
            let [[step, keys, values], [last_step, last_keys, last_values]] = ends;
            let cells = [layer.into(), step, keys, values, last_step, last_keys, last_values, open.into()];
            table.rows.push(tables::row(run, cells));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn gates(text: &str) -> Option<Gates> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gates.jsonl");
        std::fs::write(&path, text).unwrap();
        Gates::read(&path).unwrap()
    }

    #[test]
    fn looks_are_kept_in_order_and_what_is_none_is_passed_over() {
        let text = "{\"step\":2,\"keys\":[1.0,-1.0],\"values\":[0.5,0.25]}\n{\"step\":3,\"keys\":[1.0],\"values\":[1.0]}\n\
                    {\"step\":4,\"keys\":[2.0,-2.0],\"values\":[0.5,0.0]}\n{\"step\":6,\"keys\":[1.0,-1";
        let gates = gates(text).unwrap();
        assert_eq!((gates.looks.len(), gates.layers()), (2, 2));
        let (first, last) = gates.ends().unwrap();
        assert_eq!((first.step, last.step, last.keys.as_slice()), (2.0, 4.0, [2.0, -2.0].as_slice()));
    }

    #[test]
    fn no_file_and_no_gates_are_none() {
        assert_eq!(Gates::read(Path::new("/nowhere/gates.jsonl")).unwrap(), None);
        assert_eq!(gates("{\"step\":2,\"keys\":[],\"values\":[]}\n"), None);
    }
}
