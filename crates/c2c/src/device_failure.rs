//! Failures of a GPU, which its backend only tells by a panic on a thread of its own.
//!
//! Work is handed to such a thread and results are read back later. When the device fails, most often because its memory is
//! exhausted, that thread panics and goes on, and what is read back afterwards is no result: a loss or an answer may even look
//! like one. So the first such panic ends the program, before anything that was computed after it can be written.
//!
//! While a device is only [tried out](trying), nothing is lost yet, and its failure is an error like others.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use crate::exit::Failure;

/// A device that is tried out: by which thread, and the first failure.
struct Trial {
    by: ThreadId,
    failure: Option<String>,
}

static TRIAL: Mutex<Option<Trial>> = Mutex::new(None);

fn trial() -> MutexGuard<'static, Option<Trial>> {
    TRIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` on a device that may not be there; a panic of it, or of a device's thread meanwhile, is an error.
///
/// One thread may do so at a time. Only behind [`watch`]; without it such a panic is told on stderr, too.
pub fn trying(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    *trial() = Some(Trial { by: std::thread::current().id(), failure: None });
    let done = catch_unwind(AssertUnwindSafe(work));
    // What the device's thread says comes first: what the caller then misses only follows from it.
    match (trial().take().and_then(|trial| trial.failure), done) {
        (Some(failure), _) => Err(shown(failure)),
        (None, Ok(done)) => done,
        (None, Err(_)) => Err("its backend panicked without a reason".into()),
    }
}

/// Of a failure, so many characters are shown: a library that isn't there is told with all names that it may have.
const MAX_SHOWN: usize = 250;

fn shown(mut failure: String) -> String {
    if let Some((end, _)) = failure.char_indices().nth(MAX_SHOWN) {
        failure.truncate(end);
        failure.push_str(" ..");
    }
    failure
}

/// Keeps the failure of a device that is tried out; false if none is, or the panic has nothing to do with it.
fn noted(panic: &PanicHookInfo<'_>, of_device: bool) -> bool {
    match &mut *trial() {
        Some(trial) if of_device || trial.by == std::thread::current().id() => {
            trial.failure.get_or_insert_with(|| message(panic));
            true
        }
        _ => false,
    }
}

/// Ends the program when a device fails from here on. Other panics are told as they were before.
pub fn watch() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_device = std::thread::current().name().is_some_and(belongs_to_device);
        if noted(panic, of_device) {
            return;
        }
        if !of_device {
            return others(panic);
        }
        let failure = failure(&message(panic));
        eprintln!("error: {failure}");
        // Everything that lasts is written beside and renamed, so that ending here is safe.
        std::process::exit(failure.code().into());
    }));
}

fn failure(message: &str) -> Failure {
    Failure::Environment(anyhow::anyhow!(
        "the device failed: {message}. Most often its memory is exhausted: try a smaller training.batch_size (with more \
         gradient_accumulation) or evaluation.batch_tokens, bf16 models, or end what else uses the device; what was saved before is \
         whole, and `--resume` goes on from it"
    ))
}

/// CubeCL calls its devices' threads `DSU-..` and `DSD-..`.
fn belongs_to_device(thread: &str) -> bool {
    thread.starts_with("DSU-") || thread.starts_with("DSD-")
}

fn message(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no reason given".into()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Set in the process that the test below starts.
    const CHILD: &str = "C2C_DEVICE_FAILURE_TEST";

    #[test]
    fn a_device_that_fails_while_it_is_tried_out_is_an_error() {
        if std::env::var_os(CHILD).is_some() {
            watch();
            let on_its_thread = || {
                let thread = std::thread::Builder::new().name("DSD-1-0".into());
                let ended = thread.spawn(|| panic!("no such device")).unwrap().join();
                ended.map_err(|_| "nothing came back".to_owned())
            };
            assert_eq!(trying(on_its_thread), Err("no such device".into()));
            assert_eq!(trying(|| panic!("{} is not there", "cuda:7")), Err("cuda:7 is not there".into()));
            assert_eq!(trying(|| panic!("{}", "ü".repeat(300))), Err("ü".repeat(250) + " .."));
            assert_eq!(trying(|| Err("a wrong product".into())), Err("a wrong product".into()));
            assert_eq!(trying(|| Ok(())), Ok(()));
            // Behind it a failing device ends the program again.
            let _ = on_its_thread();
            unreachable!("the device failed and the program went on");
        }
        let name = "device_failure::tests::a_device_that_fails_while_it_is_tried_out_is_an_error";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
        let told = String::from_utf8(child.stderr).unwrap();
        assert_eq!(child.status.code(), Some(3), "{told}");
        assert_eq!(told.matches("no such device").count(), 1, "{told}");
        assert!(!told.contains("cuda:7"), "{told}");
    }

    #[test]
    fn a_panic_on_a_devices_thread_ends_the_program_and_one_elsewhere_does_not() {
        if std::env::var_os(CHILD).is_some() {
            watch();
            let panics = |name: &str| {
                let thread = std::thread::Builder::new().name(name.into());
                assert!(thread.spawn(|| panic!("out of memory")).unwrap().join().is_err());
            };
            panics("worker");
            eprintln!("still here");
            panics("DSD-0-0");
            unreachable!("the device failed and the program went on");
        }
        let name = "device_failure::tests::a_panic_on_a_devices_thread_ends_the_program_and_one_elsewhere_does_not";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
        let told = String::from_utf8(child.stderr).unwrap();
        assert_eq!(child.status.code(), Some(3), "{told}");
        assert!(told.contains("still here"), "{told}");
        assert!(told.contains("error: the device failed: out of memory"), "{told}");
    }
}
