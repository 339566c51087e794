//! The kernels on the shapes of Qwen3-0.6B and its fuser, a launch and a wait each:
//! `cargo bench -p c2c-kernels --features cuda` (or `wgpu`). `c2c bench` times whole passes.

#![allow(missing_docs, clippy::expect_used)]

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn main() {
    gpu::all(&mut criterion::Criterion::default().configure_from_args());
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn main() {
    eprintln!("no kernels in this build: add --features cuda or --features wgpu");
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu {
    use std::cell::RefCell;

    use burn::tensor::backend::Backend;
    use burn::tensor::{DType, Distribution, Tensor};
    use burn::{Dispatch, DispatchDevice};
    use c2c_kernels::{Act, AdamWStep, Gemv, KernelBackend, SoftmaxMask};
    use criterion::Criterion;

    const HIDDEN: usize = 1024;
    const INNER: usize = 3072;
    const HEADS: usize = 16;
    const KV_HEADS: usize = 8;
    const HEAD_DIM: usize = 128;
    const VOCABULARY: usize = 151_936;
    const TOKENS: usize = 512;
    const LAYERS: usize = 28;

    #[cfg(feature = "cuda")]
    fn device() -> (DispatchDevice, DType) {
        (DispatchDevice::Cuda(burn::backend::cuda::CudaDevice::new(0)), DType::BF16)
    }

    #[cfg(not(feature = "cuda"))]
    fn device() -> (DispatchDevice, DType) {
        (DispatchDevice::Wgpu(burn::backend::wgpu::WgpuDevice::DefaultDevice), DType::F32)
    }

    pub(crate) fn all(criterion: &mut Criterion) {
        let (device, dtype) = device();
        let wait = || Dispatch::sync(&device).expect("the device works");
        let flat =
            |count: usize| Tensor::<Dispatch, 1>::random([count], Distribution::Normal(0.0, 1.0), &device).cast(dtype);
        let matrix = |rows: usize, width: usize| flat(rows * width).reshape([rows, width]);
        let cache = || flat(KV_HEADS * TOKENS * HEAD_DIM).reshape([1, KV_HEADS, TOKENS, HEAD_DIM]);
        let mut bench = |name: &str, work: &dyn Fn()| {
            criterion.bench_function(name, |b| {
                b.iter(|| {
                    work();
                    wait();
                });
            });
        };

        let (x, y) = (matrix(TOKENS, HIDDEN), matrix(TOKENS, HIDDEN));
        let norm = Tensor::<Dispatch, 1>::ones([HIDDEN], &device);
        bench("norm of a sum, 512 rows", &|| {
            drop(Dispatch::add_rms_norm(x.clone(), Some(y.clone()), norm.clone(), 1e-6));
        });
        let both = flat(2 * TOKENS * INNER).reshape([2, TOKENS, INNER]);
        bench("gated, 512 rows", &|| drop(Dispatch::gated(both.clone(), Act::Silu)));
        let branches = flat(56 * TOKENS * HIDDEN).reshape([56, TOKENS, HIDDEN]);
        bench("gelu, 56 branches of 512 rows", &|| drop(Dispatch::exact_gelu(branches.clone())));
        let weight = matrix(INNER, HIDDEN);
        bench("product, 512 rows", &|| drop(Dispatch::product(x.clone(), weight.clone().transpose())));
        if Dispatch::has_gemv(&device) {
            let row = matrix(1, HIDDEN);
            bench("product, 1 row", &|| {
                let plain =
                    Gemv { x: row.clone(), weight: &weight, norm: None, bias: None, residual: None, gated: None };
                drop(Dispatch::gemv(plain));
            });
        }
        let mask = SoftmaxMask { real: None, tokens: TOKENS, slots: TOKENS, window: None };
        let group = HEADS / KV_HEADS * TOKENS;
        bench("masked softmax, 512 tokens", &|| {
            // In place, so that each run needs scores of its own.
            let scores = flat(KV_HEADS * group * TOKENS).reshape([1, KV_HEADS, group, TOKENS]);
            drop(Dispatch::masked_softmax(scores, mask));
        });
        let (key, value) = (cache(), cache());
        let query = flat(HEADS * TOKENS * HEAD_DIM).reshape([1, HEADS, TOKENS, HEAD_DIM]);
        bench("attention of 512 tokens", &|| {
            drop(Dispatch::prefill_attention(query.clone(), key.clone(), value.clone(), mask));
        });
        let query = flat(HEADS * HEAD_DIM).reshape([1, HEADS, 1, HEAD_DIM]);
        let mask = SoftmaxMask { tokens: 1, ..mask };
        bench("attention of a token, 512 slots", &|| {
            drop(Dispatch::decode_attention(query.clone(), &key, &value, mask));
        });
        let logits = matrix(1, VOCABULARY);
        bench("argmax of a vocabulary", &|| drop(Dispatch::argmax(logits.clone())));

        // A weight of half the branches of a fuser, 29 million elements, and what a training step does with it.
        let branches = |rows: usize| {
            let normal = Distribution::Normal(0.0, 1.0);
            Tensor::<Dispatch, 3>::random([LAYERS, rows, HIDDEN], normal, &device)
        };
        let (weight, norm) = (branches(HIDDEN), branches(1));
        bench("weight scaled by a norm", &|| drop(Dispatch::scaled_weight(weight.clone(), norm.clone(), dtype)));
        let gradient = weight.clone().cast(dtype);
        bench("sum of squares", &|| {
            let flat = gradient.clone().reshape([LAYERS * HIDDEN * HIDDEN]);
            drop(Dispatch::sum_of_squares(vec![flat]));
        });
        // In place, so that nobody else may hold them.
        let state = RefCell::new(Some([weight, branches(HIDDEN), branches(HIDDEN).abs()]));
        let step =
            AdamWStep { factor: 0.5, rate: 1e-4, decay: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, time: 1000 };
        bench("step of AdamW", &|| {
            let moved = state
                .take()
                .map(|[weight, first, second]| Dispatch::adamw(weight, gradient.clone(), Some([first, second]), step));
            state.replace(moved);
        });
    }
}
