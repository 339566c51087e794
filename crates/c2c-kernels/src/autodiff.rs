//! Products with gradients on CUDA, by the strategies of products without.
//!
//! Burn's own would round f32 factors to tf32 and take slower ways for bf16, forwards and backwards. A factor that needs no
//! gradient, such as a frozen weight, keeps nothing of the other alive.

use burn::backend::Autodiff;
use burn::backend::Cuda;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::tensor::ops::{FloatTensor, FloatTensorOps};
use burn::tensor::{Shape, Tensor, TensorPrimitive};
use burn::{BackendTensor, Dispatch, DispatchTensor, DispatchTensorKind};
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;

use crate::{cube, hopper};

type Plain = Cuda<f32>;
type Values = CubeTensor<CudaRuntime>;
type Tracked = FloatTensor<Autodiff<Plain>>;

/// `lhs @ rhs` without gradients; Burn's own where no strategy of ours does it.
pub(crate) fn product(lhs: Values, rhs: Values) -> Values {
    if let Some(out) = hopper::product(&lhs, &rhs) {
        return out;
    }
    let strategies = cube::strategies_for(&lhs, &rhs);
    // A strategy refuses shapes that it can't do.
    let done = strategies.iter().find_map(|s| cube::matmul_by(s, lhs.clone(), rhs.clone()).ok());
    done.unwrap_or_else(|| Plain::float_matmul(lhs, rhs))
}

/// `a @ b` with gradients; `None` if these aren't tracked tensors on CUDA.
pub(crate) fn tracked_product<const D: usize>(
    a: &Tensor<Dispatch, D>,
    b: &Tensor<Dispatch, D>,
) -> Option<Tensor<Dispatch, D>> {
    let out = multiply(open(a)?, open(b)?);
    let kind = DispatchTensorKind::Cuda(BackendTensor::Autodiff(out));
    let tensor = DispatchTensor::from_kind(DispatchTensorKind::Autodiff(Box::new(kind)));
    Some(Tensor::from_primitive(TensorPrimitive::Float(tensor)))
}

fn open<const D: usize>(x: &Tensor<Dispatch, D>) -> Option<Tracked> {
    let DispatchTensorKind::Autodiff(inner) = x.clone().into_primitive().tensor().into_kind() else { return None };
    match *inner {
        DispatchTensorKind::Cuda(BackendTensor::Autodiff(tensor)) => Some(tensor),
        _ => None,
    }
}

/// The step back through a product.
#[derive(Debug)]
struct Product;

/// What it needs: the factors whose partner is tracked, and the shapes of both.
type State = (Option<Values>, Option<Values>, [Shape; 2]);

impl Backward<Plain, 2> for Product {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (lhs, rhs, [left, right]) = ops.state;
        let step =
            |factor: Option<Values>, by: &dyn Fn(Values, Values) -> Values, grad: Values, shape: Shape| match factor {
                Some(factor) => summed(by(grad, Plain::float_transpose(factor)), &shape),
                // Kept whenever the other factor is tracked, and only then is its gradient asked for.
                None => unreachable!("a product's gradient is asked for a factor that isn't tracked"),
            };
        binary::<Plain, _, _>(
            ops.parents,
            ops.node,
            grads,
            |grad| step(rhs, &|grad, rhs| product(grad, rhs), grad, left),
            |grad| step(lhs, &|grad, lhs| product(lhs, grad), grad, right),
        );
    }
}

fn multiply(a: Tracked, b: Tracked) -> Tracked {
    let (a_tracked, b_tracked) = (a.is_tracked(), b.is_tracked());
    let shapes = [a.primitive.meta.shape().clone(), b.primitive.meta.shape().clone()];
    match Product.prepare::<NoCheckpointing>([a.node.clone(), b.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let state = (b_tracked.then(|| a.primitive.clone()), a_tracked.then(|| b.primitive.clone()), shapes);
            prep.finish(state, product(a.primitive, b.primitive))
        }
        OpsKind::UnTracked(prep) => prep.finish(product(a.primitive, b.primitive)),
    }
}

/// A gradient summed over the axes that a factor of this shape was broadcast along.
fn summed(grad: Values, shape: &Shape) -> Values {
    (0..shape.num_dims()).fold(grad, |grad, axis| {
        if shape[axis] == 1 && grad.meta.shape()[axis] > 1 { Plain::float_sum_dim(grad, axis) } else { grad }
    })
}
