//! Functions of numbers and of rows, written so that the compiler makes vectors of them.

/// Runs a loop with the widest vectors that this processor has. What it calls has to be inlined to profit.
#[inline(always)]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Writes `f(a, b)` of two equally long rows into the first.
#[inline(always)]
pub(super) fn both(a: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    let b = &b[..a.len()];
    for i in 0..a.len() {
        a[i] = f(a[i], b[i]);
    }
}

/// `e^x` to about one part in 10^7. Beyond 87 on either side it stays at the end.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and taking away this rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let whole = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.0e-1;
    let fraction = p * (r * r) + r + 1.0;
    fraction * f32::from_bits(((whole as i32 + 127) << 23) as u32)
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The tanh form of GELU.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let inner = (x + 0.044_715 * (x * x * x)) * SQRT_2_OVER_PI;
    // tanh(y) = 1 - 2 / (e^2y + 1), so that half of 1 + tanh(y) is 1 - 1 / (e^2y + 1).
    x * (1.0 - 1.0 / (exp(2.0 * inner) + 1.0))
}

/// The exact GELU, `x (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    let half = 0.5 * erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    x * if x < 0.0 { half } else { 1.0 - half }
}

/// `1 - erf(x)` for `x` of 0 or more, to about one part in 10^6: a power of e whose exponent is a polynomial (the Chebyshev fit of
/// W. H. Press et al., Numerical Recipes, section 6.2).
#[inline(always)]
fn erfc(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let p = 0.170_872_77;
    let p = p * t - 0.822_152_2;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_08;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    t * exp(p - x * x)
}

/// The sum of the products of two equally long rows, in 32 sums side by side.
#[inline(always)]
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<32>(), y.as_chunks::<32>());
    let y = &y[..x.len()];
    let mut lanes = [0.0f32; 32];
    for i in 0..x.len() {
        for lane in 0..32 {
            lanes[lane] += x[i][lane] * y[i][lane];
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The sum, in 32 sums side by side.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<32>();
    let mut lanes = [0.0f32; 32];
    for x in x {
        for lane in 0..32 {
            lanes[lane] += x[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// The largest number.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<32>();
    let mut lanes = [f32::NEG_INFINITY; 32];
    for x in x {
        for lane in 0..32 {
            lanes[lane] = if x[lane] > lanes[lane] { x[lane] } else { lanes[lane] };
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, x| if *x > a { *x } else { a })
}

/// What a row is multiplied by to have the root mean square 1.
#[inline(always)]
pub(super) fn rms_factor(x: &[f32], eps: f64) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps as f32).sqrt()
}

/// RMSNorm of one row.
#[inline(always)]
pub(super) fn norm_row(x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) {
    let (factor, n) = (rms_factor(x, eps), out.len());
    let (x, weight) = (&x[..n], &weight[..n]);
    for i in 0..n {
        out[i] = x[i] * factor * weight[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error of `found` against f64 over a range, relative to the larger of the value and `floor`.
    fn worst(from: f32, to: f32, floor: f64, found: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let steps = 200_001;
        let at = |i: usize| from + (to - from) * i as f32 / (steps - 1) as f32;
        (0..steps).map(at).fold(0.0, |worst, x| {
            let exact = exact(f64::from(x));
            f64::max(worst, (f64::from(found(x)) - exact).abs() / exact.abs().max(floor))
        })
    }

    /// By its series; good to 1e-15 within 6.
    fn erf64(x: f64) -> f64 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 * sum.abs() {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn they_are_what_they_say() {
        assert!(worst(-87.0, 87.0, 0.0, exp, f64::exp) < 3e-7);
        assert!(worst(-20.0, 20.0, 1e-3, silu, |x| x / (1.0 + (-x).exp())) < 1e-6);
        assert!(worst(0.0, 3.0, 1e-3, erfc, |x| 1.0 - erf64(x)) < 2e-6);
        let gelu64 = |x: f64| 0.5 * x * (1.0 + erf64(x / 2f64.sqrt()));
        assert!(worst(-5.0, 5.0, 1.0, gelu, gelu64) < 5e-7);
        let tanh64 = |x: f64| {
            let inner = (x + 0.044715 * x * x * x) * (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + inner.tanh())
        };
        assert!(worst(-6.0, 6.0, 1.0, gelu_tanh, tanh64) < 5e-7);
    }

    #[test]
    fn they_stay_finite_at_the_ends() {
        for x in [f32::MIN, -1e30, -88.0, 88.0, 1e30, f32::MAX] {
            assert!([exp(x), silu(x), gelu(x)].iter().all(|y| y.is_finite()), "{x}");
        }
        assert_eq!([silu(1e6), gelu(1e6), gelu_tanh(1e6)], [1e6; 3]);
        assert!(gelu(-1e6).abs() < 1e-30);
    }
}
