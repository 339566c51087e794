//! Pretraining of the small models of the pocket pair, from random weights.
//!
//! Plain next-token training with AdamW on documents of the pocket world, every document a row. The assistant's reply
//! weighs more than the rest, since most other words can't be predicted. The result is a Hugging Face folder: weights,
//! config, tokenizer and chat template, with the log beside it.

mod documents;
mod templates;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use burn::module::AutodiffModule;
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::tensor::Tensor;
use c2c_data::pocket::{Role, WORLD_SEED, World, corpus_for_tokenizer};
use c2c_kernels::{KernelBackend, TrainBackend};
use c2c_lm::{Family, KvCache, Lm, LmConfig, LogitsWanted, ModelDtype, TokenBatch, init_random, write_beside};
use c2c_recipe::{CorpusRole, ModelFamily, PretrainRecipe};
use c2c_text::{Tokenizer, train_bpe};
use serde_json::json;

use crate::TrainError;
use crate::grads::{clip_factor, global_norm, scale};
use crate::loss::{scalar, weighted_loss};
use crate::schedule::{Schedule, ScheduleShape};
use documents::{DocumentStream, Row};

/// Documents of each check during pretraining.
const CHECK_DOCUMENTS: usize = 256;

/// One line of the log.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PretrainProgress {
    /// Optimiser steps so far.
    pub step: usize,
    /// Steps in all.
    pub total: usize,
    /// Training loss of the last step.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Share of multiple-choice replies predicted whole, on documents never trained on.
    pub reply_accuracy: f64,
    /// Seconds since the start.
    pub seconds: f64,
}

/// Pretrains one model and writes its folder, `out`: from random weights, or from those in the folder `start`.
///
/// # Errors
/// A tokenizer that can't be trained, a config the model refuses, or a file that can't be written.
pub fn pretrain<B: TrainBackend>(
    recipe: &PretrainRecipe,
    start: Option<&Path>,
    out: &Path,
    device: &B::Device,
    mut report: impl FnMut(&PretrainProgress),
) -> Result<(), TrainError> {
    std::fs::create_dir_all(out).map_err(|source| TrainError::Io { path: out.to_owned(), source })?;
    let role = match recipe.corpus.role {
        CorpusRole::Receiver => Role::Receiver,
        CorpusRole::Sharer => Role::Sharer,
    };
    let family = templates::of(recipe.model.family);
    let (vocabulary, tokenizer_config) = match start {
        // The weights know the ids of the tokenizer they were trained with.
        Some(folder) => (read_file(&folder.join("tokenizer.json"))?, read_file(&folder.join("tokenizer_config.json"))?),
        None => {
            let corpus = corpus_for_tokenizer(role, WORLD_SEED);
            let bytes = train_bpe(&corpus, recipe.model.vocab_size, family.special_tokens, family.pre_tokenizer)?;
            (bytes, family.tokenizer_config().into_bytes())
        }
    };
    write_beside(&out.join("tokenizer.json"), &vocabulary)?;
    write_beside(&out.join("tokenizer_config.json"), &tokenizer_config)?;
    let tokenizer = Tokenizer::from_dir(out)?;

    let config = lm_config(recipe, &tokenizer);
    let mut model: Lm<B> = match start {
        None => init_random(&config, recipe.seed, device),
        Some(folder) => {
            let model = Lm::from_dir(folder, ModelDtype::F32, device)?;
            if *model.config() != config {
                return Err(TrainError::Stopped(format!("{} holds a model of another shape", folder.display())));
            }
            model.thaw()
        }
    };
    let world = World::new(WORLD_SEED);
    let mut stream = DocumentStream::new(&world, role, &tokenizer, recipe.corpus.segmentation_dropout, recipe.seed);
    let check = DocumentStream::new(&world, role, &tokenizer, 0.0, recipe.seed ^ 0x5eed).replies(CHECK_DOCUMENTS)?;

    let steps = recipe.training.steps;
    let warmup = (recipe.schedule.warmup_ratio * steps as f64) as usize;
    let shape = ScheduleShape::from(recipe.schedule.kind);
    let optimizer = &recipe.optimizer;
    let schedule = Schedule::new(shape, optimizer.learning_rate, warmup, steps);
    let mut adam = AdamWConfig::new()
        .with_beta_1(optimizer.beta1 as f32)
        .with_beta_2(optimizer.beta2 as f32)
        .with_epsilon(optimizer.epsilon as f32)
        .with_weight_decay(optimizer.weight_decay as f32)
        .init();

    let log_path = out.join("pretrain.jsonl");
    let io = |source| TrainError::Io { path: log_path.clone(), source };
    let mut log = std::fs::File::create(&log_path).map_err(io)?;
    let begun = Instant::now();
    for step in 0..steps {
        let rows = stream.batch(recipe.corpus.batch_size, recipe.corpus.sequence_length)?;
        let loss = batch_loss(&model, &rows)?;
        let value = scalar(loss.clone());
        if !value.is_finite() {
            return Err(TrainError::Diverged { step: step + 1, loss: value });
        }
        let mut grads = GradientsParams::from_grads(loss.backward(), &model);
        let norm = global_norm(&model, &grads)?;
        scale(&model, &mut grads, clip_factor(norm, optimizer.max_grad_norm));
        model = adam.step(schedule.rate(step), model, grads);
        let done = step + 1;
        if done.is_multiple_of(recipe.training.evaluate_every) || done == steps {
            let progress = PretrainProgress {
                step: done,
                total: steps,
                loss: value,
                learning_rate: schedule.rate(step),
                reply_accuracy: reply_accuracy(&model.valid(), &check)?,
                seconds: begun.elapsed().as_secs_f64(),
            };
            writeln!(log, "{}", json!(progress)).map_err(io)?;
            report(&progress);
            // So that a run that is cut short leaves its latest state.
            model.valid().save(out)?;
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Vec<u8>, TrainError> {
    std::fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })
}

fn lm_config(recipe: &PretrainRecipe, tokenizer: &Tokenizer) -> LmConfig {
    let m = &recipe.model;
    LmConfig {
        family: match m.family {
            ModelFamily::Qwen3 => Family::Qwen3,
            ModelFamily::Llama => Family::Llama,
        },
        vocab_size: tokenizer.vocab_size(),
        hidden_size: m.hidden_size,
        intermediate_size: m.intermediate_size,
        num_layers: m.num_layers,
        num_heads: m.num_heads,
        num_kv_heads: m.num_kv_heads,
        head_dim: m.head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: m.rope_theta,
        rope_scaling: None,
        rope_local_theta: 1e4,
        tie_embeddings: m.tie_embeddings,
        qkv_bias: false,
        o_bias: false,
        activation: c2c_lm::Activation::Silu,
        attention_scale: (m.head_dim as f64).powf(-0.5),
        sliding_windows: vec![None; m.num_layers],
        max_position: m.max_position,
        generation: c2c_lm::GenerationDefaults {
            eos: tokenizer.eos_id().into_iter().collect(),
            pad: Some(tokenizer.pad_id()),
        },
    }
}

/// A forward pass over documents: logits of every position, and what they are judged by.
struct Forward<B: KernelBackend> {
    logits: Tensor<B, 3>,
    labels: Vec<Vec<Option<u32>>>,
    weights: Vec<Vec<f32>>,
}

fn forward<B: KernelBackend>(model: &Lm<B>, rows: &[Row]) -> Result<Forward<B>, TrainError> {
    let width = rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
    let pad = model.config().generation.pad.unwrap_or(0);
    let (mut ids, mut mask, mut labels, mut weights) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let fill = width - row.ids.len();
        ids.push([row.ids.as_slice(), &vec![pad; fill]].concat());
        mask.push([vec![true; row.ids.len()], vec![false; fill]].concat());
        labels.push(row.ids.iter().copied().map(Some).chain(std::iter::repeat_n(None, fill)).collect());
        weights.push([row.weights.as_slice(), &vec![0.0; fill]].concat());
    }
    let positions = vec![(0..width).collect(); rows.len()];
    let tokens = TokenBatch::with_mask(ids, mask, positions)?;
    let mut cache: KvCache<B> = model.new_cache(rows.len());
    Ok(Forward { logits: model.forward(&tokens, &mut cache, LogitsWanted::All)?, labels, weights })
}

fn batch_loss<B: TrainBackend>(model: &Lm<B>, rows: &[Row]) -> Result<Tensor<B, 1>, TrainError> {
    let Forward { logits, labels, weights } = forward(model, rows)?;
    weighted_loss(logits, &labels, &weights).ok_or_else(|| TrainError::Stopped("a batch without a single label".into()))
}

/// The share of rows whose reply is predicted whole, token by token, given the true tokens before.
fn reply_accuracy<B: KernelBackend>(model: &Lm<B>, rows: &[Row]) -> Result<f64, TrainError> {
    let mut right = 0;
    for chunk in rows.chunks(64) {
        let Forward { logits, .. } = forward(model, chunk)?;
        let best = logits.argmax(2);
        let width = best.dims()[1];
        let data = best.try_into_data().map_err(|e| c2c_lm::LmError::Readback(format!("{e:?}")))?;
        let best: Vec<i64> = data.iter::<i64>().collect();
        for (r, row) in chunk.iter().enumerate() {
            let hit = (row.reply_start..row.ids.len()).all(|i| best[r * width + i - 1] == i64::from(row.ids[i]));
            right += usize::from(hit);
        }
    }
    Ok(right as f64 / rows.len().max(1) as f64)
}
