//! Parameters on their way into products of another dtype, whose gradients stay in that dtype.
//!
//! The gradient of a product of bf16 factors is rounded to bf16. Cast to the f32 of the parameter it takes twice the memory, and
//! tells no more. So autodiff is left with a gradient of another dtype than its leaf's; whoever adds up such gradients casts
//! them first, as is done here where a leaf was used twice.

use std::fmt;
use std::marker::PhantomData;

use burn::Dispatch;
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::{FloatTensor, FloatTensorOps};
use burn::tensor::{DType, FloatDType, Tensor};
use burn_cubecl::tensor::CubeTensor;

use super::{closed, opened};
use crate::cube;
use crate::side::Side;

/// A cast whose way back is none.
struct Cast<R>(PhantomData<R>);

impl<R> fmt::Debug for Cast<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cast")
    }
}

impl<R: Side> Backward<R::Plain, 1> for Cast<R> {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut found = <Autodiff<R::Plain>>::from_inner(grads.consume::<R::Plain>(&ops.node));
        if let [Some(leaf)] = ops.parents {
            found.node = leaf;
            hand_on::<R>(grads, found);
        }
    }
}

/// `weight * norm` by rows: keeps both.
struct ScaledWeight<R>(PhantomData<R>);

impl<R> fmt::Debug for ScaledWeight<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScaledWeight")
    }
}

impl<R: Side> Backward<R::Plain, 2> for ScaledWeight<R> {
    type State = [CubeTensor<R>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([weight, norm], grad) = (ops.state, grads.consume::<R::Plain>(&ops.node));
        let found = cube::scaled_weight_backward(weight, norm, grad);
        for (leaf, found) in ops.parents.into_iter().zip(found) {
            if let Some(leaf) = leaf {
                let mut found = <Autodiff<R::Plain>>::from_inner(found);
                found.node = leaf;
                hand_on::<R>(grads, found);
            }
        }
    }
}

/// Registers a gradient at its leaf's node as it is, or, if the leaf has one already, the sum of both in f32.
fn hand_on<R: Side>(grads: &mut Gradients, found: FloatTensor<Autodiff<R::Plain>>) {
    let in_f32 = |x: CubeTensor<R>| match x.dtype {
        DType::F32 => x,
        _ => R::Plain::float_cast(x, FloatDType::F32),
    };
    let sum = match grads.remove::<R::Plain>(&found) {
        Some(earlier) => R::Plain::float_add(in_f32(earlier), in_f32(found.primitive)),
        None => found.primitive,
    };
    grads.register::<R::Plain>(found.node.id, sum);
}

fn apply_cast<R: Side, const D: usize>(param: &Tensor<Dispatch, D>, dtype: DType) -> Option<Tensor<Dispatch, D>> {
    let param = opened::<R, D>(param)?;
    let node = Cast::<R>(PhantomData).prepare::<NoCheckpointing>([param.node]).compute_bound();
    Some(closed::<R, D>(node.stateless(R::Plain::float_cast(param.primitive, dtype.into()))))
}

fn apply_scaled_weight<R: Side>(
    weight: &Tensor<Dispatch, 3>,
    norm: &Tensor<Dispatch, 3>,
    dtype: DType,
) -> Option<Tensor<Dispatch, 3>> {
    let (weight, norm) = (opened::<R, 3>(weight)?, opened::<R, 3>(norm)?);
    let nodes = [weight.node, norm.node];
    let state = [weight.primitive, norm.primitive];
    let forward = |[weight, norm]: [CubeTensor<R>; 2]| cube::scaled_weight(weight, norm, dtype);
    let out = match ScaledWeight::<R>(PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state.clone(), forward(state)),
        OpsKind::UnTracked(prep) => prep.finish(forward(state)),
    };
    Some(closed::<R, 3>(out))
}

/// A leaf in another dtype, its gradient in that dtype; `None` if it isn't one on a device with kernels.
pub(crate) fn parameter_as<const D: usize>(param: &Tensor<Dispatch, D>, dtype: DType) -> Option<Tensor<Dispatch, D>> {
    // Behind what isn't a leaf others wait for a gradient of its own dtype.
    if !param.is_require_grad() {
        return None;
    }
    on_any!(apply_cast<D>(param, dtype))
}

/// As [`parameter_as`]: a weight times a norm by rows, both f32.
pub(crate) fn scaled_weight(
    weight: &Tensor<Dispatch, 3>,
    norm: &Tensor<Dispatch, 3>,
    dtype: DType,
) -> Option<Tensor<Dispatch, 3>> {
    if !(weight.is_require_grad() && norm.is_require_grad()) {
        return None;
    }
    on_any!(apply_scaled_weight(weight, norm, dtype))
}
