//! Dropout whose mask follows from a seed, on devices that have a kernel for it.

use burn::tensor::{DType, Tensor, TensorData};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::KernelBackend;
use c2c_tests::device;

const SHAPE: [usize; 3] = [3, 70, 64];
const SHARE: f64 = 0.25;

/// What ones become, and the gradient of their sum weighted by `1, 2, 3, ..`; `None` where there is no kernel.
fn dropped(seed: u64, dtype: DType) -> Option<(Vec<f32>, Vec<f32>)> {
    let device = DispatchDevice::autodiff(device());
    let count = SHAPE.iter().product::<usize>();
    let of = |value: &dyn Fn(usize) -> f32| {
        let data = TensorData::new((0..count).map(value).collect::<Vec<_>>(), SHAPE);
        Tensor::<Dispatch, 3>::from_data(data, &device).cast(dtype)
    };
    let (x, y) = (of(&|_| 0.0), of(&|_| 1.0).require_grad());
    let out = Dispatch::add_dropped(&x, &y, SHARE, seed)?;
    let values = out.clone().inner().cast(DType::F32).into_data().to_vec().unwrap();
    let grads = (out * of(&|i| (i % 7 + 1) as f32)).sum().backward();
    let grad = y.grad(&grads).unwrap().cast(DType::F32).into_data().to_vec().unwrap();
    Some((values, grad))
}

#[test]
fn a_seed_drops_the_same_elements_forwards_and_backwards() {
    let kernels = Dispatch::has_kernels(&device());
    for dtype in [DType::F32, DType::BF16] {
        if dtype == DType::BF16 && !c2c_tests::computes_bf16() {
            continue;
        }
        let Some((values, grad)) = dropped(5, dtype) else {
            assert!(!kernels, "a device with kernels drops by its own");
            return;
        };
        assert!(kernels);
        let kept = (1.0 / (1.0 - SHARE)) as f32;
        let close = |a: f32, b: f32| (a - b).abs() <= b.abs() / 128.0;
        assert!(values.iter().all(|v| *v == 0.0 || close(*v, kept)), "values that are neither 0 nor {kept}");
        for (at, (value, grad)) in values.iter().zip(&grad).enumerate() {
            let expected = if *value == 0.0 { 0.0 } else { kept * (at % 7 + 1) as f32 };
            assert!(close(*grad, expected), "the gradient of element {at} is {grad}, not {expected}");
        }
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64;
        let (count, expected) = (values.len() as f64, SHARE * values.len() as f64);
        let sigma = (count * SHARE * (1.0 - SHARE)).sqrt();
        assert!((zeros - expected).abs() < 4.0 * sigma, "{zeros} of {count} are dropped, not {expected}");
    }
}

#[test]
fn another_seed_drops_other_elements() {
    let mask = |seed: u64| dropped(seed, DType::F32).map(|(values, _)| values);
    let Some(first) = mask(5) else {
        assert!(!Dispatch::has_kernels(&device()), "a device with kernels drops by its own");
        return;
    };
    assert_eq!(Some(&first), mask(5).as_ref(), "the same seed");
    // Seeds that differ in their upper half alone, too.
    for seed in [6, 5 + (1 << 32)] {
        let other = mask(seed).unwrap();
        let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / first.len() as f64;
        // Independent masks agree where both keep or both drop: 0.75^2 + 0.25^2.
        assert!((same - 0.625).abs() < 0.03, "seeds 5 and {seed} agree on a share of {same}");
    }
}
