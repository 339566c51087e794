//! Times every strategy of matrix products on the shapes that a pair meets, on CUDA in bf16, and checks samples of each
//! result against sums made on the host. The choice in `src/cube/matmul.rs` rests on its output.

#![allow(missing_docs, clippy::expect_used)]

use std::time::Instant;

use burn::backend::cuda::CudaDevice;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::tuning::{matmul_by, strategies};

/// Name, batch, rows, inner, columns, and whether the right side is stored transposed.
const SHAPES: &[(&str, usize, usize, usize, usize, bool)] = &[
    ("qkv of 512 tokens", 1, 512, 1024, 4096, true),
    ("output projection", 1, 512, 2048, 1024, true),
    ("gate and up", 2, 512, 1024, 3072, true),
    ("down", 1, 512, 3072, 1024, true),
    ("scores", 8, 1024, 128, 512, true),
    ("weighted values", 8, 1024, 512, 128, false),
    ("fuser input", 56, 512, 1152, 1024, false),
    ("fuser block", 56, 512, 1024, 1024, false),
    ("fuser gradient of the input", 56, 512, 1024, 1024, true),
    ("large", 1, 8192, 8192, 8192, false),
];

fn main() {
    let device = DispatchDevice::Cuda(CudaDevice::new(0));
    let random = |shape: [usize; 3]| {
        Tensor::<Dispatch, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device).cast(DType::BF16)
    };
    for (name, batch, m, k, n, transposed) in SHAPES {
        let a = random([*batch, *m, *k]);
        let b = if *transposed { random([*batch, *n, *k]).swap_dims(1, 2) } else { random([*batch, *k, *n]) };
        let flops = 2.0 * (batch * m * k * n) as f64;
        println!("{name}: {batch} x ({m} x {k} x {n})");
        let samples = samples(&a, &b);
        for (strategy_name, strategy) in strategies() {
            let run = || matmul_by(&strategy, a.clone(), b.clone());
            let tried =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> Result<(f64, f64, f32), String> {
                    let start = Instant::now();
                    let first = run()?;
                    Dispatch::sync(&device).map_err(|e| format!("{e:?}"))?;
                    let cold = start.elapsed().as_secs_f64();
                    let start = Instant::now();
                    const REPEATS: u32 = 20;
                    for _ in 0..REPEATS {
                        run()?;
                    }
                    Dispatch::sync(&device).map_err(|e| format!("{e:?}"))?;
                    let seconds = start.elapsed().as_secs_f64() / f64::from(REPEATS);
                    let out = host(&first);
                    let at = |(row, value): &(usize, f32)| (out[*row] - value).abs();
                    let largest = samples.iter().map(|s| s.1.abs()).fold(0.0, f32::max);
                    Ok((cold, seconds, samples.iter().map(at).fold(0.0, f32::max) / largest))
                }));
            match tried {
                Ok(Ok((cold, seconds, off))) => println!(
                    "  {strategy_name:<24} {:>9.1} us {:>7.1} TFLOP/s  cold {:>5.1} s  off by {off:.1e} of the largest",
                    seconds * 1e6,
                    flops / seconds / 1e12,
                    cold
                ),
                Ok(Err(e)) => println!("  {strategy_name:<24} {}", e.chars().take(100).collect::<String>()),
                Err(_) => println!("  {strategy_name:<24} panicked"),
            }
        }
    }
}

fn host(x: &Tensor<Dispatch, 3>) -> Vec<f32> {
    x.clone().cast(DType::F32).into_data().to_vec().expect("f32")
}

/// Positions in the flat result and what should stand there.
fn samples(a: &Tensor<Dispatch, 3>, b: &Tensor<Dispatch, 3>) -> Vec<(usize, f32)> {
    const SAMPLES: usize = 199;
    let ([batch, m, k], n) = (a.dims(), b.dims()[2]);
    let (left, right) = (host(a), host(b));
    // A stride that shares no factor with the shapes visits every part of the result.
    let positions = (0..SAMPLES).map(|i| i * 1_000_003 % (batch * m * n));
    positions
        .map(|at| {
            let (of, row, column) = (at / (m * n), at / n % m, at % n);
            let term = |i: usize| f64::from(left[(of * m + row) * k + i]) * f64::from(right[(of * k + i) * n + column]);
            (at, (0..k).map(term).sum::<f64>() as f32)
        })
        .collect()
}
