//! What a model costs, from its config alone: parameters, bytes, arithmetic.

use crate::{Family, LmConfig, ModelDtype};

impl LmConfig {
    /// Parameters of one layer's matrices and biases.
    fn layer_matrices(&self) -> usize {
        let (hidden, attended) = (self.hidden_size, self.num_heads * self.head_dim);
        let qkv = self.qkv_width() * (hidden + usize::from(self.qkv_bias));
        let output = hidden * attended + if self.o_bias { hidden } else { 0 };
        qkv + output + 3 * hidden * self.intermediate_size
    }

    /// Parameters of all norms, which are held in f32 whatever the model's dtype.
    fn norm_params(&self) -> usize {
        let gemma = self.family == Family::Gemma3;
        let head_norms = if gemma || self.family == Family::Qwen3 { 2 * self.head_dim } else { 0 };
        let rows = if gemma { 4 } else { 2 };
        self.num_layers * (rows * self.hidden_size + head_norms) + self.hidden_size
    }

    /// Parameters, a tied head counted once.
    pub fn num_params(&self) -> usize {
        let embeddings = if self.tie_embeddings { 1 } else { 2 };
        embeddings * self.vocab_size * self.hidden_size + self.num_layers * self.layer_matrices() + self.norm_params()
    }

    /// Bytes of the weights in memory.
    pub fn weight_bytes(&self, dtype: ModelDtype) -> u64 {
        let norms = self.norm_params();
        (self.num_params() - norms) as u64 * dtype.dtype().size() as u64 + 4 * norms as u64
    }

    /// Floating-point operations of filling the first `layers` layers of the cache with one token: two for each weight
    /// of its matrices, without attention's own products, which grow with the context. The last of these layers only
    /// computes keys and values.
    pub fn fill_flops(&self, layers: usize) -> u64 {
        let Some(whole) = layers.checked_sub(1) else { return 0 };
        let last = 2 * self.kv_width() * self.hidden_size;
        2 * (whole * self.layer_matrices() + last) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use burn::module::Module;
    use burn::{Dispatch, DispatchDevice};
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_those_of_the_model() {
        let device = DispatchDevice::Flex(burn_flex::FlexDevice);
        for (kind, tied) in [("llama", false), ("qwen2", true), ("qwen3", false), ("gemma3_text", true)] {
            let config = json!({
                "model_type": kind, "vocab_size": 11, "hidden_size": 12, "intermediate_size": 20,
                "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
                "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": tied,
            });
            let config = LmConfig::from_json(&config, std::path::Path::new("x")).unwrap();
            let model = crate::init_random::<Dispatch>(&config, 1, &device);
            assert_eq!(config.num_params(), model.num_params(), "{kind}");
            assert_eq!(config.weight_bytes(ModelDtype::F32), 4 * model.num_params() as u64);
        }
    }
}
