//! The kernels in CubeCL and their launch functions, generic over the runtime.

mod adamw;
mod argmax;
mod attention;
mod backward;
mod decode;
mod dropout;
mod fusion;
mod gemv;
mod launch;
mod loss;
#[cfg(feature = "cuda")]
mod matmul;
mod norm;
mod order;
mod qkv;
mod qkv_backward;
mod sample;
mod search;
mod squares;
mod weight;

pub(crate) use adamw::adamw;
pub(crate) use argmax::argmax;
pub(crate) use attention::{Mask, masked_softmax};
#[cfg(feature = "cuda")]
pub(crate) use attention::{real_or_dummy, window_of};
pub(crate) use backward::{gated_backward, rms_norm_backward, rms_scale_backward, softmax_backward};
pub(crate) use decode::{decode_attention, decode_slots};
pub(crate) use dropout::dropped;
pub(crate) use fusion::{GatherArgs, ScatterArgs, gather_layer, scatter_layer};
pub(crate) use gemv::{Args as GemvArgs, gemv};
pub(crate) use launch::first_slots;
#[cfg(feature = "cuda")]
pub(crate) use launch::{dense, empty};
pub(crate) use loss::{cross_entropy, log_sum_exp};
#[cfg(feature = "cuda")]
pub(crate) use matmul::{matmul_by, strategies_for};
pub(crate) use norm::{add_rms_norm, gated, gelu, gelu_backward, rms_scale};
pub(crate) use qkv::{Args as QkvArgs, qkv_to_cache};
pub(crate) use qkv_backward::{Args as QkvBackwardArgs, qkv_backward};
pub(crate) use sample::sample;
pub(crate) use squares::sum_of_squares;
pub(crate) use weight::{scaled_weight, scaled_weight_backward};

use cubecl::prelude::*;

/// The sum of a vector's `n` elements.
#[cube]
pub(crate) fn vector_sum<N: Size>(x: Vector<f32, N>, #[comptime] n: usize) -> f32 {
    let sum = RuntimeCell::<f32>::new(0.0_f32);
    #[unroll]
    for e in 0..n {
        sum.store(sum.read() + x[e]);
    }
    sum.read()
}

/// Elements that a unit reads at once of rows of this width.
pub(crate) fn vector_of(width: usize) -> usize {
    [4, 2].into_iter().find(|n| width.is_multiple_of(*n)).unwrap_or(1)
}

/// Sums one value a unit over the cube; every unit gets the sum. `units` is a power of two.
#[cube]
pub(crate) fn cube_sum(value: f32, #[comptime] units: usize) -> f32 {
    cube_reduce::<f32>(value, units, false)
}

/// As [`cube_sum`], the largest value.
#[cube]
pub(crate) fn cube_max(value: f32, #[comptime] units: usize) -> f32 {
    cube_reduce::<f32>(value, units, true)
}

/// As [`cube_max`], of keys.
#[cube]
pub(crate) fn cube_top(value: u32, #[comptime] units: usize) -> u32 {
    cube_reduce::<u32>(value, units, true)
}

#[cube]
fn cube_reduce<T: Numeric>(value: T, #[comptime] units: usize, #[comptime] largest: bool) -> T {
    let mut shared = SharedMemory::<T>::new(units);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let half = RuntimeCell::<usize>::new(units / 2);
    while half.read() > 0 {
        if unit < half.read() {
            let other = shared[unit + half.read()];
            if comptime!(largest) {
                if other > shared[unit] {
                    shared[unit] = other;
                }
            } else {
                shared[unit] += other;
            }
        }
        sync_cube();
        half.store(half.read() / 2);
    }
    let result = shared[0];
    sync_cube();
    result
}

/// `x * sigmoid(x)`, or the tanh form of GELU.
#[cube]
pub(crate) fn activate(x: f32, #[comptime] gelu: bool) -> f32 {
    if comptime!(gelu) {
        let inner = 0.797_884_6_f32 * (x + 0.044_715_f32 * x * x * x);
        // 1 + tanh(i) is 2 sigmoid(2 i), which doesn't overflow.
        x / (1.0_f32 + f32::exp(-2.0_f32 * inner))
    } else {
        x / (1.0_f32 + f32::exp(-x))
    }
}
