//! `c2c weights`: what the dynamic weights of a run's Fuser do, head by head.

use std::path::{Path, PathBuf};

use c2c_report::{Cell, HeadPanel, HeadRow, Kind, Table, head_fields};
use c2c_train::geometry::Part;
use c2c_train::head_weights::{BranchWeights, Spread, WeightFigures, measure_weights};

use crate::exit::{Failure, Outcome, environment};
use crate::measured::{MeasuredArgs, columns, make, part, put, put_csv};

/// The folder of the figures, in a run directory.
const WEIGHTS_DIR: &str = "weights";

/// Arguments of `c2c weights`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    measured: MeasuredArgs,
    /// Another folder for the figures (default: RUN/weights)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let of = args.measured.open("heads are weighed", |fuser| fuser.check_head_weights())?;
    let batch_size = of.recipe.training.batch_size;
    let found = measure_weights(&of.pair, &of.fuser, of.examples(), batch_size).map_err(environment)?;
    let out = args.measured.out(&args.out, WEIGHTS_DIR);
    write(&found, &out)?;
    crate::print(&branches(&found).text(None));
    eprintln!("figures in {}", out.display());
    Ok(())
}

/// Writes `weights.csv` and `weights.svg`.
fn write(found: &WeightFigures, dir: &Path) -> Result<(), Failure> {
    make(dir)?;
    put_csv(dir, "weights.csv", &heads(found))?;
    let panel = |of: Part| HeadPanel {
        title: part(of).to_owned(),
        rows: found.branches.iter().filter(|branch| branch.part == of).map(row).collect(),
    };
    let svg = head_fields("Mean weight of each head", &[panel(Part::Key), panel(Part::Value)]).map_err(environment)?;
    put(dir.join("weights.svg"), svg.as_bytes())
}

fn row(branch: &BranchWeights) -> HeadRow {
    let means = branch.heads.iter().map(|head| head.mean).collect();
    HeadRow { layer: branch.layer, open: branch.open, means }
}

/// What every row begins with: layer, part, logit, gate.
const BRANCH: [(&str, Kind); 4] =
    [("layer", Kind::Count), ("part", Kind::Text), ("gate_logit", Kind::Number), ("gate", Kind::Text)];

fn of_branch(branch: &BranchWeights) -> Vec<Cell> {
    let gate = match (branch.open, branch.gate_logit) {
        (_, None) => "none",
        (true, _) => "open",
        (false, _) => "shut",
    };
    vec![branch.layer.into(), part(branch.part).into(), branch.gate_logit.map(f64::from).into(), gate.into()]
}

/// A row a branch and head.
fn heads(found: &WeightFigures) -> Table {
    let figures = ["mean", "sd", "min", "p05", "p50", "p95", "max"].map(|name| (name, Kind::Number));
    let names = [&BRANCH[..], &[("head", Kind::Count)], &figures].concat();
    let rows = found.branches.iter().flat_map(|branch| {
        branch.heads.iter().enumerate().map(|(head, spread)| {
            let Spread { mean, deviation, minimum, p05, median, p95, maximum } = *spread;
            let mut cells = of_branch(branch);
            cells.push(head.into());
            cells.extend([mean, deviation, minimum, p05, median, p95, maximum].map(Cell::from));
            cells
        })
    });
    Table {
        name: "weights",
        title: "Dynamic weights of heads".to_owned(),
        about: "docs/analysis.md says what the columns are.".to_owned(),
        columns: columns(&names),
        rows: rows.collect(),
    }
}

/// A row a branch, for the terminal.
fn branches(found: &WeightFigures) -> Table {
    let names = [&BRANCH[..], &["mean", "least_head", "greatest_head", "sd"].map(|name| (name, Kind::Number))].concat();
    let rows = found.branches.iter().map(|branch| {
        let means = || branch.heads.iter().map(|head| head.mean);
        let count = branch.heads.len() as f64;
        let mean = (count > 0.0).then(|| means().sum::<f64>() / count);
        let variance = |mean: f64| {
            let around = |head: &Spread| head.deviation.powi(2) + (head.mean - mean).powi(2);
            branch.heads.iter().map(around).sum::<f64>() / count
        };
        let mut cells = of_branch(branch);
        cells.extend([mean, means().reduce(f64::min), means().reduce(f64::max)].map(Cell::from));
        cells.push(mean.map(|mean| variance(mean).sqrt()).into());
        cells
    });
    Table {
        name: "branches",
        title: format!("Weights that the Fuser gives heads: {} tokens of {} examples", found.tokens, found.examples),
        about: "docs/analysis.md says what the columns are.".to_owned(),
        columns: columns(&names),
        rows: rows.collect(),
    }
}
