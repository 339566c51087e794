//! How numbers from 0 to 1 are spread, told from what one pass keeps of them.

use serde::Serialize;

/// Fields of the histogram. A quantile is told by the middle of its field, so within half of 1 / 4096.
const FIELDS: usize = 4096;

/// How a head's weights are spread over the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation: of these tokens, not an estimate for others.
    pub deviation: f64,
    /// The least.
    pub minimum: f64,
    /// The 5 % quantile, to 1 / 8192, like those below.
    pub p05: f64,
    /// The median.
    pub median: f64,
    /// The 95 % quantile.
    pub p95: f64,
    /// The greatest.
    pub maximum: f64,
}

/// Counts and moments of numbers from 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    count: u64,
    mean: f64,
    /// Squared distances from the mean, summed.
    around: f64,
    ends: (f64, f64),
    fields: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { count: 0, mean: 0.0, around: 0.0, ends: (f64::INFINITY, f64::NEG_INFINITY), fields: vec![0; FIELDS] }
    }
}

impl Tally {
    pub(super) fn add(&mut self, values: &[f32]) {
        for value in values.iter().map(|value| f64::from(*value)) {
            // Welford's way: the sum of squares less the square of the sum would lose a small spread around a large mean.
            self.count += 1;
            let before = value - self.mean;
            self.mean += before / self.count as f64;
            self.around += before * (value - self.mean);
            self.ends = (self.ends.0.min(value), self.ends.1.max(value));
            self.fields[((value * FIELDS as f64) as usize).min(FIELDS - 1)] += 1;
        }
    }

    pub(super) fn spread(&self) -> Spread {
        let [p05, median, p95] = [0.05, 0.5, 0.95].map(|share| self.quantile(share));
        Spread {
            mean: self.mean,
            deviation: (self.around / self.count.max(1) as f64).sqrt(),
            minimum: self.ends.0,
            p05,
            median,
            p95,
            maximum: self.ends.1,
        }
    }

    /// The least value that this share of all doesn't exceed, told by the middle of its field.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = ((share * self.count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let field = self.fields.iter().position(|count| {
            below += count;
            below >= wanted
        });
        let middle = (field.unwrap_or(FIELDS - 1) as f64 + 0.5) / FIELDS as f64;
        // The ends are known exactly.
        middle.max(self.ends.0).min(self.ends.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f32]) -> Spread {
        let mut tally = Tally::default();
        // In two parts, as batches come.
        let (first, second) = values.split_at(values.len() / 3);
        tally.add(first);
        tally.add(second);
        tally.spread()
    }

    #[test]
    fn figures_are_those_of_the_sorted_values() {
        let values: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 / 1000.0).collect();
        let found = spread(&values);
        let exact = [
            (found.mean, 0.4995),
            (found.deviation, (999_999.0f64 / 12.0).sqrt() / 1000.0),
            (found.minimum, 0.0),
            (found.maximum, f64::from(0.999f32)),
        ];
        for (found, expected) in exact {
            assert!((found - expected).abs() < 1e-7, "{found}, expected {expected}");
        }
        // The 50th, 500th and 950th of 1,000.
        for (found, expected) in [(found.p05, 0.049), (found.median, 0.499), (found.p95, 0.949)] {
            assert!((found - expected).abs() <= 0.5 / FIELDS as f64 + 1e-7, "{found}, expected {expected}");
        }
    }

    #[test]
    fn saturated_and_equal_weights_are_told_exactly() {
        let one = spread(&[1.0; 9]);
        assert_eq!((one.mean, one.deviation, one.minimum, one.median, one.maximum), (1.0, 0.0, 1.0, 1.0, 1.0));
        let zero = spread(&[0.0]);
        assert_eq!((zero.p05, zero.median, zero.p95), (0.0, 0.0, 0.0));
        // A small spread around a large mean.
        let near: Vec<f32> = (0..1000).map(|i| if i % 2 == 0 { 0.75 } else { 0.750_001 }).collect();
        let deviation = spread(&near).deviation;
        assert!((deviation / 0.5e-6 - 1.0).abs() < 0.1, "{deviation}");
    }
}
