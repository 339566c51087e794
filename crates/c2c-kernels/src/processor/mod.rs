//! Passes of language models and of a fuser on the processor: f32, without gradients.
//!
//! Composed from Burn's operations, half of a pass over 128 tokens went into making a tensor for each of them, on one thread, and
//! into products that first turn their weight. Here what lies between two products is one pass over memory on all threads, and
//! products are told how to write their result. The arithmetic is that of the composed pass, which is what gradients go through and
//! what this is tested against.

mod attention;
mod branches;
mod maths;
mod product;
mod rows;

use burn::backend::Flex;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive};
use burn::{BackendTensor, Dispatch, DispatchDevice, DispatchTensor, DispatchTensorKind};
use burn_flex::FlexTensor;

use crate::{Act, CpuAttention, CpuQkv};
use attention::{Attention, Qkv};
use branches::Sizes;

/// A backend whose tensors may lie in the processor's memory.
///
/// Its functions may only be called for tensors that [`cpu_takes`](Self::cpu_takes): f32, in that memory, without gradients.
pub trait ProcessorBackend: Backend {
    /// True for the processor without gradients.
    fn on_processor(device: &Self::Device) -> bool;
    /// The tensor in memory.
    fn open<const D: usize>(tensor: Tensor<Self, D>) -> FlexTensor;
    /// And back.
    fn close<const D: usize>(tensor: FlexTensor) -> Tensor<Self, D>;

    /// The tensor in memory, row after row without gaps.
    fn flat<const D: usize>(tensor: &Tensor<Self, D>) -> FlexTensor {
        Self::open(tensor.clone()).to_contiguous()
    }

    /// A new tensor.
    fn made<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Self, D> {
        Self::close(FlexTensor::from_data(TensorData::new(values, shape)))
    }

    /// True if the other functions can be called for this tensor. They do on all threads what elsewhere is composed of single
    /// operations.
    fn cpu_takes<const D: usize>(x: &Tensor<Self, D>) -> bool {
        Self::on_processor(&x.device()) && x.dtype() == DType::F32
    }

    /// RMSNorm of rows.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, width]`; `weight`: `[width]`.
    fn cpu_norm(x: &Tensor<Self, 2>, weight: &Tensor<Self, 1>, eps: f64) -> Tensor<Self, 2> {
        let shape = x.dims();
        let (x, weight) = (Self::flat(x), Self::flat(weight));
        Self::made(rows::norm(x.storage(), weight.storage(), eps), shape)
    }

    /// `x @ weight^T + bias`.
    ///
    /// # Shapes
    /// `x`: `[rows, in]`; `weight`: `[out, in]`; `bias`: `[out]`; returns `[rows, out]`.
    fn cpu_linear(x: &Tensor<Self, 2>, weight: &Tensor<Self, 2>, bias: Option<&Tensor<Self, 1>>) -> Tensor<Self, 2> {
        let ([rows, width], [out, _]) = (x.dims(), weight.dims());
        let (x, weight, bias) = (Self::flat(x), Self::flat(weight), bias.map(Self::flat));
        let bias = bias.as_ref().map(FlexTensor::storage);
        Self::made(rows::linear(x.storage(), weight.storage(), width, bias), [rows, out])
    }

    /// `(act(x @ gate^T) * (x @ up^T)) @ down^T`.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, width]`; `gate_up`: `[2, inner, width]`; `down`: `[width, inner]`.
    fn cpu_mlp(x: &Tensor<Self, 2>, gate_up: &Tensor<Self, 3>, down: &Tensor<Self, 2>, act: Act) -> Tensor<Self, 2> {
        let [rows, width] = x.dims();
        let (x, gate_up, down) = (Self::flat(x), Self::flat(gate_up), Self::flat(down));
        Self::made(rows::mlp(x.storage(), gate_up.storage(), down.storage(), width, act), [rows, width])
    }

    /// Head norms and rotary embedding: scaled queries `[batch, heads, tokens, head_dim]`, keys and values
    /// `[batch, kv_heads, tokens, head_dim]`.
    fn cpu_qkv(args: CpuQkv<'_, Self>) -> [Tensor<Self, 4>; 3] {
        let CpuQkv { joined, norms, tables, positions, tokens, heads, kv_heads, scale } = args;
        let (batch, head_dim) = (positions.len() / tokens, tables.0.dims()[1]);
        let (joined, cos, sin) = (Self::flat(joined), Self::flat(tables.0), Self::flat(tables.1));
        let norms = norms.map(|(q, k, eps)| (Self::flat(&q), Self::flat(&k), eps));
        let norms = norms.as_ref().map(|(q, k, eps)| (q.storage(), k.storage(), *eps));
        let tables = (cos.storage(), sin.storage());
        let joined = joined.storage();
        let parts = Qkv { joined, norms, tables, positions, tokens, heads, kv_heads, head_dim, scale: scale as f32 };
        let [query, key, value] = parts.split();
        let shape = |heads| [batch, heads, tokens, head_dim];
        [Self::made(query, shape(heads)), Self::made(key, shape(kv_heads)), Self::made(value, shape(kv_heads))]
    }

    /// Attention; returns `[batch * tokens, heads * head_dim]`. A query that sees no real slot gets zeros.
    fn cpu_attention(args: CpuAttention<'_, Self>) -> Tensor<Self, 2> {
        let ([batch, heads, tokens, head_dim], [_, kv_heads, capacity, _]) = (args.query.dims(), args.key.dims());
        let (query, key, value) = (Self::flat(args.query), Self::flat(args.key), Self::flat(args.value));
        let attention = Attention {
            query: query.storage(),
            key: key.storage(),
            value: value.storage(),
            real: args.real,
            heads,
            kv_heads,
            tokens,
            capacity,
            head_dim,
            window: args.window,
        };
        Self::made(attention.attend(), [batch * tokens, heads * head_dim])
    }

    /// Writes new slots into a cache, in place if nobody else holds it.
    ///
    /// # Shapes
    /// `cache` and the result: `[batch, kv_heads, capacity, head_dim]`; `new`: `[batch, kv_heads, slots, head_dim]`, which go to
    /// the slots from `at` on.
    fn cpu_write_slots(cache: Tensor<Self, 4>, new: &Tensor<Self, 4>, at: usize) -> Tensor<Self, 4> {
        let ([_, _, capacity, width], [_, _, tokens, _]) = (cache.dims(), new.dims());
        let new = Self::flat(new);
        let mut cache = Self::open(cache).to_contiguous();
        if tokens == 0 {
            return Self::close(cache);
        }
        let heads = cache.storage_mut::<f32>().chunks_exact_mut(capacity * width);
        for (cache, new) in heads.zip(new.storage::<f32>().chunks_exact(tokens * width)) {
            cache[at * width..(at + tokens) * width].copy_from_slice(new);
        }
        Self::close(cache)
    }

    /// `x @ weight + bias`, a product a branch.
    ///
    /// # Shapes
    /// `x`: `[branches, rows, in]`; `weight`: `[branches, in, out]`; `bias`: `[branches, 1, out]`; returns `[branches, rows, out]`.
    fn cpu_branch_linear(x: &Tensor<Self, 3>, weight: &Tensor<Self, 3>, bias: &Tensor<Self, 3>) -> Tensor<Self, 3> {
        let ([branches, rows, width], [_, _, inner]) = (x.dims(), weight.dims());
        let (x, weight, bias) = (Self::flat(x), Self::flat(weight), Self::flat(bias));
        let sizes = Sizes { branches, rows, width, inner };
        let out = branches::linear(x.storage(), weight.storage(), bias.storage(), sizes);
        Self::made(out, [branches, rows, inner])
    }

    /// `x + gelu(rms_norm(x) @ w1) @ w2`, a product a branch; without `norm` its weight is in `w1` already.
    ///
    /// # Shapes
    /// `x` and the result: `[branches, rows, width]`; `norm`: `[branches, 1, width]`; `w1`: `[branches, width, inner]`; `w2`:
    /// `[branches, inner, width]`.
    fn cpu_branch_ffn(
        x: Tensor<Self, 3>,
        norm: Option<&Tensor<Self, 3>>,
        w1: &Tensor<Self, 3>,
        w2: &Tensor<Self, 3>,
        eps: f64,
    ) -> Tensor<Self, 3> {
        let ([branches, rows, width], [_, _, inner]) = (x.dims(), w1.dims());
        let (norm, w1, w2) = (norm.map(Self::flat), Self::flat(w1), Self::flat(w2));
        let mut x = Self::open(x).to_contiguous();
        let norm = norm.as_ref().map(FlexTensor::storage);
        let sizes = Sizes { branches, rows, width, inner };
        branches::ffn(x.storage_mut(), norm, w1.storage(), w2.storage(), eps, sizes);
        Self::close(x)
    }
}

impl ProcessorBackend for Flex {
    fn on_processor(_device: &Self::Device) -> bool {
        true
    }

    fn open<const D: usize>(tensor: Tensor<Self, D>) -> FlexTensor {
        tensor.into_primitive().tensor()
    }

    fn close<const D: usize>(tensor: FlexTensor) -> Tensor<Self, D> {
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }
}

impl ProcessorBackend for Dispatch {
    fn on_processor(device: &Self::Device) -> bool {
        matches!(device, DispatchDevice::Flex(_))
    }

    fn open<const D: usize>(tensor: Tensor<Self, D>) -> FlexTensor {
        match tensor.into_primitive().tensor().into_kind() {
            DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => tensor,
            _ => panic!("a pass of the processor was given tensors of another device, or tensors with gradients"),
        }
    }

    fn close<const D: usize>(tensor: FlexTensor) -> Tensor<Self, D> {
        let kind = DispatchTensorKind::Flex(BackendTensor::Float(tensor));
        Tensor::from_primitive(TensorPrimitive::Float(DispatchTensor::from_kind(kind)))
    }
}
