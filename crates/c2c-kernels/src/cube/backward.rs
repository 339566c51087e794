//! The way back through norm, gated MLP and softmax of a frozen model: the gradient of the input alone.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, dense, empty};
use super::{activate, cube_sum, vector_of, vector_sum};
use crate::Act;

/// Units that share a row.
const ROW_UNITS: usize = 256;

/// One cube a row: `out = residual + d(x * s * weight)`, `s` being one over the root mean square. Widths count vectors.
#[cube(launch)]
fn rms_norm_backward_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    weight: &Array<Vector<f32, N>>,
    grad: &Array<Vector<F, N>>,
    residual: &Array<Vector<F, N>>,
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
    let dots = RuntimeCell::<f32>::new(0.0_f32);
    let i = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while i.read() < width {
        let v = Vector::<f32, N>::cast_from(x[start + i.read()]);
        let mut g = Vector::<f32, N>::cast_from(grad[start + i.read()]);
        if comptime!(weigh) {
            g *= weight[i.read()];
        }
        squares.store(squares.read() + vector_sum::<N>(v * v, vector));
        dots.store(dots.read() + vector_sum::<N>(v * g, vector));
        i.store(i.read() + units);
    }
    let squares = cube_sum(squares.read(), units);
    let dot = cube_sum(dots.read(), units);
    let length = comptime!(width * vector) as f32;
    let scale = 1.0_f32 / f32::sqrt(squares / length + eps);
    let pull = Vector::<f32, N>::new(scale * scale * scale * dot / length);
    i.store(UNIT_POS as usize);
    while i.read() < width {
        let at = start + i.read();
        let mut value = Vector::<f32, N>::cast_from(grad[at]) * Vector::<f32, N>::new(scale);
        if comptime!(weigh) {
            value *= weight[i.read()];
        }
        value -= pull * Vector::<f32, N>::cast_from(x[at]);
        if comptime!(add) {
            value += Vector::<f32, N>::cast_from(residual[at]);
        }
        out[at] = Vector::<F, N>::cast_from(value);
        i.store(i.read() + units);
    }
}

pub(crate) fn rms_norm_backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    eps: f64,
) -> CubeTensor<R> {
    backward(x, Some(weight), grad, residual, eps)
}

/// The gradient of the input of [`rms_scale`](super::rms_scale).
pub(crate) fn rms_scale_backward<R: CubeRuntime>(x: CubeTensor<R>, grad: CubeTensor<R>, eps: f64) -> CubeTensor<R> {
    backward(x, None, grad, None, eps)
}

fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: Option<CubeTensor<R>>,
    grad: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    eps: f64,
) -> CubeTensor<R> {
    let (x, grad) = (dense(x), dense(grad));
    let (weight, residual) = (weight.map(dense), residual.map(dense));
    let weigh = weight.is_some();
    let weight = weight.unwrap_or_else(|| empty(&x, [4], DType::F32));
    let shape = x.meta.shape().clone();
    let width = shape[shape.num_dims() - 1];
    let out = empty(&x, shape, x.dtype);
    let (rows, vector) = (x.meta.num_elements() / width, vector_of(width));
    rms_norm_backward_kernel::launch::<R>(
        &x.client,
        cubes(&x, rows),
        CubeDim::new_1d(ROW_UNITS as u32),
        vector,
        array(&x),
        array(&weight),
        array(&grad),
        array(residual.as_ref().unwrap_or(&grad)),
        array(&out),
        rows as u32,
        eps as f32,
        width / vector,
        vector,
        residual.is_some(),
        weigh,
        ROW_UNITS,
        x.dtype.into(),
    );
    out
}

/// The derivative of [`activate`].
#[cube]
fn activate_backward(x: f32, #[comptime] gelu: bool) -> f32 {
    if comptime!(gelu) {
        let inner = 0.797_884_6_f32 * (x + 0.044_715_f32 * x * x * x);
        let slope = 0.797_884_6_f32 * (1.0_f32 + 0.134_145_f32 * x * x);
        let gate = 1.0_f32 / (1.0_f32 + f32::exp(-2.0_f32 * inner));
        gate + 2.0_f32 * x * gate * (1.0_f32 - gate) * slope
    } else {
        let gate = 1.0_f32 / (1.0_f32 + f32::exp(-x));
        gate * (1.0_f32 + x * (1.0_f32 - gate))
    }
}

/// One unit an element of the gradient; the gate's and the up projection's gradients lie side by side in a row.
#[cube(launch)]
fn gated_backward_kernel<F: Float>(
    x: &Array<F>,
    grad: &Array<F>,
    out: &mut Array<F>,
    width: u32,
    #[comptime] gelu: bool,
    #[define(F)] _dtype: StorageType,
) {
    let count = grad.len();
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let width = width as usize;
    let (row, column) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
    let gate = f32::cast_from(x[ABSOLUTE_POS]);
    let up = f32::cast_from(x[count + ABSOLUTE_POS]);
    let g = f32::cast_from(grad[ABSOLUTE_POS]);
    let at = row * 2 * width + column;
    out[at] = F::cast_from(g * up * activate_backward(gate, gelu));
    out[at + width] = F::cast_from(g * activate(gate, gelu));
}

pub(crate) fn gated_backward<R: CubeRuntime>(x: CubeTensor<R>, grad: CubeTensor<R>, act: Act) -> CubeTensor<R> {
    let (x, grad) = (dense(x), dense(grad));
    let shape = grad.meta.shape();
    let (rows, width) = (shape[0], shape[1]);
    let out = empty(&x, [rows, 2 * width], x.dtype);
    let dim = CubeDim::new_1d(256);
    let cubes = cubecl::calculate_cube_count_elemwise(&x.client, rows * width, dim);
    gated_backward_kernel::launch::<R>(
        &x.client,
        cubes,
        dim,
        array(&x),
        array(&grad),
        array(&out),
        width as u32,
        act == Act::GeluTanh,
        x.dtype.into(),
    );
    out
}

/// One cube a row: `grad = weights * (grad - sum(weights * grad))`.
#[cube(launch)]
fn softmax_backward_kernel<F: Float>(
    weights: &Array<F>,
    grad: &mut Array<F>,
    width: u32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let width = width as usize;
    let start = CUBE_POS * width;
    if start >= grad.len() {
        terminate!();
    }
    let dots = RuntimeCell::<f32>::new(0.0_f32);
    let j = RuntimeCell::<usize>::new(UNIT_POS as usize);
    while j.read() < width {
        let at = start + j.read();
        dots.store(dots.read() + f32::cast_from(weights[at]) * f32::cast_from(grad[at]));
        j.store(j.read() + units);
    }
    let dot = cube_sum(dots.read(), units);
    j.store(UNIT_POS as usize);
    while j.read() < width {
        let at = start + j.read();
        grad[at] = F::cast_from(f32::cast_from(weights[at]) * (f32::cast_from(grad[at]) - dot));
        j.store(j.read() + units);
    }
}

pub(crate) fn softmax_backward<R: CubeRuntime>(weights: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
    const UNITS: usize = 128;
    let (weights, grad) = (dense(weights), dense(grad));
    let shape = grad.meta.shape();
    let width = shape[shape.num_dims() - 1];
    softmax_backward_kernel::launch::<R>(
        &grad.client,
        cubes(&grad, grad.meta.num_elements() / width),
        CubeDim::new_1d(UNITS as u32),
        array(&weights),
        array(&grad),
        width as u32,
        UNITS,
        grad.dtype.into(),
    );
    grad
}
