//! Checkpoints of a tiny fuser: round trip, what is kept, what is refused, and a thousand ways to damage one.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod mutations;
mod tiny;

use std::fs;

use c2c_train::checkpoint::{Best, CheckpointError, DataCursor, Identity};
use c2c_train::{FuserModule, FuserOptimizer};
use tiny::{Run, config, cursor, device, identity, names, store};

#[test]
fn a_checkpoint_gives_back_every_bit_and_the_next_steps_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = store(dir.path(), 2, true);
    let mut run = Run::new();
    for _ in 0..3 {
        run.step();
    }
    run.save(&mut store, None);
    let checkpoint = store.newest(&identity(), &cursor()).unwrap().unwrap();
    assert_eq!(checkpoint.state.step, 3);
    let fuser = checkpoint.fuser(&config(), &device()).unwrap();
    let optimizer = FuserOptimizer::new(0.9, 0.999, 1e-8, 0.01);
    checkpoint.restore_optimizer(&optimizer, &fuser).unwrap();
    let mut again = Run { module: FuserModule { fuser }, optimizer, step: 3 };
    // Three values for each of the 16 parameters, and the parameter itself.
    assert_eq!(run.bits().len(), 64);
    assert_eq!(run.bits(), again.bits());
    for _ in 0..5 {
        run.step();
        again.step();
        assert_eq!(run.bits(), again.bits());
    }
}

#[test]
fn a_checkpoint_before_any_optimiser_state_is_whole_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = store(dir.path(), 2, true);
    Run::new().save(&mut store, None);
    let checkpoint = store.newest(&identity(), &cursor()).unwrap().unwrap();
    let fuser: c2c_fuser::Fuser<tiny::B> = checkpoint.fuser(&config(), &device()).unwrap();
    let optimizer = FuserOptimizer::new(0.9, 0.999, 1e-8, 0.01);
    checkpoint.restore_optimizer(&optimizer, &fuser).unwrap();
    assert!(optimizer.moments(&fuser).is_empty());
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = dir.path().join("checkpoints");
    let mut run = Run::new();
    let best = Some(Best { step: 2, validation_loss: 0.5 });
    let (mut keeps_best, _) = store(dir.path(), 2, true);
    for step in 1..=5 {
        run.step();
        run.save(&mut keeps_best, best.filter(|best| best.step <= step));
    }
    assert_eq!(names(&checkpoints), ["step-000002", "step-000004", "step-000005"]);
    drop(keeps_best);
    let (mut keeps_newest, _) = store(dir.path(), 1, false);
    run.step();
    run.save(&mut keeps_newest, best);
    assert_eq!(names(&checkpoints), ["step-000006"]);
}

#[test]
fn leftovers_of_a_killed_process_are_cleared_and_are_no_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = dir.path().join("checkpoints");
    let (mut first, _) = store(dir.path(), 2, true);
    let mut run = Run::new();
    run.step();
    run.save(&mut first, None);
    drop(first);
    for name in ["step-000009.partial", "step-000000.deleted"] {
        fs::create_dir(checkpoints.join(name)).unwrap();
        fs::write(checkpoints.join(name).join("fuser.safetensors"), "half").unwrap();
    }
    fs::create_dir(checkpoints.join("step-9")).unwrap();
    let (mut second, told) = store(dir.path(), 2, true);
    assert_eq!(second.steps().unwrap(), [1], "names are those that this program writes");
    assert_eq!(names(&checkpoints), ["step-000001", "step-9"]);
    assert_eq!(second.newest(&identity(), &cursor()).unwrap().unwrap().state.step, 1);
    let told = told.lock().unwrap();
    assert!(told.len() == 1 && told[0].contains("step-000009.partial"), "{told:?}");
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (held, _) = store(dir.path(), 2, true);
    let settings = c2c_recipe::CheckpointSettings { every: 1, keep_last: 1, keep_best: true };
    let open = || c2c_train::checkpoint::Store::open(dir.path(), &settings, Box::new(|_| {}));
    assert!(matches!(open(), Err(CheckpointError::Locked { .. })));
    drop(held);
    assert!(open().is_ok());
}

#[test]
fn another_recipe_model_or_data_is_another_error_each_and_no_reason_to_fall_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, told) = store(dir.path(), 2, true);
    let mut run = Run::new();
    for _ in 0..2 {
        run.step();
        run.save(&mut store, None);
    }
    let refusal = |store: &mut c2c_train::checkpoint::Store, identity: Identity, data: DataCursor| {
        store.newest(&identity, &data).unwrap_err()
    };
    let other = "d4".repeat(32);
    let recipe = refusal(&mut store, Identity { recipe_sha256: other.clone(), ..identity() }, cursor());
    let receiver = refusal(&mut store, Identity { receiver_sha256: other.clone(), ..identity() }, cursor());
    let sharer = refusal(&mut store, Identity { sharer_sha256: other.clone(), ..identity() }, cursor());
    let data = refusal(&mut store, identity(), DataCursor { examples: 51, ..cursor() });
    assert!(matches!(recipe, CheckpointError::Recipe { .. }), "{recipe}");
    assert!(matches!(receiver, CheckpointError::Model { model: "receiver", .. }), "{receiver}");
    assert!(matches!(sharer, CheckpointError::Model { model: "sharer", .. }), "{sharer}");
    assert!(matches!(data, CheckpointError::Data { .. }), "{data}");
    for error in [recipe, receiver, sharer] {
        assert!(error.to_string().contains(&other) && error.to_string().contains("step-000002"), "{error}");
    }
    assert!(told.lock().unwrap().is_empty());
}

#[test]
fn a_save_that_fails_leaves_older_checkpoints_and_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = dir.path().join("checkpoints");
    let (mut store, _) = store(dir.path(), 2, true);
    let mut run = Run::new();
    run.step();
    run.save(&mut store, None);
    let before = fs::read(checkpoints.join("step-000001/manifest.json")).unwrap();
    // A file stands where the new folder is to be made: that fails for every user, root too.
    fs::write(checkpoints.join("step-000002.partial"), "in the way").unwrap();
    run.step();
    let metrics = "{}\n{}\n";
    let identity = identity();
    let snapshot = c2c_train::checkpoint::Snapshot {
        identity: &identity,
        fuser: &run.module.fuser,
        optimizer: &run.optimizer,
        state: run.state(None),
        metrics: metrics.as_bytes(),
    };
    let error = store.save(snapshot).unwrap_err();
    assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
    assert!(error.to_string().contains("step-000002.partial"), "{error}");
    assert_eq!(store.steps().unwrap(), [1]);
    assert_eq!(fs::read(checkpoints.join("step-000001/manifest.json")).unwrap(), before);
    assert_eq!(store.newest(&identity, &cursor()).unwrap().unwrap().state.step, 1);
}
