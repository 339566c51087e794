//! From the model names of a recipe to a loaded pair.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::Dispatch;
use burn::DispatchDevice;
use c2c_fuser::{ModelSource, PairModels};
use c2c_hub::Need;
use c2c_lm::{Lm, ModelDtype};
use c2c_recipe::{AlignmentMode, AlignmentSettings, AlignmentStrategy, Dtype, ModelRef, TrainMethod, TrainRecipe};
use c2c_text::{AlignStrategy, PairText, SectionCut, TokenMode, Tokenizer};

use crate::exit::{Failure, environment, usage};
use crate::hub;

/// Finds and loads both models and checks them against each other.
pub fn load_pair(
    receiver: &ModelRef,
    sharer: &ModelRef,
    mode: TokenMode,
    cut: SectionCut,
    device: &DispatchDevice,
) -> Result<PairModels<Dispatch>, Failure> {
    let source = |model: &ModelRef| {
        let folder = hub::model(&model.model, &model.path_hint, Need::All)?;
        Ok::<_, Failure>(ModelSource { folder, dtype: computable(dtype(model.dtype), device) })
    };
    let receiver = source(receiver)?;
    let sharer = source(sharer)?;
    c2c_kernels::long_lived(device, || PairModels::load(&receiver, &sharer, mode, cut, device)).map_err(environment)
}

/// A model for training by itself: its folder, and its weights in one dtype, which it may compute in another.
pub struct Alone {
    /// Where it lies.
    pub folder: PathBuf,
    /// The dtype of its arithmetic.
    pub computed: ModelDtype,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl Alone {
    /// Loads the weights of a folder in the dtype that is computed in.
    pub fn weights(&self, folder: &Path, device: &DispatchDevice) -> Result<Lm<Dispatch>, Failure> {
        c2c_kernels::long_lived(device, || Lm::from_dir(folder, self.computed, device)).map_err(environment)
    }
}

/// Finds one model and loads its tokenizer.
pub fn find(model: &ModelRef, device: &DispatchDevice) -> Result<Alone, Failure> {
    let folder = hub::model(&model.model, &model.path_hint, Need::All)?;
    let tokenizer = Arc::new(Tokenizer::from_dir(&folder).map_err(environment)?);
    Ok(Alone { folder, computed: computable(dtype(model.dtype), device), tokenizer })
}

/// The sharer of a recipe that trains something between two models. `what` is what can't be done with the method `single`.
pub fn sharer<'a>(recipe: &'a TrainRecipe, what: &str) -> Result<&'a ModelRef, Failure> {
    match (recipe.method(), &recipe.sharer) {
        (TrainMethod::Fuser | TrainMethod::Transformation, Some(sharer)) => Ok(sharer),
        _ => Err(usage(anyhow::anyhow!(
            "{}: {what} for the training of a Fuser only; the recipe's method is `single`",
            recipe.name
        ))),
    }
}

/// How the models of a train recipe read: both, or with the method `single` the receiver alone.
pub fn text_of(recipe: &TrainRecipe) -> Result<PairText, Failure> {
    match &recipe.sharer {
        Some(sharer) if recipe.method() != TrainMethod::Single => {
            load_text(&recipe.receiver, sharer, token_mode(&recipe.alignment), section_cut(&recipe.alignment))
        }
        _ => load_text(&recipe.receiver, &recipe.receiver, TokenMode::Shared, SectionCut::Message),
    }
}

/// Finds both models' folders and loads their tokenizers alone.
fn load_text(receiver: &ModelRef, sharer: &ModelRef, mode: TokenMode, cut: SectionCut) -> Result<PairText, Failure> {
    let load = |model: &ModelRef| {
        let folder = hub::model(&model.model, &model.path_hint, Need::Text)?;
        Tokenizer::from_dir(&folder).map(Arc::new).map_err(environment)
    };
    Ok(PairText::new(load(receiver)?, load(sharer)?, mode).map_err(environment)?.with_cut(cut))
}

/// How text becomes tokens of both models.
pub fn token_mode(alignment: &AlignmentSettings) -> TokenMode {
    match (alignment.mode, alignment.strategy) {
        (AlignmentMode::Shared, _) => TokenMode::Shared,
        (AlignmentMode::Aligned, AlignmentStrategy::Longest) => TokenMode::Aligned(AlignStrategy::Longest),
        (AlignmentMode::Aligned, AlignmentStrategy::First) => TokenMode::Aligned(AlignStrategy::First),
        (AlignmentMode::Aligned, AlignmentStrategy::Spans) => TokenMode::Aligned(AlignStrategy::Spans),
    }
}

/// How finely messages are cut into sections.
pub fn section_cut(alignment: &AlignmentSettings) -> SectionCut {
    match alignment.sections {
        c2c_recipe::SectionCut::Message => SectionCut::Message,
        c2c_recipe::SectionCut::Paragraph => SectionCut::Paragraph,
    }
}

/// The dtype that a device can compute in: WGPU has no bf16 arithmetic, so that bf16 models are loaded as f32 there.
pub fn computable(dtype: ModelDtype, device: &DispatchDevice) -> ModelDtype {
    match device {
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(_) if dtype == ModelDtype::Bf16 => {
            eprintln!("note: WGPU computes no bf16; loading the model as f32");
            ModelDtype::F32
        }
        _ => dtype,
    }
}

fn dtype(dtype: Dtype) -> ModelDtype {
    match dtype {
        Dtype::F32 => ModelDtype::F32,
        Dtype::Bf16 => ModelDtype::Bf16,
    }
}
