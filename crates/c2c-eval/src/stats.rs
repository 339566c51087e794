//! Statistics of right and wrong answers: how sure an accuracy is, and whether one method beats another.
//!
//! Two methods that answered the same questions are compared question by question: the interval of the difference comes
//! from resampling questions with both answers kept together, and the p-value from the questions on which the methods
//! disagree. Everything is deterministic; resampling takes a seed.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution: intervals hold 95 %.
const Z_95: f64 = 1.959_963_984_540_054;

/// How often [`PairedDifference::new`] resamples.
pub const BOOTSTRAP_RESAMPLES: usize = 10_000;

/// Why a comparison cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// The two methods have not answered the same questions.
    #[error(
        "expected as many answers of the second method as of the first ({expected}), found {found}; \
         compare methods on the same questions"
    )]
    UnequalLengths {
        /// The answers of the first method.
        expected: usize,
        /// The answers of the second method.
        found: usize,
    },
    /// There is nothing to compare.
    #[error("expected at least one question to compare on, found none; raise the limit or check the filter")]
    NoQuestions,
}

/// An accuracy with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Right answers.
    pub correct: usize,
    /// Questions.
    pub total: usize,
    /// `correct / total`; 0 when there are no questions.
    pub accuracy: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Accuracy {
    /// The accuracy of `correct` right answers to `total` questions, with [`wilson_interval`].
    pub fn new(correct: usize, total: usize) -> Self {
        let (low, high) = wilson_interval(correct, total);
        let accuracy = if total == 0 { 0.0 } else { correct as f64 / total as f64 };
        Self { correct, total, accuracy, low, high }
    }

    /// The accuracy of answers, each right or wrong.
    pub fn of(answers: &[bool]) -> Self {
        Self::new(answers.iter().filter(|right| **right).count(), answers.len())
    }
}

/// Wilson's 95 % interval for a proportion (E. B. Wilson, 1927), within 0 and 1. Without questions it is all of that.
pub fn wilson_interval(correct: usize, total: usize) -> (f64, f64) {
    if total == 0 {
        return (0.0, 1.0);
    }
    let n = total as f64;
    let p = correct as f64 / n;
    let z2 = Z_95 * Z_95;
    let scale = 1.0 + z2 / n;
    let centre = (p + z2 / (2.0 * n)) / scale;
    let half = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / scale;
    // At the ends the interval touches 0 or 1 exactly; rounding must not move it off.
    let low = if correct == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if correct == total { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

/// How two methods compare on the same questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Questions.
    pub total: usize,
    /// Accuracy of the first method less that of the second.
    pub difference: f64,
    /// The lower end of the difference's 95 % interval.
    pub low: f64,
    /// The upper end of the difference's 95 % interval.
    pub high: f64,
    /// Questions that only the first method answered right.
    pub only_first: usize,
    /// Questions that only the second method answered right.
    pub only_second: usize,
    /// [`mcnemar_exact`] of the two.
    pub p_value: f64,
}

impl PairedDifference {
    /// Compares two methods, given for each question whether the method answered it right.
    ///
    /// The interval is the percentile interval of [`BOOTSTRAP_RESAMPLES`] resamples of the questions.
    ///
    /// # Errors
    ///
    /// Fails when there are no questions, or not the same number for both methods.
    pub fn new(first: &[bool], second: &[bool], seed: u64) -> Result<Self, StatsError> {
        if first.len() != second.len() {
            return Err(StatsError::UnequalLengths { expected: first.len(), found: second.len() });
        }
        if first.is_empty() {
            return Err(StatsError::NoQuestions);
        }
        let differences: Vec<i64> =
            first.iter().zip(second).map(|(first, second)| i64::from(*first) - i64::from(*second)).collect();
        let only_first = differences.iter().filter(|difference| **difference > 0).count();
        let only_second = differences.iter().filter(|difference| **difference < 0).count();
        let (low, high) = bootstrap_interval(&differences, seed);
        Ok(Self {
            total: first.len(),
            difference: (only_first as f64 - only_second as f64) / first.len() as f64,
            low,
            high,
            only_first,
            only_second,
            p_value: mcnemar_exact(only_first, only_second),
        })
    }
}

/// The 2.5 % and 97.5 % quantiles of the mean of resampled values, of which there is at least one.
fn bootstrap_interval(values: &[i64], seed: u64) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sums: Vec<i64> = (0..BOOTSTRAP_RESAMPLES)
        .map(|_| (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum())
        .collect();
    sums.sort_unstable();
    let mean_at = |quantile: f64| {
        // Between the two nearest resamples by straight line, as most statistics packages do.
        let position = quantile * (sums.len() - 1) as f64;
        let below = position.floor() as usize;
        let above = (below + 1).min(sums.len() - 1);
        let sum = sums[below] as f64 + (position - below as f64) * (sums[above] - sums[below]) as f64;
        sum / values.len() as f64
    };
    (mean_at(0.025), mean_at(0.975))
}

/// McNemar's exact two-sided p-value: the probability, if both methods were equally good, that the questions on which
/// they disagree are shared out at least as unevenly as they are.
///
/// `only_first` and `only_second` count the questions that only one method answered right. The value is twice the
/// binomial tail, at most 1.
pub fn mcnemar_exact(only_first: usize, only_second: usize) -> f64 {
    let n = only_first + only_second;
    let fewer = only_first.min(only_second);
    // Terms C(n, k) / 2^n in logarithms, so that thousands of questions neither overflow nor vanish.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for k in 1..=fewer {
        log_term += ((n - k + 1) as f64 / k as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn assert_close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
    }

    #[test]
    fn wilson_interval_is_where_the_score_test_turns() {
        // The defining property, checked without the closed formula: at an end p0, |p - p0| is z standard errors of p0.
        for (correct, total) in [(1, 3), (30, 100), (81, 263), (287, 288), (1, 1000)] {
            let p = correct as f64 / total as f64;
            let (low, high) = wilson_interval(correct, total);
            assert!(low < p && p < high);
            for end in [low, high] {
                let standard_error = (end * (1.0 - end) / total as f64).sqrt();
                assert_close((p - end).abs() / standard_error, Z_95, 1e-9);
            }
        }
    }

    #[test]
    fn wilson_interval_of_known_cases() {
        // Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (correct, total, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = wilson_interval(correct, total);
            assert_close(found.0, low, 5e-5);
            assert_close(found.1, high, 5e-5);
        }
        assert_eq!(wilson_interval(0, 0), (0.0, 1.0));
        assert_eq!(wilson_interval(20, 20).1, 1.0);
        assert_eq!(wilson_interval(0, 20).0, 0.0);
    }

    #[test]
    fn accuracy_counts() {
        let accuracy = Accuracy::of(&[true, false, true, true]);
        assert_eq!((accuracy.correct, accuracy.total, accuracy.accuracy), (3, 4, 0.75));
        assert_eq!(accuracy, Accuracy::new(3, 4));
        assert_eq!(Accuracy::new(0, 0).accuracy, 0.0);
        let json = serde_json::to_value(accuracy).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["correct", "total", "accuracy", "low", "high"]);
    }

    #[test]
    fn mcnemar_of_small_counts_by_hand() {
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(3, 3), 1.0);
        assert_close(mcnemar_exact(5, 0), 2.0 / 32.0, 1e-12);
        assert_close(mcnemar_exact(0, 5), 2.0 / 32.0, 1e-12);
        // 2 * (1 + 10 + 45) / 1024
        assert_close(mcnemar_exact(2, 8), 112.0 / 1024.0, 1e-12);
    }

    #[test]
    fn mcnemar_of_many_questions_is_exact() {
        // From the binomial coefficients in whole numbers; the normal approximation gives 0.01242.
        assert_close(mcnemar_exact(5126, 4875), 0.012_419_878_312_892_698, 1e-11);
        let extreme = mcnemar_exact(2000, 0);
        assert!((0.0..1e-300).contains(&extreme));
    }

    #[test]
    fn paired_difference_of_a_clear_gain() {
        let first: Vec<bool> = (0..200).map(|index| index % 10 != 0).collect();
        let second: Vec<bool> = (0..200).map(|index| index % 2 == 0).collect();
        let paired = PairedDifference::new(&first, &second, 7).unwrap();
        // First alone: the 100 odd questions. Second alone: the 20 that ten divides.
        assert_eq!((paired.only_first, paired.only_second, paired.total), (100, 20, 200));
        assert_close(paired.difference, 0.4, 1e-12);
        // Standard error of the mean of +1 (100), -1 (20), 0 (80): sqrt((0.6 - 0.16) / 200).
        let half = Z_95 * (0.44f64 / 200.0).sqrt();
        assert_close(paired.low, 0.4 - half, 0.01);
        assert_close(paired.high, 0.4 + half, 0.01);
        assert!(paired.p_value < 1e-12);
        assert_eq!(paired, PairedDifference::new(&first, &second, 7).unwrap());
        let turned = PairedDifference::new(&second, &first, 7).unwrap();
        assert_close(turned.difference, -0.4, 1e-12);
        assert_eq!(turned.p_value, paired.p_value);
    }

    #[test]
    fn equal_answers_differ_by_nothing() {
        let answers = [true, false, true];
        let paired = PairedDifference::new(&answers, &answers, 1).unwrap();
        assert_eq!((paired.difference, paired.low, paired.high, paired.p_value), (0.0, 0.0, 0.0, 1.0));
    }

    #[test]
    fn unusable_answers_are_refused() {
        let unequal = PairedDifference::new(&[true], &[], 1).unwrap_err();
        assert_eq!(unequal, StatsError::UnequalLengths { expected: 1, found: 0 });
        assert_eq!(PairedDifference::new(&[], &[], 1).unwrap_err(), StatsError::NoQuestions);
    }
}
