//! Recipes: one TOML file a run, as written and as resolved.
//!
//! A recipe says what a run uses and does: which Receiver and which Sharer, how the Fuser is built, what it is trained
//! on and how it is judged. Three kinds exist: `train`, `eval` and `pretrain` ([`RecipeKind`]).
//!
//! The way of a recipe: text -> a tree that knows the line of everything in it -> checked against the key table
//! ([`schema`]) and filled with defaults -> as written (serde, unknown keys refused) -> resolved ([`Recipe`]): paths
//! found, every number known.
//!
//! Invariants:
//! * [`load`] reports every problem of a recipe at once, each with its line and key ([`RecipeErrors`]).
//! * The key table is the one place where a key's type, range, default and meaning stand. The checks, the defaults,
//!   [`defaults_toml`] and the tables of `docs/recipes.md` ([`reference`](mod@reference)) are all read from it.
//! * A resolved recipe, written out by [`Loaded::resolved_toml`] and loaded from any folder, is the same resolved
//!   recipe with the same [`Loaded::hash`] (if its paths start from its own folder, not from the current directory).
//! * Loading opens no file but the recipe. Whether a model or a data set exists is for whoever opens it to say.

mod baselines;
mod check;
mod convert;
mod cross;
mod error;
mod list;
mod load;
mod node;
mod overrides;
mod paths;
mod recipe;
pub mod reference;
mod render;
pub mod schema;
mod sections;
mod several;
mod suggest;
mod words;
mod written;

pub use baselines::{CHOICES, QUESTION, T2T_PROMPTS, layer_list, t2t_template};
pub use convert::{Converted, Fate, Outcome as FateOutcome, convert};
pub use error::{Problem, RecipeErrors};
pub use list::{Listed, Summary, list};
pub use load::{Loaded, MAX_RECIPE_BYTES, load, load_text};
pub use overrides::Override;
pub use recipe::{Artefact, DataSource, EvalRecipe, ModelRef, PretrainRecipe, Recipe, TrainRecipe};
pub use recipe::{BaselineSettings, DataSettings, EvaluationSettings};
pub use render::defaults_toml;
pub use sections::{
    Activation, AlignmentMode, AlignmentSettings, AlignmentStrategy, AllInOneSettings, AnswerMode, CheckpointSettings,
    Compat, CorpusRole, CorpusSettings, DataKind, Dtype, Features, FusedFrom, FuserLevel, FuserNetwork, FuserSettings,
    FusionOrder, GateNoise, Granularity, LayerMapping, LoraTarget, Method, ModelFamily, ModelPart, ModelShape,
    OptimizerSettings, OutputSettings, PretrainingSettings, PromptFormat, ReceiverTerm, RecipeKind, ScheduleKind,
    ScheduleSettings, SectionCut, SingleSettings, SourceOptions, TrainMethod, Trainable, TrainingSettings,
};
pub use several::{LinkRef, SeveralSettings, sharer_list};
