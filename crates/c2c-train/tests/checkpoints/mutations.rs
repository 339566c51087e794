//! 1,000 seeded mutations of a checkpoint. Each must be found, be told with the bad file, and cost no more than the way
//! back to the older checkpoint.

use std::fs;
use std::path::Path;

use c2c_train::checkpoint::{CheckpointError, Store};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::tiny::{Run, cursor, identity, names, store};

const MUTATIONS: usize = 1000;
const FILES: [&str; 5] = ["fuser.safetensors", "optimizer.safetensors", "state.json", "metrics.jsonl", "manifest.json"];
const KINDS: usize = 13;

/// Damages the folder `dir`. Returns the files of which at least one must be named.
fn mutate(dir: &Path, older: &Path, kind: usize, rng: &mut ChaCha8Rng) -> Vec<String> {
    let pick = |rng: &mut ChaCha8Rng| FILES[rng.random_range(0..FILES.len())];
    let name = pick(rng);
    let path = dir.join(name);
    let mut bytes = fs::read(&path).unwrap();
    let at = rng.random_range(0..bytes.len());
    let write = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
    let mut named = vec![name.to_owned()];
    match kind {
        0..3 => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            write(&bytes);
        }
        3 => {
            bytes[at] = bytes[at].wrapping_add(rng.random_range(1..=255));
            write(&bytes);
        }
        4 => write(&bytes[..at]),
        5 => {
            let more = rng.random_range(1..100);
            bytes.extend((0..more).map(|_| rng.random::<u8>()));
            write(&bytes);
        }
        6 => {
            // A block that never reached the disk. Each file has bytes that are not 0.
            let end = (at + rng.random_range(1..4096)).min(bytes.len());
            let start = (0..=at).rev().find(|i| bytes[*i] != 0).unwrap_or(0);
            bytes[start..end].fill(0);
            write(&bytes);
        }
        7 => fs::remove_file(&path).unwrap(),
        8 => fs::rename(&path, dir.join(format!("{name}.bak"))).unwrap(),
        9 => {
            let other = FILES
                [(FILES.iter().position(|f| *f == name).unwrap() + rng.random_range(1..FILES.len())) % FILES.len()];
            let theirs = fs::read(dir.join(other)).unwrap();
            fs::write(dir.join(other), &bytes).unwrap();
            write(&theirs);
            named.push(other.to_owned());
        }
        10 => {
            // The same file of another step: whole by itself.
            write(&fs::read(older.join(name)).unwrap());
            if name == "manifest.json" {
                named = vec!["is of step 1".into()];
            }
        }
        11 => {
            let extra = ["notes.txt", ".hidden", "fuser.safetensors.tmp"][rng.random_range(0..3)];
            fs::write(dir.join(extra), &bytes[..at]).unwrap();
            named = vec![extra.to_owned()];
        }
        _ => {
            fs::remove_file(&path).unwrap();
            if rng.random() {
                fs::create_dir(&path).unwrap();
            } else {
                std::os::unix::fs::symlink(older.join(name), &path).unwrap();
            }
        }
    }
    named
}

fn copy(from: &Path, to: &Path) {
    // A folder of an earlier round may be there in any state.
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn a_thousand_mutations_are_all_detected_and_told_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    let (mut maker, _) = store(&made, 2, true);
    let mut run = Run::new();
    for _ in 0..2 {
        run.step();
        run.save(&mut maker, None);
    }
    drop(maker);
    let made = made.join("checkpoints");

    let damaged_run = dir.path().join("run");
    let checkpoints = damaged_run.join("checkpoints");
    let (older, newer) = (checkpoints.join("step-000001"), checkpoints.join("step-000002"));
    let (mut store, told) = store(&damaged_run, 2, true);
    let newest = |store: &mut Store| store.newest(&identity(), &cursor());
    copy(&made.join("step-000001"), &older);
    copy(&made.join("step-000002"), &newer);
    assert_eq!(newest(&mut store).unwrap().unwrap().state.step, 2, "without a mutation the newest one is good");

    let mut rng = ChaCha8Rng::seed_from_u64(2510);
    let mut detected = 0;
    for i in 0..MUTATIONS {
        copy(&made.join("step-000002"), &newer);
        let named = mutate(&newer, &older, i % KINDS, &mut rng);
        let found = newest(&mut store).unwrap().unwrap();
        assert_eq!(found.state.step, 1, "mutation {i} ({named:?}) was not detected");
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("step-000002: ") && told[0].contains("falling back to step 1"), "{}", told[0]);
        assert!(named.iter().any(|name| told[0].contains(name.as_str())), "mutation {i} of {named:?}: {}", told[0]);
        assert!(!newer.exists(), "a damaged checkpoint is put aside");
        fs::remove_dir_all(checkpoints.join("step-000002.damaged")).unwrap();
        detected += 1;
    }
    assert_eq!(detected, MUTATIONS);

    // With nothing to fall back to, every checkpoint and its bad file is listed, and nothing is touched.
    copy(&made.join("step-000002"), &newer);
    fs::remove_file(newer.join("state.json")).unwrap();
    fs::write(older.join("metrics.jsonl"), "").unwrap();
    let error = newest(&mut store).unwrap_err();
    assert!(matches!(&error, CheckpointError::NoneGood { problems, .. } if problems.len() == 2), "{error}");
    let text = error.to_string();
    assert!(text.contains("state.json is missing") && text.contains("metrics.jsonl has 0 bytes"), "{text}");
    assert_eq!(names(&checkpoints), ["step-000001", "step-000002"]);
}
