//! What can go wrong between a model folder and its logits.

use std::path::PathBuf;

use crate::BadLogits;

/// Errors of model loading and inference.
#[derive(Debug, thiserror::Error)]
pub enum LmError {
    /// A file of the model folder can't be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file can't be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The folder holds no weights.
    #[error(
        "no weights in {path}: expected model.safetensors, or model.safetensors.index.json with its shards; is this a Hugging Face model folder?"
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A JSON file is not what it should be.
    #[error("{path} is not valid: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A config key is missing or has a value of the wrong kind.
    #[error("{path}: key `{key}`: {reason}")]
    ConfigKey {
        /// The config file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Found and expected.
        reason: String,
    },
    /// A config asks for something these models don't implement. Refused rather than ignored.
    #[error("{path}: `{key}` = {value} is not supported: {hint}")]
    Unsupported {
        /// The config file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is supported.
        hint: String,
    },
    /// A safetensors file is damaged.
    #[error("{path} is not a whole safetensors file: {reason}; download or copy it again")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// Tensors are missing, unused or misshapen. All of them are listed.
    #[error("the weights in {path} don't fit its config.json:\n{}", .problems.join("\n"))]
    Weights {
        /// The folder.
        path: PathBuf,
        /// One line a tensor.
        problems: Vec<String>,
    },
    /// The prompt has no token.
    #[error("the prompt is empty: at least one token is needed")]
    EmptyPrompt,
    /// The rows of a batch differ in length, or the batch has no row.
    #[error("a batch needs rows of one length: row {row} has {found} {what}, expected {expected}")]
    Ragged {
        /// The row.
        row: usize,
        /// Ids, positions or mask entries.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length of the others.
        expected: usize,
    },
    /// More positions than the model was made for.
    #[error(
        "{found} positions are more than the model's context of {limit} (max_position_embeddings): shorten the prompt or lower max_new_tokens"
    )]
    ContextLength {
        /// Highest position + 1.
        found: usize,
        /// The model's limit.
        limit: usize,
    },
    /// An id that the model has no embedding for.
    #[error(
        "token id {id} is outside the model's vocabulary of {vocab}: the tokenizer and the model don't belong together"
    )]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// The model's vocabulary.
        vocab: usize,
    },
    /// A cache is used with a model or batch it wasn't made for.
    #[error("the cache has {what} {found}, expected {expected}")]
    CacheMismatch {
        /// Layers, rows, ...
        what: &'static str,
        /// In the cache.
        found: usize,
        /// In the model or batch.
        expected: usize,
    },
    /// A tensor of a cache isn't as the model has it, or as the cache's other tensors are.
    #[error("layer {layer} of the cache has {what} {found}, expected {expected}")]
    CacheTensor {
        /// The layer.
        layer: usize,
        /// Keys or values.
        what: &'static str,
        /// Shape and dtype.
        found: String,
        /// Shape and dtype.
        expected: String,
    },
    /// A sampling parameter out of its range.
    #[error("{name} = {value}: expected {expected}")]
    Sampling {
        /// The parameter.
        name: &'static str,
        /// What was given.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// No token can be chosen from a row's logits.
    #[error(
        "row {row}, new token {step}: the logits {found}: expected numbers; a number may have overflowed in the model's dtype (try `dtype` f32), or its weights may be damaged"
    )]
    Logits {
        /// The row of the batch, from 0.
        row: usize,
        /// The tokens that the row had before.
        step: usize,
        /// What is wrong.
        found: BadLogits,
    },
    /// A tensor could not be read back from the device.
    #[error("reading a tensor back from the device failed: {0}")]
    Readback(String),
}
