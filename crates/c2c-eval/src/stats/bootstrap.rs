//! The paired bootstrap without drawing.
//!
//! A question counts +1 if only the first method is right, -1 if only the second is, else 0. A resample draws `total`
//! questions with replacement; its mean is the resampled difference. How many of the drawn questions are disagreements is
//! binomial, and so is how many of those are the first method's, so the distribution of the sum is a sum over two binomial
//! distributions. Its quantiles are what those of resampling come to with ever more resamples (B. Efron and R. J.
//! Tibshirani, An Introduction to the Bootstrap, 1993, section 5.2, call it the ideal bootstrap).

/// Chances smaller than this times the largest one are left out. All that is left out of a distribution is less than the
/// rounding of the sums.
const NEGLIGIBLE: f64 = 1e-18;

/// What lies outside the interval on either side.
const TAIL: f64 = 0.025;

/// The ends of the 95 % percentile interval of the resampled mean, given how many of `total` questions only the first
/// and only the second method answered right.
pub(super) fn interval(total: usize, only_first: usize, only_second: usize) -> (f64, f64) {
    let disagreements = only_first + only_second;
    if disagreements == 0 {
        return (0.0, 0.0);
    }
    // The chance of each sum, from -total on.
    let mut chances = vec![0.0; 2 * total + 1];
    let drawn = Binomial::new(total, disagreements as f64 / total as f64);
    let share = only_first as f64 / disagreements as f64;
    let mut firsts = Binomial::new(drawn.first, share);
    for (drawn, chance) in drawn.chances() {
        if drawn > firsts.n {
            firsts.grow();
        }
        for (firsts, of_those) in firsts.chances() {
            chances[total + 2 * firsts - drawn] += chance * of_those;
        }
    }
    // From both ends inwards, so that changing the methods' places only changes the signs.
    let low = reaches(chances.iter());
    let high = 2 * total - reaches(chances.iter().rev());
    let mean = |place: usize| (place as f64 - total as f64) / total as f64;
    (mean(low), mean(high))
}

/// At which place the sum of the chances reaches [`TAIL`].
fn reaches<'a>(chances: impl Iterator<Item = &'a f64>) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (place, chance) in chances.enumerate() {
        sum += chance;
        last = place;
        if sum >= TAIL {
            break;
        }
    }
    last
}

/// The chances of a binomial distribution that are not negligible.
struct Binomial {
    n: usize,
    p: f64,
    first: usize,
    chances: Vec<f64>,
}

impl Binomial {
    /// By the ratio of neighbouring chances, outwards from the most likely number, scaled to a sum of 1 at the end:
    /// nothing overflows or vanishes, however large `n` is.
    fn new(n: usize, p: f64) -> Self {
        if p <= 0.0 {
            return Self { n, p, first: 0, chances: vec![1.0] };
        }
        if p >= 1.0 {
            return Self { n, p, first: n, chances: vec![1.0] };
        }
        let odds = p / (1.0 - p);
        let mode = (((n + 1) as f64 * p) as usize).min(n);
        let mut below = Vec::new();
        let mut chance = 1.0;
        for k in (1..=mode).rev() {
            chance *= k as f64 / ((n - k + 1) as f64 * odds);
            if chance < NEGLIGIBLE {
                break;
            }
            below.push(chance);
        }
        let first = mode - below.len();
        let mut chances: Vec<f64> = below.into_iter().rev().collect();
        chances.push(1.0);
        chance = 1.0;
        for k in mode..n {
            chance *= (n - k) as f64 * odds / (k + 1) as f64;
            if chance < NEGLIGIBLE {
                break;
            }
            chances.push(chance);
        }
        let sum: f64 = chances.iter().sum();
        chances.iter_mut().for_each(|chance| *chance /= sum);
        Self { n, p, first, chances }
    }

    /// The distribution of one more draw: that of the number now, and one more with chance `p`. Sums of what is positive
    /// lose nothing, and that is several times faster than to start anew.
    fn grow(&mut self) {
        self.n += 1;
        if self.p >= 1.0 {
            self.first += 1;
            return;
        }
        if self.p <= 0.0 {
            return;
        }
        let (p, not) = (self.p, 1.0 - self.p);
        self.chances.push(0.0);
        for k in (1..self.chances.len()).rev() {
            self.chances[k] = not * self.chances[k] + p * self.chances[k - 1];
        }
        self.chances[0] *= not;
    }

    /// Each number with its chance.
    fn chances(&self) -> impl Iterator<Item = (usize, f64)> {
        (self.first..).zip(self.chances.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_chances_by_hand() {
        let chances: Vec<(usize, f64)> = Binomial::new(3, 0.25).chances().collect();
        let expected = [27.0, 27.0, 9.0, 1.0].map(|ways| ways / 64.0);
        assert_eq!(chances.iter().map(|(k, _)| *k).collect::<Vec<_>>(), [0, 1, 2, 3]);
        for ((_, found), expected) in chances.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        assert_eq!(Binomial::new(9, 0.0).chances().collect::<Vec<_>>(), [(0, 1.0)]);
        assert_eq!(Binomial::new(9, 1.0).chances().collect::<Vec<_>>(), [(9, 1.0)]);
    }

    #[test]
    fn large_binomials_keep_mean_and_variance() {
        let (n, p) = (1_000_000, 0.3);
        let distribution = Binomial::new(n, p);
        let mean: f64 = distribution.chances().map(|(k, chance)| k as f64 * chance).sum();
        let variance: f64 = distribution.chances().map(|(k, chance)| (k as f64 - mean).powi(2) * chance).sum();
        assert!((mean / (n as f64 * p) - 1.0).abs() < 1e-12, "{mean}");
        assert!((variance / (n as f64 * p * (1.0 - p)) - 1.0).abs() < 1e-9, "{variance}");
    }

    #[test]
    fn growing_is_starting_anew() {
        for p in [0.0, 0.03, 0.5, 0.9, 1.0] {
            let mut grown = Binomial::new(40, p);
            (0..300).for_each(|_| grown.grow());
            for (k, expected) in Binomial::new(340, p).chances() {
                let found = grown.chances().find(|(other, _)| *other == k).map_or(0.0, |(_, chance)| chance);
                assert!((found - expected).abs() < 1e-14, "p {p}, {k}: {found} {expected}");
            }
        }
    }

    #[test]
    fn two_questions_by_hand() {
        // One question of +1 and one of 0: resamples have sums 0, 1, 2 with chances 1/4, 1/2, 1/4.
        assert_eq!(interval(2, 1, 0), (0.0, 1.0));
        // Of 200, one: the sum is binomial of chance 1/200. P(0) = 0.367, P(3 or more) = 0.080, P(4 or more) = 0.018.
        assert_eq!(interval(200, 1, 0), (0.0, 3.0 / 200.0));
        assert_eq!(interval(200, 0, 1), (-3.0 / 200.0, 0.0));
    }

    #[test]
    fn changing_places_changes_the_signs() {
        for (total, only_first, only_second) in [(1, 1, 0), (7, 3, 2), (50, 20, 5), (1000, 150, 161), (288, 210, 1)] {
            let (low, high) = interval(total, only_first, only_second);
            assert_eq!(interval(total, only_second, only_first), (-high, -low));
            assert!(low <= high);
        }
    }
}
