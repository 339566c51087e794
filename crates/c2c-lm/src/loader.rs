//! From a Hugging Face folder to a model: every missing, unused or misshapen tensor is named.

use std::path::Path;

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

use crate::checkpoint::Checkpoint;
use crate::layer::DecoderLayer;
use crate::rope::{RopeTable, inverse_frequencies};
use crate::{Family, Lm, LmConfig, LmError};

/// The dtype of a loaded model's matrices and of its arithmetic. Norms, softmax and logits are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelDtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

impl ModelDtype {
    /// Burn's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

struct Source<'a, B: Backend> {
    checkpoint: Checkpoint,
    problems: Vec<String>,
    dtype: DType,
    device: &'a B::Device,
    /// Gemma stores `w` and applies `1 + w`.
    norm_offset: f32,
}

impl<B: Backend> Source<'_, B> {
    fn read(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        match self.checkpoint.read_f32(name, shape) {
            Ok(values) => values,
            Err(problem) => {
                self.problems.push(problem);
                Vec::new()
            }
        }
    }

    /// Rows of several tensors under one another.
    fn matrix(&mut self, parts: &[(String, usize)], columns: usize) -> Param<Tensor<B, 2>> {
        let rows: usize = parts.iter().map(|p| p.1).sum();
        let mut values = Vec::with_capacity(rows * columns);
        for (name, rows) in parts {
            values.extend(self.read(name, &[*rows, columns]));
        }
        frozen(values, [rows, columns], self.dtype, self.device)
    }

    /// Matrices of one shape, stacked.
    fn stack(&mut self, names: [String; 2], [rows, columns]: [usize; 2]) -> Param<Tensor<B, 3>> {
        let mut values = Vec::with_capacity(2 * rows * columns);
        for name in names {
            values.extend(self.read(&name, &[rows, columns]));
        }
        frozen(values, [2, rows, columns], self.dtype, self.device)
    }

    fn bias(&mut self, parts: &[(String, usize)]) -> Param<Tensor<B, 1>> {
        let mut values = Vec::new();
        for (name, width) in parts {
            values.extend(self.read(name, &[*width]));
        }
        let width = parts.iter().map(|p| p.1).sum();
        frozen(values, [width], self.dtype, self.device)
    }

    fn norm(&mut self, name: &str, width: usize) -> Param<Tensor<B, 1>> {
        let mut values = self.read(name, &[width]);
        for v in &mut values {
            *v += self.norm_offset;
        }
        frozen(values, [width], DType::F32, self.device)
    }

    fn optional_norm(&mut self, wanted: bool, name: &str, width: usize) -> Option<Param<Tensor<B, 1>>> {
        wanted.then(|| self.norm(name, width))
    }
}

/// A parameter that isn't trained. Values that couldn't be read are replaced by zeros; the load fails afterwards.
fn frozen<B: Backend, const D: usize>(
    mut values: Vec<f32>,
    shape: [usize; D],
    dtype: DType,
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    values.resize(shape.iter().product(), 0.0);
    let tensor = Tensor::from_data(TensorData::new(values, shape), (device, dtype));
    Param::from_tensor(tensor).set_require_grad(false)
}

impl<B: Backend> Lm<B> {
    /// Loads a Hugging Face folder: `config.json` and one or several safetensors files.
    ///
    /// # Errors
    /// What [`LmConfig::from_dir`] and [`Checkpoint::open`] refuse; all missing, unused and misshapen tensors at once.
    pub fn from_dir(dir: &Path, dtype: ModelDtype, device: &B::Device) -> Result<Self, LmError> {
        let config = LmConfig::from_dir(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        Self::from_checkpoint(config, checkpoint, dtype, device)
    }

    /// Builds the model from an open checkpoint.
    ///
    /// # Errors
    /// All missing, unused and misshapen tensors at once.
    pub fn from_checkpoint(
        config: LmConfig,
        checkpoint: Checkpoint,
        dtype: ModelDtype,
        device: &B::Device,
    ) -> Result<Self, LmError> {
        let norm_offset = if config.family == Family::Gemma3 { 1.0 } else { 0.0 };
        let mut source = Source::<B> { checkpoint, problems: Vec::new(), dtype: dtype.dtype(), device, norm_offset };
        let hidden = config.hidden_size;
        let embedding = source.matrix(&[("model.embed_tokens.weight".into(), config.vocab_size)], hidden);
        let layers = (0..config.num_layers).map(|l| layer(&mut source, &config, l)).collect();
        let final_norm = source.norm("model.norm.weight", hidden);
        let head_name = "lm_head.weight";
        let head = (!config.tie_embeddings).then(|| source.matrix(&[(head_name.into(), config.vocab_size)], hidden));

        let mut problems = source.problems;
        for name in source.checkpoint.unused() {
            // A tied head is sometimes saved all the same, and old files carry RoPE tables.
            if !(config.tie_embeddings && name == head_name || name.ends_with("rotary_emb.inv_freq")) {
                problems.push(format!("  {name}: in the file, not in a model of this config"));
            }
        }
        if !problems.is_empty() {
            return Err(LmError::Weights { path: source.checkpoint.path().to_owned(), problems });
        }
        let (rope, rope_local) = rope_tables(&config, device);
        Ok(Self { embedding, layers, final_norm, head, rope, rope_local, compute: None, config })
    }
}

/// The tables of full and of sliding layers.
pub(crate) fn rope_tables<B: Backend>(config: &LmConfig, device: &B::Device) -> (RopeTable<B>, Option<RopeTable<B>>) {
    let table = |theta, scaling| {
        RopeTable::new(&inverse_frequencies(config.head_dim, theta, scaling), config.max_position, device)
    };
    let local = config.sliding_windows.iter().any(Option::is_some);
    (table(config.rope_theta, config.rope_scaling), local.then(|| table(config.rope_local_theta, None)))
}

fn layer<B: Backend>(source: &mut Source<'_, B>, config: &LmConfig, index: usize) -> DecoderLayer<B> {
    let name = |part: &str| format!("model.layers.{index}.{part}");
    let gemma = config.family == Family::Gemma3;
    let head_norms = gemma || config.family == Family::Qwen3;
    let (hidden, inner, head_dim) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, kv) = (config.num_heads * head_dim, config.kv_width());
    let qkv = |kind: &str| {
        [("q", q), ("k", kv), ("v", kv)].map(|(part, rows)| (name(&format!("self_attn.{part}_proj.{kind}")), rows))
    };
    let mlp_norm = if gemma { "pre_feedforward_layernorm.weight" } else { "post_attention_layernorm.weight" };
    DecoderLayer {
        input_norm: source.norm(&name("input_layernorm.weight"), hidden),
        qkv: source.matrix(&qkv("weight"), hidden),
        qkv_bias: config.qkv_bias.then(|| source.bias(&qkv("bias"))),
        q_norm: source.optional_norm(head_norms, &name("self_attn.q_norm.weight"), head_dim),
        k_norm: source.optional_norm(head_norms, &name("self_attn.k_norm.weight"), head_dim),
        o: source.matrix(&[(name("self_attn.o_proj.weight"), hidden)], q),
        o_bias: config.o_bias.then(|| source.bias(&[(name("self_attn.o_proj.bias"), hidden)])),
        post_attention_norm: source.optional_norm(gemma, &name("post_attention_layernorm.weight"), hidden),
        mlp_norm: source.norm(&name(mlp_norm), hidden),
        gate_up: source.stack([name("mlp.gate_proj.weight"), name("mlp.up_proj.weight")], [inner, hidden]),
        down: source.matrix(&[(name("mlp.down_proj.weight"), hidden)], inner),
        post_mlp_norm: source.optional_norm(gemma, &name("post_feedforward_layernorm.weight"), hidden),
        lora: None,
    }
}
