//! Recipes as resolved: everything known and checked.
//!
//! Where a path was written, both are kept: the text, which is written out again and hashed, so that a recipe's hash is
//! the same on every machine; and the path that it means here.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::sections::{
    AlignmentSettings, AllInOneSettings, AnswerMode, CheckpointSettings, Compat, CorpusSettings, DataKind, Dtype,
    FusedFrom, FuserLevel, FuserNetwork, FuserSettings, Method, ModelShape, OptimizerSettings, OutputSettings,
    PretrainingSettings, PromptFormat, RecipeKind, ScheduleSettings, SingleSettings, SourceOptions, TrainMethod,
    TrainingSettings,
};
use crate::several::SeveralSettings;

/// A resolved recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(clippy::large_enum_variant, reason = "a program holds one or a few, and matches on them")]
pub enum Recipe {
    /// Trains a Fuser between two frozen models.
    Train(TrainRecipe),
    /// Evaluates a trained Fuser.
    Eval(EvalRecipe),
    /// Pretrains one small model of the embedded pair.
    Pretrain(PretrainRecipe),
}

/// A model and the number format to hold it in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelRef {
    /// The folder or hub id, as written.
    pub model: String,
    /// The folder if there is one, else the same text as a path.
    #[serde(skip)]
    pub path_hint: PathBuf,
    /// Number format of weights and cache.
    pub dtype: Dtype,
}

/// Where examples or questions come from.
///
/// A key that the source's kind doesn't have holds what changes nothing: `None`, 1 repeat, and as format
/// [`PromptFormat::Training`] in training, the evaluation's prompt in an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataSource {
    /// Kind of source.
    pub kind: DataKind,
    /// The file or folder, or where it would lie; always there for kinds whose path is required.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// The file, folder or hub id, as written.
    #[serde(rename = "path")]
    pub path_as_written: Option<String>,
    /// Half of the generated world, `train` or `test`, always there for [`DataKind::Pocket`]; or a data set's split.
    pub split: Option<String>,
    /// How many places of the generated world; `None` is all of the split.
    pub places: Option<usize>,
    /// How many rows of the file, from the first on; `None` is all.
    pub limit: Option<usize>,
    /// How often each question appears; `None` is once.
    pub repeats: Option<usize>,
    /// How a question is put.
    pub format: PromptFormat,
    /// How the source is narrowed and weighed.
    #[serde(flatten)]
    pub options: SourceOptions,
}

/// `[data]`: what the Fuser is trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataSettings {
    /// At least one source.
    pub sources: Vec<DataSource>,
    /// Draw a new order for each epoch.
    pub shuffle: bool,
    /// Batches that are sorted by length together; `None` is no sorting.
    pub length_bucket: Option<usize>,
    /// The folder of prepared caches.
    #[serde(skip)]
    pub prepared: Option<PathBuf>,
    /// The folder of prepared caches, as written.
    #[serde(rename = "prepared")]
    pub prepared_as_written: Option<String>,
    /// Batches made ahead; 0 is none.
    pub prefetch: usize,
}

/// `[evaluation]`: what is asked, how, and who answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationSettings {
    /// At least one source.
    pub sources: Vec<DataSource>,
    /// Questions in all; `None` is all.
    pub limit: Option<usize>,
    /// How a question is put.
    pub prompt: PromptFormat,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Who answers: at least one, each once, in the order as written.
    pub methods: Vec<Method>,
    /// Questions answered together.
    pub batch_size: usize,
    /// The most tokens of prompts answered together; `None` is no limit.
    pub batch_tokens: Option<usize>,
    /// Seed of the questions' choice, of the mismatched pairs and of the examples' choice.
    pub seed: u64,
    /// How an answer is got out of a model; `None` is [`AnswerMode::Generate`].
    pub mode: Option<AnswerMode>,
    /// With [`AnswerMode::Logits`], the start of the reply; `None` is the usual one.
    pub response_text: Option<String>,
    /// Whether prompts are put in chat templates; `None` is as the benchmark has it.
    pub chat_template: Option<bool>,
    /// Whose rules are followed; `None` is [`Compat::Fixed`].
    pub compat: Option<Compat>,
    /// How much of what a prompt would have fused is, from 0 to 1; `None` is all of it.
    pub fused_share: Option<f64>,
    /// From which end; `None` is [`FusedFrom::Front`].
    pub fused_from: Option<FusedFrom>,
    /// How baselines are done; `None` if no method needs it.
    #[serde(flatten)]
    pub baselines: Option<BaselineSettings>,
}

/// The keys of `[evaluation]` that only some methods read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaselineSettings {
    /// What the Sharer is asked in T2T: a name of [`T2T_PROMPTS`](crate::T2T_PROMPTS), or a text with `{question}`.
    pub t2t_prompt: String,
    /// Longest text of the Sharer, in tokens.
    pub t2t_max_new_tokens: usize,
    /// Examples before the question.
    pub few_shot_examples: usize,
    /// Where examples come from; empty if no method needs any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub few_shot_sources: Vec<DataSource>,
    /// Whether the cache of what all prompts begin with is computed once.
    pub few_shot_reuse: bool,
    /// Layers that are enriched: `all`, or numbers and ranges as [`layer_list`](crate::layer_list) reads them.
    pub oracle_layers: String,
}

/// `[artefact]`: the trained Fuser.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Artefact {
    /// Its folder.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its folder, as written.
    #[serde(rename = "path")]
    pub path_as_written: String,
}

/// Trains a Fuser between two frozen models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainRecipe {
    /// Short name, good as the name of a folder.
    pub name: String,
    /// One line about it; may be empty.
    pub description: String,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Folder that relative paths start from; absolute.
    pub base_dir: PathBuf,
    /// What is trained; `None` is a Fuser. See [`TrainRecipe::method`].
    pub method: Option<TrainMethod>,
    /// The model that answers.
    pub receiver: ModelRef,
    /// The model whose cache is shared; always there when a Fuser is trained.
    pub sharer: Option<ModelRef>,
    /// Token alignment.
    pub alignment: AlignmentSettings,
    /// The Fuser, its layer alignment and its Gate.
    pub fuser: FuserSettings,
    /// The choices of an all-in-one network; `None` is their defaults. See [`TrainRecipe::all_in_one_settings`].
    pub all_in_one: Option<AllInOneSettings>,
    /// What the method `single` trains; `None` is everything.
    pub single: Option<SingleSettings>,
    /// AdamW.
    pub optimizer: OptimizerSettings,
    /// The learning rate over the run.
    pub schedule: ScheduleSettings,
    /// Batches and length of the run.
    pub training: TrainingSettings,
    /// What it is trained on.
    pub data: DataSettings,
    /// What it is judged on at the end; `None` is no evaluation.
    pub evaluation: Option<EvaluationSettings>,
    /// When its state is saved, and how many of the saved ones are kept.
    pub checkpoint: CheckpointSettings,
    /// Where results go.
    pub output: OutputSettings,
}

/// Evaluates a trained Fuser.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalRecipe {
    /// Short name, good as the name of a folder.
    pub name: String,
    /// One line about it; may be empty.
    pub description: String,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Folder that relative paths start from; absolute.
    pub base_dir: PathBuf,
    /// The trained Fuser; `None` if nobody is asked who needs it.
    pub artefact: Option<Artefact>,
    /// The model that answers; `None` is the one that the artefact names. There without an artefact.
    pub receiver: Option<ModelRef>,
    /// The model whose cache is shared; `None` is the one that the artefact names, or without an artefact none at all.
    pub sharer: Option<ModelRef>,
    /// Sharers beside the first, for [`Method::Several`] and its control; there if one of them is asked. May be there without.
    pub several: Option<SeveralSettings>,
    /// What is asked, how, and who answers.
    pub evaluation: EvaluationSettings,
    /// Where results go.
    pub output: OutputSettings,
}

/// Pretrains one small model of the embedded pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PretrainRecipe {
    /// Short name, good as the name of a folder.
    pub name: String,
    /// One line about it; may be empty.
    pub description: String,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Folder that relative paths start from; absolute.
    pub base_dir: PathBuf,
    /// The model's shape.
    pub model: ModelShape,
    /// What it reads.
    pub corpus: CorpusSettings,
    /// AdamW.
    pub optimizer: OptimizerSettings,
    /// The learning rate over the run.
    pub schedule: ScheduleSettings,
    /// Length of the run.
    pub training: PretrainingSettings,
    /// Where results go.
    pub output: OutputSettings,
}

impl TrainRecipe {
    /// What is trained.
    pub fn method(&self) -> TrainMethod {
        self.method.unwrap_or(TrainMethod::Fuser)
    }

    /// How much of the Fuser there is.
    pub fn level(&self) -> FuserLevel {
        match self.method() {
            TrainMethod::Transformation => FuserLevel::Project,
            TrainMethod::Fuser | TrainMethod::Single => self.fuser.level.unwrap_or(FuserLevel::Gate),
        }
    }

    /// Which network the Fuser is.
    pub fn network(&self) -> FuserNetwork {
        self.fuser.network.unwrap_or(FuserNetwork::Paper)
    }

    /// The choices of the Fuser's network if it is an all-in-one network.
    pub fn all_in_one_settings(&self) -> Option<AllInOneSettings> {
        match self.network() {
            FuserNetwork::Paper => None,
            FuserNetwork::AllInOne => Some(self.all_in_one.clone().unwrap_or_default()),
        }
    }

    /// What the method `single` trains.
    pub fn single_settings(&self) -> SingleSettings {
        self.single.clone().unwrap_or_default()
    }
}

impl Recipe {
    /// What the recipe is for.
    pub fn kind(&self) -> RecipeKind {
        match self {
            Recipe::Train(_) => RecipeKind::Train,
            Recipe::Eval(_) => RecipeKind::Eval,
            Recipe::Pretrain(_) => RecipeKind::Pretrain,
        }
    }

    /// Its short name.
    pub fn name(&self) -> &str {
        match self {
            Recipe::Train(recipe) => &recipe.name,
            Recipe::Eval(recipe) => &recipe.name,
            Recipe::Pretrain(recipe) => &recipe.name,
        }
    }

    /// Its one line; may be empty.
    pub fn description(&self) -> &str {
        match self {
            Recipe::Train(recipe) => &recipe.description,
            Recipe::Eval(recipe) => &recipe.description,
            Recipe::Pretrain(recipe) => &recipe.description,
        }
    }

    /// Folder in which its run directory is made.
    pub fn output_dir(&self) -> &Path {
        match self {
            Recipe::Train(recipe) => &recipe.output.dir,
            Recipe::Eval(recipe) => &recipe.output.dir,
            Recipe::Pretrain(recipe) => &recipe.output.dir,
        }
    }
}
