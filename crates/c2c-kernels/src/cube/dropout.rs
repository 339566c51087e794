//! Dropout whose mask is a function of a seed and an element's place, so that nobody has to keep it.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, dense, empty};
use super::norm::by_vectors;

/// Mixes the bits of a number; every one of its bits moves about half of the result's (Wellons, "lowbias32").
#[cube]
fn mixed(x: u32) -> u32 {
    let x = (x ^ (x >> 16u32)) * 0x7feb_352d_u32;
    let x = (x ^ (x >> 15u32)) * 0x846c_a68b_u32;
    x ^ (x >> 16u32)
}

/// One unit a vector of elements.
#[cube(launch)]
fn dropout_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    seed: u32,
    seed_high: u32,
    threshold: u32,
    scale: f32,
    vectors: u32,
    #[comptime] add: bool,
    #[comptime] lanes: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    let value = Vector::<f32, N>::cast_from(y[ABSOLUTE_POS]);
    let mut kept = Vector::<f32, N>::new(0.0_f32);
    #[unroll]
    for lane in 0..lanes {
        let place = (ABSOLUTE_POS * lanes + lane) as u32;
        if mixed(mixed(place ^ seed) ^ seed_high) >= threshold {
            kept[lane] = value[lane] * scale;
        }
    }
    if comptime!(add) {
        kept += Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    }
    out[ABSOLUTE_POS] = Vector::cast_from(kept);
}

/// `y` with a share of its elements 0 and the others grown by as much, added to `x` if there is one.
/// There are no more elements than a `u32` counts.
pub(crate) fn dropped<R: CubeRuntime>(
    x: Option<CubeTensor<R>>,
    y: CubeTensor<R>,
    share: f64,
    seed: u64,
) -> CubeTensor<R> {
    let y = dense(y);
    let add = x.is_some();
    let x = x.map_or_else(|| y.clone(), dense);
    let out = empty(&y, y.meta.shape().clone(), y.dtype);
    let (cubes, dim, vector, vectors) = by_vectors(&y);
    dropout_kernel::launch::<R>(
        &y.client,
        cubes,
        dim,
        vector,
        array(&x),
        array(&y),
        array(&out),
        seed as u32,
        (seed >> 32) as u32,
        (share * 2.0_f64.powi(32)) as u32,
        (1.0 / (1.0 - share)) as f32,
        vectors,
        add,
        vector,
        y.dtype.into(),
    );
    out
}
