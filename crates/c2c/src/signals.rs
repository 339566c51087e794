//! SIGINT and SIGTERM: what is under way is finished and saved first, and a second signal ends the process at once.
//!
//! Some senders signal a process and then its group, as `timeout` does. So what follows within half a second is the same signal.
//!
//! Ending at once is safe anywhere, since everything that lasts is written beside and renamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::train::Interrupter;

/// The exit code of an interrupted command.
pub const INTERRUPTED: u8 = 130;

/// Said when what is under way is asked to stop.
const STOPPING: &str = "stopping: finishing this step or batch and saving it; a second signal stops at once";

/// A signal that comes so soon after another is the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// What a signal does now.
#[derive(Clone)]
pub struct Signals {
    working: Arc<AtomicBool>,
    stop: Interrupter,
}

impl Signals {
    /// Takes over SIGINT and SIGTERM. Until [`Signals::while_working`] a signal ends the process, and so it does
    /// afterwards; `farewell` is printed then.
    pub fn handle(farewell: String) -> Self {
        Self::telling(STOPPING, farewell)
    }

    /// The same with other words on asking to stop; none at all where there are none.
    pub fn telling(stopping: &'static str, farewell: String) -> Self {
        let signals = Self { working: Arc::default(), stop: Interrupter::new() };
        let handler = signals.clone();
        let mut asked: Option<Instant> = None;
        // A second handler in one process can't be set; then the default one ends the run, which is no loss.
        let _ = ctrlc::set_handler(move || {
            let again = asked.is_some_and(|asked| asked.elapsed() < SAME_SIGNAL);
            if again && handler.working.load(Ordering::Relaxed) {
                return;
            }
            if handler.working.load(Ordering::Relaxed) && !handler.stop.should_stop() {
                asked = Some(Instant::now());
                if !stopping.is_empty() {
                    eprintln!("\n{stopping}");
                }
                handler.stop.stop(Some("interrupted"));
            } else {
                eprintln!("{}", if farewell.is_empty() { String::new() } else { format!("\n{farewell}") });
                std::process::exit(i32::from(INTERRUPTED));
            }
        });
        signals
    }

    /// Forgets that a signal has come, before the next of several pieces of work that are stopped each by itself.
    pub fn forget(&self) {
        self.stop.reset();
    }

    /// Runs something that a signal only asks to stop.
    pub fn while_working<T>(&self, work: impl FnOnce(Interrupter) -> T) -> T {
        self.working.store(true, Ordering::Relaxed);
        let result = work(self.stop.clone());
        self.working.store(false, Ordering::Relaxed);
        result
    }
}
