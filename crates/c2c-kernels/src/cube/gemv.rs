//! A few rows times a matrix: what a decoded token does most.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::activate;
use super::launch::{array, cubes, dense, empty};
use crate::Act;

/// Lanes that share an output; CUDA's plane.
const LANES: usize = 32;
/// Outputs a cube.
const OUTPUTS: usize = 4;

/// The tensors of [`crate::Gemv`] on one runtime.
pub(crate) struct Args<R: CubeRuntime> {
    pub(crate) x: CubeTensor<R>,
    pub(crate) weight: CubeTensor<R>,
    pub(crate) norm: Option<(CubeTensor<R>, f64)>,
    pub(crate) bias: Option<CubeTensor<R>>,
    pub(crate) residual: Option<CubeTensor<R>>,
    pub(crate) gated: Option<Act>,
}

/// What a gemv does besides the product; each combination is a kernel of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    /// Vectors a row of `x`.
    vectors: usize,
    norm: bool,
    bias: bool,
    residual: bool,
    gated: bool,
    gelu: bool,
}

/// One plane an output: its lanes share the row of the matrix. Rows of `x` after the first find it in the cache.
#[cube(launch)]
fn gemv_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    weight: &Array<Vector<F, N>>,
    norm: &Array<f32>,
    bias: &Array<F>,
    residual: &Array<F>,
    out: &mut Array<F>,
    eps: f32,
    outputs: u32,
    #[comptime] shape: Shape,
    #[define(F)] _dtype: StorageType,
) {
    let outputs = outputs as usize;
    let output = CUBE_POS * comptime!(OUTPUTS) + UNIT_POS_Y as usize;
    if output >= outputs {
        terminate!();
    }
    let lane = UNIT_POS_X as usize;
    let vectors = comptime!(shape.vectors);
    let n = N::value();

    #[unroll]
    for row in 0..comptime!(shape.rows) {
        let squares = RuntimeCell::<f32>::new(0.0_f32);
        let first = RuntimeCell::<f32>::new(0.0_f32);
        let second = RuntimeCell::<f32>::new(0.0_f32);
        let v = RuntimeCell::<usize>::new(lane);
        while v.read() < vectors {
            let a = x[row * vectors + v.read()];
            let w = weight[output * vectors + v.read()];
            #[unroll]
            for e in 0..n {
                let mut value = f32::cast_from(a[e]);
                if comptime!(shape.norm) {
                    squares.store(squares.read() + value * value);
                    value *= norm[v.read() * n + e];
                }
                first.store(first.read() + value * f32::cast_from(w[e]));
            }
            if comptime!(shape.gated) {
                let u = weight[(outputs + output) * vectors + v.read()];
                #[unroll]
                for e in 0..n {
                    let mut value = f32::cast_from(a[e]);
                    if comptime!(shape.norm) {
                        value *= norm[v.read() * n + e];
                    }
                    second.store(second.read() + value * f32::cast_from(u[e]));
                }
            }
            v.store(v.read() + comptime!(LANES));
        }
        let mut result = plane_sum(first.read());
        let mut up = 0.0_f32.runtime();
        if comptime!(shape.gated) {
            up = plane_sum(second.read());
        }
        if comptime!(shape.norm) {
            let total = plane_sum(squares.read());
            let scale = 1.0_f32 / f32::sqrt(total / ((vectors * n) as f32) + eps);
            result *= scale;
            up *= scale;
        }
        if lane == 0 {
            let at = row * outputs + output;
            if comptime!(shape.gated) {
                result = activate(result, shape.gelu) * up;
            }
            if comptime!(shape.bias) {
                result += f32::cast_from(bias[output]);
            }
            if comptime!(shape.residual) {
                result += f32::cast_from(residual[at]);
            }
            out[at] = F::cast_from(result);
        }
    }
}

pub(crate) fn gemv<R: CubeRuntime>(args: Args<R>) -> CubeTensor<R> {
    let (x, weight) = (dense(args.x), dense(args.weight));
    let (rows, width) = (x.meta.shape()[0], x.meta.shape()[1]);
    let stored = weight.meta.shape()[0];
    let outputs = if args.gated.is_some() { stored / 2 } else { stored };
    let out = empty(&x, [rows, outputs], x.dtype);
    let n = [8, 4, 2].into_iter().find(|n| width % n == 0 && n * x.dtype.size() <= 16).unwrap_or(1);
    let shape = Shape {
        rows,
        vectors: width / n,
        norm: args.norm.is_some(),
        bias: args.bias.is_some(),
        residual: args.residual.is_some(),
        gated: args.gated.is_some(),
        gelu: args.gated == Some(Act::GeluTanh),
    };
    let residual = args.residual.map(dense);
    let bias = args.bias.map(dense);
    let (norm, eps) = args.norm.map_or((None, 0.0), |(weight, eps)| (Some(dense(weight)), eps));
    gemv_kernel::launch::<R>(
        &x.client,
        cubes(&x, outputs.div_ceil(OUTPUTS)),
        CubeDim::new_2d(LANES as u32, OUTPUTS as u32),
        n,
        array(&x),
        array(&weight),
        array(norm.as_ref().unwrap_or(&x)),
        array(bias.as_ref().unwrap_or(&x)),
        array(residual.as_ref().unwrap_or(&x)),
        array(&out),
        eps as f32,
        outputs as u32,
        shape,
        x.dtype.into(),
    );
    out
}
