//! Times every strategy of matrix products on the shapes that a pair meets, on CUDA in bf16, and checks samples of each
//! result against sums made on the host. The choices in `src/cube/matmul.rs` and `src/hopper` rest on its output.
//!
//! With words behind the command only the ways whose names contain one of them: `-- tile` for those of `src/hopper`.

#![allow(missing_docs, clippy::expect_used)]

use std::time::Instant;

use burn::backend::cuda::CudaDevice;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::KernelBackend;
use c2c_kernels::tuning::{Tile, matmul_by, matmul_by_tile, strategies};

/// Name, batch, rows, inner, columns, and which sides are stored transposed.
type Shape = (&'static str, usize, usize, usize, usize, [bool; 2]);

const LEFT: [bool; 2] = [true, false];
const RIGHT: [bool; 2] = [false, true];
const NEITHER: [bool; 2] = [false, false];

const SHAPES: &[Shape] = &[
    ("qkv of 512 tokens", 1, 512, 1024, 4096, RIGHT),
    ("output projection", 1, 512, 2048, 1024, RIGHT),
    ("gate and up", 2, 512, 1024, 3072, RIGHT),
    ("down", 1, 512, 3072, 1024, RIGHT),
    ("scores", 8, 1024, 128, 512, RIGHT),
    ("weighted values", 8, 1024, 512, 128, NEITHER),
    ("scores of width 64, 2048 tokens", 2, 14_336, 64, 2048, RIGHT),
    ("weighted values of width 64", 2, 14_336, 2048, 64, NEITHER),
    ("fuser input", 56, 512, 1152, 1024, NEITHER),
    ("fuser block", 56, 512, 1024, 1024, NEITHER),
    ("fuser gradient of the input", 56, 2048, 1024, 1024, RIGHT),
    ("fuser gradient of a weight", 56, 1024, 2048, 1024, LEFT),
    ("head of 512 tokens", 1, 512, 1024, 151_936, RIGHT),
    ("rows of a batch of 16", 1, 16, 1024, 4096, RIGHT),
    ("large", 1, 8192, 8192, 8192, NEITHER),
];

type Try = Box<dyn Fn(Tensor<Dispatch, 3>, Tensor<Dispatch, 3>) -> Result<Tensor<Dispatch, 3>, String>>;

fn ways() -> Vec<(String, Try)> {
    let by_strategy = strategies().into_iter().map(|(name, strategy)| {
        let way: Try = Box::new(move |a, b| matmul_by(&strategy, a, b));
        (name.to_owned(), way)
    });
    let by_tile = Tile::ALL.into_iter().map(|tile| {
        let way: Try = Box::new(move |a, b| matmul_by_tile(tile, a, b).ok_or_else(|| "not for these shapes".into()));
        (format!("tile {} x {}, {} stages", tile.warpgroups * 64, tile.columns, tile.stages), way)
    });
    let chosen: Try = Box::new(|a, b| Ok(Dispatch::product(a, b)));
    let all = by_strategy.chain(by_tile).chain([("chosen tile or strategy".to_owned(), chosen)]);
    let words: Vec<String> = std::env::args().skip(1).collect();
    all.filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word))).collect()
}

fn main() {
    let device = DispatchDevice::Cuda(CudaDevice::new(0));
    let random = |batch: usize, rows: usize, columns: usize, transposed: bool| {
        let shape = if transposed { [batch, columns, rows] } else { [batch, rows, columns] };
        let x = Tensor::<Dispatch, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device).cast(DType::BF16);
        if transposed { x.swap_dims(1, 2) } else { x }
    };
    for &(name, batch, m, k, n, transposed) in SHAPES {
        let (a, b) = (random(batch, m, k, transposed[0]), random(batch, k, n, transposed[1]));
        let flops = 2.0 * (batch * m * k * n) as f64;
        println!("{name}: {batch} x ({m} x {k} x {n})");
        let samples = samples(&a, &b);
        for (way_name, way) in ways() {
            let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| timed(&way, &a, &b, &samples)));
            match tried {
                Ok(Ok((cold, seconds, off))) => println!(
                    "  {way_name:<24} {:>9.1} us {:>7.1} TFLOP/s  cold {:>5.1} s  off by {off:.1e} of the largest",
                    seconds * 1e6,
                    flops / seconds / 1e12,
                    cold
                ),
                Ok(Err(e)) => println!("  {way_name:<24} {}", e.chars().take(100).collect::<String>()),
                Err(_) => println!("  {way_name:<24} panicked"),
            }
        }
    }
}

/// Seconds of the first time and of one among many, and the distance from the samples.
fn timed(
    way: &Try,
    a: &Tensor<Dispatch, 3>,
    b: &Tensor<Dispatch, 3>,
    samples: &[(usize, f32)],
) -> Result<(f64, f64, f32), String> {
    const REPEATS: u32 = 50;
    let device = a.device();
    let wait = || Dispatch::sync(&device).map_err(|e| format!("{e:?}"));
    let start = Instant::now();
    let first = way(a.clone(), b.clone())?;
    wait()?;
    let cold = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..REPEATS {
        way(a.clone(), b.clone())?;
    }
    wait()?;
    let seconds = start.elapsed().as_secs_f64() / f64::from(REPEATS);
    let out = host(&first);
    let at = |(row, value): &(usize, f32)| (out[*row] - value).abs();
    let largest = samples.iter().map(|s| s.1.abs()).fold(0.0, f32::max);
    Ok((cold, seconds, samples.iter().map(at).fold(0.0, f32::max) / largest))
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
