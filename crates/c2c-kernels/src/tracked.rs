//! Operations with gradients that keep their input and nothing else.
//!
//! Composed from Burn's operations, a norm or an activation keeps several tensors of its size for the way back, some of them
//! in f32. Here the way back makes again what it needs.

use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::{Tensor, TensorPrimitive};
use burn::{Dispatch, DispatchTensor, DispatchTensorKind};
use burn_cubecl::tensor::CubeTensor;

use crate::cube;
use crate::dispatch::Side;

/// A function of one tensor and its way back.
trait Unary: Clone + fmt::Debug + Send + Sync + 'static {
    fn forward<R: Side>(&self, x: CubeTensor<R>) -> CubeTensor<R>;
    fn backward<R: Side>(&self, x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R>;
}

/// The exact GELU.
#[derive(Clone, Debug)]
struct Gelu;

impl Unary for Gelu {
    fn forward<R: Side>(&self, x: CubeTensor<R>) -> CubeTensor<R> {
        cube::gelu(x)
    }

    fn backward<R: Side>(&self, x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
        cube::gelu_backward(x, grad)
    }
}

/// Rows divided by their root mean square.
#[derive(Clone, Debug)]
struct RmsScale {
    eps: f64,
}

impl Unary for RmsScale {
    fn forward<R: Side>(&self, x: CubeTensor<R>) -> CubeTensor<R> {
        cube::rms_scale(x, self.eps)
    }

    fn backward<R: Side>(&self, x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
        cube::rms_scale_backward(x, grad, self.eps)
    }
}

/// A node of the graph.
struct Node<R, U>(U, PhantomData<R>);

impl<R, U: Unary> fmt::Debug for Node<R, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<R: Side, U: Unary> Backward<R::Plain, 1> for Node<R, U> {
    type State = CubeTensor<R>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<R::Plain, _>(ops.parents, ops.node, grads, |grad| self.0.backward(x, grad));
    }
}

fn apply<R: Side, U: Unary, const D: usize>(x: &Tensor<Dispatch, D>, function: U) -> Option<Tensor<Dispatch, D>> {
    let DispatchTensorKind::Autodiff(inner) = x.clone().into_primitive().tensor().into_kind() else { return None };
    let x = R::open_tracked(*inner)?;
    let node = Node::<R, U>(function.clone(), PhantomData);
    let out = match node.prepare::<NoCheckpointing>([x.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(x.primitive.clone(), function.forward(x.primitive)),
        OpsKind::UnTracked(prep) => prep.finish(function.forward(x.primitive)),
    };
    let kind = DispatchTensorKind::Autodiff(Box::new(R::close_tracked(out)));
    Some(Tensor::from_primitive(TensorPrimitive::Float(DispatchTensor::from_kind(kind))))
}

fn anywhere<U: Unary, const D: usize>(x: &Tensor<Dispatch, D>, function: U) -> Option<Tensor<Dispatch, D>> {
    #[cfg(feature = "cuda")]
    if let Some(out) = apply::<cubecl::cuda::CudaRuntime, U, D>(x, function.clone()) {
        return Some(out);
    }
    #[cfg(feature = "wgpu")]
    if let Some(out) = apply::<cubecl::wgpu::WgpuRuntime, U, D>(x, function) {
        return Some(out);
    }
    None
}

/// The exact GELU of a tracked tensor; `None` if it isn't one on a device with kernels.
pub(crate) fn gelu<const D: usize>(x: &Tensor<Dispatch, D>) -> Option<Tensor<Dispatch, D>> {
    anywhere(x, Gelu)
}

/// As [`gelu`]: rows divided by their root mean square.
pub(crate) fn rms_scale<const D: usize>(x: &Tensor<Dispatch, D>, eps: f64) -> Option<Tensor<Dispatch, D>> {
    anywhere(x, RmsScale { eps })
}
