//! The kernel of the loss and its gradient against sums made on the host in f64, on devices that have it.

use burn::Dispatch;
use burn::tensor::{DType, Int, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_tests::{computes_bf16, device};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

fn check(rows: usize, width: usize, dtype: DType, allowed: f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let values: Vec<f32> = (0..rows * width).map(|_| rng.random_range(-64..=64) as f32 / 8.0).collect();
    let targets: Vec<i32> = (0..rows).map(|_| rng.random_range(0..width) as i32).collect();
    let shares: Vec<f32> = (0..rows).map(|row| 1.0 / (row + 1) as f32).collect();
    let logits =
        Tensor::<Dispatch, 2>::from_data(TensorData::new(values.clone(), [rows, width]), &device()).cast(dtype);
    let target = Tensor::<Dispatch, 1, Int>::from_data(TensorData::new(targets.clone(), [rows]), &device());
    let share = Tensor::<Dispatch, 1>::from_data(TensorData::new(shares.clone(), [rows]), &device());
    let held = logits.clone();
    let sums = Dispatch::log_sum_exp(logits.clone()).into_data().to_vec::<f32>().unwrap();
    let (losses, gradient) = Dispatch::cross_entropy(logits, target, share);
    assert_eq!(gradient.dtype(), dtype);
    let losses = losses.into_data().to_vec::<f32>().unwrap();
    let gradient = gradient.cast(DType::F32).into_data().to_vec::<f32>().unwrap();
    for row in 0..rows {
        let logits = &values[row * width..(row + 1) * width];
        let (target, share) = (targets[row] as usize, f64::from(shares[row]));
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        let off = (f64::from(sums[row]) - sum.ln()).abs();
        assert!(off <= 1e-5 * sum.ln().abs().max(1.0), "sum of row {row}: {}, not {}", sums[row], sum.ln());
        let expected = share * (sum.ln() - f64::from(logits[target]));
        let off = (f64::from(losses[row]) - expected).abs();
        assert!(off <= 1e-5 * expected.abs().max(1.0), "loss of row {row}: {}, not {expected}", losses[row]);
        for (at, x) in logits.iter().enumerate() {
            let expected = share * (f64::from(*x).exp() / sum - f64::from(u8::from(at == target)));
            let found = f64::from(gradient[row * width + at]);
            assert!((found - expected).abs() <= allowed * share, "gradient {row}, {at}: {found}, not {expected}");
        }
    }
    // Logits that somebody else holds are left as they are.
    assert_eq!(held.cast(DType::F32).into_data().to_vec::<f32>().unwrap(), values);
}

#[test]
fn loss_and_gradient_are_those_of_the_host() {
    if !Dispatch::has_kernels(&device()) {
        // The CPU goes by Burn's operations, which the training fixtures check.
        return;
    }
    for (rows, width) in [(1, 2), (3, 255), (5, 257), (7, 5000)] {
        check(rows, width, DType::F32, 1e-6);
        if computes_bf16() {
            check(rows, width, DType::BF16, 1.0 / 256.0);
        }
    }
}
