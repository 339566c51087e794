//! Small pieces of arithmetic shared by models and fusers.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use c2c_kernels::{KernelBackend, rms_scale};

/// The tensor in f32; no operation if it already is.
pub fn to_f32<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) }
}

/// The tensor in `dtype`; no operation if it already is.
pub fn to_dtype<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// RMSNorm over the last axis, computed in f32 and returned in the input's dtype.
///
/// `weight` is f32 and broadcasts against `x` (the caller reshapes it to `x`'s rank).
///
/// # Shapes
/// `x`: `[.., width]`, `weight`: `[1, .., width]`.
pub fn rms_norm<B: Backend, const D: usize>(x: Tensor<B, D>, weight: Tensor<B, D>, eps: f64) -> Tensor<B, D> {
    let dtype = x.dtype();
    to_dtype(rms_scale(to_f32(x), eps) * weight, dtype)
}

/// The tanh form of GELU: `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, computed in f32.
pub fn gelu_tanh<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let dtype = x.dtype();
    let x = to_f32(x);
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube.mul_scalar(0.044715)).mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    to_dtype(x.mul_scalar(0.5) * inner.tanh().add_scalar(1.0), dtype)
}

/// True if products of these rows with a weight are done the other way round: `(weight @ x^T)^T`.
///
/// Burn's product on the processor first copies the weight, turned, into an order of its own, which takes longer than the product
/// of a few rows, and of 128 rows still a third of the whole. The other way round it copies `x` instead.
pub(crate) fn turned<B: KernelBackend, const D: usize>(x: &Tensor<B, D>) -> bool {
    let device = x.device();
    // A device without kernels and without gradients is a processor. One row goes through a loop of its own.
    x.dims()[D - 2] > 1 && x.dtype() == DType::F32 && !B::has_kernels(&device) && !B::ad_enabled(&device)
}

/// `x` turned back after a product: what follows walks rows, and a row has to lie together.
pub(crate) fn turned_back<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let x = x.transpose();
    let shape = x.dims();
    // Flat and back: a transposed tensor is only another view.
    x.reshape([shape.iter().product::<usize>()]).reshape(shape)
}

/// `x @ weight^T (+ bias)`, in the dtype of `x`: weights that are trained may be held more exactly than is computed.
///
/// # Shapes
/// `x`: `[rows, in]`, `weight`: `[out, in]`, `bias`: `[out]`; returns `[rows, out]`.
pub(crate) fn linear<B: KernelBackend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let dtype = x.dtype();
    let weight = to_dtype(weight, dtype);
    let y = if turned(&x) { turned_back(weight.matmul(x.transpose())) } else { B::product(x, weight.transpose()) };
    match bias {
        Some(bias) => y + to_dtype(bias, dtype).unsqueeze(),
        None => y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use burn::{Dispatch, DispatchDevice};

    type B = Dispatch;

    /// Numbers of both signs that round in every sum.
    fn numbers<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<B, D> {
        let count = shape.iter().product::<usize>() as u64;
        let number = |n: u64| ((n.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 8e6) - 1.0;
        let device = DispatchDevice::Flex(burn_flex::FlexDevice);
        Tensor::from_data(TensorData::new((0..count).map(number).collect::<Vec<f32>>(), shape), &device)
    }

    fn values<const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    /// Widths of the embedded models, of Qwen3-0.6B, and such that fill no vector.
    #[test]
    fn a_product_the_other_way_round_has_the_values_of_any() {
        for (inner, out) in [(1, 1), (3, 5), (96, 256), (128, 522), (100, 33), (1024, 2048), (3072, 1024)] {
            let weight = numbers([out, inner], 1);
            for rows in [1, 2, 3, 7, 8, 15, 16, 17, 24, 25, 100, 129] {
                let x = numbers([rows, inner], 2);
                let expected = values(x.clone().matmul(weight.clone().transpose()));
                let found = linear(x, weight.clone(), None);
                assert_eq!(found.dims(), [rows, out]);
                let largest = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                for (found, expected) in values(found).into_iter().zip(expected) {
                    assert!((found - expected).abs() <= 1e-6 * largest, "{rows} x {inner} x {out}");
                }
            }
        }
    }
}
