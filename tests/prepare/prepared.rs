//! Prepared caches: the same run without the frozen models' passes, and what is refused.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::{Lab, equal};

/// Prepares into a folder of this name, in chunks of 1 MiB; the folder and the report.
fn prepare(lab: &Lab, name: &str, args: &[&str]) -> (PathBuf, Value) {
    let dir = lab.path(name);
    let args =
        [&["data", "prepare", "RECIPE", "--json", "--chunk-mib", "1", "--out", dir.to_str().unwrap()], args].concat();
    let report = serde_json::from_str(&lab.succeeds(&args)).unwrap();
    (dir, report)
}

fn with(dir: &Path) -> [String; 2] {
    ["-o".into(), format!("data.prepared={}", dir.display())]
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort();
    files
}

fn losses(run: &Path) -> Vec<f64> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}

#[test]
fn in_f32_the_batches_of_the_first_epoch_are_the_same_to_the_bit() {
    let lab = Lab::new();
    // All epochs of an order that isn't drawn have the batches of the first one.
    let plain = ["-o", "data.shuffle=false"];
    let (dir, report) = prepare(&lab, "caches", &[&["--dtype", "f32"], &plain[..]].concat());
    let plan: Value = serde_json::from_str(&lab.succeeds(&["plan", "RECIPE", "--json"])).unwrap();
    assert_eq!(report["bytes"], plan["prepared"]["f32"], "the plan knew the size");
    assert!(report["chunks"].as_u64().unwrap() > 2, "{report}");
    let computed = lab.train("computed", &plain);
    let [flag, prepared] = with(&dir);
    let read = lab.train("read", &[&plain[..], &[&flag, &prepared]].concat());
    equal(&computed, &read);
    // And after a resume.
    std::fs::remove_dir_all(read.join("checkpoints/step-000006")).unwrap();
    lab.succeeds(&["train", "--resume", read.to_str().unwrap()]);
    equal(&computed, &read);
}

#[test]
fn later_epochs_of_a_drawn_order_differ_by_rounding_alone_and_bf16_by_its_own() {
    let lab = Lab::new();
    let computed = losses(&lab.train("computed", &[]));
    for (dtype, bound) in [("f32", 1e-5), ("bf16", 1e-2)] {
        let (dir, _) = prepare(&lab, dtype, &["--dtype", dtype]);
        let [flag, prepared] = with(&dir);
        let read = losses(&lab.train(&format!("run-{dtype}"), &[&flag, &prepared]));
        assert_eq!(computed.len(), read.len());
        for (step, (a, b)) in computed.iter().zip(&read).enumerate() {
            assert!((a - b).abs() <= bound * a.abs(), "{dtype}, step {}: {a} computed, {b} read", step + 1);
        }
        // The first epoch has four steps.
        assert_eq!(dtype == "f32", computed[..4] == read[..4], "{computed:?}\n{read:?}");
    }
}

#[test]
fn chats_of_different_turns_meet_in_a_batch() {
    let lab = Lab::new();
    let message = |role: &str, text: &str| format!("{{\"role\":\"{role}\",\"content\":\"{text}\"}}");
    let chat = |turns: usize| {
        let messages: Vec<String> = (0..turns)
            .flat_map(|turn| {
                [message("user", &format!("Where is place {turn} of {turns}?")), message("assistant", "It is near.")]
            })
            .collect();
        format!("{{\"messages\":[{}]}}\n", messages.join(","))
    };
    std::fs::write(lab.path("chats.jsonl"), (0..20).map(|row| chat(1 + row % 3)).collect::<String>()).unwrap();
    let text = std::fs::read_to_string(lab.recipe()).unwrap();
    let source = "kind = 'pocket', format = 'plain_cued', take = 30";
    std::fs::write(lab.recipe(), text.replace(source, "kind = 'chat', path = 'chats.jsonl'")).unwrap();
    for cut in ["message", "paragraph"] {
        let cut = format!("alignment.sections={cut}");
        let (dir, _) = prepare(&lab, &cut, &["--dtype", "f32", "-o", &cut]);
        let [flag, prepared] = with(&dir);
        let computed = losses(&lab.train(&format!("computed-{cut}"), &["-o", &cut]));
        let read = losses(&lab.train(&format!("read-{cut}"), &["-o", &cut, &flag, &prepared]));
        for (a, b) in computed.iter().zip(&read) {
            assert!((a - b).abs() <= 1e-5 * a.abs(), "{computed:?}\n{read:?}");
        }
    }
}

#[test]
fn preparing_goes_on_where_it_stopped() {
    let lab = Lab::new();
    let (dir, whole) = prepare(&lab, "caches", &[]);
    let before: Vec<Vec<u8>> = files(&dir, ".bin").iter().map(|path| std::fs::read(path).unwrap()).collect();
    // As a process leaves it that was killed before its last chunk was listed.
    std::fs::remove_file(dir.join("index.json")).unwrap();
    std::fs::remove_file(files(&dir, ".json").iter().rfind(|p| p.to_str().unwrap().contains("chunk")).unwrap())
        .unwrap();
    let [flag, prepared] = with(&dir);
    lab.fails(&["train", "RECIPE", &flag, &prepared], 3, &["no index.json", "c2c data prepare"]);
    let (_, again) = prepare(&lab, "caches", &[]);
    assert_eq!((&again["examples"], &again["bytes"]), (&whole["examples"], &whole["bytes"]));
    let computed = again["computed"].as_u64().unwrap();
    assert!(computed > 0 && computed < whole["examples"].as_u64().unwrap(), "{again}");
    let after: Vec<Vec<u8>> = files(&dir, ".bin").iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(before == after, "the chunks are those of the first time");
    let (_, nothing) = prepare(&lab, "caches", &[]);
    assert_eq!(nothing["computed"], 0);
}

#[test]
fn what_does_not_fit_is_refused_with_what_differs() {
    let lab = Lab::new();
    let (dir, _) = prepare(&lab, "caches", &[]);
    let [flag, prepared] = with(&dir);
    let train = |more: &[&str], words: &[&str]| {
        lab.fails(&[&["train", "RECIPE", &flag, &prepared], more].concat(), 3, words);
    };
    train(&["-o", "receiver.dtype=bf16"], &["receiver's weights: prepared ", ", now "]);
    train(
        &["-o", "fuser.layer_mapping=k_nearest", "-o", "alignment.strategy=longest"],
        &["examples of this run are not in"],
    );
    train(&["-o", "data.sources[0].format=plain"], &["27 of 27 examples of this run are not in", "pocket:"]);
    assert!(!lab.path("failed").exists(), "a refused run leaves no folder behind");
    let out = dir.to_str().unwrap();
    let again = ["data", "prepare", "RECIPE", "--out", out];
    lab.fails(&[&again[..], &["--dtype", "f32"]].concat(), 2, &["dtype: prepared Bf16, now F32"]);
    // A learning rate is no matter of the caches.
    lab.train("other", &[&flag, &prepared, "-o", "optimizer.learning_rate=1e-3", "-o", "training.max_steps=1"]);
}

#[test]
fn a_damaged_chunk_is_named() {
    let lab = Lab::new();
    let (dir, _) = prepare(&lab, "caches", &[]);
    let [flag, prepared] = with(&dir);
    let chunk = files(&dir, ".bin").remove(0);
    let name = chunk.file_name().unwrap().to_str().unwrap();
    let good = std::fs::read(&chunk).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&chunk, &bad).unwrap();
    for ahead in ["0", "2"] {
        let ahead = format!("data.prefetch={ahead}");
        lab.fails(&["train", "RECIPE", &flag, &prepared, "-o", &ahead], 3, &[name, "has sha256", "expected"]);
    }
    std::fs::write(&chunk, &good[1..]).unwrap();
    lab.fails(&["train", "RECIPE", &flag, &prepared], 3, &[name, "bytes, expected"]);
    // Preparing again makes what is damaged anew.
    prepare(&lab, "caches", &[]);
    lab.train("after", &[&flag, &prepared, "-o", "training.max_steps=1"]);
}
