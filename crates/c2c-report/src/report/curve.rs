//! How training went, from `metrics.jsonl`, and how long it took, from `timings.jsonl` beside it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::ReportError;

/// Most points that are kept of a run's training: more than a plot has room for. A longer one keeps the mean of as many
/// equal stretches of steps.
const POINTS: usize = 400;

/// The wall clock of each step; `metrics.jsonl` holds nothing that differs between two equal runs.
const TIMINGS: &str = "timings.jsonl";

/// A step, or the mean of some neighbouring ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub step: f64,
    pub loss: f64,
    pub gates_open: f64,
}

/// A run's training.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub steps: usize,
    /// Spent in the training loop; none if the run doesn't say.
    pub seconds: Option<f64>,
    pub tokens: u64,
    pub first_loss: f64,
    /// Mean over the last tenth of the steps.
    pub last_loss: f64,
    pub gates_open: f64,
    pub points: Vec<Point>,
}

impl Curve {
    /// Reads it; none if the run has no such file, or no step in it. Lines that aren't those of a step are passed over,
    /// as a later program may write others, and so is the last line of a run that was cut off.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, ReportError> {
        let read = |err: std::io::Error| ReportError::Read { path: path.to_owned(), reason: err.to_string() };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(read(err)),
        };
        let mut points = Vec::new();
        let mut tokens = 0;
        for line in BufReader::new(file).lines() {
            let Ok(line) = serde_json::from_str::<Value>(&line.map_err(read)?) else { continue };
            let number = |key: &str| line.get(key).and_then(Value::as_f64);
            let (Some(step), Some(loss), Some(gates_open)) = (number("step"), number("loss"), number("gates_open"))
            else {
                continue;
            };
            tokens += line.get("tokens").and_then(Value::as_u64).unwrap_or(0);
            points.push(Point { step, loss, gates_open });
        }
        let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else { return Ok(None) };
        let tail = &points[points.len() - points.len().div_ceil(10)..];
        Ok(Some(Self {
            steps: points.len(),
            seconds: seconds(&path.with_file_name(TIMINGS))?,
            tokens,
            first_loss: first.loss,
            last_loss: mean(tail).loss,
            gates_open: last.gates_open,
            points: thinned(&points),
        }))
    }
}

/// The largest time in a file of timings; none without a file or a time.
fn seconds(path: &Path) -> Result<Option<f64>, ReportError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(ReportError::Read { path: path.to_owned(), reason: err.to_string() }),
    };
    let times = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("seconds")?.as_f64());
    Ok(times.reduce(f64::max))
}

fn thinned(points: &[Point]) -> Vec<Point> {
    points.chunks(points.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

fn mean(points: &[Point]) -> Point {
    let n = points.len() as f64;
    let of = |get: fn(&Point) -> f64| points.iter().map(get).sum::<f64>() / n;
    Point { step: of(|p| p.step), loss: of(|p| p.loss), gates_open: of(|p| p.gates_open) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn curve(text: &str) -> Option<Curve> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        let timings = [3.5, 7.25].map(|seconds| format!("{{\"step\": 1, \"seconds\": {seconds}}}\n")).concat();
        std::fs::write(dir.path().join(TIMINGS), timings).unwrap();
        Curve::read(&path).unwrap()
    }

    fn line(step: usize) -> String {
        format!("{{\"step\": {step}, \"loss\": {}, \"gates_open\": 0.5, \"tokens\": 10}}\n", 100 - step)
    }

    #[test]
    fn steps_are_summed_up_and_other_lines_passed_over() {
        let text: String = (1..=20).map(line).collect::<String>() + "{\"validation\": 1}\n{\"step\": 21, \"lo";
        let curve = curve(&text).unwrap();
        assert_eq!((curve.steps, curve.tokens, curve.seconds), (20, 200, Some(7.25)));
        assert_eq!((curve.first_loss, curve.last_loss, curve.gates_open), (99.0, 80.5, 0.5));
        assert_eq!(curve.points.len(), 20);
    }

    #[test]
    fn long_trainings_keep_means_of_equal_stretches() {
        let points: Vec<Point> =
            (0..4000).map(|step| Point { step: step as f64, loss: 1.0, gates_open: f64::from(step % 2) }).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[1].step, thin[1].gates_open), (400, 14.5, 0.5));
    }

    #[test]
    fn no_file_and_no_step_are_no_training() {
        assert_eq!(Curve::read(Path::new("/nowhere/metrics.jsonl")).unwrap(), None);
        assert_eq!(curve("\n"), None);
    }
}
