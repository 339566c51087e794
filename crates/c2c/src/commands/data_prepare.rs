//! `c2c data prepare`: the caches of the frozen models, computed once for many runs.

use std::io::IsTerminal;
use std::path::PathBuf;

use c2c_recipe::{Recipe, RecipeKind, TrainMethod};
use c2c_train::TrainError;
use c2c_train::prepared::{CacheDtype, PrepareOptions, PreparedError, Report, prepare};
use serde_json::json;

use super::plan::bytes;
use crate::exit::{Outcome, environment, usage};
use crate::{DeviceOption, models};

/// Arguments of `c2c data prepare`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "train")
    recipe: PathBuf,
    /// The folder to write, or to go on with; then train with -o data.prepared=DIR
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Change a value of the recipe first
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Number format of the caches: f32 is exact; bf16 is exact for models held in bf16, and half the size
    #[arg(long, value_name = "DTYPE", default_value = "bf16")]
    dtype: Format,
    /// Size of a chunk, which is held in memory while it grows
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    chunk_mib: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceOption,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    Bf16,
    F32,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let loaded = super::load_recipe(&args.recipe, &args.overrides)?;
    let Recipe::Train(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Train));
    };
    let sharer = models::sharer(recipe, "caches are prepared")?;
    if recipe.method() == TrainMethod::Transformation {
        let why = "the method `transformation` reads more of the caches than is prepared";
        return Err(usage(anyhow::anyhow!("{}: {why}; train without data.prepared", recipe.name)));
    }
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    crate::hub::data(&recipe.data.sources)?;
    let (mode, cut) = (models::token_mode(&recipe.alignment), models::section_cut(&recipe.alignment));
    let pair = models::load_pair(&recipe.receiver, sharer, mode, cut, &device)?;
    let terminal = std::io::stderr().is_terminal();
    let mut shown = 0;
    let options = PrepareOptions {
        dtype: match args.dtype {
            Format::Bf16 => CacheDtype::Bf16,
            Format::F32 => CacheDtype::F32,
        },
        chunk_bytes: usize::from(args.chunk_mib) << 20,
        progress: Box::new(move |done, all| {
            // One line that is rewritten, or a line every tenth.
            let tenth = 10 * done / all.max(1);
            if terminal {
                eprint!("\rprepared {done} of {all} examples{}", if done == all { "\n" } else { "" });
            } else if tenth > shown {
                shown = tenth;
                eprintln!("prepared {done} of {all} examples");
            }
        }),
        notes: Box::new(|note| eprintln!("{note}")),
    };
    let report = prepare(recipe, &pair, &args.out, options).map_err(|error| match error {
        TrainError::Prepared(PreparedError::Mismatch { .. }) => usage(error),
        error => environment(error),
    })?;
    if args.json {
        let mut out = json!(report);
        out["saved_seconds_per_epoch"] = json!(saved(&report));
        out["dir"] = json!(args.out);
        crate::print(&format!("{out:#}\n"));
    } else {
        crate::print(&to_text(&report));
        eprintln!("train with it: c2c train {} -o data.prepared={}", args.recipe.display(), shell_path(&args.out));
    }
    Ok(())
}

/// Relative paths of a recipe start from its own folder, so an override gets the whole path.
fn shell_path(path: &std::path::Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Seconds that reading saves in an epoch, if computing was measured.
fn saved(report: &Report) -> Option<f64> {
    report.compute_seconds.map(|compute| (compute - report.read_seconds) * report.epoch as f64)
}

fn to_text(report: &Report) -> String {
    let line = |name: &str, figure: String, remark: &str| {
        format!("{name:<11}{figure:>16}   {remark}").trim_end().to_owned() + "\n"
    };
    let millis = |seconds: f64| format!("{:.3} ms", 1e3 * seconds);
    let mut out = line("examples", report.examples.to_string(), &format!("{} of them computed now", report.computed));
    out += &line("caches", bytes(report.bytes), &format!("in {} chunks", report.chunks));
    let (Some(compute), Some(write)) = (report.compute_seconds, report.write_seconds) else {
        out += &line("reading", millis(report.read_seconds), "an example, from memory or disk as it came");
        return out + "nothing was computed, so nothing is said about when it pays\n";
    };
    out += &line("computing", millis(compute), "an example: both models' passes before the fusion");
    out += &line("writing", millis(write), "an example, once");
    out +=
        &line("reading", millis(report.read_seconds), "an example, just written, so mostly from the system's memory");
    let saved = saved(report).unwrap_or(0.0);
    if saved <= 0.0 {
        return out + "it doesn't pay here: reading takes longer than computing\n";
    }
    out += &line("saved", format!("{saved:.1} s"), &format!("an epoch of {} examples", report.epoch));
    let spent = (compute + write) * report.computed as f64;
    out += &line("pays after", format!("{:.1} epochs", spent / saved), "read, over all runs; preparing counted");
    out
}
