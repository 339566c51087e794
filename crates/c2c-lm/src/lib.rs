//! Decoder-only language models on any Burn backend.
//!
//! A model is read from a Hugging Face folder ([`Lm::from_dir`]), runs a prefill into a [`KvCache`] whose layers can be
//! read and replaced, and decodes greedily or by sampling ([`decode`]). Supported families: Llama (with `llama3` RoPE
//! scaling; SmolLM2 is a Llama), Qwen2/2.5, Qwen3 and Gemma 3 text.
//!
//! Keys in the cache are post-RoPE (and post key-norm where the family has one), values are as projected: exactly the
//! tensors that Cache-to-Cache fuses (paper section 3.3).
//!
//! Linear weights keep the `[out, in]` layout of their files, with query, key and value joined into one matrix and gate
//! and up into another, so that a layer costs four matrix products.

mod attention;
mod batch;
mod cache;
mod checkpoint;
mod config;
mod error;
mod fingerprint;
mod generate;
mod generation_config;
mod init;
mod kernels;
mod layer;
mod loader;
mod lora;
mod model;
mod ops;
mod partial;
mod processor;
mod rope;
mod sampler;
mod sampling;
mod save;
mod size;
mod trace;
mod tuned;

pub use attention::AttentionMask;
pub use batch::TokenBatch;
pub use cache::{KvCache, LayerKv};
pub use checkpoint::Checkpoint;
pub use config::{Activation, Family, GenerationDefaults, LmConfig, RopeScaling};
pub use error::LmError;
pub use fingerprint::Fingerprint;
pub use generate::{DecodeOptions, Finish, Generated, decode, decode_observed};
pub use init::{init_random, synthetic};
pub use loader::ModelDtype;
pub use lora::{LoraConfig, LoraTarget};
pub use model::{Lm, LogitsWanted};
pub use ops::{gelu_tanh, rms_norm, to_dtype, to_f32};
pub use partial::LmPart;
pub use sampler::{Sampler, greedy};
pub use sampling::{BadLogits, SamplingCompat, SamplingParams};
pub use save::write_beside;
pub use trace::Trace;
pub use tuned::copy_companions;
