//! Small helpers of the launch functions.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// A contiguous tensor; a copy only where it isn't one.
pub(crate) fn dense<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    if tensor.is_contiguous() { tensor } else { into_contiguous(tensor) }
}

/// A contiguous tensor that nobody else holds, for a kernel to write in; a copy only where it isn't one.
pub(super) fn owned<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = dense(tensor);
    // CUDA pads the rows of Burn's copy.
    if tensor.can_mut() { tensor } else { dense(tensor.copy()) }
}

/// An uninitialised contiguous tensor beside `like`.
pub(crate) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// A contiguous tensor as a kernel's array. The length counts elements, also where the kernel reads vectors of them.
pub(super) fn array<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    // SAFETY: the handle belongs to a contiguous tensor of exactly this many elements.
    #[allow(unsafe_code)]
    unsafe {
        ArrayArg::from_raw_parts(tensor.handle.clone(), tensor.meta.num_elements())
    }
}

/// At least `count` cubes, over as many axes as the device needs; the kernel leaves out what is too many.
pub(super) fn cubes<R: CubeRuntime>(like: &CubeTensor<R>, count: usize) -> CubeCount {
    cubecl::calculate_cube_count_elemwise(&like.client, count, CubeDim::new_1d(1))
}

/// The first slots of `[batch, heads, capacity, width]` as a view.
pub(crate) fn first_slots<R: CubeRuntime>(mut tensor: CubeTensor<R>, slots: usize) -> CubeTensor<R> {
    let shape = tensor.meta.shape_mut();
    assert!(slots <= shape[2], "{slots} slots of a cache with room for {}", shape[2]);
    shape[2] = slots;
    tensor
}
