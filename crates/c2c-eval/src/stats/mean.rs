//! The mean of graded scores and its interval.
//!
//! Scores between 0 and 1 have no distribution that is known beforehand, so the interval is that of the bootstrap (B.
//! Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3): resamples of as many scores, drawn
//! with replacement; the middle 95 % of their means.
//!
//! Their distribution is computed where it can be (section 5.2 calls that the ideal bootstrap). The sum of a resample is a
//! sum of `n` independent draws, so its characteristic function is that of one draw to the power of `n`. By the central
//! limit theorem that is as good as 0 but for the slowest few dozen frequencies, and the sum over these is the distribution.
//! Where it isn't (few scores, or few that differ), a resample takes few values and drawing is cheap: then
//! [`RESAMPLES`] are drawn, by one fixed seed, so that an interval can be made again from the records.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// Resamples of an interval that is drawn.
pub const RESAMPLES: usize = 10_000;

/// Seed of the draws. Any number would do; it must only stay the same.
const SEED: u64 = 0;

/// What lies outside the interval on either side.
const TAIL: f64 = 0.025;

/// The distribution is computed over so many of its standard deviations. What lies outside is less than rounding.
const WINDOW: f64 = 16.0;

/// Frequencies that are computed. Of a normal distribution the 23rd is the last above 1e-17.
const FREQUENCIES: usize = 64;

/// The frequencies from here on must be as good as 0.
const SMOOTH_FROM: usize = 32;

/// What is as good as 0: far less than the tails that are looked for.
const NOTHING: f64 = 1e-9;

/// Halvings of half the window: to less than a rounding.
const HALVINGS: usize = 60;

/// Twelve digits of an end are kept.
const DIGITS: f64 = 1e12;

/// The first version of the figures with [`Interval::Computed`].
const COMPUTED_SINCE: u32 = 3;

/// How the bootstrap of a mean is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Its distribution is computed where it is smooth, else drawn.
    #[default]
    Computed,
    /// Always drawn, as figures before format 3 have it.
    Drawn,
}

impl Interval {
    /// That of a version of the figures, [`SUMMARY_FORMAT`](crate::SUMMARY_FORMAT).
    pub fn of_format(format: u32) -> Self {
        if format < COMPUTED_SINCE { Self::Drawn } else { Self::Computed }
    }

    /// What it is, in words, as summaries have it.
    pub(super) fn words(self) -> String {
        match self {
            Self::Computed => format!(
                "bootstrap of the mean, distribution computed, or {RESAMPLES} resamples where it isn't smooth, percentile, \
                 95 %; p of the signs"
            ),
            Self::Drawn => format!("bootstrap of the mean, {RESAMPLES} resamples, percentile, 95 %; p of the signs"),
        }
    }

    /// The ends of the 95 % percentile interval of the mean; 0 and 1 of nothing.
    pub fn of(self, scores: &[f64]) -> (f64, f64) {
        if scores.is_empty() {
            return (0.0, 1.0);
        }
        let computed = match self {
            Self::Computed => computed(scores),
            Self::Drawn => None,
        };
        computed.unwrap_or_else(|| drawn(scores))
    }
}

/// The mean; 0 of nothing.
pub fn mean(scores: &[f64]) -> f64 {
    if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
}

/// The ends of the 95 % percentile interval of the mean; 0 and 1 of nothing.
pub fn interval(scores: &[f64]) -> (f64, f64) {
    Interval::default().of(scores)
}

fn drawn(scores: &[f64]) -> (f64, f64) {
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

/// The same by the distribution of the resampled mean; none where that isn't smooth.
fn computed(scores: &[f64]) -> Option<(f64, f64)> {
    let n = scores.len() as f64;
    let centre = mean(scores);
    let variance = scores.iter().map(|score| (score - centre).powi(2)).sum::<f64>() / n;
    if variance == 0.0 {
        return Some((centre, centre));
    }
    // The frequencies of a window of the sum, less its expectation; a draw turns by `step` times its score in the first.
    let window = WINDOW * (variance * n).sqrt();
    let step = std::f64::consts::TAU / window;
    let mut draw = [(0.0, 0.0); FREQUENCIES];
    for score in scores {
        let (turn_im, turn_re) = (step * (score - centre)).sin_cos();
        let (mut re, mut im) = (turn_re, turn_im);
        for sum in &mut draw {
            *sum = (sum.0 + re, sum.1 + im);
            (re, im) = (re * turn_re - im * turn_im, re * turn_im + im * turn_re);
        }
    }
    // To the power of `n`, by length and angle.
    let power = |(re, im): (f64, f64)| {
        let (length, angle) = ((re / n).hypot(im / n), im.atan2(re));
        (length.powf(n), angle * n)
    };
    let sum = draw.map(power);
    if sum[SMOOTH_FROM..].iter().any(|(length, _)| *length > NOTHING) {
        return None;
    }
    let sum = &sum[..SMOOTH_FROM];
    let low = quantile(sum, 1.0);
    let high = -quantile(sum, -1.0);
    // Sines differ from machine to machine in their last bit; what is verified elsewhere mustn't.
    let rounded = |end: f64| (end * DIGITS).round() / DIGITS;
    Some((rounded(centre + low * window / n), rounded(centre + high * window / n)))
}

/// Where the distribution function reaches [`TAIL`], in windows from the middle. With a `sign` of -1 that of the negated sum:
/// so changing two methods' places only changes the signs.
fn quantile(sum: &[(f64, f64)], sign: f64) -> f64 {
    let tau = std::f64::consts::TAU;
    // The integral of the density 1 + 2 * sum(length * cos(tau k y - angle)) from -1/2 to y.
    let below = |y: f64| {
        let waves = sum.iter().enumerate().map(|(place, (length, angle))| {
            let k = (place + 1) as f64;
            let at = |y: f64| (tau * k * y - sign * angle).sin();
            length / (std::f64::consts::PI * k) * (at(y) - at(-0.5))
        });
        y + 0.5 + waves.sum::<f64>()
    };
    let (mut low, mut high) = (-0.5, 0.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if below(middle) < TAIL { low = middle } else { high = middle }
    }
    high
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
        assert!((low - (0.5 - half)).abs() < 1e-5 && (high - (0.5 + half)).abs() < 1e-5, "{low} {high} {half}");
        assert_eq!(interval(&scores), (low, high));
    }

    /// Skewed scores of many kinds: what is computed is what drawing comes to, within four of its own standard errors.
    #[test]
    fn computed_intervals_are_what_resampling_comes_to() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for (n, power) in [(40, 1.0), (150, 6.0), (400, 0.2), (1200, 3.0)] {
            let scores: Vec<f64> = (0..n).map(|_| rng.random::<f64>().powf(power)).collect();
            let (low, high) = computed(&scores).unwrap_or((f64::NAN, f64::NAN));
            let expected = drawn(&scores);
            let centre = mean(&scores);
            let sd = (scores.iter().map(|score| (score - centre).powi(2)).sum::<f64>() / n as f64 / n as f64).sqrt();
            // The standard error of a 2.5 % quantile of 10,000 draws, as in the test of the exact bootstrap.
            let error = 4.0 * (0.025f64 * 0.975 / RESAMPLES as f64).sqrt() / 0.0584 * sd;
            assert!((low - expected.0).abs() < error, "{n}: {low} {expected:?} {error}");
            assert!((high - expected.1).abs() < error, "{n}: {high} {expected:?} {error}");
            assert!(low < centre && centre < high);
        }
    }

    #[test]
    fn changing_places_changes_the_signs() {
        let differences: Vec<f64> = (0..500).map(|place| f64::from(place * 37 % 101) / 80.0 - 0.5).collect();
        let negated: Vec<f64> = differences.iter().map(|difference| -difference).collect();
        let (low, high) = interval(&differences);
        assert_eq!(interval(&negated), (-high, -low));
    }

    #[test]
    fn what_is_not_smooth_is_drawn() {
        // One score of thirty: its number in a resample is 0, 1, 2 and so on.
        let mut scores = vec![0.0; 30];
        scores[0] = 0.5;
        assert_eq!(computed(&scores), None);
        assert_eq!(interval(&scores), drawn(&scores));
        assert_eq!(interval(&scores).0, 0.0);
    }

    #[test]
    fn figures_before_format_3_are_drawn() {
        let scores: Vec<f64> = (0..200).map(|place| f64::from(place % 17) / 17.0).collect();
        assert_eq!(Interval::of_format(2).of(&scores), drawn(&scores));
        assert_eq!(Interval::of_format(3).of(&scores), interval(&scores));
        assert_ne!(interval(&scores), drawn(&scores));
    }
}
