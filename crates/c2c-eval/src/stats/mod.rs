//! Statistics of right and wrong answers: how sure an accuracy is, and whether one method beats another.
//!
//! Two methods that answered the same questions are compared question by question: the interval of the difference comes
//! from resampling questions with both answers kept together (the paired bootstrap), and the p-value from the questions
//! on which the methods disagree. Nothing is drawn but some intervals of graded scores ([`mean`]), by one fixed seed: the same
//! answers give the same figures.

mod bootstrap;
pub mod mean;

use serde::{Deserialize, Serialize};

pub use mean::Interval;

/// The 97.5 % quantile of the standard normal distribution: intervals hold 95 %.
const Z_95: f64 = 1.959_963_984_540_054;

/// What the figures of this module are, in words; summaries carry them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Methods {
    /// How the interval of an accuracy is made.
    pub accuracy_interval: String,
    /// How the interval of a difference is made.
    pub difference_interval: String,
    /// How a p-value is made.
    pub p_value: String,
    /// How the interval of a mean of graded scores is made, and what the p-value is of; nothing if no answer is graded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<String>,
}

impl Methods {
    /// What is done where answers are graded.
    pub fn with_scores(interval: Interval) -> Self {
        Self { scores: Some(interval.words()), ..Self::default() }
    }
}

impl Default for Methods {
    /// What this version does.
    fn default() -> Self {
        Self {
            accuracy_interval: "Wilson, 95 %".to_owned(),
            difference_interval: "paired bootstrap, exact distribution, percentile, 95 %".to_owned(),
            p_value: "McNemar, exact binomial, two-sided".to_owned(),
            scores: None,
        }
    }
}

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

    /// The mean of scores from 0 to 1. If each is 0 or 1 this is [`Accuracy::of`]; else the interval is that of
    /// [`mean::interval`], and `correct` counts full scores.
    pub fn of_scores(scores: &[f64]) -> Self {
        Self::of_scores_by(Interval::default(), scores)
    }

    /// As [`Accuracy::of_scores`], with the interval of graded scores made in this way.
    pub fn of_scores_by(interval: Interval, scores: &[f64]) -> Self {
        let correct = scores.iter().filter(|score| **score >= 1.0).count();
        if scores.iter().all(|score| *score == 0.0 || *score == 1.0) {
            return Self::new(correct, scores.len());
        }
        let (low, high) = interval.of(scores);
        Self { correct, total: scores.len(), accuracy: mean::mean(scores), low, high }
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
    /// Questions that only the first method answered right, or better.
    pub only_first: usize,
    /// Questions that only the second method answered right, or better.
    pub only_second: usize,
    /// [`mcnemar_exact`] of the two.
    pub p_value: f64,
}

impl PairedDifference {
    /// Compares two methods, given for each question whether the method answered it right.
    ///
    /// The interval is the percentile interval of the paired bootstrap: of all ways to draw as many questions with
    /// replacement, the middle 95 %. Their distribution is computed, not sampled, so it has no noise of its own and
    /// needs no seed.
    ///
    /// # Errors
    ///
    /// Fails when there are no questions, or not the same number for both methods.
    pub fn new(first: &[bool], second: &[bool]) -> Result<Self, StatsError> {
        Overlap::of(first, second)?.paired()
    }

    /// The same of scores from 0 to 1. If each is 0 or 1 this is [`PairedDifference::new`]; else the interval is that
    /// of [`mean::interval`] over the differences, and the p-value the sign test's: of the questions on which the
    /// methods differ, however much.
    ///
    /// # Errors
    ///
    /// As [`PairedDifference::new`].
    pub fn of_scores(first: &[f64], second: &[f64]) -> Result<Self, StatsError> {
        Self::of_scores_by(Interval::default(), first, second)
    }

    /// As [`PairedDifference::of_scores`], with the interval of graded scores made in this way.
    ///
    /// # Errors
    ///
    /// As [`PairedDifference::new`].
    pub fn of_scores_by(interval: Interval, first: &[f64], second: &[f64]) -> Result<Self, StatsError> {
        if first.len() != second.len() {
            return Err(StatsError::UnequalLengths { expected: first.len(), found: second.len() });
        }
        if first.iter().chain(second).all(|score| *score == 0.0 || *score == 1.0) {
            let right = |scores: &[f64]| scores.iter().map(|score| *score == 1.0).collect::<Vec<bool>>();
            return Self::new(&right(first), &right(second));
        }
        let differences: Vec<f64> = first.iter().zip(second).map(|(first, second)| first - second).collect();
        let (low, high) = interval.of(&differences);
        let only_first = differences.iter().filter(|difference| **difference > 0.0).count();
        let only_second = differences.iter().filter(|difference| **difference < 0.0).count();
        Ok(Self {
            total: first.len(),
            difference: mean::mean(&differences),
            low,
            high,
            only_first,
            only_second,
            p_value: mcnemar_exact(only_first, only_second),
        })
    }
}

/// How two methods' right answers lie to each other: each question is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overlap {
    /// Questions that both methods answered right.
    pub both: usize,
    /// Questions that only the first method answered right.
    pub only_first: usize,
    /// Questions that only the second method answered right.
    pub only_second: usize,
    /// Questions that neither method answered right.
    pub neither: usize,
}

impl Overlap {
    /// Counts, given for each question whether the method answered it right.
    ///
    /// # Errors
    ///
    /// Fails when the methods have not answered the same number of questions.
    pub fn of(first: &[bool], second: &[bool]) -> Result<Self, StatsError> {
        if first.len() != second.len() {
            return Err(StatsError::UnequalLengths { expected: first.len(), found: second.len() });
        }
        let mut overlap = Self::default();
        for (first, second) in first.iter().zip(second) {
            *match (first, second) {
                (true, true) => &mut overlap.both,
                (true, false) => &mut overlap.only_first,
                (false, true) => &mut overlap.only_second,
                (false, false) => &mut overlap.neither,
            } += 1;
        }
        Ok(overlap)
    }

    /// Questions.
    pub fn total(&self) -> usize {
        self.both + self.only_first + self.only_second + self.neither
    }

    /// Questions that at least one of the methods answered right.
    pub fn either(&self) -> usize {
        self.total() - self.neither
    }

    /// The paired difference of the two methods, as [`PairedDifference::new`].
    ///
    /// # Errors
    ///
    /// Fails when there are no questions.
    pub fn paired(&self) -> Result<PairedDifference, StatsError> {
        let total = self.total();
        if total == 0 {
            return Err(StatsError::NoQuestions);
        }
        let (low, high) = bootstrap::interval(total, self.only_first, self.only_second);
        Ok(PairedDifference {
            total,
            difference: (self.only_first as f64 - self.only_second as f64) / total as f64,
            low,
            high,
            only_first: self.only_first,
            only_second: self.only_second,
            p_value: mcnemar_exact(self.only_first, self.only_second),
        })
    }
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
mod tests;
