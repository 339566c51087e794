//! Intervals and tests against known cases, by their defining properties, and by how often they hold what is true.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

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
    let paired = PairedDifference::new(&first, &second).unwrap();
    // First alone: the 100 odd questions. Second alone: the 20 that ten divides.
    assert_eq!((paired.only_first, paired.only_second, paired.total), (100, 20, 200));
    assert_close(paired.difference, 0.4, 1e-12);
    // Standard error of the mean of +1 (100), -1 (20), 0 (80): sqrt((0.6 - 0.16) / 200).
    let half = Z_95 * (0.44f64 / 200.0).sqrt();
    assert_close(paired.low, 0.4 - half, 0.01);
    assert_close(paired.high, 0.4 + half, 0.01);
    assert!(paired.p_value < 1e-12);
    assert_eq!(paired, PairedDifference::new(&first, &second).unwrap());
    let turned = PairedDifference::new(&second, &first).unwrap();
    assert_close(turned.difference, -0.4, 1e-12);
    assert_eq!(turned.p_value, paired.p_value);
}

#[test]
fn equal_answers_differ_by_nothing() {
    let answers = [true, false, true];
    let paired = PairedDifference::new(&answers, &answers).unwrap();
    assert_eq!((paired.difference, paired.low, paired.high, paired.p_value), (0.0, 0.0, 0.0, 1.0));
}

#[test]
fn unusable_answers_are_refused() {
    let unequal = PairedDifference::new(&[true], &[]).unwrap_err();
    assert_eq!(unequal, StatsError::UnequalLengths { expected: 1, found: 0 });
    assert_eq!(PairedDifference::new(&[], &[]).unwrap_err(), StatsError::NoQuestions);
}

#[test]
fn overlap_counts_each_question_once() {
    let overlap = Overlap::of(&[true, true, false, false, true], &[true, false, true, false, false]).unwrap();
    assert_eq!(overlap, Overlap { both: 1, only_first: 2, only_second: 1, neither: 1 });
    assert_eq!((overlap.total(), overlap.either()), (5, 4));
}

/// How often the literal bootstrap resamples.
const RESAMPLES: usize = 10_000;

/// The resampling of the textbook, question by question.
fn literal_bootstrap(values: &[i64], seed: u64) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sums: Vec<i64> =
        (0..RESAMPLES).map(|_| (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum()).collect();
    sums.sort_unstable();
    let at = |q: f64| sums[(q * (sums.len() - 1) as f64).round() as usize] as f64 / values.len() as f64;
    (at(0.025), at(0.975))
}

#[test]
fn the_exact_bootstrap_is_what_resampling_comes_to() {
    for (total, only_first, only_second) in [(40, 3, 0), (120, 20, 25), (300, 150, 30), (500, 4, 2)] {
        let mut values = vec![0; total];
        values[..only_first].fill(1);
        values[only_first..only_first + only_second].fill(-1);
        let (low, high) = bootstrap::interval(total, only_first, only_second);
        let literal = literal_bootstrap(&values, 12);
        // A quantile of 10,000 draws has a standard error of sqrt(q (1 - q) / 10000) / density; at the 2.5 % point of a
        // normal distribution the density is 0.0584 / sd. Four of these, and a step of the lattice.
        let mean = (only_first as f64 - only_second as f64) / total as f64;
        let variance = (only_first + only_second) as f64 / total as f64 - mean * mean;
        let sd = (variance / total as f64).sqrt();
        let error = (0.025f64 * 0.975 / RESAMPLES as f64).sqrt() / 0.0584 * sd;
        let tolerance = 4.0 * error + 1.0 / total as f64;
        assert_close(low, literal.0, tolerance);
        assert_close(high, literal.1, tolerance);
    }
}

/// On 1,000 synthetic evaluations each, the share of intervals that hold the accuracy that was planted.
#[test]
fn wilson_intervals_hold_the_truth_in_93_to_97_percent_of_runs() {
    let mut rng = ChaCha8Rng::seed_from_u64(2024);
    for (p, questions) in [(0.25, 288), (0.5, 1000), (0.62, 400), (0.9, 1000), (0.25, 5000)] {
        let held = (0..1000)
            .filter(|_| {
                let answers: Vec<bool> = (0..questions).map(|_| rng.random_bool(p)).collect();
                let accuracy = Accuracy::of(&answers);
                accuracy.low <= p && p <= accuracy.high
            })
            .count();
        assert!((930..=970).contains(&held), "p {p}, {questions} questions: {held} of 1000");
    }
}

/// The same for the paired difference of two methods that share what they know.
#[test]
fn paired_intervals_hold_the_truth_in_93_to_97_percent_of_runs() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    // Chances that both are right, only the first, only the second.
    for (both, first, second, questions) in [(0.3, 0.25, 0.1, 288), (0.5, 0.1, 0.1, 1000), (0.2, 0.05, 0.2, 500)] {
        let truth: f64 = first - second;
        let held = (0..1000)
            .filter(|_| {
                let answers = (0..questions).map(|_| {
                    let u: f64 = rng.random();
                    (u < both + first, u < both || (both + first..both + first + second).contains(&u))
                });
                let (a, b): (Vec<bool>, Vec<bool>) = answers.unzip();
                let paired = PairedDifference::new(&a, &b).unwrap();
                paired.low <= truth && truth <= paired.high
            })
            .count();
        assert!((930..=970).contains(&held), "{both} {first} {second}, {questions} questions: {held} of 1000");
    }
}

/// With nothing to find, McNemar's exact test must not find something more often than it says.
#[test]
fn mcnemar_keeps_its_level() {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let found = (0..1000)
        .filter(|_| {
            let only_first = (0..60).filter(|_| rng.random_bool(0.5)).count();
            mcnemar_exact(only_first, 60 - only_first) < 0.05
        })
        .count();
    assert!(found <= 50, "{found} of 1000");
}
