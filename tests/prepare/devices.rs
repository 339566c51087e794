//! Several devices, of which a machine without GPUs has the processor as often as it likes.

use std::path::Path;

use serde_json::Value;

use crate::lab::{Lab, equal};

fn steps(run: &Path) -> Vec<Value> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_on_two_devices_is_the_run_on_one_but_for_rounding_and_repeats_itself() {
    let lab = Lab::new();
    let one = lab.train("one", &[]);
    let two = lab.train("two", &["--device", "cpu,cpu"]);
    // Two micro-batches a step: each device has one of them, with the noise and the dropout of a single device. The
    // epoch's last step, the fourth, has one micro-batch, which is cut; its parts draw their own noise.
    for (a, b) in steps(&one).iter().zip(steps(&two)).take(3) {
        let near = |key: &str| {
            let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-5 * a.abs(), "{key}: {a} on one device, {b} on two");
        };
        ["loss", "grad_norm"].into_iter().for_each(near);
        ["step", "epoch", "tokens", "padding", "learning_rate"].iter().for_each(|key| assert_eq!(a[*key], b[*key]));
    }
    equal(&two, &lab.train("again", &["--device", "cpu,cpu"]));
    let environment = std::fs::read_to_string(two.join("environment.json")).unwrap();
    assert!(environment.contains("\"device\": \"cpu,cpu\""), "{environment}");
}

#[test]
fn more_devices_than_micro_batches_cut_them_also_with_prepared_caches_and_after_a_resume() {
    let lab = Lab::new();
    let dir = lab.path("caches");
    lab.succeeds(&["data", "prepare", "RECIPE", "--dtype", "f32", "--out", dir.to_str().unwrap()]);
    let three = ["--device", "cpu,cpu,cpu", "-o", &format!("data.prepared={}", dir.display())];
    let run = lab.train("three", &three);
    let whole = lab.train("whole", &three);
    equal(&run, &whole);
    std::fs::remove_dir_all(run.join("checkpoints/step-000006")).unwrap();
    lab.succeeds(&["train", "--resume", run.to_str().unwrap(), "--device", "cpu,cpu,cpu"]);
    equal(&run, &whole);
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let lab = Lab::new();
    lab.fails(&["train", "RECIPE", "--device", "cpu,tpu"], 2, &["unknown device `tpu`"]);
    lab.fails(&["train", "RECIPE", "--device", "cuda:1,cuda:1"], 2, &["`cuda:1` is there twice"]);
}
