//! Comparisons that say how far off they were, and where.

use crate::Array;

/// The tolerance of f32 logits, caches and scores: `1e-4 * max(1, max |expected|)`.
pub fn bound(expected: &Array) -> f64 {
    1e-4 * expected.max_abs().max(1.0)
}

/// Compares every value; prints and returns the largest difference.
///
/// # Panics
/// Another shape, a value that is no number, or a difference above `limit`.
pub fn assert_close(name: &str, got: &Array, expected: &Array, limit: f64) -> f64 {
    assert_close_at(name, got, expected, limit, |_| true)
}

/// Compares the values whose place `keep` accepts.
///
/// # Panics
/// As [`assert_close`]; also if `keep` accepts none.
pub fn assert_close_at(name: &str, got: &Array, expected: &Array, limit: f64, keep: impl Fn(&[usize]) -> bool) -> f64 {
    assert_eq!(got.shape, expected.shape, "{name}: shape found {:?}, expected {:?}", got.shape, expected.shape);
    let (mut worst, mut at, mut compared, mut above) = (-1.0, 0, 0, 0);
    for (i, (g, e)) in got.values.iter().zip(&expected.values).enumerate() {
        if !keep(&place(i, &got.shape)) {
            continue;
        }
        compared += 1;
        let difference = if g == e { 0.0 } else { (g - e).abs() };
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        above += usize::from(difference > limit);
        if difference > worst {
            (worst, at) = (difference, i);
        }
    }
    assert!(compared > 0, "{name}: nothing was compared");
    let summary = format!(
        "{name}: max |difference| {worst:.3e} of {limit:.3e} allowed, at {:?} (found {}, expected {})",
        place(at, &got.shape),
        got.values[at],
        expected.values[at]
    );
    assert!(above == 0, "{summary}; {above} of {compared} values differ by more");
    println!("{summary}");
    worst
}

/// Compares on average and at most, for low-precision arithmetic.
///
/// # Panics
/// Another shape, a mean above `mean`, or a difference above `max`.
pub fn assert_loose(name: &str, got: &Array, expected: &Array, mean: f64, max: f64) {
    assert_close(name, got, expected, max);
    let sum: f64 = got.values.iter().zip(&expected.values).map(|(g, e)| (g - e).abs()).sum();
    let found = sum / got.values.len() as f64;
    assert!(found <= mean, "{name}: mean |difference| {found:.3e}, expected at most {mean:.3e}");
}

/// Compares bit for bit (0 and -0 are equal).
///
/// # Panics
/// Any difference.
pub fn assert_equal(name: &str, got: &Array, expected: &Array) {
    assert_close(name, got, expected, 0.0);
}

fn place(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut out = vec![0; shape.len()];
    for (slot, size) in out.iter_mut().zip(shape).rev() {
        *slot = index % size;
        index /= size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: &[f64]) -> Array {
        Array { shape: vec![2, values.len() / 2], values: values.to_vec() }
    }

    #[test]
    fn a_difference_above_the_limit_fails_and_names_its_place() {
        let failure = std::panic::catch_unwind(|| {
            assert_close("x", &array(&[1.0, 2.0, 3.0, 4.5]), &array(&[1.0, 2.1, 3.0, 4.0]), 0.2)
        });
        let text = *failure.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("[1, 1]") && text.contains("4.5"), "{text}");
    }

    #[test]
    fn a_nan_is_never_close() {
        let got = array(&[f64::NAN, 1.0]);
        assert!(std::panic::catch_unwind(|| assert_close("x", &got, &array(&[1.0, 1.0]), 1e9)).is_err());
    }

    #[test]
    fn comparing_nothing_fails() {
        let got = array(&[1.0, 1.0]);
        assert!(std::panic::catch_unwind(|| assert_close_at("x", &got, &got, 1.0, |_| false)).is_err());
    }
}
