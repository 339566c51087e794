//! `config.json` of the supported families, typed.
//!
//! An option that changes the numbers and isn't implemented is refused, never ignored.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::LmError;

/// The model family, from `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 2/3, SmolLM2 and everything else that calls itself `llama`.
    Llama,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms on q and k.
    Qwen3,
    /// Gemma 3 text: norms on q and k and after each block, sliding layers, scaled embeddings.
    Gemma3,
}

/// The activation of the gated MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU.
    GeluTanh,
}

/// How RoPE frequencies are stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// All frequencies divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3: long wavelengths divided, short ones kept, a ramp between.
    Llama3 {
        /// The factor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original / high` are short.
        high_freq_factor: f64,
        /// The context the model was pretrained with, in tokens.
        original_max_position: f64,
    },
}

/// What these models need to know of `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct LmConfig {
    /// The family.
    pub family: Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of one head. `num_heads * head_dim` need not equal `hidden_size`.
    pub head_dim: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// RoPE base of full-attention layers.
    pub rope_theta: f64,
    /// RoPE scaling of full-attention layers.
    pub rope_scaling: Option<RopeScaling>,
    /// RoPE base of sliding layers (Gemma 3).
    pub rope_local_theta: f64,
    /// The head is the transposed embedding.
    pub tie_embeddings: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection of attention.
    pub o_bias: bool,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Scores are multiplied by this.
    pub attention_scale: f64,
    /// Per layer, the sliding window in tokens; `None` is full attention.
    pub sliding_windows: Vec<Option<usize>>,
    /// The context length in tokens.
    pub max_position: usize,
    /// Token ids named by the config.
    pub generation: GenerationDefaults,
}

/// Special ids from `generation_config.json`, else `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationDefaults {
    /// Ids that end a reply.
    pub eos: Vec<u32>,
    /// The padding id, if named.
    pub pad: Option<u32>,
}

struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Reader<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    fn key_error(&self, key: &str, reason: String) -> LmError {
        LmError::ConfigKey { path: self.path.to_owned(), key: key.to_owned(), reason: short(reason) }
    }

    fn unsupported(&self, key: &str, value: &Value, hint: &str) -> LmError {
        LmError::Unsupported {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value: short(value.to_string()),
            hint: hint.to_owned(),
        }
    }

    fn size_or(&self, key: &str, default: Option<usize>) -> Result<usize, LmError> {
        match self.get(key) {
            None => default.ok_or_else(|| self.key_error(key, "missing, expected a whole number".into())),
            Some(v) => match v.as_u64() {
                Some(n) if n > 0 && n <= u64::from(u32::MAX) => Ok(n as usize),
                _ => Err(self.key_error(key, format!("found {v}, expected a whole number above 0"))),
            },
        }
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64, LmError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| self.key_error(key, format!("found {v}, expected a number above 0"))),
        }
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool, LmError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.key_error(key, format!("found {v}, expected true or false"))),
        }
    }
}

/// A config larger than this is something else: those of published models have a few kB. Parsed, it may take 40 times its
/// bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

pub(crate) fn read_json(path: &Path) -> Result<Value, LmError> {
    let bytes = read_up_to(path, MAX_CONFIG_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|e| LmError::Json { path: path.to_owned(), reason: short(e.to_string()) })
}

/// Of a value in an error, so much is shown.
const MAX_SHOWN: usize = 300;

/// A text that doesn't hold a whole file.
pub(crate) fn short(text: String) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

/// A file, whole, unless it is larger than any of its kind.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>, LmError> {
    let io = |source| LmError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        let reason = format!("it has more than {limit} bytes, which no such file has; is it the right one?");
        return Err(LmError::Json { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

impl LmConfig {
    /// Reads `config.json` (and `generation_config.json`, if there) of a model folder.
    ///
    /// # Errors
    /// A missing file, a missing or mistyped key, or an option that isn't implemented.
    pub fn from_dir(dir: &Path) -> Result<Self, LmError> {
        let path = dir.join("config.json");
        let json = read_json(&path)?;
        let mut config = Self::from_json(&json, &path)?;
        let generation = dir.join("generation_config.json");
        if generation.is_file() {
            let json = read_json(&generation)?;
            let ids = special_ids(&json);
            if !ids.eos.is_empty() {
                config.generation.eos = ids.eos;
            }
            config.generation.pad = ids.pad.or(config.generation.pad);
        }
        Ok(config)
    }

    /// Reads the parsed text of a `config.json`; `path` is for messages only.
    ///
    /// # Errors
    /// A missing or mistyped key, or an option that isn't implemented.
    pub fn from_json(json: &Value, path: &Path) -> Result<Self, LmError> {
        let r = Reader { path, json };
        let family = match r.get("model_type").and_then(Value::as_str) {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            Some("gemma3_text") => Family::Gemma3,
            Some(other) => {
                return Err(r.unsupported(
                    "model_type",
                    &Value::from(other),
                    "known families are llama, qwen2, qwen3 and gemma3_text",
                ));
            }
            None => return Err(r.key_error("model_type", "missing, expected for example \"llama\"".into())),
        };
        refuse_unimplemented(&r, family)?;

        let hidden_size = r.size_or("hidden_size", None)?;
        let num_layers = r.size_or("num_hidden_layers", None)?;
        let num_heads = r.size_or("num_attention_heads", None)?;
        let num_kv_heads = r.size_or("num_key_value_heads", Some(num_heads))?;
        if !num_heads.is_multiple_of(num_kv_heads) {
            return Err(r.key_error(
                "num_key_value_heads",
                format!("found {num_kv_heads}, expected a divisor of num_attention_heads = {num_heads}"),
            ));
        }
        let head_dim = r.size_or("head_dim", Some(hidden_size / num_heads))?;
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            let found = match r.get("head_dim") {
                Some(_) => format!("found {head_dim}"),
                None => format!(
                    "missing, and hidden_size / num_attention_heads = {hidden_size} / {num_heads} is {head_dim}"
                ),
            };
            return Err(r.key_error("head_dim", format!("{found}, expected an even number above 0 (RoPE)")));
        }
        let gemma = family == Family::Gemma3;
        let scale_base = if gemma { r.number_or("query_pre_attn_scalar", 256.0)? } else { head_dim as f64 };
        let attention_bias = r.flag_or("attention_bias", false)?;
        let rope = rope(&r, gemma)?;
        Ok(Self {
            family,
            vocab_size: r.size_or("vocab_size", None)?,
            hidden_size,
            intermediate_size: r.size_or("intermediate_size", None)?,
            num_layers,
            num_heads,
            num_kv_heads,
            head_dim,
            rms_norm_eps: r.number_or("rms_norm_eps", 1e-6)?,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            rope_local_theta: rope.local_theta,
            tie_embeddings: r.flag_or("tie_word_embeddings", gemma)?,
            qkv_bias: family == Family::Qwen2 || attention_bias,
            o_bias: family != Family::Qwen2 && attention_bias,
            activation: activation(&r, family)?,
            attention_scale: scale_base.powf(-0.5),
            sliding_windows: sliding_windows(&r, family, num_layers)?,
            max_position: r.size_or("max_position_embeddings", Some(if gemma { 32768 } else { 2048 }))?,
            generation: special_ids(json),
        })
    }

    /// Query heads that share one key and value head.
    pub fn group(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// Width of all key heads together, `num_kv_heads * head_dim`.
    pub fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }

    /// Rows of the joined query, key and value matrix.
    pub fn qkv_width(&self) -> usize {
        (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    }
}

fn refuse_unimplemented(r: &Reader<'_>, family: Family) -> Result<(), LmError> {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(v) = r.get(key) {
            return Err(r.unsupported(key, v, "soft-capped logits are not implemented"));
        }
    }
    if family != Family::Gemma3 && r.flag_or("use_sliding_window", false)? {
        return Err(r.unsupported("use_sliding_window", &Value::Bool(true), "only Gemma 3 may use a sliding window"));
    }
    if r.flag_or("mlp_bias", false)? {
        return Err(r.unsupported("mlp_bias", &Value::Bool(true), "MLP biases are not implemented"));
    }
    if let Some(v) = r.get("partial_rotary_factor").filter(|v| v.as_f64() != Some(1.0)) {
        return Err(r.unsupported("partial_rotary_factor", v, "only whole heads are rotated"));
    }
    if r.flag_or("use_bidirectional_attention", false)? {
        return Err(r.unsupported("use_bidirectional_attention", &Value::Bool(true), "attention is causal here"));
    }
    if family != Family::Gemma3
        && let Some(types) = r.get("layer_types")
        && types.as_array().is_none_or(|all| all.iter().any(|t| t.as_str() != Some("full_attention")))
    {
        return Err(r.unsupported(
            "layer_types",
            types,
            "only Gemma 3 may have layers of another kind than full_attention",
        ));
    }
    if let Some(v) = r.get("quantization_config") {
        return Err(r.unsupported("quantization_config", v, "dequantise the model to f32 or bf16 first"));
    }
    Ok(())
}

fn activation(r: &Reader<'_>, family: Family) -> Result<Activation, LmError> {
    let key = if family == Family::Gemma3 { "hidden_activation" } else { "hidden_act" };
    match r.get(key) {
        None => Ok(if family == Family::Gemma3 { Activation::GeluTanh } else { Activation::Silu }),
        Some(v) => match v.as_str() {
            Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            _ => Err(r.unsupported(key, v, "silu and gelu_pytorch_tanh are implemented")),
        },
    }
}

struct Rope {
    theta: f64,
    scaling: Option<RopeScaling>,
    local_theta: f64,
}

/// RoPE of both kinds of layers. Newer configs keep it in `rope_parameters`: one table, or one for each layer type.
fn rope(r: &Reader<'_>, gemma: bool) -> Result<Rope, LmError> {
    let default = if gemma { 1e6 } else { 1e4 };
    let Some(parameters) = r.get("rope_parameters") else {
        return Ok(Rope {
            theta: r.number_or("rope_theta", default)?,
            scaling: r.get("rope_scaling").map_or(Ok(None), |v| rope_scaling(r, v))?,
            local_theta: r.number_or("rope_local_base_freq", 1e4)?,
        });
    };
    let full = parameters.get("full_attention").unwrap_or(parameters);
    let local = parameters.get("sliding_attention");
    let theta = |v: &Value, default| Reader { path: r.path, json: v }.number_or("rope_theta", default);
    Ok(Rope {
        theta: theta(full, default)?,
        scaling: rope_scaling(r, full)?,
        local_theta: local.map_or(Ok(1e4), |v| theta(v, 1e4))?,
    })
}

fn rope_scaling(r: &Reader<'_>, value: &Value) -> Result<Option<RopeScaling>, LmError> {
    let inner = Reader { path: r.path, json: value };
    let kind = inner.get("rope_type").or_else(|| inner.get("type")).and_then(Value::as_str);
    match kind {
        Some("default") => Ok(None),
        None if value.get("factor").is_none() => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear { factor: inner.number_or("factor", 1.0)? })),
        Some("llama3") => Ok(Some(RopeScaling::Llama3 {
            factor: inner.number_or("factor", 8.0)?,
            low_freq_factor: inner.number_or("low_freq_factor", 1.0)?,
            high_freq_factor: inner.number_or("high_freq_factor", 4.0)?,
            original_max_position: inner.number_or("original_max_position_embeddings", 8192.0)?,
        })),
        _ => Err(r.unsupported("rope_scaling", value, "rope types default, linear and llama3 are implemented")),
    }
}

fn sliding_windows(r: &Reader<'_>, family: Family, layers: usize) -> Result<Vec<Option<usize>>, LmError> {
    if family != Family::Gemma3 {
        return Ok(vec![None; layers]);
    }
    let window = r.size_or("sliding_window", Some(4096))?;
    if let Some(value) = r.get("layer_types") {
        let types =
            value.as_array().ok_or_else(|| r.key_error("layer_types", format!("found {value}, expected a list")))?;
        if types.len() != layers {
            return Err(r.key_error("layer_types", format!("found {} entries, expected {layers}", types.len())));
        }
        return types
            .iter()
            .map(|t| match t.as_str() {
                Some("sliding_attention") => Ok(Some(window)),
                Some("full_attention") => Ok(None),
                _ => Err(r.unsupported("layer_types", t, "sliding_attention and full_attention are implemented")),
            })
            .collect();
    }
    let pattern = r.size_or("sliding_window_pattern", Some(6))?;
    Ok((0..layers).map(|l| (!(l + 1).is_multiple_of(pattern)).then_some(window)).collect())
}

fn special_ids(json: &Value) -> GenerationDefaults {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let eos = match json.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(v) => id(v).into_iter().collect(),
        None => Vec::new(),
    };
    GenerationDefaults { eos, pad: json.get("pad_token_id").and_then(id) }
}
