//! What is added up of each token to say how near mapped caches are to the Receiver's.

use super::{Branch, Part, Ranks};

/// Sums over tokens, for the keys or the values of one layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    tokens: usize,
    cosine: f64,
    cosine_before: Option<f64>,
    squared_error: f64,
    own: Moments,
    mapped: Moments,
}

/// The first two moments of vectors.
#[derive(Clone, Debug, Default)]
struct Moments {
    sum: Vec<f64>,
    squares: f64,
}

impl Moments {
    fn add(&mut self, vector: &[f32]) {
        self.sum.resize(vector.len(), 0.0);
        self.sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(*x));
        self.squares += dot(vector, vector);
    }

    /// The sum of squared distances from the mean.
    fn around_mean(&self, count: usize) -> f64 {
        self.squares - self.sum.iter().map(|x| x * x).sum::<f64>() / count.max(1) as f64
    }
}

impl Sums {
    /// Adds one token: the Receiver's own vector, the mapped one, and the Sharer's where it has the same width.
    pub(super) fn add(&mut self, own: &[f32], mapped: &[f32], source: Option<&[f32]>) {
        self.tokens += 1;
        self.cosine += cosine(own, mapped);
        if let Some(source) = source {
            *self.cosine_before.get_or_insert(0.0) += cosine(own, source);
        }
        self.squared_error += own.iter().zip(mapped).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        self.own.add(own);
        self.mapped.add(mapped);
    }

    /// The figures, beside the ranks that were found otherwise.
    pub(super) fn figures(&self, layer: usize, part: Part, ranks: Ranks) -> Branch {
        let count = self.tokens.max(1) as f64;
        let variance = self.own.around_mean(self.tokens);
        Branch {
            layer,
            part,
            cosine_before: self.cosine_before.map(|sum| sum / count),
            cosine: self.cosine / count,
            relative_error: ratio(self.squared_error, self.own.squares).sqrt(),
            explained: 1.0 - ratio(self.squared_error, variance),
            spread: ratio(self.mapped.around_mean(self.tokens), variance),
            ranks,
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// 0 where one of the two has no length.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    ratio(dot(a, b), (dot(a, a) * dot(b, b)).sqrt())
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_definitions() {
        let mut sums = Sums::default();
        sums.add(&[3.0, 4.0], &[3.0, 4.0], Some(&[-3.0, -4.0]));
        sums.add(&[1.0, 0.0], &[0.0, 1.0], Some(&[2.0, 0.0]));
        let Branch { layer, part, cosine_before, cosine, relative_error, explained, spread, .. } =
            sums.figures(2, Part::Value, Ranks::default());
        assert_eq!((layer, part), (2, Part::Value));
        assert!((cosine - 0.5).abs() < 1e-12 && cosine_before.is_some_and(|c| c.abs() < 1e-12));
        // Squared error 2; squares 25 + 1; around the mean (2, 2): 1 + 4 + 1 + 4, mapped around (1.5, 2.5): 4.5 + 4.5.
        assert!((relative_error - (2.0f64 / 26.0).sqrt()).abs() < 1e-12);
        assert!((explained - 0.8).abs() < 1e-12 && (spread - 0.9).abs() < 1e-12, "{explained} {spread}");
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let figures = Sums::default().figures(0, Part::Key, Ranks::default());
        assert_eq!((figures.cosine, figures.relative_error, figures.cosine_before), (0.0, 0.0, None));
    }
}
