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
    if B::cpu_takes(&x) {
        return B::cpu_linear(&x, &weight, bias.map(|bias| to_dtype(bias, dtype)).as_ref());
    }
    let y = B::product(x, weight.transpose());
    match bias {
        Some(bias) => y + to_dtype(bias, dtype).unsqueeze(),
        None => y,
    }
}
