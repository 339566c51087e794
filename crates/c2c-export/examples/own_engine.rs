//! A program with an inference engine of its own uses a Fuser: its caches go in as plain arrays, fused ones come out.
//!
//! ```sh
//! cargo run --release -p c2c-export --example own_engine -- exports/pocket
//! ```
//!
//! No model of this project is loaded. What stands for the engine here ([`prefill`]) makes up its numbers; a real one hands
//! over the keys, rotated as they lie in its cache, and the values of one message: of the Sharer the slots of the tokens that
//! stand for the Receiver's, one for one (docs/recipes.md, token alignment), of the Receiver its own. The fused arrays take
//! the place of the Receiver's slots. The prompt's last token isn't fused: the reply starts from it.

use std::error::Error;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use burn::{Dispatch, DispatchDevice};
use c2c_export::artefact;
use c2c_fuser::{Fuser, FuserMode};
use c2c_lm::LayerKv;

/// Keys and values of one layer as an engine may hold them: `[heads, tokens, head_dim]`, the last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Keys.
    pub key: Vec<f32>,
    /// Values.
    pub value: Vec<f32>,
}

/// One sequence of the engine's cache, a layer each.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Key and value heads.
    pub heads: usize,
    /// Slots.
    pub tokens: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// Fuses the cache of a Sharer into that of a Receiver.
///
/// # Errors
/// Caches that don't fit the Fuser: layers, heads, widths or tokens.
pub fn fuse(
    fuser: &Fuser<Dispatch>,
    sharer: &Cache,
    receiver: &Cache,
    device: &DispatchDevice,
) -> Result<Cache, Box<dyn Error>> {
    let fused = fuser.fuse(&tensors(sharer, device), &tensors(receiver, device), FuserMode::Infer)?;
    let layers = fused.into_iter().map(|kv| Ok(Layer { key: array(kv.key)?, value: array(kv.value)? }));
    Ok(Cache { layers: layers.collect::<Result<_, Box<dyn Error>>>()?, ..receiver.clone() })
}

/// Arrays to tensors `[batch, heads, tokens, head_dim]`, here of a batch of one.
fn tensors(cache: &Cache, device: &DispatchDevice) -> Vec<LayerKv<Dispatch>> {
    let shape = [1, cache.heads, cache.tokens, cache.head_dim];
    let tensor = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), shape), device);
    cache.layers.iter().map(|layer| LayerKv { key: tensor(&layer.key), value: tensor(&layer.value) }).collect()
}

/// A tensor to an array.
fn array(tensor: Tensor<Dispatch, 4>) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(tensor.into_data().convert::<f32>().into_vec().map_err(|e| format!("{e:?}"))?)
}

/// Stands for the engine: a cache of these sizes with made-up numbers.
pub fn prefill(layers: usize, heads: usize, tokens: usize, head_dim: usize) -> Cache {
    let array = |salt: usize| (0..heads * tokens * head_dim).map(|i| ((i * 37 + salt) as f32).sin()).collect();
    let layer = |l: usize| Layer { key: array(2 * l), value: array(2 * l + 1) };
    Cache { heads, tokens, head_dim, layers: (0..layers).map(layer).collect() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: own_engine ARTEFACT")?;
    let device = DispatchDevice::Flex(burn_flex::FlexDevice);
    let artefact = artefact::load::<Dispatch>(Path::new(&dir), &device)?;
    let c = &artefact.config.fuser;
    println!("{} <- {}", artefact.config.receiver.name, artefact.config.sharer.name);

    let sharer = prefill(c.sharer_layers, c.sharer_heads, 12, c.sharer_head_dim);
    let receiver = prefill(c.layers(), c.receiver_heads, 12, c.receiver_head_dim);
    let fused = fuse(&artefact.fuser, &sharer, &receiver, &device)?;
    for (l, (own, fused)) in receiver.layers.iter().zip(&fused.layers).enumerate() {
        let change = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!(
            "layer {l}: keys change by up to {:.3}, values by up to {:.3}",
            change(&own.key, &fused.key),
            change(&own.value, &fused.value)
        );
    }
    Ok(())
}
