//! Writes many run directories of planted records, to measure `c2c report` on:
//!
//! ```sh
//! cargo run --release -p c2c-report --example synthetic_runs -- DIR 1000 5000
//! ```
//!
//! writes 1,000 runs of 5,000 records (1,000 questions, five methods). Every file is written by the code that writes real
//! ones, so that what is measured is what a user has.

#![allow(clippy::unwrap_used, missing_docs, reason = "a tool for whoever measures: it stops where something is wrong")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use c2c_recipe::Method;
use common::{asked, questions, record, write_run, wrong};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const METHODS: [Method; 5] = [Method::Receiver, Method::Sharer, Method::C2c, Method::Mismatched, Method::GatesShut];
/// How often each method is right, and its milliseconds.
const PLANTED: [(f64, f64); 5] = [(0.4, 2.0), (0.7, 3.0), (0.6, 6.0), (0.4, 6.0), (0.4, 6.0)];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, runs, records] = args.as_slice() else {
        eprintln!("usage: synthetic_runs DIR RUNS RECORDS");
        std::process::exit(2);
    };
    let (dir, runs): (PathBuf, usize) = (dir.into(), runs.parse().unwrap());
    let questions = questions(records.parse::<usize>().unwrap() / METHODS.len());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for run in 0..runs {
        let mut records = Vec::with_capacity(questions.len() * METHODS.len());
        for (method, (share, ms)) in METHODS.into_iter().zip(PLANTED) {
            for (index, question) in questions.iter().enumerate() {
                let answer = if rng.random_bool(share) { question.gold } else { wrong(question.gold) };
                let mut record = record(method, question, answer, ms * rng.random_range(0.9..1.1));
                if method == Method::Mismatched {
                    record.partner = Some(questions[(index + 1) % questions.len()].id.clone());
                }
                records.push(record);
            }
        }
        write_run(&dir.join(format!("run-{run:04}")), records, &asked(&METHODS, &[]));
    }
}
