//! The gradient norm and AdamW's step, with gradients as a GPU leaves them, against the host and against Burn's AdamW.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor, TensorData};
use c2c_fuser::{Fuser, FuserConfig, LayerMapping};
use c2c_lm::LmConfig;
use c2c_tests::{Array, B, assert_close, autodiff_device, device, folders};
use c2c_train::{FuserModule, FuserOptimizer, grads};

use crate::parameters::dtypes;

/// Largest relative difference of a norm.
const NORM: f64 = 1e-5;
/// Largest difference of a parameter after some steps at a rate of [`RATE`], each of about that size: a few roundings of f32.
const PARAMETER: f64 = 1e-6;
const RATE: f64 = 1e-2;

#[derive(Module, Debug)]
struct Weights<B: Backend> {
    parts: Vec<Param<Tensor<B, 1>>>,
}

#[test]
fn the_gradient_norm_is_that_of_the_host() {
    // Odd lengths, less than a vector, more than one round of all parts, and all of them together.
    let lengths = [1, 2, 3, 7, 255, 1000, 4097, 65_538, 1_100_000];
    for dtype in dtypes() {
        let alone = lengths.iter().map(|length| vec![*length]);
        for lengths in alone.chain([lengths.to_vec()]) {
            let zeros = |length: &usize| Param::from_tensor(Tensor::zeros([*length], &autodiff_device()));
            let module = Weights::<B> { parts: lengths.iter().map(zeros).collect() };
            let mut found = GradientsParams::new();
            let mut squares = 0.0;
            for (part, length) in module.parts.iter().zip(&lengths) {
                let value =
                    |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0 + (i == length - 1) as u8 as f32 * 100.0;
                let data = TensorData::new((0..*length).map(value).collect::<Vec<_>>(), [*length]);
                let grad = Tensor::<B, 1>::from_data(data, &device()).cast(dtype);
                squares += Array::of(&grad).values.iter().map(|v| v * v).sum::<f64>();
                found.register(part.id, grad);
            }
            let norm = || grads::global_norm::<B, _>(&module, &found).unwrap();
            let (norm, again, expected) = (norm(), norm(), squares.sqrt());
            assert!((norm - expected).abs() <= NORM * expected, "{dtype:?} {lengths:?}: {norm}, expected {expected}");
            assert_eq!(norm, again, "{dtype:?} {lengths:?}: another sum of the same numbers");
        }
    }
}

fn fuser() -> Fuser<B> {
    let model = || LmConfig::from_dir(&folders("lm").remove(0)).unwrap();
    let config = FuserConfig {
        hidden_dim: 18,
        intermediate_dim: 14,
        ..FuserConfig::between(&model(), &model(), LayerMapping::LastAligned)
    };
    Fuser::init(&config, 7, &autodiff_device()).unwrap()
}

#[test]
fn a_factor_multiplies_the_gradients_of_one_step() {
    for dtype in dtypes() {
        let mut ours = FuserModule { fuser: fuser() };
        let mut optimizer = FuserOptimizer::<B>::new(0.9, 0.99, 1e-8, 0.1);
        let handle = optimizer.clone();
        let mut burns = ours.clone();
        let config = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.99).with_epsilon(1e-8).with_weight_decay(0.1);
        let mut adam = config.init::<B, FuserModule<B>>();
        // The last step is told no factor.
        for factor in [Some(0.25), Some(3.0e-3), Some(1.7), None] {
            let (mut narrow, mut scaled) = (GradientsParams::new(), GradientsParams::new());
            for (_, param) in ours.fuser.named_params() {
                let shape = param.val().dims();
                let grad = Tensor::<B, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device()).cast(dtype);
                scaled.register(param.id, grad.clone().cast(DType::F32).mul_scalar(factor.unwrap_or(1.0)));
                narrow.register(param.id, grad);
            }
            if let Some(factor) = factor {
                handle.scale_gradients(factor);
            }
            ours = optimizer.step(RATE, ours, narrow);
            burns = adam.step(RATE, burns, scaled);
            let expected: BTreeMap<_, _> = burns.fuser.named_params().into_iter().collect();
            for (name, param) in ours.fuser.named_params() {
                assert_eq!(param.val().dtype(), DType::F32);
                let (found, expected) = (Array::of(&param.val().inner()), Array::of(&expected[&name].val().inner()));
                assert_close(&format!("{dtype:?}, {factor:?}: {name}"), &found, &expected, PARAMETER);
            }
        }
    }
}
