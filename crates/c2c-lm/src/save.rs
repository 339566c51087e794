//! Writing a model back as a Hugging Face folder.

use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::{Activation, Family, Lm, LmConfig, LmError};

/// A tensor as it is written.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl<B: Backend> Lm<B> {
    /// Writes `config.json`, `generation_config.json` and `model.safetensors` (f32) to an existing folder. Each file is
    /// written beside its final name and renamed.
    ///
    /// # Errors
    /// A file that can't be written, or tensors that can't be read back.
    pub fn save(&self, dir: &Path) -> Result<(), LmError> {
        self.save_weights(dir)?;
        let config = self.config();
        let text = |v: serde_json::Value| format!("{v:#}\n").into_bytes();
        write_beside(&dir.join("config.json"), &text(config_json(config)))?;
        let generation = json!({ "eos_token_id": config.generation.eos, "pad_token_id": config.generation.pad });
        write_beside(&dir.join("generation_config.json"), &text(generation))
    }

    /// Writes `model.safetensors` (f32) to an existing folder, beside its name and renamed. Adapters are left out: see
    /// [`Lm::merged`].
    ///
    /// # Errors
    /// A file that can't be written, or tensors that can't be read back.
    pub fn save_weights(&self, dir: &Path) -> Result<(), LmError> {
        write_tensors(&dir.join("model.safetensors"), self.named_tensors()?)
    }

    fn named_tensors(&self) -> Result<Vec<Named>, LmError> {
        let config = self.config();
        let mut out = Vec::new();
        push(&mut out, "model.embed_tokens.weight".into(), &self.embedding)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let gemma = config.family == Family::Gemma3;
            push(&mut out, name("input_layernorm.weight"), &layer.input_norm)?;
            let (q, kv) = (config.num_heads * config.head_dim, config.kv_width());
            let parts = [("q", q), ("k", kv), ("v", kv)];
            let names = |kind: &str| parts.map(|(p, rows)| (name(&format!("self_attn.{p}_proj.{kind}")), rows));
            push_rows(&mut out, &names("weight"), &layer.qkv)?;
            if let Some(bias) = &layer.qkv_bias {
                push_rows(&mut out, &names("bias"), bias)?;
            }
            for (part, norm) in [("q_norm", &layer.q_norm), ("k_norm", &layer.k_norm)] {
                if let Some(norm) = norm {
                    push(&mut out, name(&format!("self_attn.{part}.weight")), norm)?;
                }
            }
            push(&mut out, name("self_attn.o_proj.weight"), &layer.o)?;
            if let Some(bias) = &layer.o_bias {
                push(&mut out, name("self_attn.o_proj.bias"), bias)?;
            }
            let mlp_norm = if gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
            push(&mut out, name(&format!("{mlp_norm}.weight")), &layer.mlp_norm)?;
            if let Some(norm) = &layer.post_attention_norm {
                push(&mut out, name("post_attention_layernorm.weight"), norm)?;
            }
            let inner = config.intermediate_size;
            let halves = [(name("mlp.gate_proj.weight"), inner), (name("mlp.up_proj.weight"), inner)];
            push_rows(&mut out, &halves, &layer.gate_up)?;
            push(&mut out, name("mlp.down_proj.weight"), &layer.down)?;
            if let Some(norm) = &layer.post_mlp_norm {
                push(&mut out, name("post_feedforward_layernorm.weight"), norm)?;
            }
        }
        push(&mut out, "model.norm.weight".into(), &self.final_norm)?;
        if let Some(head) = &self.head {
            push(&mut out, "lm_head.weight".into(), head)?;
        }
        if config.family == Family::Gemma3 {
            // The 1 that loading folded in.
            for tensor in out.iter_mut().filter(|t| t.name.ends_with("norm.weight")) {
                tensor.values.iter_mut().for_each(|v| *v -= 1.0);
            }
        }
        Ok(out)
    }
}

/// Writes tensors as one safetensors file of f32.
pub(crate) fn write_tensors(path: &Path, tensors: Vec<Named>) -> Result<(), LmError> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|t| (t.name, t.shape, t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let damaged =
        |e: safetensors::SafeTensorError| LmError::Safetensors { path: path.to_owned(), reason: e.to_string() };
    let views = bytes
        .iter()
        .map(|(name, shape, data)| TensorView::new(Dtype::F32, shape.clone(), data).map(|v| (name.as_str(), v)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(damaged)?;
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_beside(path, &safetensors::serialize(views, Some(metadata)).map_err(damaged)?)
}

/// The f32 values of a parameter, in row order.
pub(crate) fn values<B: Backend, const D: usize>(param: &Param<Tensor<B, D>>) -> Result<Vec<f32>, LmError> {
    let data = param.val().try_into_data().map_err(|e| LmError::Readback(format!("{e:?}")))?;
    Ok(data.iter::<f32>().collect())
}

fn push<B: Backend, const D: usize>(
    out: &mut Vec<Named>,
    name: String,
    param: &Param<Tensor<B, D>>,
) -> Result<(), LmError> {
    out.push(Named { name, shape: param.val().dims().to_vec(), values: values(param)? });
    Ok(())
}

/// Splits a joined parameter along its rows.
fn push_rows<B: Backend, const D: usize>(
    out: &mut Vec<Named>,
    parts: &[(String, usize)],
    param: &Param<Tensor<B, D>>,
) -> Result<(), LmError> {
    let all = values(param)?;
    let total: usize = parts.iter().map(|p| p.1).sum();
    let width = all.len() / total.max(1);
    // A joined bias has one axis, joined or stacked matrices have rows of the last axis's width.
    let matrix = param.val().dims().len() > 1;
    let mut start = 0;
    for (name, rows) in parts {
        let shape = if matrix { vec![*rows, width] } else { vec![*rows] };
        let end = start + rows * width;
        out.push(Named { name: name.clone(), shape, values: all[start..end].to_vec() });
        start = end;
    }
    Ok(())
}

/// Writes beside the final name, then renames: a reader sees the old file or the whole new one.
///
/// # Errors
/// The file can't be written.
pub fn write_beside(path: &Path, data: &[u8]) -> Result<(), LmError> {
    let beside = path.with_extension("tmp");
    let io = |source| LmError::Write { path: path.to_owned(), source };
    std::fs::write(&beside, data).map_err(io)?;
    std::fs::rename(&beside, path).map_err(io)
}

fn config_json(c: &LmConfig) -> serde_json::Value {
    let (model_type, architecture) = match c.family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        Family::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM"),
    };
    let activation = match c.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    let mut json = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "head_dim": c.head_dim,
        "hidden_act": activation,
        "hidden_activation": activation,
        "rms_norm_eps": c.rms_norm_eps,
        "rope_theta": c.rope_theta,
        "max_position_embeddings": c.max_position,
        "tie_word_embeddings": c.tie_embeddings,
        "attention_bias": c.o_bias,
        "torch_dtype": "float32",
        "eos_token_id": c.generation.eos,
        "pad_token_id": c.generation.pad,
    });
    if c.family == Family::Gemma3 {
        let types: Vec<&str> = c
            .sliding_windows
            .iter()
            .map(|w| if w.is_some() { "sliding_attention" } else { "full_attention" })
            .collect();
        json["layer_types"] = json!(types);
        json["sliding_window"] = json!(c.sliding_windows.iter().flatten().next());
        json["rope_local_base_freq"] = json!(c.rope_local_theta);
        json["query_pre_attn_scalar"] = json!(c.attention_scale.powi(-2).round());
    }
    json["rope_scaling"] = match c.rope_scaling {
        None => serde_json::Value::Null,
        Some(crate::RopeScaling::Linear { factor }) => json!({ "rope_type": "linear", "factor": factor }),
        Some(crate::RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position }) => {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor, "original_max_position_embeddings": original_max_position,
            })
        }
    };
    json
}
