//! The plan of the method `single`: the Receiver alone, whole, by adapters or in part.

use c2c_lm::{Family, LmConfig, ModelDtype};
use c2c_recipe::{LoraTarget, ModelPart, SingleSettings, TrainRecipe, Trainable};

use super::{Activations, EpochTokens, Files, Memory, ModelFacts, RunPlan};
use crate::single::{Row, trained_layers};
use crate::{Examples, Order, TrainError, split};

/// Bytes of an f32.
const F32: u64 = 4;

/// As [`RunPlan::of`], without a Sharer.
pub(super) fn plan(recipe: &TrainRecipe, receiver: &ModelFacts, examples: &Examples) -> Result<RunPlan, TrainError> {
    let t = &recipe.training;
    let settings = recipe.single_settings();
    let parameters = trained_parameters(&receiver.config, &settings)?;
    let (training, validation) = split(examples.examples.clone(), t.validation_fraction, recipe.seed);
    let order = Order::of(recipe, &training);
    let mut epoch = EpochTokens::default();
    let mut most = Activations::default();
    for indexes in order.epoch(training.len(), 0).chunks(t.batch_size.max(1)) {
        let rows: Vec<Row> = indexes.iter().map(|index| Row::of(&training[*index].prompt)).collect();
        let lengths = rows.iter().map(|row| row.ids.len());
        let (tokens, width) = (lengths.clone().sum::<usize>(), lengths.max().unwrap_or(0));
        let labels = rows.iter().flat_map(|row| &row.labels).flatten().count();
        epoch.batches += 1;
        // What is learnt is the reply; the token before it belongs to the prompt.
        epoch.reply += labels;
        epoch.prompt += tokens - labels;
        epoch.padding += rows.len() * width - tokens;
        epoch.supervised += labels;
        let activations = activations(receiver, rows.len(), width, labels);
        if activations.total() > most.total() {
            most = activations;
        }
    }
    // Trained weights are held in f32, frozen ones beside adapters as the recipe says.
    let adapters = settings.trainable == Trainable::Lora;
    let held = if adapters { receiver.dtype } else { ModelDtype::F32 };
    let trained = F32 * parameters as u64;
    let weights = receiver.config.weight_bytes(held);
    let (fuser, gradients, optimizer) =
        (if adapters { trained } else { 0 }, trained * t.gradient_accumulation.min(2) as u64, 2 * trained);
    let total = weights + fuser + gradients + optimizer + most.total();
    let memory = Memory { receiver: weights, sharer: 0, fuser, gradients, optimizer, activations: most, total };
    let export = receiver.config.weight_bytes(ModelDtype::F32);
    Ok(RunPlan {
        model_parameters: vec![receiver.config.num_params()],
        trained_parameters: parameters,
        memory,
        files: Files { export, ..Files::new(recipe, parameters) },
        ..RunPlan::counted(recipe, examples, (training.len(), validation.len()), epoch)
    })
}

/// The formula of a Receiver's pass over its last section ([`Activations`]), where all slots are that section; logits are made of
/// the slots before a label alone.
fn activations(receiver: &ModelFacts, rows: usize, width: usize, labels: usize) -> Activations {
    let config = &receiver.config;
    let size = receiver.dtype.dtype().size();
    let slots = rows * width;
    let attended = config.num_heads * config.head_dim;
    let row = 6 * config.hidden_size + config.qkv_width() + attended + 4 * config.intermediate_size;
    let layer = size * slots * row + rows * config.num_heads * width * width * (8 + size);
    Activations {
        contexts: 0,
        fuser: 0,
        reply: (config.num_layers * layer) as u64,
        logits: F32 * (config.vocab_size * 4 * labels) as u64,
    }
}

/// Parameters that are trained, from the config alone.
///
/// # Errors
/// Layers that the model doesn't have.
pub(crate) fn trained_parameters(config: &LmConfig, settings: &SingleSettings) -> Result<usize, TrainError> {
    let layers = trained_layers(settings, config.num_layers)?;
    Ok(match settings.trainable {
        Trainable::Full => config.num_params(),
        Trainable::Lora => {
            let widths = settings.lora_targets.iter().map(|target| adapter_width(config, *target));
            config.num_layers * settings.lora_rank * widths.sum::<usize>()
        }
        Trainable::Partial => {
            let has = |part| settings.parts.contains(&part);
            let table = config.vocab_size * config.hidden_size;
            // A tied head is the embedding, whichever of the two is named.
            let tables = match config.tie_embeddings {
                true => usize::from(has(ModelPart::Embedding) || has(ModelPart::Head)),
                false => usize::from(has(ModelPart::Embedding)) + usize::from(has(ModelPart::Head)),
            };
            // A recipe's list has each word once.
            let layer: usize = settings.parts.iter().map(|part| part_parameters(config, *part)).sum();
            let last = if has(ModelPart::FinalNorm) { config.hidden_size } else { 0 };
            tables * table + layers.len() * layer + last
        }
    })
}

/// Parameters of a layer's part; 0 for what isn't a layer's.
fn part_parameters(config: &LmConfig, part: ModelPart) -> usize {
    let (hidden, inner, attended) = (config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim);
    match part {
        ModelPart::Qkv => config.qkv_width() * (hidden + usize::from(config.qkv_bias)),
        ModelPart::OProj => hidden * (attended + usize::from(config.o_bias)),
        ModelPart::GateUp => 2 * hidden * inner,
        ModelPart::DownProj => hidden * inner,
        ModelPart::Norms => {
            let gemma = config.family == Family::Gemma3;
            let of_heads = if gemma || config.family == Family::Qwen3 { 2 * config.head_dim } else { 0 };
            hidden * if gemma { 4 } else { 2 } + of_heads
        }
        ModelPart::Embedding | ModelPart::FinalNorm | ModelPart::Head => 0,
    }
}

/// Inputs and outputs of a matrix that has an adapter.
fn adapter_width(config: &LmConfig, target: LoraTarget) -> usize {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (heads, shared) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
    match target {
        LoraTarget::Query | LoraTarget::Output => hidden + heads,
        LoraTarget::Key | LoraTarget::Value => hidden + shared,
        LoraTarget::Gate | LoraTarget::Up | LoraTarget::Down => hidden + inner,
    }
}
