//! RMSNorm with the residual sum, and activations.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty};
use super::{activate, cube_sum, vector_of, vector_sum};
use crate::Act;

/// Units that share a row.
const ROW_UNITS: usize = 256;

/// One cube a row. The sum is rounded to the model's dtype before it is normed, as a stored sum would be. Widths count vectors.
#[cube(launch)]
fn add_rms_norm_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &Array<Vector<F, N>>,
    weight: &Array<Vector<f32, N>>,
    sum: &mut Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    rows: u32,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] vector: usize,
    #[comptime] add: bool,
    #[comptime] weigh: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    // There may be more cubes than rows: a large count is laid out over several axes.
    if CUBE_POS >= rows as usize {
        terminate!();
    }
    let start = CUBE_POS * width;
    let squares = RuntimeCell::<f32>::new(0.0_f32);
    let i = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while i.read() < width {
        let at = start + i.read();
        let mut value = x[at];
        if comptime!(add) {
            value = Vector::<F, N>::cast_from(Vector::<f32, N>::cast_from(value) + Vector::<f32, N>::cast_from(y[at]));
            sum[at] = value;
        }
        let v = Vector::<f32, N>::cast_from(value);
        squares.store(squares.read() + vector_sum::<N>(v * v, vector));
        i.store(i.read() + units);
    }
    let total = cube_sum(squares.read(), units);
    let scale = 1.0_f32 / f32::sqrt(total / (comptime!(width * vector) as f32) + eps);
    i.store(UNIT_POS as usize);
    while i.read() < width {
        let at = start + i.read();
        // Each unit reads back only what it wrote itself.
        let value = if comptime!(add) { sum[at] } else { x[at] };
        let mut normed = Vector::<f32, N>::cast_from(value) * Vector::<f32, N>::new(scale);
        if comptime!(weigh) {
            normed *= weight[i.read()];
        }
        out[at] = Vector::<F, N>::cast_from(normed);
        i.store(i.read() + units);
    }
}

pub(crate) fn add_rms_norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    y: Option<CubeTensor<R>>,
    weight: CubeTensor<R>,
    eps: f64,
) -> (CubeTensor<R>, CubeTensor<R>) {
    norm(x, y, Some(weight), eps)
}

/// Rows divided by their root mean square.
pub(crate) fn rms_scale<R: CubeRuntime>(x: CubeTensor<R>, eps: f64) -> CubeTensor<R> {
    norm(x, None, None, eps).1
}

fn norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    y: Option<CubeTensor<R>>,
    weight: Option<CubeTensor<R>>,
    eps: f64,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (x, weight) = (dense(x), weight.map(dense));
    let (shape, dtype) = (x.meta.shape().clone(), x.dtype);
    let width = shape[shape.num_dims() - 1];
    let out = empty(&x, shape.clone(), dtype);
    let y = y.map(dense);
    let add = y.is_some();
    let sum = if add { empty(&x, shape, dtype) } else { x.clone() };
    // Arguments that nothing is read from or written through.
    let unused = (!add).then(|| empty(&x, [4], dtype));
    let weigh = weight.is_some();
    let weight = weight.unwrap_or_else(|| empty(&x, [4], DType::F32));
    let client = x.client.clone();
    let (rows, vector) = (x.meta.num_elements() / width, vector_of(width));
    add_rms_norm_kernel::launch::<R>(
        &client,
        cubes(&x, rows),
        CubeDim::new_1d(ROW_UNITS as u32),
        vector,
        array(&x),
        array(y.as_ref().unwrap_or(&x)),
        array(&weight),
        array(&unused.unwrap_or_else(|| sum.clone())),
        array(&out),
        rows as u32,
        eps as f32,
        width / vector,
        vector,
        add,
        weigh,
        ROW_UNITS,
        dtype.into(),
    );
    (sum, out)
}

#[cube(launch)]
fn gated_kernel<F: Float>(x: &Array<F>, out: &mut Array<F>, #[comptime] gelu: bool, #[define(F)] _dtype: StorageType) {
    let count = out.len();
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let gate = activate(f32::cast_from(x[ABSOLUTE_POS]), gelu);
    out[ABSOLUTE_POS] = F::cast_from(gate * f32::cast_from(x[count + ABSOLUTE_POS]));
}

pub(crate) fn gated<R: CubeRuntime>(x: CubeTensor<R>, act: Act) -> CubeTensor<R> {
    let x = dense(x);
    let shape = x.meta.shape();
    let out = empty(&x, [shape[1], shape[2]], x.dtype);
    let count = out.meta.num_elements();
    let dim = CubeDim::new_1d(256);
    let cubes = cubecl::calculate_cube_count_elemwise(&x.client, count, dim);
    gated_kernel::launch::<R>(&x.client, cubes, dim, array(&x), array(&out), act == Act::GeluTanh, x.dtype.into());
    out
}

#[cube(launch)]
fn gelu_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    vectors: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    let value = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    let one = Vector::<f32, N>::new(1.0_f32);
    let (half, root) = (Vector::<f32, N>::new(0.5_f32), Vector::<f32, N>::new(0.707_106_77_f32));
    out[ABSOLUTE_POS] = Vector::cast_from(half * value * (one + Erf::erf(value * root)));
}

pub(crate) fn gelu<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let x = dense(x);
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let (cubes, dim, vector, vectors) = by_vectors(&x);
    gelu_kernel::launch::<R>(&x.client, cubes, dim, vector, array(&x), array(&out), vectors, x.dtype.into());
    out
}

/// `grad * (cdf(x) + x * pdf(x))` of the standard normal distribution.
#[cube(launch)]
fn gelu_backward_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    grad: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    vectors: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    let value = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    let grad = Vector::<f32, N>::cast_from(grad[ABSOLUTE_POS]);
    let one = Vector::<f32, N>::new(1.0_f32);
    let (half, root) = (Vector::<f32, N>::new(0.5_f32), Vector::<f32, N>::new(0.707_106_77_f32));
    let density = Exp::exp(value * value * Vector::<f32, N>::new(-0.5_f32)) * Vector::<f32, N>::new(0.398_942_3_f32);
    out[ABSOLUTE_POS] = Vector::cast_from(grad * (half * (one + Erf::erf(value * root)) + value * density));
}

pub(crate) fn gelu_backward<R: CubeRuntime>(x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
    let (x, grad) = (dense(x), dense(grad));
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let (cubes, dim, vector, vectors) = by_vectors(&x);
    gelu_backward_kernel::launch::<R>(
        &x.client,
        cubes,
        dim,
        vector,
        array(&x),
        array(&grad),
        array(&out),
        vectors,
        x.dtype.into(),
    );
    out
}

/// How a kernel of one unit a vector is launched over a tensor: cubes, their size, elements a vector, vectors.
pub(super) fn by_vectors<R: CubeRuntime>(x: &CubeTensor<R>) -> (CubeCount, CubeDim, usize, u32) {
    let count = x.meta.num_elements();
    let vector = [8, 4, 2].into_iter().find(|n| count.is_multiple_of(*n) && n * x.dtype.size() <= 16).unwrap_or(1);
    let dim = CubeDim::new_1d(256);
    let cubes = cubecl::calculate_cube_count_elemwise(&x.client, count / vector, dim);
    (cubes, dim, vector, (count / vector) as u32)
}
