//! Operations with gradients that keep their input and nothing else.
//!
//! Composed from Burn's operations, a norm or an activation keeps several tensors of its size for the way back, some of them
//! in f32. Here the way back makes again what it needs.

use std::fmt;
use std::marker::PhantomData;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary, unary};
use burn::tensor::ops::{FloatTensor, FloatTensorOps};
use burn::tensor::{Tensor, TensorPrimitive};
use burn::{Dispatch, DispatchTensor, DispatchTensorKind};
use burn_cubecl::tensor::CubeTensor;

use crate::cube;
use crate::side::Side;

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
    let x = opened::<R, D>(x)?;
    let node = Node::<R, U>(function.clone(), PhantomData);
    let out = match node.prepare::<NoCheckpointing>([x.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(x.primitive.clone(), function.forward(x.primitive)),
        OpsKind::UnTracked(prep) => prep.finish(function.forward(x.primitive)),
    };
    Some(closed::<R, D>(out))
}

/// `gelu(norm(x) w1) w2`: keeps its input and the weights. The way back multiplies by `w1` once more in place of keeping what
/// lies between, four tensors of the input's size.
struct Ffn<R> {
    eps: f64,
    runtime: PhantomData<R>,
}

impl<R> fmt::Debug for Ffn<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ffn").field("eps", &self.eps).finish()
    }
}

impl<R: Side> Backward<R::Plain, 3> for Ffn<R> {
    type State = [CubeTensor<R>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let transposed = R::Plain::float_transpose;
        let ([x, w1, w2], [x_node, w1_node, w2_node]) = (ops.state, ops.parents);
        let grad = grads.consume::<R::Plain>(&ops.node);
        let normed = cube::rms_scale(x.clone(), self.eps);
        let inner = R::product(normed.clone(), w1.clone());
        if let Some(node) = w2_node {
            let active = cube::gelu(inner.clone());
            grads.register::<R::Plain>(node.id, R::product(transposed(active), grad.clone()));
        }
        let grad = cube::gelu_backward(inner, R::product(grad, transposed(w2)));
        if let Some(node) = w1_node {
            grads.register::<R::Plain>(node.id, R::product(transposed(normed), grad.clone()));
        }
        if let Some(node) = x_node {
            let grad = R::product(grad, transposed(w1));
            grads.register::<R::Plain>(node.id, cube::rms_scale_backward(x, grad, self.eps));
        }
    }
}

/// `x + dropout(y)`: keeps nothing. The way back makes the mask again.
struct AddDropped<R> {
    share: f64,
    seed: u64,
    runtime: PhantomData<R>,
}

impl<R> fmt::Debug for AddDropped<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddDropped").field("share", &self.share).field("seed", &self.seed).finish()
    }
}

impl<R: Side> Backward<R::Plain, 2> for AddDropped<R> {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dropped = |grad| cube::dropped::<R>(None, grad, self.share, self.seed);
        binary::<R::Plain, _, _>(ops.parents, ops.node, grads, |grad| grad, dropped);
    }
}

/// What autodiff tracks of a tensor on this runtime.
fn opened<R: Side, const D: usize>(x: &Tensor<Dispatch, D>) -> Option<FloatTensor<Autodiff<R::Plain>>> {
    let DispatchTensorKind::Autodiff(inner) = x.clone().into_primitive().tensor().into_kind() else { return None };
    R::open_tracked(*inner)
}

fn closed<R: Side, const D: usize>(x: FloatTensor<Autodiff<R::Plain>>) -> Tensor<Dispatch, D> {
    let kind = DispatchTensorKind::Autodiff(Box::new(R::close_tracked(x)));
    Tensor::from_primitive(TensorPrimitive::Float(DispatchTensor::from_kind(kind)))
}

fn apply_add_dropped<R: Side>([x, y]: [&Tensor<Dispatch, 3>; 2], share: f64, seed: u64) -> Option<Tensor<Dispatch, 3>> {
    let (x, y) = (opened::<R, 3>(x)?, opened::<R, 3>(y)?);
    // The mask tells elements apart by 32 bits.
    u32::try_from(y.primitive.meta.num_elements()).ok()?;
    let node = AddDropped::<R> { share, seed, runtime: PhantomData };
    let forward = |x, y| cube::dropped::<R>(Some(x), y, share, seed);
    let prepared = node.prepare::<NoCheckpointing>([x.node.clone(), y.node.clone()]).compute_bound();
    let out = match prepared.stateful() {
        OpsKind::Tracked(prep) => prep.finish((), forward(x.primitive, y.primitive)),
        OpsKind::UnTracked(prep) => prep.finish(forward(x.primitive, y.primitive)),
    };
    Some(closed::<R, 3>(out))
}

fn apply_ffn<R: Side>([x, w1, w2]: [&Tensor<Dispatch, 3>; 3], eps: f64) -> Option<Tensor<Dispatch, 3>> {
    let (x, w1, w2) = (opened::<R, 3>(x)?, opened::<R, 3>(w1)?, opened::<R, 3>(w2)?);
    let nodes = [x.node.clone(), w1.node.clone(), w2.node.clone()];
    let state = [x.primitive, w1.primitive, w2.primitive];
    let forward = |[x, w1, w2]: [CubeTensor<R>; 3]| R::product(cube::gelu(R::product(cube::rms_scale(x, eps), w1)), w2);
    let out =
        match (Ffn::<R> { eps, runtime: PhantomData }).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state.clone(), forward(state)),
            OpsKind::UnTracked(prep) => prep.finish(forward(state)),
        };
    Some(closed::<R, 3>(out))
}

/// The first runtime whose tensors these are.
macro_rules! on_any {
    ($function:ident $(<$($more:tt),*>)? ($($argument:expr),*)) => {{
        #[cfg(feature = "cuda")]
        let found = $function::<cubecl::cuda::CudaRuntime $($(, $more)*)?>($($argument),*);
        #[cfg(not(feature = "cuda"))]
        let found = None;
        #[cfg(feature = "wgpu")]
        let found = found.or_else(|| $function::<cubecl::wgpu::WgpuRuntime $($(, $more)*)?>($($argument),*));
        found
    }};
}

mod parameters;

pub(crate) use parameters::{parameter_as, scaled_weight};

fn anywhere<U: Unary, const D: usize>(x: &Tensor<Dispatch, D>, function: U) -> Option<Tensor<Dispatch, D>> {
    on_any!(apply < U, D > (x, function.clone()))
}

/// The exact GELU of a tracked tensor; `None` if it isn't one on a device with kernels.
pub(crate) fn gelu<const D: usize>(x: &Tensor<Dispatch, D>) -> Option<Tensor<Dispatch, D>> {
    anywhere(x, Gelu)
}

/// As [`gelu`]: rows divided by their root mean square.
pub(crate) fn rms_scale<const D: usize>(x: &Tensor<Dispatch, D>, eps: f64) -> Option<Tensor<Dispatch, D>> {
    anywhere(x, RmsScale { eps })
}

/// As [`gelu`]: `gelu(norm(x) w1) w2`.
pub(crate) fn ffn(factors: [&Tensor<Dispatch, 3>; 3], eps: f64) -> Option<Tensor<Dispatch, 3>> {
    on_any!(apply_ffn(factors, eps))
}

/// As [`gelu`]: `x + dropout(y)`.
pub(crate) fn add_dropped(terms: [&Tensor<Dispatch, 3>; 2], share: f64, seed: u64) -> Option<Tensor<Dispatch, 3>> {
    on_any!(apply_add_dropped(terms, share, seed))
}
