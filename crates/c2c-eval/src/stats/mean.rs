//! The mean of graded scores and its interval.
//!
//! Scores between 0 and 1 have no distribution that is known beforehand, so the interval is that of the bootstrap (B.
//! Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3): resamples of as many scores,
//! drawn with replacement; the middle 95 % of their means. The draws are those of one fixed seed, so that an interval
//! can be made again from the records.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Resamples of an interval.
pub const RESAMPLES: usize = 10_000;

/// Seed of the draws. Any number would do; it must only stay the same.
const SEED: u64 = 0;

/// What lies outside the interval on either side.
const TAIL: f64 = 0.025;

/// The mean; 0 of nothing.
pub fn mean(scores: &[f64]) -> f64 {
    if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
}

/// The ends of the 95 % percentile interval of the mean; 0 and 1 of nothing.
pub fn interval(scores: &[f64]) -> (f64, f64) {
    if scores.is_empty() {
        return (0.0, 1.0);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = (0..scores.len()).map(|_| scores[rng.random_range(0..scores.len())]).sum();
            sum / scores.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let cut = (TAIL * RESAMPLES as f64) as usize;
    (means[cut], means[RESAMPLES - 1 - cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_have_no_width() {
        assert_eq!(interval(&[0.25; 9]), (0.25, 0.25));
        assert_eq!((mean(&[]), interval(&[])), (0.0, (0.0, 1.0)));
    }

    #[test]
    fn the_interval_is_as_wide_as_the_normal_one_for_many_scores() {
        // Scores 0, 0.01, ..., 1, ten times each: mean 0.5, standard deviation 0.2915.
        let scores: Vec<f64> = (0..1010).map(|place| f64::from(place % 101) / 100.0).collect();
        let (low, high) = interval(&scores);
        let half = 1.959_964 * (0.085 / 1010.0f64).sqrt();
        assert!((low - (0.5 - half)).abs() < 0.001 && (high - (0.5 + half)).abs() < 0.001, "{low} {high} {half}");
        assert_eq!(interval(&scores), (low, high));
    }
}
