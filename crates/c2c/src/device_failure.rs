//! Failures of a GPU, which its backend only tells by a panic on a thread of its own.
//!
//! Work is handed to such a thread and results are read back later. When the device fails, most often because its memory is
//! exhausted, that thread panics and goes on, and what is read back afterwards is no result: a loss or an answer may even look
//! like one. So the first such panic ends the program, before anything that was computed after it can be written.

use std::panic::PanicHookInfo;

use crate::exit::Failure;

/// Ends the program when a device fails from here on. Other panics are told as they were before.
pub fn watch() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !std::thread::current().name().is_some_and(belongs_to_device) {
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
