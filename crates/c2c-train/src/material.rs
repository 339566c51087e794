//! What a run reads before it begins.
//!
//! Whatever can be refused before the first step is refused here, so that no run directory is made for a run that can't
//! be: data, prepared caches, a Fuser's shape, layers that a model lacks.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use c2c_data::Fingerprint as DataFingerprint;
use c2c_fuser::{PairModels, RecordShape};
use c2c_lm::{Fingerprint, Lm};
use c2c_recipe::TrainRecipe;
use c2c_text::{PairText, TokenMode, Tokenizer};

use crate::batcher::Batcher;
use crate::data::{Examples, TrainExample, load_examples, split};
use crate::prepared::{About, CacheDtype, Prepared};
use crate::run::fuser_config;
use crate::single::trained_layers;
use crate::{ExampleCounts, TrainError};

/// The examples of a run, and the model that answers.
pub struct Material {
    pub(crate) training: Vec<TrainExample>,
    pub(crate) validation: Vec<TrainExample>,
    pub(crate) counts: ExampleCounts,
    /// One a data source.
    pub(crate) sources: Vec<DataFingerprint>,
    /// The Receiver's weights before training.
    pub(crate) receiver: Fingerprint,
    /// Its padding.
    pub(crate) pad: u32,
}

/// The same for a run between two models.
pub struct PairMaterial {
    pub(crate) material: Material,
    /// The Sharer's weights before training.
    pub(crate) sharer: Fingerprint,
    /// Of the examples that are trained on.
    pub(crate) training: Arc<Batcher>,
    /// Of those that are held out.
    pub(crate) validation: Arc<Batcher>,
}

impl Material {
    /// Reads what a run of the Receiver alone needs.
    ///
    /// # Errors
    /// Data that can't be read; layers that the model doesn't have.
    pub fn of_receiver<B: Backend>(
        recipe: &TrainRecipe,
        receiver: &Lm<B>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Self, TrainError> {
        trained_layers(&recipe.single_settings(), receiver.config().num_layers)?;
        let text = PairText::new(tokenizer.clone(), tokenizer, TokenMode::Shared)?;
        Self::read(recipe, &text, receiver.fingerprint()?)
    }

    fn read(recipe: &TrainRecipe, text: &PairText, receiver: Fingerprint) -> Result<Self, TrainError> {
        let Examples { examples, fingerprints, too_long, too_long_listed, refused, refused_count, .. } =
            load_examples(recipe, text)?;
        let (training, validation) = split(examples, recipe.training.validation_fraction, recipe.seed);
        let counts = ExampleCounts {
            train: training.len(),
            validation: validation.len(),
            too_long,
            too_long_listed,
            refused: refused_count,
            refusals: refused,
        };
        Ok(Self { training, validation, counts, sources: fingerprints, receiver, pad: text.receiver().pad_id() })
    }

    /// Where the examples went.
    pub fn counts(&self) -> &ExampleCounts {
        &self.counts
    }

    /// What was read, one a data source.
    pub fn sources(&self) -> &[DataFingerprint] {
        &self.sources
    }

    /// The examples that are held out; those that are trained on if none is.
    pub fn held_out(&self) -> &[TrainExample] {
        if self.validation.is_empty() { &self.training } else { &self.validation }
    }
}

impl PairMaterial {
    /// Reads what a run between two models needs.
    ///
    /// # Errors
    /// Data that can't be read; an example that doesn't collate; prepared caches that are of something else.
    pub fn of_pair<B: Backend>(recipe: &TrainRecipe, pair: &PairModels<B>) -> Result<Self, TrainError> {
        let material = Material::read(recipe, &pair.text, pair.receiver.fingerprint()?)?;
        let sharer = pair.sharer.fingerprint()?;
        // The length of the run, which decides how long the temperature falls, is of no account here.
        let config = fuser_config(recipe, pair, 1);
        config.validate()?;
        let prepared = match &recipe.data.prepared {
            None => None,
            Some(dir) => {
                let now = About::new(&config, &material.receiver, &sharer, CacheDtype::F32);
                let shape = |about: &About| RecordShape::new(&config, about.dtype.dtype());
                Some(Arc::new(Prepared::open(dir, &now, shape)?))
            }
        };
        let pads = (material.pad, pair.text.sharer().pad_id());
        let batches = |examples: &[TrainExample]| Batcher::new(examples, pads, prepared.clone());
        let (training, validation) = (batches(&material.training)?, batches(&material.validation)?);
        Ok(Self { material, sharer, training: Arc::new(training), validation: Arc::new(validation) })
    }

    /// The examples.
    pub fn material(&self) -> &Material {
        &self.material
    }
}

/// Checks that training left both models as they were.
///
/// # Errors
/// A model that changed.
pub(crate) fn unchanged<B: Backend>(
    (receiver, sharer): (&Fingerprint, &Fingerprint),
    after: (&Lm<B>, &Lm<B>),
) -> Result<(), TrainError> {
    let same = |model: &'static str, before: &Fingerprint, after: &Lm<B>| {
        let after = after.fingerprint()?;
        if *before == after {
            return Ok(());
        }
        Err(TrainError::NotFrozen { model, before: before.to_string(), after: after.to_string() })
    };
    same("receiver", receiver, after.0)?;
    same("sharer", sharer, after.1)
}
