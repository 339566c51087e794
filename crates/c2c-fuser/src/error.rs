//! What can go wrong between two caches.

/// Errors of fusers and of fused generation.
#[derive(Debug, thiserror::Error)]
pub enum FuserError {
    /// A model refused its input.
    #[error(transparent)]
    Lm(#[from] c2c_lm::LmError),
    /// A tokenizer, template or alignment refused its input.
    #[error(transparent)]
    Text(#[from] c2c_text::TextError),
    /// A tokenizer that knows more ids than its model.
    #[error(
        "the {role}'s tokenizer has ids up to {tokenizer} (exclusive), its model only {model} embeddings: {} holds a tokenizer and a model that don't belong together",
        .folder.display()
    )]
    Vocabulary {
        /// "receiver" or "sharer".
        role: &'static str,
        /// The folder of both.
        folder: std::path::PathBuf,
        /// Highest id + 1 of the tokenizer.
        tokenizer: usize,
        /// Embeddings of the model.
        model: usize,
    },
    /// A value of the configuration is out of range.
    #[error("fuser config: {key} = {found}: expected {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The range.
        expected: String,
    },
    /// The fuser was made for other models.
    #[error("the fuser was made for a {model} with {what} {expected}, this one has {found}")]
    ModelMismatch {
        /// "receiver" or "sharer".
        model: &'static str,
        /// What differs.
        what: &'static str,
        /// In the fuser.
        expected: usize,
        /// In the model.
        found: usize,
    },
    /// Caches of different size were given.
    #[error("fusing needs {what} {expected}, found {found}")]
    Shape {
        /// Layers, batch, tokens, heads.
        what: &'static str,
        /// What the fuser was made for, or what the other cache has.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A fuser that gives no weights to heads was asked for them.
    #[error(
        "the fuser has no dynamic weights of heads: found {found}, expected the paper's network; choose one that was trained with fuser.level = \"gate\" or \"fuse\""
    )]
    NoHeadWeights {
        /// What the fuser is.
        found: &'static str,
    },
    /// A parameter is missing or misshapen. All of them are listed.
    #[error("the fuser's weights don't fit its config:\n{}", .0.join("\n"))]
    Weights(Vec<String>),
    /// A batch without sections, or whose rows disagree about them.
    #[error("prompt sections: {0}")]
    Sections(String),
}
