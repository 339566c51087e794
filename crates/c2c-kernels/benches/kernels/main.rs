//! The kernels on the shapes of Qwen3-0.6B and its fuser, a launch and a wait each, on every device of this build that has them:
//! `cargo bench -p c2c-kernels --features cuda` (or `wgpu`). `c2c bench` times whole passes.

#![allow(missing_docs, clippy::expect_used)]

mod fuser;
mod models;
mod training;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::KernelBackend;
use criterion::Criterion;

const HIDDEN: usize = 1024;
const INNER: usize = 3072;
const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
const VOCABULARY: usize = 151_936;
const TOKENS: usize = 512;
const LAYERS: usize = 28;
const EPSILON: f64 = 1e-6;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let devices = devices().into_iter().filter(Dispatch::has_kernels);
    let mut found = false;
    for device in devices {
        found = true;
        let dtype = if Dispatch::has_fast_bf16(&device) { DType::BF16 } else { DType::F32 };
        let mut bench = Bench { criterion: &mut criterion, device, dtype };
        models::all(&mut bench);
        fuser::all(&mut bench);
        training::all(&mut bench);
    }
    if !found {
        eprintln!("no device of this build has kernels: add --features cuda or --features wgpu, without fusion");
    }
}

/// A device of each kind that this build knows.
fn devices() -> Vec<DispatchDevice> {
    vec![
        DispatchDevice::Flex(burn_flex::FlexDevice),
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(burn::backend::cuda::CudaDevice::new(0)),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(burn::backend::wgpu::WgpuDevice::DefaultDevice),
    ]
}

/// What kernels are timed with: a device and the dtype of models on it.
struct Bench<'a> {
    criterion: &'a mut Criterion,
    device: DispatchDevice,
    dtype: DType,
}

impl Bench<'_> {
    fn time(&mut self, name: &str, work: impl Fn()) {
        let wait = || Dispatch::sync(&self.device).expect("the device works");
        self.criterion.bench_function(&format!("{name}, {}", self.device_name()), |b| {
            b.iter(|| {
                work();
                wait();
            });
        });
    }

    fn device_name(&self) -> &'static str {
        match self.device {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => "CUDA",
            #[cfg(feature = "wgpu")]
            DispatchDevice::Wgpu(_) => "WGPU",
            _ => "CPU",
        }
    }

    /// Normal numbers in the dtype of models.
    fn normal<const D: usize>(&self, shape: [usize; D]) -> Tensor<Dispatch, D> {
        self.normal_f32(shape).cast(self.dtype)
    }

    fn normal_f32<const D: usize>(&self, shape: [usize; D]) -> Tensor<Dispatch, D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device)
    }

    fn ones(&self, width: usize) -> Tensor<Dispatch, 1> {
        Tensor::ones([width], &self.device)
    }

    fn ints(&self, values: impl Iterator<Item = i32>) -> Tensor<Dispatch, 1, Int> {
        let values: Vec<i32> = values.collect();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &self.device)
    }

    /// Keys or values of a prompt.
    fn cache(&self) -> Tensor<Dispatch, 4> {
        self.normal([1, KV_HEADS, TOKENS, HEAD_DIM])
    }
}
