//! A step of AdamW in one pass over a parameter.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, dense, empty, owned};
use crate::AdamWStep;

/// One unit a vector of elements.
#[cube(launch)]
fn adamw_kernel<F: Float, N: Size>(
    param: &mut Array<Vector<f32, N>>,
    first: &mut Array<Vector<f32, N>>,
    second: &mut Array<Vector<f32, N>>,
    grad: &Array<Vector<F, N>>,
    factor: f32,
    rate: f32,
    keep: f32,
    beta_1: f32,
    beta_2: f32,
    correct_1: f32,
    correct_2: f32,
    epsilon: f32,
    vectors: u32,
    #[comptime] fresh: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(grad[ABSOLUTE_POS]) * Vector::<f32, N>::new(factor);
    let mut m = g * Vector::<f32, N>::new(1.0_f32 - beta_1);
    let mut v = g * g * Vector::<f32, N>::new(1.0_f32 - beta_2);
    if comptime!(!fresh) {
        m += first[ABSOLUTE_POS] * Vector::<f32, N>::new(beta_1);
        v += second[ABSOLUTE_POS] * Vector::<f32, N>::new(beta_2);
    }
    let root = Sqrt::sqrt(v * Vector::<f32, N>::new(correct_2)) + Vector::<f32, N>::new(epsilon);
    let delta = m * Vector::<f32, N>::new(correct_1) / root;
    first[ABSOLUTE_POS] = m;
    second[ABSOLUTE_POS] = v;
    param[ABSOLUTE_POS] = param[ABSOLUTE_POS] * Vector::<f32, N>::new(keep) - delta * Vector::<f32, N>::new(rate);
}

/// The parameter and its two moments, all f32, after the step; in place where nobody else holds them. The gradient is of any float
/// dtype.
pub(crate) fn adamw<R: CubeRuntime>(
    param: CubeTensor<R>,
    grad: CubeTensor<R>,
    moments: Option<[CubeTensor<R>; 2]>,
    step: AdamWStep,
) -> [CubeTensor<R>; 3] {
    let (param, grad) = (owned(param), dense(grad));
    let fresh = moments.is_none();
    let [first, second] = match moments {
        Some(moments) => moments.map(owned),
        None => [(); 2].map(|()| empty(&param, param.meta.shape().clone(), param.dtype)),
    };
    let count = param.meta.num_elements();
    let vector = [4, 2].into_iter().find(|n| count.is_multiple_of(*n)).unwrap_or(1);
    let dim = CubeDim::new_1d(256);
    let cubes = cubecl::calculate_cube_count_elemwise(&param.client, count / vector, dim);
    let correct = |beta: f32| (1.0 / (1.0 - f64::from(beta).powi(step.time as i32))) as f32;
    adamw_kernel::launch::<R>(
        &param.client,
        cubes,
        dim,
        vector,
        array(&param),
        array(&first),
        array(&second),
        array(&grad),
        step.factor as f32,
        step.rate as f32,
        (1.0 - step.rate * step.decay) as f32,
        step.beta_1,
        step.beta_2,
        correct(step.beta_1),
        correct(step.beta_2),
        step.epsilon,
        (count / vector) as u32,
        fresh,
        grad.dtype.into(),
    );
    [param, first, second]
}
