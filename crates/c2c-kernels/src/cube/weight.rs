//! A weight whose rows are multiplied by a norm's, on its way into a product, and the way back.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cube_sum;
use super::launch::{array, cubes, dense, empty};

/// Units that share a row on the way back.
const ROW_UNITS: usize = 256;

/// One unit a vector of elements.
#[cube(launch)]
fn scaled_weight_kernel<F: Float, N: Size>(
    weight: &Array<Vector<f32, N>>,
    norm: &Array<f32>,
    out: &mut Array<Vector<F, N>>,
    width: u32,
    vectors: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    let scale = Vector::<f32, N>::new(norm[ABSOLUTE_POS / width as usize]);
    out[ABSOLUTE_POS] = Vector::cast_from(weight[ABSOLUTE_POS] * scale);
}

/// The rows of `weight` times `norm`, rounded once to `dtype`.
///
/// # Shapes
/// `weight` and the result: `[branches, rows, width]`, `norm`: `[branches, 1, rows]`; both f32.
pub(crate) fn scaled_weight<R: CubeRuntime>(weight: CubeTensor<R>, norm: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let (weight, norm) = (dense(weight), dense(norm));
    let out = empty(&weight, weight.meta.shape().clone(), dtype);
    let (vector, width) = vectors_of_row(&weight);
    let vectors = weight.meta.num_elements() / vector;
    let dim = CubeDim::new_1d(256);
    scaled_weight_kernel::launch::<R>(
        &weight.client,
        cubecl::calculate_cube_count_elemwise(&weight.client, vectors, dim),
        dim,
        vector,
        array(&weight),
        array(&norm),
        array(&out),
        width as u32,
        vectors as u32,
        dtype.into(),
    );
    out
}

/// One cube a row.
#[cube(launch)]
fn scaled_weight_backward_kernel<F: Float, N: Size>(
    weight: &Array<Vector<f32, N>>,
    norm: &Array<f32>,
    grad: &Array<Vector<F, N>>,
    weight_grad: &mut Array<Vector<F, N>>,
    norm_grad: &mut Array<f32>,
    width: u32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let width = width as usize;
    let row = CUBE_POS;
    // There may be more cubes than rows: a large count is laid out over several axes.
    if row >= norm_grad.len() {
        terminate!();
    }
    let scale = Vector::<f32, N>::new(norm[row]);
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    let i = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while i.read() < width {
        let at = row * width + i.read();
        let of_product = Vector::<f32, N>::cast_from(grad[at]);
        weight_grad[at] = Vector::cast_from(of_product * scale);
        let of_norm = of_product * weight[at];
        #[unroll]
        for e in 0..N::value() {
            sum.store(sum.read() + of_norm[e]);
        }
        i.store(i.read() + units);
    }
    let total = cube_sum(sum.read(), units);
    if UNIT_POS == 0 {
        norm_grad[row] = total;
    }
}

/// The gradients of both from that of what [`scaled_weight`] returned: of the weight in the dtype of `grad`, of the norm in f32.
pub(crate) fn scaled_weight_backward<R: CubeRuntime>(
    weight: CubeTensor<R>,
    norm: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let (weight, norm, grad) = (dense(weight), dense(norm), dense(grad));
    let weight_grad = empty(&grad, grad.meta.shape().clone(), grad.dtype);
    let norm_grad = empty(&norm, norm.meta.shape().clone(), DType::F32);
    let (vector, width) = vectors_of_row(&weight);
    scaled_weight_backward_kernel::launch::<R>(
        &weight.client,
        cubes(&weight, norm.meta.num_elements()),
        CubeDim::new_1d(ROW_UNITS as u32),
        vector,
        array(&weight),
        array(&norm),
        array(&grad),
        array(&weight_grad),
        array(&norm_grad),
        width as u32,
        ROW_UNITS,
        grad.dtype.into(),
    );
    [weight_grad, norm_grad]
}

/// Elements a vector, of 16 bytes at most, and vectors a row: a vector doesn't reach into the next row.
fn vectors_of_row<R: CubeRuntime>(weight: &CubeTensor<R>) -> (usize, usize) {
    let shape = weight.meta.shape();
    let width = shape[shape.num_dims() - 1];
    let vector = [4, 2].into_iter().find(|n| width.is_multiple_of(*n)).unwrap_or(1);
    (vector, width / vector)
}
