//! What a trained Fuser is looked at with: caches, ranks and weights of heads, by the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use kit::{FOUR_STEPS, fails, only_folder, stdout, succeeds};

/// A short run whose Gates start on the edge, so that they end on either side of it.
fn train(dir: &Path) -> PathBuf {
    let output = format!("output.dir={}", dir.display());
    let overrides = [&output[..], "fuser.initial_gate_logit=0", "fuser.zero_init=false"];
    let overrides = overrides.iter().chain(&FOUR_STEPS).flat_map(|one| ["-o", one]);
    succeeds(&["train", "recipes/train/pocket.toml"].into_iter().chain(overrides).collect::<Vec<_>>());
    only_folder(dir)
}

/// The rows of a CSV file by the names of its columns.
fn rows(path: PathBuf) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<String>>());
    let head = lines.next().unwrap();
    lines.map(|cells| head.iter().cloned().zip(cells).collect()).collect()
}

fn number(row: &HashMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

#[test]
fn a_fuser_is_measured_with_every_gate_as_inference_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path());
    let run_text = run.to_str().unwrap();
    let said = stdout(&succeeds(&["weights", run_text]));
    assert!(said.contains("Weights that the Fuser gives heads") && said.contains("greatest head"), "{said}");
    let weights = rows(run.join("weights/weights.csv"));
    // Five layers, keys and values, two heads.
    assert_eq!(weights.len(), 20);
    for row in &weights {
        let figures = ["min", "p05", "p50", "p95", "max"].map(|column| number(row, column));
        assert!(figures.is_sorted() && figures[0] > 0.0 && figures[4] < 1.0, "{row:?}");
        assert!((figures[0]..=figures[4]).contains(&number(row, "mean")) && number(row, "sd") > 0.0, "{row:?}");
        assert_eq!(row["gate"] == "open", number(row, "gate_logit") > 0.0, "{row:?}");
    }
    let svg = fs::read_to_string(run.join("weights/weights.svg")).unwrap();
    assert!(svg.contains("keys, heads 0 to 1") && svg.contains("values, heads 0 to 1"), "{svg}");

    let said = stdout(&succeeds(&["geometry", run_text]));
    for words in ["Effective rank", "mean of keys: sharer ", "mean of values: ", "fused centred "] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
    let [layers, ranks] = ["layers.csv", "ranks.csv"].map(|name| rows(run.join("geometry").join(name)));
    let open: HashMap<(&str, &str), bool> =
        weights.iter().map(|row| ((&row["layer"][..], &row["part"][..]), row["gate"] == "open")).collect();
    assert!((1..10).contains(&open.values().filter(|open| **open).count()), "{open:?}");
    for (layer, rank) in layers.iter().zip(&ranks) {
        let open = open[&(&layer["layer"][..], &layer["part"][..])];
        // Behind a shut gate is the Receiver's own cache, to the bit.
        assert_eq!(number(layer, "relative_error") == 0.0, !open, "{layer:?}");
        assert_eq!(rank["fused"] == rank["receiver"], !open, "{rank:?}");
        let all = ["sharer", "receiver", "fused"].map(|column| (number(rank, column), column));
        for (found, column) in all {
            // Two heads of 32 in the Receiver, four in the Sharer.
            let width = if column == "sharer" { 128.0 } else { 64.0 };
            assert!(found > 1.0 && found < width, "{column}: {rank:?}");
        }
    }

    // What a pruned Fuser holds no more has no weights, and the rest has the same.
    let pruned = dir.path().join("pruned");
    let out = dir.path().join("of-pruned");
    let (pruned, out_text) = (pruned.to_str().unwrap(), out.to_str().unwrap());
    succeeds(&["export", run_text, "--out", pruned, "--prune-closed-gates"]);
    succeeds(&["weights", run_text, "--fuser", pruned, "--out", out_text, "--limit", "3"]);
    succeeds(&["weights", run_text, "--limit", "3"]);
    let held = rows(out.join("weights.csv"));
    let whole = rows(run.join("weights/weights.csv"));
    assert_eq!(held, whole.into_iter().filter(|row| row["gate"] == "open").collect::<Vec<_>>());
}

#[test]
fn what_has_no_pair_of_models_is_refused() {
    for command in ["weights", "geometry"] {
        fails(&[command, "exports/pocket"], 2, &["no run directory"]);
    }
}
