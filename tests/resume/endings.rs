//! Every other way for a run to end before its end, and what going on makes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{
    Length, Watched, checkpoints, command, copy, differences, fails, flip, only_folder, resume, root, succeeds, text,
};

/// A copy of the uninterrupted run, as if it had ended just now.
fn copied(dir: &Path) -> PathBuf {
    let run = dir.join("run");
    copy(Length::Short.reference(), &run);
    run
}

/// As [`copied`], killed before its last save.
fn without_the_last_checkpoint(dir: &Path) -> PathBuf {
    let run = copied(dir);
    std::fs::remove_dir_all(run.join("checkpoints/step-000024")).unwrap();
    std::fs::remove_dir_all(run.join("fuser")).unwrap();
    run
}

fn ends_like_the_reference(run: &Path) {
    let differences = differences(run, Length::Short.reference(), Length::Short);
    assert!(differences.is_empty(), "{differences:?} differ");
}

#[test]
fn a_stopped_run_saves_its_step_and_prints_the_line_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, stderr) = (dir.path().join("runs with a space"), dir.path().join("stderr"));
    let mut process = Watched::start(&Length::Short.train(&runs), &runs, &stderr);
    assert!(process.wait_until(|_| std::fs::read_dir(&runs).is_ok_and(|mut r| r.next().is_some())));
    let run = only_folder(&runs);
    process.watch(&run);
    assert!(process.wait_until(|p| p.steps() >= 5), "{}", std::fs::read_to_string(&stderr).unwrap());
    // While it lives, nobody else may go on with the run.
    process.signal("-STOP");
    fails(&resume(&run), 3, &["another process trains in this run directory"]);
    process.signal("-CONT");
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(130));

    let told = std::fs::read_to_string(&stderr).unwrap();
    assert!(told.contains("interrupted after") && !told.contains("error"), "{told}");
    let saved = checkpoints(&run).pop().unwrap();
    assert_eq!(saved, format!("step-{:06}", process.steps()), "the last step is saved, and no step after it was begun");
    let line = told.lines().skip_while(|line| *line != "go on with:").nth(1).expect("a line to go on with");
    let output = Command::new("sh").args(["-c", line.trim()]).current_dir(root()).output().unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{line}\n{told}");
    let resumed = format!("resuming at step {} of 24", saved.trim_start_matches("step-").trim_start_matches('0'));
    assert!(told.contains(&resumed), "no `{resumed}` in\n{told}");
    ends_like_the_reference(&run);
}

#[test]
fn a_flipped_byte_is_told_by_file_and_the_run_falls_back() {
    let dir = tempfile::tempdir().unwrap();
    let run = copied(dir.path());
    flip(&run.join("checkpoints/step-000024/optimizer.safetensors"), 5_000_000);
    // What lies outside the checkpoint is made anew from it.
    std::fs::remove_file(run.join("metrics.jsonl")).unwrap();
    let told = text(&succeeds(&resume(&run)).stderr);
    for words in
        ["step-000024: optimizer.safetensors has sha256", "falling back to step 21", "resuming at step 21 of 24"]
    {
        assert!(told.contains(words), "no `{words}` in\n{told}");
    }
    assert!(checkpoints(&run).contains(&"step-000024.damaged".to_owned()), "{:?}", checkpoints(&run));
    ends_like_the_reference(&run);
}

#[test]
fn without_a_good_checkpoint_every_bad_file_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let run = copied(dir.path());
    let before = checkpoints(&run);
    for name in &before {
        std::fs::remove_file(run.join("checkpoints").join(name).join("manifest.json")).unwrap();
    }
    let told = fails(&resume(&run), 3, &["no checkpoint", "can be used", "start the run anew"]);
    for name in &before {
        assert!(told.contains(&format!("{name}: manifest.json is missing")), "{told}");
    }
    assert_eq!(checkpoints(&run), before);
}

#[test]
fn a_finished_run_has_nothing_left_to_train_and_is_finished_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = copied(dir.path());
    // Killed after its last step, before the artefact and the evaluation.
    std::fs::remove_dir_all(run.join("fuser")).unwrap();
    std::fs::remove_file(run.join("summary.json")).unwrap();
    let told = text(&succeeds(&resume(&run)).stderr);
    assert!(told.contains("resuming at step 24 of 24"), "{told}");
    assert!(run.join("summary.json").is_file());
    ends_like_the_reference(&run);
}

#[test]
fn a_full_disk_costs_the_save_and_nothing_older() {
    let dir = tempfile::tempdir().unwrap();
    let run = without_the_last_checkpoint(dir.path());
    let before = checkpoints(&run);
    // No file may grow beyond some MB: writing fails as on a full disk, for every user, root too. A shell counts in
    // blocks of 512 or of 1024 bytes; both are less than the fuser's 5.3 MB.
    let script = "trap '' XFSZ; ulimit -f 5000; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_c2c")])
        .args(resume(&run))
        .current_dir(root())
        .output()
        .unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    for words in
        ["cannot write", "step-000024", "fuser.safetensors", "older checkpoints are as they were", "go on with:"]
    {
        assert!(told.contains(words), "no `{words}` in\n{told}");
    }
    assert_eq!(checkpoints(&run), before, "older checkpoints stay, and nothing half written");
    succeeds(&resume(&run));
    ends_like_the_reference(&run);
}

#[test]
fn another_model_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let run = without_the_last_checkpoint(dir.path());
    let models = dir.path().join("datasets/pocket");
    for model in ["receiver", "sharer"] {
        copy(&root().join("datasets/pocket").join(model), &models.join(model));
    }
    let base = dir.path().join("recipes/train");
    std::fs::create_dir_all(&base).unwrap();
    let elsewhere = |mut args: Vec<String>| {
        args.extend(["-o".to_owned(), format!("base_dir={}", base.display())]);
        args
    };
    let weights = models.join("sharer/model.safetensors");
    let last = std::fs::metadata(&weights).unwrap().len() as usize - 1;
    flip(&weights, last);
    fails(&elsewhere(resume(&run)), 3, &["step-000021 was trained with another sharer", "put the model back"]);
    flip(&weights, last);
    // The same models at another place are the same models.
    succeeds(&elsewhere(resume(&run)));
    ends_like_the_reference(&run);
}

#[test]
fn what_would_change_the_run_is_refused_key_by_key() {
    let run = Length::Short.reference();
    let with = |more: &[&str]| [resume(run), more.iter().map(|one| (*one).to_owned()).collect()].concat();
    let override_ = with(&["-o", "optimizer.learning_rate=1e-5", "-o", "seed=7"]);
    fails(&override_, 2, &["optimizer.learning_rate = 1e-5, not 0.002", "seed = 7, not 42", "without --resume"]);
    fails(
        &with(&["recipes/train/pocket.toml"]),
        2,
        &["training.max_steps = 300, not 24", "fuser.dropout = 0.0, not 0.1"],
    );
    fails(&with(&["-o", "training.max_step=3"]), 2, &["training.max_steps"]);
    let dir = tempfile::tempdir().unwrap();
    fails(&resume(dir.path()), 2, &["is no run directory", "recipe.toml", "checkpoints"]);
    let neither = command(&["train".to_owned()]).output().unwrap();
    assert_eq!(neither.status.code(), Some(2), "{}", text(&neither.stderr));
    // A recipe of the run directory that was changed by hand since.
    let run = copied(dir.path());
    let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    std::fs::write(run.join("recipe.toml"), recipe.replace("weight_decay = 0.01", "weight_decay = 0.02")).unwrap();
    fails(&resume(&run), 2, &["step-000024 was written under another recipe"]);
    std::fs::write(run.join("recipe.toml"), "kind = ").unwrap();
    fails(&resume(&run), 2, &["recipe.toml", "name the recipe that the run was started with"]);
    // The checkpoint, not the file, says which recipe is the right one.
    let named = |args: Vec<String>| [args, vec!["--resume".into(), run.display().to_string()]].concat();
    let pocket = ["train", "recipes/train/pocket.toml"].map(str::to_owned).to_vec();
    fails(&named(pocket), 2, &["step-000024 was written under another recipe"]);
    succeeds(&named(Length::Short.train(dir.path())));
    ends_like_the_reference(&run);
}
