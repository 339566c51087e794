//! Trying out strategies of matrix products: what `examples/matmul_strategies.rs` needs to choose ours.

use burn::tensor::{Tensor, TensorPrimitive};
use burn::{Dispatch, DispatchTensor};
use cubecl::cuda::CudaRuntime;
use cubek::matmul::launch::Strategy;

use crate::side::Side;
use crate::{cube, hopper};

pub use crate::hopper::Tile;

/// The strategies worth trying, by name.
pub fn strategies() -> Vec<(&'static str, Strategy)> {
    macro_rules! named {
        ($($name:ident),*) => { vec![$((stringify!($name), Strategy::$name(Default::default()))),*] };
    }
    named![
        SimpleCyclicCmma,
        SimpleCyclicMma,
        SimpleAsyncCyclicMma,
        SimpleTmaCmma,
        SimpleTmaMma,
        DoubleCyclicCmma,
        DoubleCyclicMma,
        DoubleTmaCmma,
        DoubleTmaMma,
        SpecializedCyclicMma,
        SpecializedTmaCmma,
        SpecializedTmaMma,
        OrderedDoubleCmma,
        OrderedDoubleMma
    ]
}

/// `a @ b` on CUDA by one strategy.
///
/// # Errors
/// A strategy that can't do these shapes.
pub fn matmul_by(
    strategy: &Strategy,
    a: Tensor<Dispatch, 3>,
    b: Tensor<Dispatch, 3>,
) -> Result<Tensor<Dispatch, 3>, String> {
    let out = cube::matmul_by::<CudaRuntime>(strategy, CudaRuntime::float(a), CudaRuntime::float(b));
    let out = out.map_err(|e| format!("{e:?}"))?;
    Ok(Tensor::from_primitive(TensorPrimitive::Float(DispatchTensor::from_kind(CudaRuntime::close(out)))))
}

/// `a @ b` on Hopper by one tile; `None` if these shapes can't be done so.
pub fn matmul_by_tile(tile: Tile, a: Tensor<Dispatch, 3>, b: Tensor<Dispatch, 3>) -> Option<Tensor<Dispatch, 3>> {
    let out = hopper::product_by(tile, &CudaRuntime::float(a), &CudaRuntime::float(b))?;
    Some(Tensor::from_primitive(TensorPrimitive::Float(DispatchTensor::from_kind(CudaRuntime::close(out)))))
}
