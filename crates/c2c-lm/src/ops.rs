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

/// The most rows that a processor multiplies the other way round; of more, the weight's copy is a small part.
const FEW_ROWS: usize = 24;

/// `x @ weight^T`.
///
/// Burn's product on the processor first copies the weight into an order of its own, which of a few rows takes as long as
/// the product. `(weight @ x^T)^T` copies `x` instead; it adds up in the same order and has the same bits.
///
/// # Shapes
/// `x`: `[.., rows, in]`, `weight`: `[.., out, in]`, in one dtype; returns `[.., rows, out]`.
pub(crate) fn by_weight<B: KernelBackend, const D: usize>(x: Tensor<B, D>, weight: Tensor<B, D>) -> Tensor<B, D> {
    let (rows, device) = (x.dims()[D - 2], x.device());
    // A device without kernels and without gradients is a processor.
    let turned = (2..=FEW_ROWS).contains(&rows)
        && x.dtype() == DType::F32
        && !B::has_kernels(&device)
        && !B::ad_enabled(&device);
    if !turned {
        return B::product(x, weight.transpose());
    }
    let y = weight.matmul(x.transpose()).transpose();
    let shape = y.dims();
    // Flat and back: what follows walks rows, and a row has to lie together.
    y.reshape([shape.iter().product::<usize>()]).reshape(shape)
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
    let y = by_weight(x, to_dtype(weight, dtype));
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

    fn bits<const D: usize>(x: Tensor<B, D>) -> Vec<u32> {
        x.into_data().iter::<f32>().map(f32::to_bits).collect()
    }

    /// Widths of the embedded models, of Qwen3-0.6B, and such that fill no vector.
    #[test]
    fn a_product_of_few_rows_has_the_bits_of_any() {
        for (inner, out) in [(1, 1), (3, 5), (96, 256), (128, 522), (100, 33), (1024, 2048), (3072, 1024)] {
            let weight = numbers([2, out, inner], 1);
            for rows in [1, 2, 3, 7, 8, 15, 16, 17, FEW_ROWS, FEW_ROWS + 1] {
                let x = numbers([1, rows, inner], 2);
                let expected = bits(x.clone().matmul(weight.clone().transpose()));
                let found = by_weight(x.clone(), weight.clone());
                assert_eq!(found.dims(), [2, rows, out]);
                assert!(bits(found) == expected, "{rows} x {inner} x {out}");
                let (x, weight) = (x.reshape([rows, inner]), weight.clone().narrow(0, 1, 1).reshape([out, inner]));
                assert!(bits(by_weight(x.clone(), weight.clone())) == bits(x.matmul(weight.transpose())));
            }
        }
    }
}
