//! How far an evaluation has come, and how long the rest may take.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use c2c_eval::EvalProgress;

/// How often a line is written where there is no terminal, besides the one at each method's end.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// What is left is told once this much of a method has been seen.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// One rewritten line on a terminal; elsewhere a line a method, and one now and then in between.
pub struct ProgressLine {
    terminal: bool,
    current: Option<Current>,
    /// Questions answered in this sitting by methods before, and the time they took.
    before: (usize, Duration),
    written: Instant,
}

struct Current {
    place: usize,
    started: Instant,
    /// Questions of earlier sittings.
    given: usize,
    done: usize,
}

impl ProgressLine {
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            current: None,
            before: (0, Duration::ZERO),
            written: Instant::now(),
        }
    }

    pub fn show(&mut self, p: &EvalProgress) {
        let now = Instant::now();
        if self.current.as_ref().is_none_or(|current| current.place != p.place) {
            if let Some(last) = self.current.take() {
                self.before.0 += last.done - last.given;
                self.before.1 += now - last.started;
                if self.terminal {
                    eprintln!();
                }
            }
            self.current = Some(Current { place: p.place, started: now, given: p.done, done: p.done });
        }
        let Some(current) = &mut self.current else { return };
        current.done = p.done;
        let new = p.done - current.given;
        let mut text =
            format!("evaluating {:<18} {:>5}/{}, {} right", p.method.to_string(), p.done, p.total, p.correct);
        let spent = now - current.started;
        if p.done == p.total && new > 0 {
            text.push_str(&format!(", {:.1} s", spent.as_secs_f64()));
        } else if new > 0 && spent >= TELL_AFTER {
            let left = left(p, (new, spent), self.before);
            text.push_str(&format!(", {:.1} a second, {} left", new as f64 / spent.as_secs_f64(), in_words(left)));
        }
        if self.terminal {
            eprint!("\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
        } else if p.done == p.total || now - self.written >= LOG_EVERY {
            eprintln!("{text}");
            self.written = now;
        }
    }

    pub fn end(&self) {
        if self.terminal && self.current.is_some() {
            eprintln!();
        }
    }
}

/// The rest of this method at its own speed, and the methods to come at the mean speed so far. The longest questions come
/// first, so it is rather less.
fn left(p: &EvalProgress, (new, spent): (usize, Duration), before: (usize, Duration)) -> Duration {
    let own = spent.as_secs_f64() / new as f64;
    let mean = (before.1 + spent).as_secs_f64() / (before.0 + new) as f64;
    let to_come = (p.methods - p.place - 1) * p.total;
    Duration::from_secs_f64((p.total - p.done) as f64 * own + to_come as f64 * mean)
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use c2c_recipe::Method;

    #[test]
    fn what_is_left_counts_this_method_and_those_to_come() {
        let p = EvalProgress { method: Method::C2c, place: 1, methods: 4, done: 30, total: 100, correct: 9 };
        let seconds = Duration::from_secs;
        // 20 of the 30 in this sitting, in 10 s: 0.5 s each for 70 more. Two methods of 100 at 130 s / 120.
        let expected = 70.0 * 0.5 + 200.0 * 130.0 / 120.0;
        let found = left(&p, (20, seconds(10)), (100, seconds(120))).as_secs_f64();
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    #[test]
    fn times_are_short() {
        let words = [4, 59, 61, 3599, 3600, 7322].map(|s| in_words(Duration::from_secs(s)));
        assert_eq!(words, ["4 s", "59 s", "1 min 01 s", "59 min 59 s", "1 h 00 min", "2 h 02 min"]);
    }
}
