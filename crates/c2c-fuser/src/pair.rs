//! Two models with their tokenizers, loaded and checked against each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::backend::Backend;
use c2c_lm::{Lm, ModelDtype};
use c2c_text::{PairText, SectionCut, TokenMode, Tokenizer};

use crate::FuserError;

/// Where a model lies and how it is loaded.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// A Hugging Face folder.
    pub folder: PathBuf,
    /// The dtype of its matrices.
    pub dtype: ModelDtype,
}

/// A receiver and a sharer, and how text becomes tokens of both.
#[derive(Debug)]
pub struct PairModels<B: Backend> {
    /// The model that answers.
    pub receiver: Lm<B>,
    /// The model that shares its cache.
    pub sharer: Lm<B>,
    /// Tokenizers, templates and alignment.
    pub text: PairText,
}

impl<B: Backend> PairModels<B> {
    /// Loads both folders.
    ///
    /// # Errors
    /// What a model, a tokenizer or the alignment refuses; a tokenizer with more ids than its model has embeddings.
    pub fn load(
        receiver: &ModelSource,
        sharer: &ModelSource,
        mode: TokenMode,
        cut: SectionCut,
        device: &B::Device,
    ) -> Result<Self, FuserError> {
        let (receiver, receiver_text) = load_one(receiver, "receiver", device)?;
        let (sharer, sharer_text) = load_one(sharer, "sharer", device)?;
        let text = PairText::new(receiver_text, sharer_text, mode)?.with_cut(cut);
        Ok(Self { receiver, sharer, text })
    }
}

fn load_one<B: Backend>(
    source: &ModelSource,
    role: &'static str,
    device: &B::Device,
) -> Result<(Lm<B>, Arc<Tokenizer>), FuserError> {
    let model = Lm::from_dir(&source.folder, source.dtype, device)?;
    let tokenizer = Tokenizer::from_dir(&source.folder)?;
    check_vocabulary(role, &source.folder, tokenizer.vocab_size(), model.config().vocab_size)?;
    Ok((model, Arc::new(tokenizer)))
}

fn check_vocabulary(role: &'static str, folder: &Path, tokenizer: usize, model: usize) -> Result<(), FuserError> {
    if tokenizer <= model {
        return Ok(());
    }
    Err(FuserError::Vocabulary { role, folder: folder.to_owned(), tokenizer, model })
}
