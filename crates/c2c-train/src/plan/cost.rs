//! Bytes and arithmetic of a run.

use c2c_fuser::{AllInOneConfig, FuserConfig, Granularity, PairBatch, Scaling};
use c2c_recipe::TrainRecipe;
use c2c_text::Prompt;
use serde::Serialize;

use super::ModelFacts;

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of a bf16.
const BF16: u64 = 2;

/// An estimate of what one forward pass keeps for its backward pass, in bytes: every product's factors and result once,
/// in f32 for the Fuser, in the Receiver's dtype for its last section.
///
/// With `n` rows times slots of the fused sections, per branch (two a Receiver layer), `h` and `i` the Fuser's widths, `d`
/// its depth, `s` and `t` the widths of a Sharer's and a Receiver's cached token:
/// `fuser = branches * 4 (n (s + 2t + h + d (5 h + 2 i) + 3 t) + d h i)`.
///
/// Of an all-in-one network, with `g` values between two linear maps of a projection (its outcome, activation and dropout;
/// 2 more `h` with SwiGLU and 3 more with LayerNorm) and `c = 3 t` if there is a combiner, the small networks of gates and
/// weights added for each row that they have:
/// `fuser = layers * 4 (2 n (s + 6 t + (d - 1) g + c) + n t) + small`.
///
/// With `m` rows times slots of the last section, `c` rows times slots of all sections, per Receiver layer:
/// `reply = layers * (w (m (6 hidden + qkv + heads head_dim + 4 intermediate) + 4 t c) + scores (8 + w))`, where `w` is the
/// dtype's bytes and `scores` is rows times heads times slots of the last section times all slots; and the logits,
/// `4 vocabulary (m + 3 labels)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Activations {
    /// Caches of both models before fusion, with the Sharer's layers up to the highest that is read.
    pub contexts: u64,
    /// The Fuser.
    pub fuser: u64,
    /// The Receiver's pass over the last section.
    pub reply: u64,
    /// Logits and loss.
    pub logits: u64,
}

impl Activations {
    /// Of one batch.
    pub fn of(batch: &PairBatch, fuser: &FuserConfig, receiver: &ModelFacts) -> Self {
        let config = &receiver.config;
        let size = receiver.dtype.dtype().size();
        let (rows, last) = (batch.rows(), batch.last().receiver.tokens());
        let fused: usize = batch.sections().iter().filter(|s| s.fuse).map(|s| s.receiver.tokens()).sum();
        let (n, m, all) = (rows * fused, rows * last, rows * batch.tokens());
        let labels = batch.last().labels.iter().flatten().flatten().count();
        let (s, t) = (fuser.sharer_width(), fuser.receiver_width());
        let attended = config.num_heads * config.head_dim;
        let row = 6 * config.hidden_size + config.qkv_width() + attended + 4 * config.intermediate_size;
        let scores = rows * config.num_heads * last * batch.tokens();
        let layer = size * (m * row + 4 * t * all) + scores * (8 + size);
        let context = size * (all - m) * 2 * (t * config.num_layers + s * fuser.sharer_depth());
        Self {
            contexts: context as u64,
            fuser: F32 * kept(n, fuser) as u64,
            reply: (config.num_layers * layer) as u64,
            logits: F32 * (config.vocab_size * (m + 3 * labels)) as u64,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.contexts + self.fuser + self.reply + self.logits
    }
}

/// Values that a Fuser keeps of `n` rows times slots.
fn kept(n: usize, fuser: &FuserConfig) -> usize {
    let (h, i, depth) = (fuser.hidden_dim, fuser.intermediate_dim, fuser.num_layers);
    let (s, t) = (fuser.sharer_width(), fuser.receiver_width());
    match &fuser.all_in_one {
        None => fuser.branches() * (n * (s + 2 * t + h + depth * (5 * h + 2 * i) + 3 * t) + depth * h * i),
        Some(choices) => kept_all_in_one(n, fuser, choices),
    }
}

fn kept_all_in_one(n: usize, fuser: &FuserConfig, choices: &AllInOneConfig) -> usize {
    let (s, t) = (fuser.sharer_width(), fuser.receiver_width());
    let (heads, width) = (fuser.receiver_heads, fuser.receiver_head_dim);
    let between = fuser.hidden_dim * (3 + 2 * usize::from(choices.swiglu) + 3 * usize::from(choices.layer_norm));
    let combiner = if choices.combine { 3 * t } else { 0 };
    let branch = n * (s + 6 * t + (fuser.num_layers - 1) * between + combiner);
    // Two linear maps with a LayerNorm between them. One of a whole section has a row a batch row: too little to count.
    let small = |scaling: Scaling, hidden: usize, outputs: usize| {
        let rows = match scaling.granularity {
            Granularity::Scalar => 0,
            Granularity::Token | Granularity::HeadMerged => n,
            Granularity::Head | Granularity::Value => n * heads,
        };
        scaling.input_width(heads, width).map_or(0, |input| rows * (input + 6 * hidden + outputs))
    };
    let gate = small(choices.gate, fuser.hidden_dim, choices.gate.output_width(heads, width));
    let hidden = fuser.intermediate_dim;
    let weight = small(choices.weight, hidden, hidden + 2 * choices.weight.output_width(heads, width));
    fuser.layers() * (2 * branch + n * t + gate + weight)
}

/// Bytes in memory while training, on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The Receiver's weights.
    pub receiver: u64,
    /// The Sharer's weights; 0 without one.
    pub sharer: u64,
    /// The Fuser's parameters, f32. Of the method `single` those of the adapters: other trained weights are the Receiver's.
    pub fuser: u64,
    /// Their gradients: of a micro-batch, and of those before it where several make a step, f32. On a GPU that multiplies in bf16 one
    /// micro-batch's take half of that.
    pub gradients: u64,
    /// AdamW's two moments, f32.
    pub optimizer: u64,
    /// Of the batch of the first epoch that needs most.
    pub activations: Activations,
    /// The sum.
    pub total: u64,
}

impl Memory {
    pub(super) fn new(
        receiver: &ModelFacts,
        sharer: &ModelFacts,
        params: usize,
        micro_batches: usize,
        activations: Activations,
    ) -> Self {
        let params = F32 * params as u64;
        let [receiver, sharer] = [receiver, sharer].map(|model| model.config.weight_bytes(model.dtype));
        let (fuser, gradients, optimizer) = (params, params * micro_batches.min(2) as u64, 2 * params);
        let total = receiver + sharer + fuser + gradients + optimizer + activations.total();
        Self { receiver, sharer, fuser, gradients, optimizer, activations, total }
    }
}

/// Bytes on disk, small files apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    /// One checkpoint: what is trained and AdamW's two moments, f32.
    pub checkpoint: u64,
    /// The most that lie there at once: those that are kept, and the one being written.
    pub checkpoints: u64,
    /// The exported Fuser, f32; of the method `single` the whole model.
    pub export: u64,
}

impl Files {
    pub(super) fn new(recipe: &TrainRecipe, params: usize) -> Self {
        let export = F32 * params as u64;
        let kept = recipe.checkpoint.keep_last + usize::from(recipe.checkpoint.keep_best) + 1;
        Self { checkpoint: 3 * export, checkpoints: 3 * export * kept as u64, export }
    }
}

/// What `c2c data prepare` would write, and what reading it saves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PreparedPlan {
    /// Bytes if held in bf16.
    pub bf16: u64,
    /// Bytes if held in f32.
    pub f32: u64,
    /// Floating-point operations that an epoch saves by reading: two for each weight that a token passes; attention's own
    /// products not counted.
    pub flops_saved: u64,
    /// Gigabytes a second that storage has to give for each TFLOP/s that the device reaches on the models, for reading
    /// bf16 to be as fast as computing.
    pub break_even_gb_per_tflop: f64,
}

impl PreparedPlan {
    pub(super) fn of<'a>(
        prompts: impl Iterator<Item = &'a Prompt>,
        fuser: &FuserConfig,
        receiver: &ModelFacts,
        sharer: &ModelFacts,
    ) -> Self {
        let mut layers = fuser.layer_map.clone();
        layers.sort_unstable();
        layers.dedup();
        let (mut values, mut flops) = (0u64, 0u64);
        for prompt in prompts {
            let needs = crate::contexts::Needs::of(prompt);
            let receiver_values = 2 * fuser.receiver_width() * fuser.layers();
            let sharer_values = 2 * fuser.sharer_width() * layers.len();
            values += (needs.receiver * receiver_values + needs.sharer * sharer_values) as u64;
            flops += needs.context as u64 * receiver.config.fill_flops(receiver.config.num_layers)
                + needs.read as u64 * sharer.config.fill_flops(fuser.sharer_depth());
        }
        let bf16 = BF16 * values;
        // Bytes per operation, times 1e12 operations a second, in 1e9 bytes.
        let break_even = if flops == 0 { 0.0 } else { bf16 as f64 / flops as f64 * 1e3 };
        Self { bf16, f32: F32 * values, flops_saved: flops, break_even_gb_per_tflop: break_even }
    }
}
