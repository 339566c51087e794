//! Batches made ahead change nothing.

use crate::lab::{Lab, equal};

#[test]
fn a_run_is_the_same_however_many_batches_are_made_ahead_also_after_a_resume() {
    let lab = Lab::new();
    let none = lab.train("none", &["-o", "data.prefetch=0"]);
    let usual = lab.train("usual", &[]);
    equal(&none, &usual);
    // Taken back to step 2, inside the first epoch, and on from there with another number.
    for step in ["step-000004", "step-000006"] {
        std::fs::remove_dir_all(usual.join("checkpoints").join(step)).unwrap();
    }
    lab.succeeds(&["train", "--resume", usual.to_str().unwrap(), "-o", "data.prefetch=9"]);
    equal(&none, &usual);
}
