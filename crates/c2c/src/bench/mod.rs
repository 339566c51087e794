//! The benchmark: a pair of any shape with random weights, the work that users wait for, and the machine's limits.

mod floor;
mod limits;
mod work;

pub use floor::{Floor, Shapes};
pub use limits::{Limits, measure};
pub use work::{Bench, Work};

use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::{Dispatch, DispatchDevice};

/// The receiver that is benchmarked if none is named: the shape of Qwen3-0.6B.
pub const RECEIVER: &str = include_str!("qwen3-0.6b.json");
/// The sharer that is benchmarked if none is named: the shape of Qwen2.5-0.5B.
pub const SHARER: &str = include_str!("qwen2.5-0.5b.json");

/// What was measured of one piece of work, or why there is nothing.
pub type Measured = Result<Row, Failed>;

/// A piece of work that failed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Failed {
    /// What was to be done.
    pub work: String,
    /// Why it wasn't.
    pub error: String,
}

/// What was measured of one piece of work, in milliseconds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// What was done.
    pub work: String,
    /// The first time, with everything that is compiled or allocated then.
    pub first_ms: f64,
    /// The middle of the repeats.
    pub median_ms: f64,
    /// The fastest repeat.
    pub best_ms: f64,
    /// The slowest repeat.
    pub worst_ms: f64,
    /// The middle of the times until the host had handed everything to the device: where it is near the median, the host
    /// is what the work waits for.
    pub host_ms: f64,
    /// The least time that this machine could need.
    pub floor_ms: f64,
    /// The median over the floor.
    pub times_floor: f64,
    /// Repeats.
    pub repeats: usize,
    /// Memory by the end of this row, in GiB: of a GPU what this process's pool holds, of the CPU the most that the process
    /// has held so far; where the backend or the operating system tells.
    pub memory_gib: Option<f64>,
}

/// Waits until the device has done everything.
pub fn wait(device: &DispatchDevice) -> anyhow::Result<()> {
    Dispatch::sync(device).map_err(|e| anyhow::anyhow!("the device failed: {e:?}"))
}

/// Times work: once cold, twice unmeasured, then `repeats` times, each prepared before the clock starts and waited for. `scale`
/// divides, for work that does several of what a row counts.
pub fn time(
    device: &DispatchDevice,
    name: String,
    repeats: usize,
    scale: f64,
    floor: Floor,
    limits: &Limits,
    work: &mut dyn Work,
) -> anyhow::Result<Row> {
    const WARM_UP: usize = 2;
    let mut once = || -> anyhow::Result<(f64, f64)> {
        work.prepare()?;
        wait(device)?;
        let start = Instant::now();
        let ms = || start.elapsed().as_secs_f64() * 1000.0 / scale;
        work.run()?;
        let host = ms();
        wait(device)?;
        Ok((ms(), host))
    };
    let first_ms = once()?.0;
    for _ in 0..WARM_UP {
        once()?;
    }
    let runs = (0..repeats.max(1)).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut times, mut hosts): (Vec<f64>, Vec<f64>) = runs.into_iter().unzip();
    times.sort_by(f64::total_cmp);
    hosts.sort_by(f64::total_cmp);
    let median_ms = times[times.len() / 2];
    let floor_ms = floor.milliseconds(limits);
    Ok(Row {
        work: name,
        first_ms,
        median_ms,
        best_ms: times[0],
        worst_ms: times[times.len() - 1],
        host_ms: hosts[hosts.len() / 2],
        floor_ms,
        times_floor: median_ms / floor_ms,
        repeats: times.len(),
        memory_gib: limits::memory_gib(device),
    })
}
