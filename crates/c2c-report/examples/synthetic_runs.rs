//! Writes many run directories of planted records, to measure `c2c report` on:
//!
//! ```sh
//! cargo run --release -p c2c-report --example synthetic_runs -- DIR 1000 5000
//! ```
//!
//! writes 1,000 runs of 5,000 records (1,000 questions, five methods); with `graded` behind that, of scores between 0 and 1,
//! as LongBench has them. Every file is written by the code that writes real
//! ones, so that what is measured is what a user has.

#![allow(clippy::unwrap_used, missing_docs, reason = "a tool for whoever measures: it stops where something is wrong")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use common::{FIVE, asked, questions, synthetic, write_run};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (dir, runs, records, graded) = match args.as_slice() {
        [dir, runs, records] => (dir, runs, records, false),
        [dir, runs, records, word] if word == "graded" => (dir, runs, records, true),
        _ => {
            eprintln!("usage: synthetic_runs DIR RUNS RECORDS [graded]");
            std::process::exit(2);
        }
    };
    let (dir, runs): (PathBuf, usize) = (dir.into(), runs.parse().unwrap());
    let questions = questions(records.parse::<usize>().unwrap() / FIVE.len());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for run in 0..runs {
        write_run(&dir.join(format!("run-{run:04}")), synthetic(&questions, graded, &mut rng), &asked(&FIVE, &[]));
    }
}
