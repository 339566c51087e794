//! What a launch costs on CUDA, for kernels so small that the GPU hardly works: the caller's share (a few launches into an
//! empty queue) and the time a launch in a long row of them. docs/performance.md rests on its output.

#![allow(missing_docs, clippy::expect_used)]

use std::time::Instant;

use burn::backend::cuda::CudaDevice;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::{Act, Gemv, KernelBackend};

/// Launches in a row.
const MANY: u32 = 2000;
/// Launches that fit the queue between caller and device thread, allocations counted.
const FEW: u32 = 8;

fn main() {
    let device = DispatchDevice::Cuda(CudaDevice::new(0));
    let random = |shape: [usize; 2]| {
        Tensor::<Dispatch, 2>::random(shape, Distribution::Normal(0.0, 1.0), &device).cast(DType::BF16)
    };
    let (row, rows, weight) = (random([1, 1024]), random([128, 1024]), random([1024, 1024]));
    let norm = Tensor::<Dispatch, 1>::ones([1024], &device);
    let pair = random([2, 1024]).reshape([2, 1, 1024]);
    let gemv = || {
        let plain = Gemv { x: row.clone(), weight: &weight, norm: None, bias: None, residual: None, gated: None };
        drop(Dispatch::gemv(plain));
    };
    let works: [(&str, &dyn Fn()); 7] = [
        ("gated", &|| drop(Dispatch::gated(pair.clone(), Act::Silu))),
        ("norm", &|| drop(Dispatch::add_rms_norm(row.clone(), None, norm.clone(), 1e-6))),
        ("norm of a sum", &|| drop(Dispatch::add_rms_norm(row.clone(), Some(row.clone()), norm.clone(), 1e-6))),
        ("product of one row", &gemv),
        ("product of 128 rows", &|| drop(Dispatch::product(rows.clone(), weight.clone().transpose()))),
        ("Burn's product of 128", &|| drop(rows.clone().matmul(weight.clone().transpose()))),
        ("Burn's sum", &|| drop(row.clone() + row.clone())),
    ];
    println!("{:<24} {:>10} {:>10}", "us a launch", "caller", "in a row");
    for (name, work) in works {
        let sync = || Dispatch::sync(&device).expect("the device works");
        let run = |count: u32| {
            sync();
            let start = Instant::now();
            (0..count).for_each(|_| work());
            let handed_over = start.elapsed();
            sync();
            let us = |time: std::time::Duration| time.as_secs_f64() * 1e6 / f64::from(count);
            (us(handed_over), us(start.elapsed()))
        };
        run(MANY);
        println!("{name:<24} {:>10.1} {:>10.1}", run(FEW).0, run(MANY).1);
    }
}
