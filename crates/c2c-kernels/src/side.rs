//! A runtime's tensors out of `Dispatch` tensors and back.

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
#[cfg(feature = "wgpu")]
use burn::tensor::ops::FloatTensorOps;
use burn::tensor::{Int, Tensor, TensorPrimitive};
use burn::{BackendTensor, Dispatch, DispatchTensor, DispatchTensorKind};
use burn_cubecl::tensor::CubeTensor;

/// A runtime whose tensors `Dispatch` can hold.
pub(crate) trait Side: burn_cubecl::CubeRuntime {
    /// The backend of its tensors.
    type Plain: Backend<FloatTensorPrimitive = CubeTensor<Self>>;

    fn open(kind: DispatchTensorKind) -> Option<CubeTensor<Self>>;
    /// What autodiff tracks on this runtime.
    fn open_tracked(kind: DispatchTensorKind) -> Option<FloatTensor<Autodiff<Self::Plain>>>;
    fn close_tracked(tensor: FloatTensor<Autodiff<Self::Plain>>) -> DispatchTensorKind;
    fn close(tensor: CubeTensor<Self>) -> DispatchTensorKind;
    fn close_int(tensor: CubeTensor<Self>) -> DispatchTensorKind;

    /// `lhs @ rhs` by the fastest way known.
    fn product(lhs: CubeTensor<Self>, rhs: CubeTensor<Self>) -> CubeTensor<Self>;

    fn float<const D: usize>(tensor: Tensor<Dispatch, D>) -> CubeTensor<Self> {
        Self::must(tensor.into_primitive().tensor())
    }

    fn int<const D: usize>(tensor: Tensor<Dispatch, D, Int>) -> CubeTensor<Self> {
        Self::must(tensor.into_primitive())
    }

    fn must(tensor: DispatchTensor) -> CubeTensor<Self> {
        match Self::open(tensor.into_kind()) {
            Some(tensor) => tensor,
            None => panic!("a kernel was given tensors of two devices, or tensors with gradients"),
        }
    }

    fn tensor<const D: usize>(tensor: CubeTensor<Self>) -> Tensor<Dispatch, D> {
        Tensor::from_primitive(TensorPrimitive::Float(DispatchTensor::from_kind(Self::close(tensor))))
    }

    fn int_tensor<const D: usize>(tensor: CubeTensor<Self>) -> Tensor<Dispatch, D, Int> {
        Tensor::from_primitive(DispatchTensor::from_kind(Self::close_int(tensor)))
    }
}

macro_rules! side {
    ($runtime:ty, $kind:ident, $plain:ty, $product:expr) => {
        impl Side for $runtime {
            type Plain = $plain;

            fn product(lhs: CubeTensor<Self>, rhs: CubeTensor<Self>) -> CubeTensor<Self> {
                $product(lhs, rhs)
            }

            fn open_tracked(kind: DispatchTensorKind) -> Option<FloatTensor<Autodiff<$plain>>> {
                match kind {
                    DispatchTensorKind::$kind(BackendTensor::Autodiff(tensor)) => Some(tensor),
                    _ => None,
                }
            }

            fn close_tracked(tensor: FloatTensor<Autodiff<$plain>>) -> DispatchTensorKind {
                DispatchTensorKind::$kind(BackendTensor::Autodiff(tensor))
            }

            fn open(kind: DispatchTensorKind) -> Option<CubeTensor<Self>> {
                match kind {
                    DispatchTensorKind::$kind(BackendTensor::Float(t) | BackendTensor::Int(t)) => Some(t),
                    _ => None,
                }
            }

            fn close(tensor: CubeTensor<Self>) -> DispatchTensorKind {
                DispatchTensorKind::$kind(BackendTensor::Float(tensor))
            }

            fn close_int(tensor: CubeTensor<Self>) -> DispatchTensorKind {
                DispatchTensorKind::$kind(BackendTensor::Int(tensor))
            }
        }
    };
}

#[cfg(feature = "cuda")]
side!(cubecl::cuda::CudaRuntime, Cuda, burn::backend::Cuda, crate::autodiff::product);
#[cfg(feature = "wgpu")]
side!(cubecl::wgpu::WgpuRuntime, Wgpu, burn::backend::Wgpu, <burn::backend::Wgpu>::float_matmul);
