//! Parameters cast for a product, and the gradients that they are left with, against Burn's own operations in f32.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use c2c_kernels::KernelBackend;
use c2c_tests::{Array, B, assert_close, assert_equal, autodiff_device, computes_bf16, device};
use c2c_train::grads;

/// What products are done in: f32, and the narrower ones that the device computes in.
pub(crate) fn dtypes() -> Vec<DType> {
    let f16 = B::has_kernels(&device()) && B::supports_dtype(&device(), DType::F16);
    let known = [(DType::F32, true), (DType::BF16, computes_bf16()), (DType::F16, f16)];
    let dtypes: Vec<DType> = known.into_iter().filter_map(|(dtype, can)| can.then_some(dtype)).collect();
    println!("computing in {dtypes:?}");
    dtypes
}

/// The largest relative error of rounding to a dtype.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2.0_f64.powi(-8),
        DType::F16 => 2.0_f64.powi(-11),
        _ => 2.0_f64.powi(-23),
    }
}

fn random(shape: [usize; 3], mean: f64) -> Tensor<B, 3> {
    Tensor::random(shape, Distribution::Normal(mean, 0.5), &device())
}

fn leaf(x: &Tensor<B, 3>) -> Tensor<B, 3> {
    Tensor::from_inner(x.clone()).require_grad()
}

/// Where the device has kernels a gradient stays in the dtype of the product.
fn kept(dtype: DType) -> DType {
    if B::has_kernels(&device()) { dtype } else { DType::F32 }
}

#[test]
fn a_scaled_weight_and_its_gradients_are_those_of_burns_operations() {
    for dtype in dtypes() {
        // Rows of whole vectors, of single elements, and of more than a cube has units.
        for shape in [[2, 16, 12], [3, 5, 7], [2, 33, 1030], [1, 1, 1]] {
            let [branches, rows, width] = shape;
            let name = format!("{dtype:?} {shape:?}");
            let (w, n) = (random(shape, 0.0), random([branches, 1, rows], 1.0));
            // Rounded as a product's gradient is.
            let pull = random(shape, 0.0).cast(dtype);
            let (weight, norm) = (leaf(&w), leaf(&n));
            let scaled = B::scaled_weight(weight.clone(), norm.clone(), dtype);
            let composed = (w.clone() * n.clone().reshape([branches, rows, 1])).cast(dtype);
            assert_equal(&format!("{name}: values"), &Array::of(&scaled.clone().inner()), &Array::of(&composed));
            let plain = B::scaled_weight(w.clone(), n.clone(), dtype);
            assert_equal(&format!("{name}: without gradients"), &Array::of(&plain), &Array::of(&composed));

            let found = (scaled * Tensor::from_inner(pull.clone())).sum().backward();
            let (of_weight, of_norm) = (weight.grad(&found).unwrap(), norm.grad(&found).unwrap());
            assert_eq!((of_weight.dtype(), of_norm.dtype()), (kept(dtype), DType::F32), "{name}");
            let (weight, norm) = (leaf(&w), leaf(&n));
            let pull = pull.cast(DType::F32);
            let composed = weight.clone() * norm.clone().reshape([branches, rows, 1]);
            let expected = (composed * Tensor::from_inner(pull.clone())).sum().backward();
            let expected = (weight.grad(&expected).unwrap(), norm.grad(&expected).unwrap());
            let (expected_weight, expected_norm) = (Array::of(&expected.0), Array::of(&expected.1));
            let limit = rounding(kept(dtype)) * expected_weight.max_abs();
            assert_close(&format!("{name}: weight"), &Array::of(&of_weight), &expected_weight, limit);
            // Each is a sum in f32, whatever the product is done in.
            let terms = Array::of(&(pull * w).abs().sum_dim(2)).max_abs();
            let limit = width as f64 * rounding(DType::F32) * terms;
            assert_close(&format!("{name}: norm"), &Array::of(&of_norm), &expected_norm, limit);
        }
    }
}

#[test]
fn a_parameters_gradient_is_handed_on_as_it_is() {
    for dtype in dtypes() {
        let (x, pull) = (random([2, 9, 10], 0.0), random([2, 9, 10], 0.0).cast(dtype));
        let param = leaf(&x);
        let out = B::parameter_as(param.clone(), dtype);
        assert_equal("the parameter", &Array::of(&out.clone().inner()), &Array::of(&x.cast(dtype)));
        let found = (out * Tensor::from_inner(pull.clone())).sum().backward();
        let grad = param.grad(&found).unwrap();
        assert_eq!(grad.dtype(), kept(dtype));
        assert_equal("the gradient", &Array::of(&grad), &Array::of(&pull));
    }
}

#[test]
fn gradients_of_a_parameter_that_is_used_twice_are_added_in_f32() {
    for dtype in dtypes() {
        // One more than the largest number from which the dtype counts on in steps of 1.
        let large = match dtype {
            DType::BF16 => 256.0,
            DType::F16 => 2048.0,
            _ => 16_384.0,
        };
        let ones = Tensor::<B, 3>::ones([1, 3, 4], &device());
        let (weight, norm) = (leaf(&ones), leaf(&ones.clone().narrow(2, 0, 3).narrow(1, 0, 1)));
        let use_it = |by: f64| {
            let scaled = B::scaled_weight(weight.clone(), norm.clone(), dtype);
            (scaled + B::parameter_as(weight.clone(), dtype)).mul_scalar(by).cast(DType::F32)
        };
        // The weight is used four times, twice a term: 2 (large + 1); the norm twice, over 4 columns.
        let found = (use_it(large) + use_it(1.0)).sum().backward();
        for (leaf, expected) in [(&weight, 2.0 * (large + 1.0)), (&norm, 4.0 * (large + 1.0))] {
            let grad = leaf.grad(&found).unwrap();
            assert_eq!(grad.dtype(), DType::F32);
            let grad = Array::of(&grad);
            assert!(grad.values.iter().all(|v| *v == expected), "{dtype:?}: {:?}, not {expected}", grad.values);
        }
    }
}

#[test]
fn what_is_no_leaf_gets_a_gradient_of_its_own_dtype() {
    for dtype in dtypes() {
        let (weight, norm) = (leaf(&random([2, 4, 6], 0.0)), leaf(&random([2, 1, 4], 1.0)));
        let (doubled, halved) = (weight.clone().mul_scalar(2.0), norm.clone().mul_scalar(0.5));
        let out = B::parameter_as(doubled.clone(), dtype) + B::scaled_weight(doubled, halved, dtype);
        let found = out.cast(DType::F32).sum().backward();
        for leaf in [weight, norm] {
            assert_eq!(leaf.grad(&found).unwrap().dtype(), DType::F32);
        }
    }
}

#[derive(Module, Debug)]
struct Weights<B: Backend> {
    matrix: Param<Tensor<B, 3>>,
    vector: Param<Tensor<B, 1>>,
}

#[test]
fn burn_carries_narrow_gradients_through_unchanged() {
    for dtype in dtypes() {
        let module = Weights::<B> {
            matrix: Param::from_tensor(Tensor::random([2, 7, 9], Distribution::Default, &autodiff_device())),
            vector: Param::from_tensor(Tensor::random([5], Distribution::Default, &autodiff_device())),
        };
        let (matrix, vector) =
            (B::parameter_as(module.matrix.val(), dtype), B::parameter_as(module.vector.val(), dtype));
        let loss = matrix.mul_scalar(3.0).cast(DType::F32).sum() + vector.mul_scalar(5.0).cast(DType::F32).sum();
        let mut found = GradientsParams::from_grads(loss.backward(), &module);
        let of = |found: &GradientsParams| {
            let matrix: Tensor<B, 3> = found.get(module.matrix.id).unwrap();
            let vector: Tensor<B, 1> = found.get(module.vector.id).unwrap();
            ([matrix.dtype(), vector.dtype()], [Array::of(&matrix).values, Array::of(&vector).values].concat())
        };
        let values = [vec![3.0; 126], vec![5.0; 5]].concat();
        assert_eq!(of(&found), ([kept(dtype); 2], values.clone()));
        let norm = grads::global_norm::<B, _>(&module, &found).unwrap();
        let expected = (126.0_f64 * 9.0 + 5.0 * 25.0).sqrt();
        assert!((norm - expected).abs() <= 1e-6 * expected, "norm {norm}, expected {expected}");
        grads::in_own_dtype::<B, _>(&module, &mut found);
        assert_eq!(of(&found), ([DType::F32; 2], values));
    }
}
