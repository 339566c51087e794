//! Reports of many runs: time and memory, in small.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Instant;

use c2c_report::{Options, Report, find_runs};
use common::{FIVE, asked, questions, synthetic, write_run};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// Runs of 5,000 records, every other one of graded answers.
const RUNS: usize = 24;
const QUESTIONS: usize = 1000;

/// 1,000 runs in 10 s are 10 ms a run. Ten times that: this is about another order of magnitude (a bootstrap that is drawn
/// takes over a second a run), not about a machine that is busy otherwise.
const MILLISECONDS_A_RUN: f64 = 100.0;

/// What a run may leave behind in memory. 2 GiB for 1,000 runs are 2 MiB a run, beside what the first ones need.
const BYTES: u64 = 400 << 20;

/// The most memory that the process has had, in bytes; none where the system doesn't say it in a file.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[test]
fn many_runs_are_reported_in_little_time_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let questions = questions(QUESTIONS);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for run in 0..RUNS {
        let records = synthetic(&questions, run % 2 == 1, &mut rng);
        write_run(&dir.path().join(format!("run-{run:04}")), records, &asked(&FIVE, &[]));
    }
    let (before, start) = (peak(), Instant::now());
    let report = Report::new(&find_runs(&[dir.path().to_owned()]).unwrap(), &Options::default()).unwrap();
    let text = report.text(Some(40));
    let milliseconds = start.elapsed().as_secs_f64() * 1e3 / RUNS as f64;
    assert!(text.contains("run-0023") || text.contains("0023"), "{text}");
    assert!(milliseconds < MILLISECONDS_A_RUN, "{milliseconds} ms a run");
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after - before < BYTES, "{} MiB more than before", (after - before) >> 20);
    }
}
