//! Random initialisation, for pretraining small models and for benchmarks.

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

use crate::layer::DecoderLayer;
use crate::loader::rope_tables;
use crate::{Family, Lm, LmConfig};

/// A trainable model with normal weights of standard deviation 0.02 (output projections scaled down by
/// `sqrt(2 * layers)`), unit norms and zero biases. The same seed gives the same model on every backend.
pub fn init_random<B: Backend>(config: &LmConfig, seed: u64, device: &B::Device) -> Lm<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let hidden = config.hidden_size;
    let std = 0.02;
    let out_std = std / (2.0 * config.num_layers as f64).sqrt();
    let ones = |width: usize| Param::from_tensor(Tensor::<B, 1>::ones([width], device));
    let zeros = |width: usize| Param::from_tensor(Tensor::<B, 1>::zeros([width], device));
    let gemma = config.family == Family::Gemma3;
    let head_norms = gemma || config.family == Family::Qwen3;
    let embedding = normal(&mut rng, [config.vocab_size, hidden], std, device);
    let layers = (0..config.num_layers)
        .map(|_| DecoderLayer {
            input_norm: ones(hidden),
            qkv: normal(&mut rng, [config.qkv_width(), hidden], std, device),
            qkv_bias: config.qkv_bias.then(|| zeros(config.qkv_width())),
            q_norm: head_norms.then(|| ones(config.head_dim)),
            k_norm: head_norms.then(|| ones(config.head_dim)),
            o: normal(&mut rng, [hidden, config.num_heads * config.head_dim], out_std, device),
            o_bias: config.o_bias.then(|| zeros(hidden)),
            post_attention_norm: gemma.then(|| ones(hidden)),
            mlp_norm: ones(hidden),
            gate_up: normal(&mut rng, [2 * config.intermediate_size, hidden], std, device),
            down: normal(&mut rng, [hidden, config.intermediate_size], out_std, device),
            post_mlp_norm: gemma.then(|| ones(hidden)),
        })
        .collect();
    let final_norm = ones(hidden);
    let head = (!config.tie_embeddings).then(|| normal(&mut rng, [config.vocab_size, hidden], std, device));
    let (rope, rope_local) = rope_tables(config, device);
    Lm { embedding, layers, final_norm, head, rope, rope_local, config: config.clone() }
}

fn normal<B: Backend>(rng: &mut impl Rng, shape: [usize; 2], std: f64, device: &B::Device) -> Param<Tensor<B, 2>> {
    let count = shape[0] * shape[1];
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
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}
