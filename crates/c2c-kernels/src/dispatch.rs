//! The kernels for `Dispatch` tensors, each on the runtime of its device.

use burn::tensor::{DType, Int, Tensor, activation};
use burn::{Dispatch, DispatchDevice};

use crate::cube;
use crate::side::Side;
use crate::{
    Act, AdamWStep, FusedLayer, FusedResult, Gemv, KernelBackend, QkvBackward, QkvToCache, Sampling, SoftmaxMask,
};

/// Runs a generic function on the runtime that a device belongs to.
macro_rules! on {
    ($device:expr, $function:ident $(<$more:ident>)? ($($argument:expr),*)) => {
        match $device {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => $function::<cubecl::cuda::CudaRuntime $(, $more)?>($($argument),*),
            #[cfg(feature = "wgpu")]
            DispatchDevice::Wgpu(_) => $function::<cubecl::wgpu::WgpuRuntime $(, $more)?>($($argument),*),
            _ => crate::absent(),
        }
    };
}

impl KernelBackend for Dispatch {
    fn has_kernels(device: &DispatchDevice) -> bool {
        match device {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => true,
            #[cfg(feature = "wgpu")]
            DispatchDevice::Wgpu(_) => true,
            _ => false,
        }
    }

    fn has_gemv(device: &DispatchDevice) -> bool {
        match device {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => true,
            _ => false,
        }
    }

    fn has_fast_bf16(device: &DispatchDevice) -> bool {
        match device {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => true,
            DispatchDevice::Autodiff(inner) => Self::has_fast_bf16(inner),
            _ => false,
        }
    }

    #[cfg(feature = "cuda")]
    fn product<const D: usize>(a: Tensor<Self, D>, b: Tensor<Self, D>) -> Tensor<Self, D> {
        use cubecl::cuda::CudaRuntime;
        match a.device() {
            DispatchDevice::Cuda(_) => {
                CudaRuntime::tensor(crate::autodiff::product(CudaRuntime::float(a), CudaRuntime::float(b)))
            }
            DispatchDevice::Autodiff(_) => crate::autodiff::tracked_product(&a, &b).unwrap_or_else(|| a.matmul(b)),
            _ => a.matmul(b),
        }
    }

    fn first_slots(x: &Tensor<Self, 4>, slots: usize) -> Tensor<Self, 4> {
        fn run<R: Side>(x: &Tensor<Dispatch, 4>, slots: usize) -> Tensor<Dispatch, 4> {
            R::tensor(cube::first_slots::<R>(R::float(x.clone()), slots))
        }
        on!(x.device(), run(x, slots))
    }

    fn add_rms_norm(
        x: Tensor<Self, 2>,
        y: Option<Tensor<Self, 2>>,
        weight: Tensor<Self, 1>,
        eps: f64,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        fn run<R: Side>(
            x: Tensor<Dispatch, 2>,
            y: Option<Tensor<Dispatch, 2>>,
            weight: Tensor<Dispatch, 1>,
            eps: f64,
        ) -> (Tensor<Dispatch, 2>, Tensor<Dispatch, 2>) {
            let (sum, out) = cube::add_rms_norm::<R>(R::float(x), y.map(R::float), R::float(weight), eps);
            (R::tensor(sum), R::tensor(out))
        }
        on!(x.device(), run(x, y, weight, eps))
    }

    fn gated(x: Tensor<Self, 3>, act: Act) -> Tensor<Self, 2> {
        fn run<R: Side>(x: Tensor<Dispatch, 3>, act: Act) -> Tensor<Dispatch, 2> {
            R::tensor(cube::gated::<R>(R::float(x), act))
        }
        on!(x.device(), run(x, act))
    }

    fn rms_scale<const D: usize>(x: Tensor<Self, D>, eps: f64) -> Tensor<Self, D> {
        fn run<R: Side, const D: usize>(x: Tensor<Dispatch, D>, eps: f64) -> Tensor<Dispatch, D> {
            R::tensor(cube::rms_scale::<R>(R::float(x), eps))
        }
        match x.device() {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => run::<cubecl::cuda::CudaRuntime, D>(x, eps),
            #[cfg(feature = "wgpu")]
            DispatchDevice::Wgpu(_) => run::<cubecl::wgpu::WgpuRuntime, D>(x, eps),
            _ => crate::tracked::rms_scale(&x, eps).unwrap_or_else(|| crate::rms_scale(x, eps)),
        }
    }

    fn exact_gelu<const D: usize>(x: Tensor<Self, D>) -> Tensor<Self, D> {
        fn run<R: Side, const D: usize>(x: Tensor<Dispatch, D>) -> Tensor<Dispatch, D> {
            R::tensor(cube::gelu::<R>(R::float(x)))
        }
        match x.device() {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(_) => run::<cubecl::cuda::CudaRuntime, D>(x),
            #[cfg(feature = "wgpu")]
            DispatchDevice::Wgpu(_) => run::<cubecl::wgpu::WgpuRuntime, D>(x),
            _ => crate::tracked::gelu(&x).unwrap_or_else(|| activation::gelu(x)),
        }
    }

    fn ffn(x: Tensor<Self, 3>, w1: Tensor<Self, 3>, w2: Tensor<Self, 3>, eps: f64) -> Tensor<Self, 3> {
        crate::tracked::ffn([&x, &w1, &w2], eps).unwrap_or_else(|| crate::ffn(x, w1, w2, eps))
    }

    fn add_dropped(x: &Tensor<Self, 3>, y: &Tensor<Self, 3>, share: f64, seed: u64) -> Option<Tensor<Self, 3>> {
        crate::tracked::add_dropped([x, y], share, seed)
    }

    fn parameter_as<const D: usize>(param: Tensor<Self, D>, dtype: DType) -> Tensor<Self, D> {
        if param.dtype() == dtype {
            return param;
        }
        crate::tracked::parameter_as(&param, dtype).unwrap_or_else(|| param.cast(dtype))
    }

    fn scaled_weight(weight: Tensor<Self, 3>, norm: Tensor<Self, 3>, dtype: DType) -> Tensor<Self, 3> {
        fn run<R: Side>(weight: Tensor<Dispatch, 3>, norm: Tensor<Dispatch, 3>, dtype: DType) -> Tensor<Dispatch, 3> {
            R::tensor(cube::scaled_weight::<R>(R::float(weight), R::float(norm), dtype))
        }
        let device = weight.device();
        if [weight.dtype(), norm.dtype()] != [DType::F32; 2] {
            crate::scaled_weight(weight, norm, dtype)
        } else if Self::has_kernels(&device) {
            on!(device, run(weight, norm, dtype))
        } else {
            let tracked = crate::tracked::scaled_weight(&weight, &norm, dtype);
            tracked.unwrap_or_else(|| crate::scaled_weight(weight, norm, dtype))
        }
    }

    fn sum_of_squares(tensors: Vec<Tensor<Self, 1>>) -> Tensor<Self, 1> {
        fn run<R: Side>(tensors: Vec<Tensor<Dispatch, 1>>) -> Tensor<Dispatch, 1> {
            R::tensor(cube::sum_of_squares::<R>(tensors.into_iter().map(R::float).collect()))
        }
        match tensors.first() {
            Some(first) => on!(first.device(), run(tensors)),
            None => crate::absent(),
        }
    }

    fn qkv_to_cache(args: QkvToCache<'_, Self>) -> Tensor<Self, 4> {
        fn run<R: Side>(args: QkvToCache<'_, Dispatch>) -> Tensor<Dispatch, 4> {
            R::tensor(cube::qkv_to_cache::<R>(cube::QkvArgs {
                joined: R::float(args.joined),
                bias: args.bias.map(R::float),
                norms: args.norms.map(|(q, k)| (R::float(q), R::float(k))),
                cos: R::float(args.tables.0.clone()),
                sin: R::float(args.tables.1.clone()),
                positions: R::int(args.positions.clone()),
                key: R::float(args.key.clone()),
                value: R::float(args.value.clone()),
                past: args.past,
                tail: args.tail,
                heads: args.heads,
                scale: args.scale,
                eps: args.eps,
            }))
        }
        on!(args.joined.device(), run(args))
    }

    fn masked_softmax(scores: Tensor<Self, 4>, mask: SoftmaxMask<'_, Self>) -> Tensor<Self, 4> {
        fn run<R: Side>(scores: Tensor<Dispatch, 4>, mask: SoftmaxMask<'_, Dispatch>) -> Tensor<Dispatch, 4> {
            R::tensor(cube::masked_softmax::<R>(R::float(scores), open_mask(mask)))
        }
        on!(scores.device(), run(scores, mask))
    }

    #[cfg(feature = "cuda")]
    fn prefill_attention(
        query: Tensor<Self, 4>,
        key: Tensor<Self, 4>,
        value: Tensor<Self, 4>,
        mask: SoftmaxMask<'_, Self>,
    ) -> Tensor<Self, 2> {
        use cubecl::cuda::CudaRuntime;
        if matches!(query.device(), DispatchDevice::Cuda(_)) {
            let [query, key, value] = [&query, &key, &value].map(|x| CudaRuntime::float(x.clone()));
            if let Some(out) = crate::hopper::attention(query, &key, &value, &open_mask(mask)) {
                return CudaRuntime::tensor(out);
            }
        }
        crate::attention_by_products(query, key, value, mask).1
    }

    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        grad: Tensor<Self, 2>,
        residual: Option<Tensor<Self, 2>>,
        eps: f64,
    ) -> Tensor<Self, 2> {
        fn run<R: Side>(
            x: Tensor<Dispatch, 2>,
            weight: Tensor<Dispatch, 1>,
            grad: Tensor<Dispatch, 2>,
            residual: Option<Tensor<Dispatch, 2>>,
            eps: f64,
        ) -> Tensor<Dispatch, 2> {
            let residual = residual.map(R::float);
            R::tensor(cube::rms_norm_backward::<R>(R::float(x), R::float(weight), R::float(grad), residual, eps))
        }
        on!(x.device(), run(x, weight, grad, residual, eps))
    }

    fn gated_backward(x: Tensor<Self, 3>, grad: Tensor<Self, 2>, act: Act) -> Tensor<Self, 2> {
        fn run<R: Side>(x: Tensor<Dispatch, 3>, grad: Tensor<Dispatch, 2>, act: Act) -> Tensor<Dispatch, 2> {
            R::tensor(cube::gated_backward::<R>(R::float(x), R::float(grad), act))
        }
        on!(x.device(), run(x, grad, act))
    }

    fn softmax_backward(weights: Tensor<Self, 4>, grad: Tensor<Self, 4>) -> Tensor<Self, 4> {
        fn run<R: Side>(weights: Tensor<Dispatch, 4>, grad: Tensor<Dispatch, 4>) -> Tensor<Dispatch, 4> {
            R::tensor(cube::softmax_backward::<R>(R::float(weights), R::float(grad)))
        }
        on!(weights.device(), run(weights, grad))
    }

    fn qkv_backward(args: QkvBackward<'_, Self>) -> Tensor<Self, 2> {
        fn run<R: Side>(args: QkvBackward<'_, Dispatch>) -> Tensor<Dispatch, 2> {
            R::tensor(cube::qkv_backward::<R>(cube::QkvBackwardArgs {
                joined: R::float(args.joined.clone()),
                bias: args.bias.map(R::float),
                norms: args.norms.map(|(q, k)| (R::float(q), R::float(k))),
                cos: R::float(args.tables.0.clone()),
                sin: R::float(args.tables.1.clone()),
                positions: R::int(args.positions.clone()),
                query: R::float(args.query),
                key: R::float(args.key),
                value: R::float(args.value),
                past: args.past,
                scale: args.scale,
                eps: args.eps,
            }))
        }
        on!(args.query.device(), run(args))
    }

    fn log_sum_exp(logits: Tensor<Self, 2>) -> Tensor<Self, 1> {
        fn run<R: Side>(logits: Tensor<Dispatch, 2>) -> Tensor<Dispatch, 1> {
            R::tensor(cube::log_sum_exp::<R>(R::float(logits)))
        }
        on!(logits.device(), run(logits))
    }

    fn cross_entropy(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        shares: Tensor<Self, 1>,
    ) -> (Tensor<Self, 1>, Tensor<Self, 2>) {
        fn run<R: Side>(
            logits: Tensor<Dispatch, 2>,
            targets: Tensor<Dispatch, 1, Int>,
            shares: Tensor<Dispatch, 1>,
        ) -> (Tensor<Dispatch, 1>, Tensor<Dispatch, 2>) {
            let (losses, gradient) = cube::cross_entropy::<R>(R::float(logits), R::int(targets), R::float(shares));
            (R::tensor(losses), R::tensor(gradient))
        }
        on!(logits.device(), run(logits, targets, shares))
    }

    fn adamw<const D: usize>(
        param: Tensor<Self, D>,
        grad: Tensor<Self, D>,
        moments: Option<[Tensor<Self, D>; 2]>,
        step: AdamWStep,
    ) -> [Tensor<Self, D>; 3] {
        fn run<R: Side, const D: usize>(
            param: Tensor<Dispatch, D>,
            grad: Tensor<Dispatch, D>,
            moments: Option<[Tensor<Dispatch, D>; 2]>,
            step: AdamWStep,
        ) -> [Tensor<Dispatch, D>; 3] {
            let moments = moments.map(|pair| pair.map(R::float));
            cube::adamw::<R>(R::float(param), R::float(grad), moments, step).map(R::tensor)
        }
        on!(param.device(), run<D>(param, grad, moments, step))
    }

    fn decode_slots(device: &DispatchDevice) -> usize {
        use cubecl::Runtime;
        match device {
            #[cfg(feature = "cuda")]
            DispatchDevice::Cuda(device) => cube::decode_slots(&cubecl::cuda::CudaRuntime::client(device)),
            #[cfg(feature = "wgpu")]
            DispatchDevice::Wgpu(device) => cube::decode_slots(&cubecl::wgpu::WgpuRuntime::client(device)),
            _ => 0,
        }
    }

    fn decode_attention(
        query: Tensor<Self, 4>,
        key: &Tensor<Self, 4>,
        value: &Tensor<Self, 4>,
        mask: SoftmaxMask<'_, Self>,
    ) -> Tensor<Self, 2> {
        fn run<R: Side>(
            query: Tensor<Dispatch, 4>,
            key: &Tensor<Dispatch, 4>,
            value: &Tensor<Dispatch, 4>,
            mask: SoftmaxMask<'_, Dispatch>,
        ) -> Tensor<Dispatch, 2> {
            let (key, value) = (R::float(key.clone()), R::float(value.clone()));
            R::tensor(cube::decode_attention::<R>(R::float(query), key, value, open_mask(mask)))
        }
        on!(query.device(), run(query, key, value, mask))
    }

    fn argmax(scores: Tensor<Self, 2>) -> Tensor<Self, 1, Int> {
        fn run<R: Side>(scores: Tensor<Dispatch, 2>) -> Tensor<Dispatch, 1, Int> {
            R::int_tensor(cube::argmax::<R>(R::float(scores)))
        }
        on!(scores.device(), run(scores))
    }

    fn sample(
        logits: Tensor<Self, 2>,
        counts: Option<Tensor<Self, 2, Int>>,
        drawn: Tensor<Self, 1, Int>,
        sampling: Sampling,
    ) -> (Tensor<Self, 1, Int>, Option<Tensor<Self, 2, Int>>) {
        fn run<R: Side>(
            logits: Tensor<Dispatch, 2>,
            counts: Option<Tensor<Dispatch, 2, Int>>,
            drawn: Tensor<Dispatch, 1, Int>,
            sampling: Sampling,
        ) -> (Tensor<Dispatch, 1, Int>, Option<Tensor<Dispatch, 2, Int>>) {
            let (ids, counts) =
                cube::sample::<R>(R::float(logits), counts.map(|counts| R::int(counts)), R::int(drawn), sampling);
            (R::int_tensor(ids), counts.map(|counts| R::int_tensor(counts)))
        }
        on!(logits.device(), run(logits, counts, drawn, sampling))
    }

    fn gather_layer(input: &Tensor<Self, 3>, layer: FusedLayer<'_, Self>) {
        fn run<R: Side>(input: &Tensor<Dispatch, 3>, layer: FusedLayer<'_, Dispatch>) {
            let both = |(key, value): (&Tensor<Dispatch, 4>, &Tensor<Dispatch, 4>)| {
                [R::float(key.clone()), R::float(value.clone())]
            };
            cube::gather_layer::<R>(cube::GatherArgs {
                input: R::float(input.clone()),
                sharer: both(layer.sharer),
                own: both(layer.own),
                begin: layer.begin,
                tokens: layer.tokens,
                branches: layer.branches,
            });
        }
        on!(input.device(), run(input, layer))
    }

    fn scatter_layer(
        key: Tensor<Self, 4>,
        value: Tensor<Self, 4>,
        result: FusedResult<'_, Self>,
    ) -> [Tensor<Self, 4>; 2] {
        fn run<R: Side>(
            key: Tensor<Dispatch, 4>,
            value: Tensor<Dispatch, 4>,
            result: FusedResult<'_, Dispatch>,
        ) -> [Tensor<Dispatch, 4>; 2] {
            cube::scatter_layer::<R>(cube::ScatterArgs {
                own: [R::float(key), R::float(value)],
                projected: R::float(result.projected.clone()),
                weight: R::float(result.weight.clone()),
                gate: R::float(result.gate.clone()),
                begin: result.begin,
                tokens: result.tokens,
                branches: result.branches,
            })
            .map(R::tensor)
        }
        on!(key.device(), run(key, value, result))
    }

    fn gemv(args: Gemv<'_, Self>) -> Tensor<Self, 2> {
        fn run<R: Side>(args: Gemv<'_, Dispatch>) -> Tensor<Dispatch, 2> {
            R::tensor(cube::gemv::<R>(cube::GemvArgs {
                x: R::float(args.x),
                weight: R::float(args.weight.clone()),
                norm: args.norm.map(|(weight, eps)| (R::float(weight), eps)),
                bias: args.bias.map(R::float),
                residual: args.residual.map(R::float),
                gated: args.gated,
            }))
        }
        on!(args.x.device(), run(args))
    }
}

fn open_mask<R: Side>(mask: SoftmaxMask<'_, Dispatch>) -> cube::Mask<R> {
    cube::Mask {
        real: mask.real.map(|real| R::int(real.clone())),
        tokens: mask.tokens,
        slots: mask.slots,
        window: mask.window,
    }
}
