//! `c2c verify`: the figures of a run, made again from its records.

use std::path::PathBuf;

use c2c_report::{find_runs, verify};
use serde_json::json;

use crate::exit::{Failure, Outcome, environment, usage};

/// How many differences of a run are printed.
const SHOWN: usize = 40;

/// Arguments of `c2c verify`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run directories, or folders that hold some
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print every difference, not only the first 40 of a run
    #[arg(long)]
    all: bool,
    /// Print the verdicts as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let runs = find_runs(&args.runs).map_err(|errors| usage(anyhow::anyhow!(super::lines(&errors))))?;
    let mut verdicts = Vec::new();
    let mut unreadable = Vec::new();
    for run in &runs {
        match verify(&run.dir) {
            Ok(verdict) => verdicts.push((run, verdict)),
            Err(error) => unreadable.push(error),
        }
    }
    if args.json {
        let value = verdicts.iter().map(|(run, verdict)| {
            let differences = verdict.differences.iter().map(|d| {
                json!({ "file": d.file, "place": d.place, "field": d.field, "found": d.found, "expected": d.expected })
            });
            json!({
                "run": run.dir,
                "good": verdict.is_good(),
                "differences": differences.collect::<Vec<_>>(),
                "checked": verdict.checked,
                "not_checked": verdict.notes,
            })
        });
        crate::print(&format!("{:#}\n", json!(value.collect::<Vec<_>>())));
    } else {
        for (run, verdict) in &verdicts {
            let name = run.dir.display();
            let mut text = match verdict.differences.len() {
                0 => format!("{name}: verified\n"),
                1 => format!("{name}: 1 difference\n"),
                n => format!("{name}: {n} differences\n"),
            };
            let shown = if args.all { usize::MAX } else { SHOWN };
            for difference in verdict.differences.iter().take(shown) {
                text.push_str(&format!("  {difference}\n"));
            }
            if verdict.differences.len() > shown {
                text.push_str(&format!("  and {} more; --all prints them\n", verdict.differences.len() - shown));
            }
            if verdict.is_good() {
                verdict.checked.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
            }
            verdict.notes.iter().for_each(|line| text.push_str(&format!("  not checked: {line}\n")));
            crate::print(&text);
        }
    }
    let wrong = verdicts.iter().filter(|(_, verdict)| !verdict.is_good()).count();
    if wrong > 0 {
        // What is wrong has been printed; an unreadable run beside it is told, too.
        unreadable.iter().for_each(|error| eprintln!("error: {error}"));
        return Err(Failure::Check(anyhow::anyhow!("{wrong} of {} runs not verified", runs.len())));
    }
    if !unreadable.is_empty() {
        return Err(environment(anyhow::anyhow!(super::lines(&unreadable))));
    }
    Ok(())
}
