//! Likeness of two texts (J. W. Ratcliff and D. Metzener, 1988), as Python's `difflib` computes it and `fuzzywuzzy`
//! rounds it.
//!
//! LongBench scores code with that package, whose result without its faster helper is `difflib`'s. In texts of 200
//! characters and more, `difflib` doesn't start a match at characters that make up more than a hundredth of the second
//! text.

use std::collections::HashMap;

/// From this length on frequent characters are passed over.
const LONG: usize = 200;

/// The likeness of two texts in whole hundredths, from 0 to 1: twice the matching characters, of all characters.
pub fn ratio(first: &str, second: &str) -> f64 {
    let (first, second): (Vec<char>, Vec<char>) = (first.chars().collect(), second.chars().collect());
    if first == second {
        return 1.0;
    }
    if first.is_empty() || second.is_empty() {
        return 0.0;
    }
    let matched = Matcher::new(&first, &second).matched();
    let share = 2.0 * matched as f64 / (first.len() + second.len()) as f64;
    // Python rounds halves to even.
    (100.0 * share).round_ties_even() / 100.0
}

struct Matcher<'a> {
    first: &'a [char],
    second: &'a [char],
    /// Where in the second text each character that may start a match stands.
    places: HashMap<char, Vec<usize>>,
}

impl<'a> Matcher<'a> {
    fn new(first: &'a [char], second: &'a [char]) -> Self {
        let mut places: HashMap<char, Vec<usize>> = HashMap::new();
        for (place, letter) in second.iter().enumerate() {
            places.entry(*letter).or_default().push(place);
        }
        if second.len() >= LONG {
            let most = second.len() / 100 + 1;
            places.retain(|_, places| places.len() <= most);
        }
        Self { first, second, places }
    }

    /// Characters in matching blocks.
    fn matched(&self) -> usize {
        let mut sum = 0;
        let mut left = vec![(0, self.first.len(), 0, self.second.len())];
        while let Some((from, to, other_from, other_to)) = left.pop() {
            let (i, j, size) = self.longest(from, to, other_from, other_to);
            if size == 0 {
                continue;
            }
            sum += size;
            left.push((from, i, other_from, j));
            left.push((i + size, to, j + size, other_to));
        }
        sum
    }

    /// The longest block that both ranges hold, the earliest one of equals, widened by equal neighbours that could not
    /// start it.
    fn longest(&self, from: usize, to: usize, other_from: usize, other_to: usize) -> (usize, usize, usize) {
        let (mut best_i, mut best_j, mut size) = (from, other_from, 0);
        let mut ends: HashMap<usize, usize> = HashMap::new();
        for i in from..to {
            let mut now = HashMap::new();
            for &j in self.places.get(&self.first[i]).into_iter().flatten() {
                if j < other_from {
                    continue;
                }
                if j >= other_to {
                    break;
                }
                let length = j.checked_sub(1).and_then(|j| ends.get(&j)).copied().unwrap_or(0) + 1;
                now.insert(j, length);
                if length > size {
                    (best_i, best_j, size) = (i + 1 - length, j + 1 - length, length);
                }
            }
            ends = now;
        }
        let same = |i: usize, j: usize| self.first[i] == self.second[j];
        while best_i > from && best_j > other_from && same(best_i - 1, best_j - 1) {
            (best_i, best_j, size) = (best_i - 1, best_j - 1, size + 1);
        }
        while best_i + size < to && best_j + size < other_to && same(best_i + size, best_j + size) {
            size += 1;
        }
        (best_i, best_j, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_by_hand() {
        assert_eq!((ratio("abcd", "abcd"), ratio("abcd", "wxyz"), ratio("", "a"), ratio("", "")), (1.0, 0.0, 0.0, 1.0));
        // "bcd" matches: 2 * 3 / 8.
        assert_eq!(ratio("abcd", "bcde"), 0.75);
        // The longest block is taken first: "aa" of 2 + 3 characters.
        assert_eq!(ratio("aa", "aba"), 0.8);
    }
}
