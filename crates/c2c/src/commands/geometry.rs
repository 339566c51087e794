//! `c2c geometry`: where the caches of a run's Fuser lie in the Receiver's space.

use std::path::PathBuf;

use crate::exit::Outcome;
use crate::geometry;
use crate::measured::MeasuredArgs;

/// Arguments of `c2c geometry`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    measured: MeasuredArgs,
    /// Another folder for the figures (default: RUN/geometry)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The receiver's layer in the map, from 0 (default: the last)
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Tokens in the map, drawn by the recipe's seed
    #[arg(long, value_name = "N", default_value_t = geometry::POINTS)]
    points: usize,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let of = args.measured.open("caches are compared", |_| Ok(()))?;
    let found = geometry::measured(&of.recipe, (&of.pair, &of.fuser), of.examples(), (args.layer, args.points))?;
    let out = args.measured.out(&args.out, geometry::GEOMETRY_DIR);
    crate::print(&geometry::write(&found, &out)?);
    eprintln!("figures in {}", out.display());
    Ok(())
}
