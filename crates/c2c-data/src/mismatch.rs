//! The control that proves a gain comes from what the sharer read: each question is paired with another question,
//! whose prompt the sharer gets instead.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// For each of `n` questions the index of another one: a random permutation without a fixed point.
///
/// The permutation is one cycle through all questions (Sattolo's algorithm), so every question is used exactly once.
/// With fewer than two questions there is no other one, and the result is empty.
pub fn mismatched_pairs(n: usize, seed: u64) -> Vec<usize> {
    if n < 2 {
        return Vec::new();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pairs: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        pairs.swap(last, rng.random_range(0..last));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_gets_another_one_and_is_used_once() {
        for n in 2..60 {
            for seed in 0..20 {
                let pairs = mismatched_pairs(n, seed);
                let mut used = vec![false; n];
                for (index, other) in pairs.iter().enumerate() {
                    assert_ne!(index, *other, "n {n}, seed {seed}");
                    assert!(!std::mem::replace(&mut used[*other], true));
                }
                assert!(used.iter().all(|used| *used));
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(mismatched_pairs(50, 1), mismatched_pairs(50, 1));
        assert_ne!(mismatched_pairs(50, 1), mismatched_pairs(50, 2));
        assert!(mismatched_pairs(0, 1).is_empty() && mismatched_pairs(1, 1).is_empty());
    }
}
