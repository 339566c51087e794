//! Checkpoints end to end: runs are killed, stopped, starved of disk and damaged, and go on. Whatever happened, they end
//! as the run that nothing happened to: `docs/checkpoints.md` says what is compared.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod endings;
mod lab;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Length, Watched, differences, only_folder, resume, succeeds, text};
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Kills of the run, two fifths of them inside a save. `C2C_KILLS=50 C2C_KILL_RECIPE=pocket` is the long form of the
/// test: 50 kills in 200 steps of the pocket recipe, some minutes.
fn kills() -> (usize, Length) {
    let kills = std::env::var("C2C_KILLS").map_or(5, |n| n.parse().expect("C2C_KILLS is a number"));
    let length = match std::env::var("C2C_KILL_RECIPE").as_deref() {
        Err(_) | Ok("short") => Length::Short,
        Ok("pocket") => Length::Pocket,
        Ok(other) => panic!("C2C_KILL_RECIPE={other}: expected short or pocket"),
    };
    (kills, length)
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let (kills, length) = kills();
    let reference = length.reference();
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut inside: Vec<bool> = (0..kills).map(|i| i < kills * 2 / 5).collect();
    inside.shuffle(&mut rng);
    // The step to wait for. The last saves are left alone, so that one that a kill has missed is followed by another.
    let end = length.steps() - 2 * length.checkpoint_every();
    let mut targets: Vec<usize> = (0..kills).map(|_| rng.random_range(0..end)).collect();
    targets.sort_unstable();

    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let stderr = dir.path().join("stderr");
    let mut run: Option<PathBuf> = None;
    let (mut done, mut in_saves, mut missed) = (0, 0, 0);
    while done < kills {
        let in_save = inside[done];
        let (args, watched) = match &run {
            None => (length.train(&runs), runs.join("not yet")),
            Some(run) => (resume(run), run.clone()),
        };
        let mut process = Watched::start(&args, &watched, &stderr);
        if run.is_none() {
            assert!(process.wait_until(|_| std::fs::read_dir(&runs).is_ok_and(|mut r| r.next().is_some())));
            run = Some(only_folder(&runs));
            process.watch(run.as_deref().unwrap());
        }
        // Some runs are killed before they have begun to train.
        if in_save || rng.random_range(0..8) > 0 {
            let target = targets[done];
            let reached = |p: &Watched| p.has_begun() && p.steps() >= target;
            assert!(process.wait_until(reached), "ended before step {target}\n{}", read(&stderr));
        }
        if in_save {
            assert!(process.wait_until(Watched::saving), "ended before a save\n{}", read(&stderr));
            // A kill that comes too late is tried again, sooner after the save's begin.
            let longest = 30_000 >> missed.min(10);
            std::thread::sleep(Duration::from_micros(rng.random_range(0..longest)));
        } else {
            std::thread::sleep(Duration::from_micros(rng.random_range(0..300_000)));
        }
        process.kill();
        assert!(!read(&stderr).contains("damaged"), "{}", read(&stderr));
        if in_save && !process.saving() {
            missed += 1;
            assert!(missed < 200, "no kill lands inside a save");
            continue;
        }
        in_saves += usize::from(process.saving());
        done += 1;
    }
    let run = run.unwrap();
    let output = succeeds(&resume(&run));
    let differences = differences(&run, reference, length);
    println!(
        "{done} kills, {in_saves} inside a save, {missed} more that came too late for one: {differences:?} differ"
    );
    assert!(in_saves >= kills * 2 / 5);
    assert!(differences.is_empty(), "{differences:?} differ\n{}", text(&output.stderr));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
