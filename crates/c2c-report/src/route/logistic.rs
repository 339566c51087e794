//! Logistic regression on sparse features, by accelerated gradient descent on all examples at once: nothing is drawn, so
//! the same records give the same router.

use super::features::{BUCKETS, Features};
use super::penalty::best_penalty;

/// Steps of gradient descent at most.
const STEPS: usize = 500;
/// The gradient's length at which descent ends.
const SMALL: f64 = 1e-7;
/// Strengths of the penalty that are tried.
const PENALTIES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// An example: what a question looks like, and whether it needs the strong model.
pub(super) type Example<'a> = (&'a Features, bool);

/// The weights; the last one is the bias.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logistic {
    weights: Vec<f64>,
    /// Strength of the quadratic penalty on all weights but the bias.
    pub(super) penalty: f64,
}

impl Logistic {
    /// Fits with the penalty that predicts best what is left out.
    pub(super) fn fit(examples: &[Example<'_>]) -> Self {
        let penalty = best_penalty(examples, &PENALTIES, Self::with_penalty, |fitted, example| fitted.loss(example));
        Self::with_penalty(examples, penalty)
    }

    fn with_penalty(examples: &[Example<'_>], penalty: f64) -> Self {
        let mut fitted = Self { weights: vec![0.0; BUCKETS + 1], penalty };
        if examples.is_empty() {
            return fitted;
        }
        // The loss bends by at most a quarter of the squared length of an example, which is 2 with the bias.
        let step = 1.0 / (0.5 + penalty);
        let mut last = fitted.weights.clone();
        let mut momentum: f64 = 1.0;
        for _ in 0..STEPS {
            let gradient = fitted.gradient(examples);
            if gradient.iter().map(|g| g * g).sum::<f64>().sqrt() < SMALL {
                break;
            }
            let next_momentum = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
            let carry = (momentum - 1.0) / next_momentum;
            for ((weight, last), gradient) in fitted.weights.iter_mut().zip(&mut last).zip(gradient) {
                let moved = *weight - step * gradient;
                *weight = moved + carry * (moved - *last);
                *last = moved;
            }
            momentum = next_momentum;
        }
        fitted.weights = last;
        fitted
    }

    fn gradient(&self, examples: &[Example<'_>]) -> Vec<f64> {
        let share = 1.0 / examples.len() as f64;
        let mut gradient: Vec<f64> = self.weights.iter().map(|weight| self.penalty * weight).collect();
        gradient[BUCKETS] = 0.0;
        for (features, needed) in examples {
            let error = (self.score(features) - f64::from(u8::from(*needed))) * share;
            features.iter().for_each(|(bucket, amount)| gradient[*bucket] += error * amount);
            gradient[BUCKETS] += error;
        }
        gradient
    }

    /// The probability that the strong model is needed.
    pub(super) fn score(&self, features: &Features) -> f64 {
        let sum: f64 = features.iter().map(|(bucket, amount)| self.weights[*bucket] * amount).sum();
        1.0 / (1.0 + (-(sum + self.weights[BUCKETS])).exp())
    }

    fn loss(&self, (features, needed): Example<'_>) -> f64 {
        let score = self.score(features);
        -(if needed { score } else { 1.0 - score }).max(f64::MIN_POSITIVE).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::super::features::features;
    use super::*;

    #[test]
    fn a_fit_is_where_no_weight_can_be_moved_for_the_better() {
        let texts: Vec<Features> =
            (0..60).map(|n| features(&format!("word{} of {}", n % 7, ["iron", "lead", "gold"][n % 3]))).collect();
        let examples: Vec<Example<'_>> =
            texts.iter().enumerate().map(|(n, text)| (text, n % 3 == 0 || n % 7 == 2)).collect();
        let fitted = Logistic::with_penalty(&examples, 1e-2);
        let gradient = fitted.gradient(&examples);
        assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{:?}", gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs())));
        // With a free bias the mean score is the share of those that need it.
        let mean = examples.iter().map(|(text, _)| fitted.score(text)).sum::<f64>() / 60.0;
        let share = examples.iter().filter(|(_, needed)| *needed).count() as f64 / 60.0;
        assert!((mean - share).abs() < 1e-6, "{mean} {share}");
        let score = |text: &str| fitted.score(&features(text));
        assert!(score("word1 of iron") > 0.5 && score("word1 of lead") < 0.5);
    }

    #[test]
    fn what_cannot_be_told_is_not_learnt() {
        // The need has nothing to do with the words: the strongest penalty predicts best.
        let texts: Vec<Features> = (0..40).map(|n| features(&format!("a b{n}"))).collect();
        let examples: Vec<Example<'_>> =
            texts.iter().enumerate().map(|(n, text)| (text, (n * 7 / 3) % 2 == 0)).collect();
        let fitted = Logistic::fit(&examples);
        assert_eq!(fitted.penalty, 1.0);
        assert_eq!(Logistic::fit(&examples), fitted);
        assert_eq!(Logistic::fit(&[]).score(&texts[0]), 0.5);
    }
}
