//! `c2c export`: the fuser of a run as a folder of its own.

use std::path::PathBuf;

use c2c_export::artefact;

use crate::exit::{Outcome, environment, usage};

/// Arguments of `c2c export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run directory, or the folder of a fuser
    run: PathBuf,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace a fuser that is already there
    #[arg(long)]
    overwrite: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let inside = args.run.join("fuser");
    let from = [&inside, &args.run].into_iter().find(|d| d.join(artefact::CONFIG_FILE).is_file());
    let Some(from) = from else {
        return Err(usage(anyhow::anyhow!(
            "{} holds no fuser: expected {} in it, or in its folder `fuser`",
            args.run.display(),
            artefact::CONFIG_FILE
        )));
    };
    artefact::copy(from, &args.out, args.overwrite).map_err(environment)?;
    let config = artefact::read_config(&args.out).map_err(environment)?;
    eprintln!(
        "{} <- {}: {} layers, {} parameters, weights sha256 {}",
        config.receiver.name,
        config.sharer.name,
        config.fuser.layers(),
        config.fuser.num_params(),
        config.weights_sha256
    );
    crate::print(&format!("{}\n", args.out.display()));
    Ok(())
}
