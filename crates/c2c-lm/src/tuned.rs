//! What a tuned model leaves: a Hugging Face folder like the one it was loaded from, and adapters in PEFT's layout.

use std::path::Path;

use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use crate::config::read_json;
use crate::save::{Named, values, write_tensors};
use crate::{Lm, LmError, LoraConfig, LoraTarget, write_beside};

/// Files of a model folder that have nothing to do with its weights. Those that there are, are copied.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// Copies tokenizer, chat template and generation settings from one model folder to another, and `config.json` with the
/// number format that [`Lm::save_weights`] writes.
///
/// # Errors
/// A file that can't be read or written; a `config.json` that is no JSON.
pub fn copy_companions(from: &Path, to: &Path) -> Result<(), LmError> {
    for name in COMPANIONS {
        let path = from.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|source| LmError::Io { path: path.clone(), source })?;
            write_beside(&to.join(name), &bytes)?;
        }
    }
    let mut config = read_json(&from.join("config.json"))?;
    if let Some(table) = config.as_object_mut() {
        // Newer files say `dtype`, older ones `torch_dtype`.
        let key = if table.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        table.insert(key.to_owned(), json!("float32"));
        // The weights aren't quantised any more.
        table.remove("quantization_config");
    }
    write_beside(&to.join("config.json"), &text(&config))
}

impl<B: Backend> Lm<B> {
    /// Writes the adapters of this model as PEFT does, `adapter_config.json` and `adapter_model.safetensors` (f32), into
    /// an existing folder. `base` is what the adapters belong to: a folder or a hub id.
    ///
    /// # Errors
    /// A file that can't be written, or tensors that can't be read back.
    pub fn save_adapters(&self, dir: &Path, base: &str, lora: &LoraConfig) -> Result<(), LmError> {
        let mut tensors = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(adapters) = &layer.lora else { continue };
            for target in LoraTarget::ALL {
                let Some(adapter) = adapters.adapter(target) else { continue };
                let module = format!("base_model.model.model.layers.{index}.{}.{}", target.block(), target.name());
                for (factor, param) in [("lora_A", &adapter.a), ("lora_B", &adapter.b)] {
                    let shape = param.val().dims().to_vec();
                    tensors.push(Named { name: format!("{module}.{factor}.weight"), shape, values: values(param)? });
                }
            }
        }
        write_tensors(&dir.join("adapter_model.safetensors"), tensors)?;
        let targets: Vec<&str> = lora.targets.iter().map(|target| target.name()).collect();
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": lora.rank,
            "lora_alpha": number(lora.alpha),
            "lora_dropout": lora.dropout,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_to_transform": null,
            "layers_pattern": null,
            "modules_to_save": null,
            "rank_pattern": {},
            "alpha_pattern": {},
            "use_rslora": false,
            "use_dora": false,
        });
        write_beside(&dir.join("adapter_config.json"), &text(&config))
    }
}

/// PEFT writes whole numbers without a point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}

fn text(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}
