//! Learning rates: linear warm-up from 0, then linear, cosine or constant.
//!
//! Step `k`, counted from 1, uses the rate at `k - 1`: with warm-up the first step has rate 0, as in the reference
//! implementation (and the scheduler it uses).

use burn::lr_scheduler::LrScheduler;
use burn::tensor::backend::Backend;

/// The shape after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleShape {
    /// Down to 0 at the last step.
    Linear,
    /// Half a cosine down to 0.
    Cosine,
    /// Stays.
    Constant,
}

/// A schedule over a known number of optimiser steps.
#[derive(Clone, Debug)]
pub struct Schedule {
    shape: ScheduleShape,
    peak: f64,
    warmup: usize,
    total: usize,
    taken: usize,
}

impl Schedule {
    /// A schedule of `total` steps, of which `warmup` rise to `peak`.
    pub fn new(shape: ScheduleShape, peak: f64, warmup: usize, total: usize) -> Self {
        Self { shape, peak, warmup, total, taken: 0 }
    }

    /// The rate of the step taken after `taken` steps.
    pub fn rate(&self, taken: usize) -> f64 {
        if taken < self.warmup {
            return self.peak * taken as f64 / self.warmup as f64;
        }
        let left = self.total.saturating_sub(self.warmup).max(1);
        let share = ((taken - self.warmup) as f64 / left as f64).min(1.0);
        match self.shape {
            ScheduleShape::Constant => self.peak,
            ScheduleShape::Linear => self.peak * (1.0 - share),
            ScheduleShape::Cosine => self.peak * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
        }
    }
}

impl LrScheduler for Schedule {
    type Record<B: Backend> = usize;

    fn step(&mut self) -> f64 {
        let rate = self.rate(self.taken);
        self.taken += 1;
        rate
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.taken
    }

    fn load_record<B: Backend>(mut self, taken: usize) -> Self {
        self.taken = taken;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_from_zero_and_ends_near_zero() {
        let mut s = Schedule::new(ScheduleShape::Linear, 1.0, 2, 10);
        let rates: Vec<f64> = (0..10).map(|_| s.step()).collect();
        assert_eq!(rates[..3], [0.0, 0.5, 1.0]);
        assert!((rates[9] - 0.125).abs() < 1e-12);
        assert!(rates[2..].windows(2).all(|w| w[1] < w[0]));
    }

    #[test]
    fn shapes_differ_after_the_warm_up_only() {
        let rate = |shape, taken| Schedule::new(shape, 2.0, 4, 8).rate(taken);
        for taken in 0..=4 {
            assert_eq!(rate(ScheduleShape::Linear, taken), rate(ScheduleShape::Constant, taken));
        }
        assert_eq!(rate(ScheduleShape::Constant, 7), 2.0);
        assert_eq!(rate(ScheduleShape::Linear, 6), 1.0);
        assert!((rate(ScheduleShape::Cosine, 6) - 1.0).abs() < 1e-12);
    }
}
