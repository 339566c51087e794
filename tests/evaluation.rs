//! Evaluations that are killed, interrupted, cut into shards and put together: whatever happened, they end as the one that
//! nothing happened to, but for milliseconds.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use c2c_eval::{Phases, Record, read_records};
use kit::{command, fails, only_folder, root, stderr, stdout, succeeded, succeeds};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// Small batches, so that there are many units to be interrupted between.
const SETTINGS: [&str; 4] = ["-o", "evaluation.limit=96", "-o", "evaluation.batch_size=4"];

fn eval(output: &Path, more: &[&str]) -> Vec<String> {
    let output = format!("output.dir={}", output.display());
    let args = [&["eval", "recipes/eval/pocket.toml", "-o", &output], &SETTINGS[..], more].concat();
    args.into_iter().map(str::to_owned).collect()
}

fn resume(run: &Path) -> Vec<String> {
    vec!["eval".into(), "--resume".into(), run.display().to_string()]
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The run that nothing happened to, made once.
static REFERENCE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&words(&eval(dir.path(), &[])));
    let run = only_folder(dir.path());
    (dir, run)
});

fn untimed(run: &Path) -> Vec<Record> {
    let records = read_records(run.join("eval/records.parquet")).unwrap();
    records.into_iter().map(|r| Record { milliseconds: 0.0, phases: Phases::default(), ..r }).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The summary without what depends on milliseconds.
fn figures(run: &Path) -> Value {
    fn clear(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|key, _| !key.contains("ms_") && key != "sha256");
                object.values_mut().for_each(clear);
            }
            Value::Array(values) => values.iter_mut().for_each(clear),
            _ => {}
        }
    }
    let mut summary = json_of(&run.join("summary.json"));
    clear(&mut summary);
    summary
}

fn equals_the_reference(run: &Path) {
    let reference = &REFERENCE.1;
    assert_eq!(untimed(run), untimed(reference));
    assert_eq!(figures(run), figures(reference));
    assert!(!run.join("eval/journal.jsonl").exists());
    let verified = stdout(&succeeds(&["verify", run.to_str().unwrap()]));
    assert!(verified.contains(": verified") && !verified.contains("not checked"), "{verified}");
}

fn journal(run: &Path) -> PathBuf {
    run.join("eval/journal.jsonl")
}

/// Whole lines of a run's journal.
fn lines(run: &Path) -> usize {
    std::fs::read(journal(run)).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// A process that ends with the test.
struct Running {
    child: Child,
    limit: Instant,
}

impl Running {
    fn start(args: &[String]) -> Self {
        let child = command(&words(args)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Generous: the machine may be busy.
        Self { child, limit: Instant::now() + Duration::from_secs(600) }
    }

    /// Waits for something; false if the process ended before.
    fn wait_until(&mut self, mut seen: impl FnMut() -> bool) -> bool {
        while !seen() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < self.limit, "the process hangs");
            std::thread::sleep(Duration::from_micros(300));
        }
        true
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Exit code and what was said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts an evaluation and waits until its journal has so many lines; returns its run directory.
fn begun(output: &Path, more: &[&str], target: usize) -> (Running, PathBuf) {
    let mut process = Running::start(&eval(output, more));
    assert!(process.wait_until(|| std::fs::read_dir(output).is_ok_and(|mut dir| dir.next().is_some())));
    let run = only_folder(output);
    assert!(process.wait_until(|| lines(&run) >= target), "ended before line {target}");
    (process, run)
}

#[test]
fn an_evaluation_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut process, run) = begun(dir.path(), &[], 4);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..40_000)));
        process.signal("-KILL");
        drop(process);
        let before = lines(&run);
        process = Running::start(&resume(&run));
        assert!(process.wait_until(|| lines(&run) >= before + 8), "ended before its end");
        assert!(!run.join("summary.json").exists());
    }
    // A line that the last kill has torn.
    process.signal("-KILL");
    drop(process);
    let bytes = std::fs::read(journal(&run)).unwrap();
    std::fs::write(journal(&run), &bytes[..bytes.len() - 40]).unwrap();
    succeeds(&words(&resume(&run)));
    equals_the_reference(&run);
    // Six sessions after the first.
    assert_eq!(json_of(&run.join("environment.json"))["resumed"].as_array().unwrap().len(), 6);
    let again = succeeds(&words(&resume(&run)));
    assert!(stderr(&again).contains("this evaluation is finished"), "{}", stderr(&again));
}

#[test]
fn an_interrupted_evaluation_saves_its_batch_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (process, run) = begun(dir.path(), &[], 3);
    process.signal("-INT");
    let (code, said) = process.end();
    assert_eq!(code, Some(130), "{said}");
    let saved = (lines(&run) - 1) * 4;
    for word in [&format!("interrupted after {saved} of 480 answers"), "go on with:", "eval --resume"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
    let unfinished = "the evaluation isn't finished";
    fails(&["verify", run.to_str().unwrap()], 3, &[unfinished, "c2c eval --resume"]);
    fails(&["merge", run.to_str().unwrap(), "--out", "/nowhere/merged"], 2, &["isn't finished", "c2c eval --resume"]);
    // The recipe and its settings may be named once more, if they are the same.
    let args = [&eval(dir.path(), &[])[..], &["--resume".into(), run.display().to_string()]].concat();
    succeeds(&words(&args));
    equals_the_reference(&run);
}

#[test]
fn another_evaluation_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (process, run) = begun(dir.path(), &[], 5);
    process.signal("-STOP");
    // Two processes never write one journal.
    let at = run.to_str().unwrap();
    fails(&["eval", "--resume", at], 3, &["another process is writing this journal"]);
    process.signal("-KILL");
    drop(process);
    let changed = ["eval", "--resume", at, "-o", "evaluation.max_new_tokens=9"];
    fails(&changed, 2, &["keeps its recipe", "evaluation.max_new_tokens = 9, not 8"]);
    fails(&["eval", "--resume", at, "--shard", "1/2"], 2, &["shard: 1/2, not 1/1"]);
    fails(&["eval", "--resume", root().join("docs").to_str().unwrap()], 2, &["is no run directory"]);
    // Another fuser under the same name, another version, other questions: what differs is named.
    let text = std::fs::read_to_string(journal(&run)).unwrap();
    let fuser =
        json_of(&root().join("exports/pocket/fuser_config.json"))["weights_sha256"].as_str().unwrap().to_owned();
    let rows = "\"rows\":288";
    for (old, new, word) in [
        (fuser.as_str(), "00", "fuser_sha256: "),
        (rows, "\"rows\":287", "evaluation_data: "),
        ("\"program\":\"", "\"program\":\"9", "program: "),
        ("\"format\":2", "\"format\":9", "journal of format 9"),
        ("\"records\":[[", "\"records\":[[9", "line 2: "),
    ] {
        let forged = text.replacen(old, new, 1);
        assert_ne!(forged, text, "{old}");
        std::fs::write(journal(&run), forged).unwrap();
        let output = kit::c2c(&["eval", "--resume", at]);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{word}: {}", stderr(&output));
        if word != "line 2: " {
            assert!(stderr(&output).contains(word), "{word}: {}", stderr(&output));
        }
    }
    assert!(!run.join("summary.json").exists());
    std::fs::write(journal(&run), text).unwrap();
    succeeds(&["eval", "--resume", at]);
    equals_the_reference(&run);
}

#[test]
fn shards_put_together_are_the_undivided_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let shards: Vec<String> = (1..=3)
        .map(|index| {
            let output = succeeds(&words(&eval(&dir.path().join("shards"), &["--shard", &format!("{index}/3")])));
            let run = stdout(&output).trim().to_owned();
            assert!(run.contains(&format!("pocket-shard{index}of3-")), "{run}");
            run
        })
        .collect();
    let out = dir.path().join("merged");
    let out_text = out.to_str().unwrap();
    let [one, two, three] = [&shards[0], &shards[1], &shards[2]].map(String::as_str);
    let merge = |runs: &[&str]| {
        let args = [&["merge"], runs, &["--out", out_text]].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    fails(&words(&merge(&[one, three])), 2, &["shard 2/3 is missing"]);
    fails(&words(&merge(&[one, three, one, two])), 2, &["shard 1/3 is there 2 times"]);
    fails(
        &words(&merge(&[one, two, REFERENCE.1.to_str().unwrap()])),
        2,
        &["is a whole run and no shard", "shard 3/3 is missing"],
    );
    fails(&["verify", two], 3, &["one shard of several", "c2c merge"]);
    // A shard of another evaluation, and one of another cut.
    let other = dir.path().join("other");
    let foreign = stdout(&succeeds(&words(&eval(&other, &["--shard", "2/3", "-o", "evaluation.seed=1"]))));
    fails(&words(&merge(&[one, foreign.trim(), three])), 2, &["recipe_sha256: "]);
    let cut = stdout(&succeeds(&words(&eval(&other, &["--shard", "2/2"]))));
    fails(&words(&merge(&[one, cut.trim(), three])), 2, &["shard 2/2, but"]);
    assert!(!out.exists());

    let table = stdout(&succeeds(&words(&merge(&[three, one, two]))));
    assert!(table.contains("equal to the bit") && table.contains("PARTIAL"), "{table}");
    equals_the_reference(&out);
    let merged = &json_of(&out.join("environment.json"))["merged"];
    assert_eq!(merged[0]["shard"], "3/3");
    fails(&words(&merge(&[one, two, three])), 2, &["is there already"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left beside it");
}

#[test]
fn a_shard_that_was_killed_goes_on_as_that_shard() {
    let dir = tempfile::tempdir().unwrap();
    let (process, run) = begun(&dir.path().join("second"), &["--shard", "2/2"], 3);
    process.signal("-KILL");
    drop(process);
    assert_eq!(stdout(&succeeds(&words(&resume(&run)))).trim(), run.to_str().unwrap());
    let first = stdout(&succeeds(&words(&eval(&dir.path().join("first"), &["--shard", "1/2"]))));
    let out = dir.path().join("merged");
    succeeds(&["merge", run.to_str().unwrap(), first.trim(), "--out", out.to_str().unwrap()]);
    equals_the_reference(&out);
}

/// The journal's head is its first line; without it, only the folder's name says which part this was to be.
#[test]
fn a_shard_that_has_written_nothing_goes_on_as_that_shard() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |name: &str, part: &str| {
        let printed = stdout(&succeeds(&words(&eval(&dir.path().join(name), &["--shard", part]))));
        PathBuf::from(printed.trim())
    };
    let (first, second) = (shard("first", "1/2"), shard("second", "2/2"));
    std::fs::write(journal(&second), "{\"head\": {\"format").unwrap();
    let resumed = succeeds(&words(&resume(&second)));
    assert!(stderr(&resumed).contains("shard 2/2"), "{}", stderr(&resumed));
    let out = dir.path().join("merged");
    succeeds(&["merge", first.to_str().unwrap(), second.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    equals_the_reference(&out);
}

#[test]
fn a_training_that_is_killed_in_its_evaluation_keeps_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str| {
        let output = format!("output.dir={}", dir.path().join(name).display());
        let args = ["train", "recipes/train/pocket.toml", "-o", "training.max_steps=2", "-o", &output];
        [&args[..], &SETTINGS].concat().into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    succeeds(&words(&train("reference")));
    let reference = only_folder(&dir.path().join("reference"));
    let output = dir.path().join("killed");
    let mut process = Running::start(&train("killed"));
    assert!(process.wait_until(|| std::fs::read_dir(&output).is_ok_and(|mut dir| dir.next().is_some())));
    let run = only_folder(&output);
    assert!(process.wait_until(|| lines(&run) >= 5));
    process.signal("-INT");
    let (code, said) = process.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted in the evaluation") && said.contains("train --resume"), "{said}");
    let kept = std::fs::read(journal(&run)).unwrap();
    // The head of the file stays as it is: nothing is done again.
    let mut process = Running::start(&["train".into(), "--resume".into(), run.display().to_string()]);
    assert!(process.wait_until(|| lines(&run) > 8 || run.join("eval/records.parquet").exists()));
    if let Ok(now) = std::fs::read(journal(&run)) {
        assert!(now.starts_with(&kept));
    }
    assert_eq!(process.end().0, Some(0));
    assert_eq!(untimed(&run), untimed(&reference));
    assert!(!journal(&run).exists());
    succeeds(&["verify", run.to_str().unwrap()]);
}

#[test]
fn an_evaluation_that_cannot_be_done_leaves_no_run_directory() {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().display());
    let recipe = "recipes/eval/pocket-baselines.toml";
    let args = ["eval", recipe, "-o", &output, "-o", "evaluation.oracle_layers=4-5"];
    fails(&args, 2, &["oracle_layers = 5, of a receiver with 5 layers"]);
    fails(
        &["eval", recipe, "-o", &output, "-o", "evaluation.few_shot_examples=900"],
        2,
        &["expected 900 examples", "found 864"],
    );
    fails(&["eval", recipe, "-o", &output, "--shard", "3/2"], 2, &["3/2", "expected I/N"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// What the recipe of the pocket Fuser says beside the defaults.
const POCKET: [&str; 6] =
    ["-o", "evaluation.prompt=plain_cued", "-o", "evaluation.max_new_tokens=8", "-o", "evaluation.batch_size=32"];

#[test]
fn a_fuser_is_evaluated_without_a_recipe_and_from_any_folder() {
    let dir = tempfile::tempdir().unwrap();
    let output = |name: &str| format!("output.dir={}", dir.path().join(name).display());
    let (with, without) = (output("with"), output("without"));
    let methods = "evaluation.methods=[\"receiver\",\"sharer\",\"c2c\",\"mismatched\"]";
    succeeds(&["eval", "recipes/eval/pocket.toml", "--limit", "12", "-o", methods, "-o", &with]);
    let fuser = root().join("exports/pocket").display().to_string();
    let args = ["eval", "--fuser", &fuser, "--questions", "pocket", "--limit", "12", "-o", &without];
    let args = [&args[..], &POCKET].concat();
    // The models lie where the fuser says, seen from its own folder.
    let out = command(&args).current_dir(dir.path()).output().unwrap();
    succeeded(&args, out);
    let (with, without) = (only_folder(&dir.path().join("with")), only_folder(&dir.path().join("without")));
    assert!(without.file_name().unwrap().to_str().unwrap().starts_with("pocket-"));
    assert_eq!(untimed(&without), untimed(&with), "the same way");
    succeeds(&["verify", without.to_str().unwrap()]);
    let out = succeeds(&["eval", "--resume", without.to_str().unwrap()]);
    assert!(stderr(&out).contains("is finished"), "{}", stderr(&out));
}

#[test]
fn what_an_evaluation_without_a_recipe_lacks_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().join("runs").display());
    fails(
        &["eval", "--fuser", "exports/pocket"],
        2,
        &["--questions KIND[=PATH]", "--questions pocket", "evaluation.sources"],
    );
    fails(&["eval"], 2, &["a recipe", "--questions KIND[=PATH]", "--resume"]);
    fails(&["eval", "--questions", "pocket"], 2, &["--fuser"]);
    fails(&["eval", "recipes/eval/pocket.toml", "--fuser", "x", "--questions", "pocket"], 2, &["cannot be used with"]);
    let asked = |kind: &str, code, words: &[&str]| {
        fails(&["eval", "--fuser", "exports/pocket", "--questions", kind, "-o", &output], code, words);
    };
    asked("pokcet", 2, &["evaluation.sources[0].kind", "pokcet", "did you mean \"pocket\""]);
    asked("multiple_choice", 2, &["evaluation.sources[0]", "path"]);
    asked("multiple_choice=no/such.jsonl", 3, &["no/such.jsonl"]);
    // Elsewhere the fuser's own names of its models lead nowhere.
    let copy = dir.path().join("fuser");
    succeeds(&["export", "exports/pocket", "--out", copy.to_str().unwrap()]);
    let args = ["eval", "--fuser", copy.to_str().unwrap(), "--questions", "pocket", "--limit", "2", "-o", &output];
    fails(&args, 3, &["../../datasets/pocket/receiver", "-o receiver.model=FOLDER"]);
    assert!(!dir.path().join("runs").exists());
    let models = ["-o", "receiver.model=datasets/pocket/receiver", "-o", "sharer.model=datasets/pocket/sharer"];
    succeeds(&[&args[..], &models, &POCKET].concat());
}
