//! Random initialisation, for pretraining small models and for benchmarks.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

use crate::layer::DecoderLayer;
use crate::loader::rope_tables;
use crate::ops::to_dtype;
use crate::{Family, Lm, LmConfig, ModelDtype};

/// Standard deviation of the embedding. Models this small need one above the usual 0.02: the first layers' output would
/// drown the tokens otherwise.
const EMBEDDING_STD: f64 = 0.1;

/// A trainable model with normal weights of standard deviation `0.5 / sqrt(in)` (output projections scaled down by
/// `sqrt(2 * layers)`), unit norms and zero biases. The same seed gives the same model on every backend.
pub fn init_random<B: Backend>(config: &LmConfig, seed: u64, device: &B::Device) -> Lm<B> {
    build(config, &mut Draw::Host(Box::new(ChaCha8Rng::seed_from_u64(seed))), ModelDtype::F32, device)
}

/// A model of the same shape drawn on the device itself, in no time: for benchmarks, where only the shapes count.
pub fn synthetic<B: Backend>(config: &LmConfig, dtype: ModelDtype, device: &B::Device) -> Lm<B> {
    build(config, &mut Draw::Device, dtype, device).no_grad()
}

/// Where random weights come from.
enum Draw {
    Host(Box<ChaCha8Rng>),
    Device,
}

fn build<B: Backend>(config: &LmConfig, rng: &mut Draw, dtype: ModelDtype, device: &B::Device) -> Lm<B> {
    let hidden = config.hidden_size;
    let std_of = |input: usize| 0.5 / (input as f64).sqrt();
    let std = std_of(hidden);
    let depth = (2.0 * config.num_layers as f64).sqrt();
    let attended = config.num_heads * config.head_dim;
    let ones = |width: usize| Param::from_tensor(Tensor::<B, 1>::ones([width], device));
    let zeros = |width: usize| Param::from_tensor(Tensor::<B, 1>::zeros([width], device));
    let gemma = config.family == Family::Gemma3;
    let head_norms = gemma || config.family == Family::Qwen3;
    let embedding = normal(rng, [config.vocab_size, hidden], EMBEDDING_STD, dtype, device);
    let layers = (0..config.num_layers)
        .map(|_| DecoderLayer {
            input_norm: ones(hidden),
            qkv: normal(rng, [config.qkv_width(), hidden], std, dtype, device),
            qkv_bias: config.qkv_bias.then(|| zeros(config.qkv_width())),
            q_norm: head_norms.then(|| ones(config.head_dim)),
            k_norm: head_norms.then(|| ones(config.head_dim)),
            o: normal(rng, [hidden, attended], std_of(attended) / depth, dtype, device),
            o_bias: config.o_bias.then(|| zeros(hidden)),
            post_attention_norm: gemma.then(|| ones(hidden)),
            mlp_norm: ones(hidden),
            gate_up: normal(rng, [2, config.intermediate_size, hidden], std, dtype, device),
            down: normal(
                rng,
                [hidden, config.intermediate_size],
                std_of(config.intermediate_size) / depth,
                dtype,
                device,
            ),
            post_mlp_norm: gemma.then(|| ones(hidden)),
            lora: None,
        })
        .collect();
    let final_norm = ones(hidden);
    let head = (!config.tie_embeddings).then(|| normal(rng, [config.vocab_size, hidden], std, dtype, device));
    let (rope, rope_local) = rope_tables(config, device);
    Lm { embedding, layers, final_norm, head, rope, rope_local, compute: None, config: config.clone() }
}

struct Thaw;

impl<B: Backend> ModuleMapper<B> for Thaw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.set_require_grad(true)
    }
}

impl<B: Backend> Lm<B> {
    /// Makes a loaded, and so frozen, model trainable.
    pub fn thaw(self) -> Self {
        self.map(&mut Thaw)
    }
}

fn normal<B: Backend, const D: usize>(
    draw: &mut Draw,
    shape: [usize; D],
    std: f64,
    dtype: ModelDtype,
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let drawn = match draw {
        Draw::Host(rng) => {
            Tensor::from_data(TensorData::new(host_normal(rng, shape.iter().product(), std), shape), device)
        }
        Draw::Device => Tensor::random(shape, Distribution::Normal(0.0, std), device),
    };
    Param::from_tensor(to_dtype(drawn, dtype.dtype()))
}

fn host_normal(rng: &mut impl Rng, count: usize, std: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // Box-Muller; 1 - u keeps the logarithm finite.
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        let radius = (-2.0 * (1.0 - u).ln()).sqrt() * std;
        let (sin, cos) = (2.0 * std::f64::consts::PI * v).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(count);
    values
}
