//! Recipes as written, and the step from there to resolved ones.
//!
//! These types refuse unknown keys and have no defaults: they are read from a table that the key table has checked and
//! filled. A key that one of the two lacks is therefore found by the first recipe that is loaded.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::paths;
use crate::recipe::{
    Artefact, BaselineSettings, DataSettings, DataSource, EvalRecipe, EvaluationSettings, ModelRef, PretrainRecipe,
    Recipe, TrainRecipe,
};
use crate::sections::{
    AlignmentSettings, AllInOneSettings, AnswerMode, CheckpointSettings, Compat, CorpusSettings, DataKind, Dtype,
    FusedFrom, FuserSettings, FusionOrder, Method, ModelShape, OptimizerSettings, OutputSettings, PretrainingSettings,
    PromptFormat, RecipeKind, ScheduleSettings, SingleSettings, SourceOptions, TrainMethod, TrainingSettings,
};
use crate::several::{LinkRef, SeveralSettings};

/// Resolves a checked and filled table of a recipe that lies at `file`.
///
/// # Errors
/// What serde says. Not reachable by a user, since the key table has checked everything before.
pub(crate) fn resolve(kind: RecipeKind, mut table: toml::Table, file: &Path) -> Result<Recipe, String> {
    table.remove("kind");
    Ok(match kind {
        RecipeKind::Train => Recipe::Train(read::<Train>(table)?.resolve(file)),
        RecipeKind::Eval => Recipe::Eval(read::<Eval>(table)?.resolve(file)),
        RecipeKind::Pretrain => Recipe::Pretrain(read::<Pretrain>(table)?.resolve(file)),
    })
}

fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table.try_into().map_err(|error: toml::de::Error| error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    name: String,
    description: String,
    seed: u64,
    base_dir: Option<String>,
    method: Option<TrainMethod>,
    receiver: Model,
    sharer: Option<Model>,
    alignment: AlignmentSettings,
    fuser: FuserSettings,
    all_in_one: Option<AllInOneSettings>,
    single: Option<SingleSettings>,
    optimizer: OptimizerSettings,
    schedule: ScheduleSettings,
    training: TrainingSettings,
    data: Data,
    evaluation: Option<Evaluation>,
    checkpoint: CheckpointSettings,
    output: OutputSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eval {
    name: String,
    description: String,
    seed: u64,
    base_dir: Option<String>,
    artefact: Option<ArtefactPath>,
    receiver: Option<Model>,
    sharer: Option<Model>,
    several: Option<Several>,
    evaluation: Evaluation,
    output: OutputSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pretrain {
    name: String,
    description: String,
    seed: u64,
    base_dir: Option<String>,
    model: ModelShape,
    corpus: CorpusSettings,
    optimizer: OptimizerSettings,
    schedule: ScheduleSettings,
    training: PretrainingSettings,
    output: OutputSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    model: String,
    dtype: Dtype,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArtefactPath {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    links: Vec<LinkPath>,
    order: FusionOrder,
    #[serde(rename = "use")]
    used: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkPath {
    fuser: String,
    sharer: Option<String>,
    dtype: Option<Dtype>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    sources: Vec<Source>,
    shuffle: bool,
    length_bucket: Option<usize>,
    prepared: Option<String>,
    prefetch: usize,
}

/// serde can't refuse unknown keys beside flattened ones; the key table has refused them before.
#[derive(Deserialize)]
struct Source {
    kind: DataKind,
    path: Option<String>,
    split: Option<String>,
    places: Option<usize>,
    limit: Option<usize>,
    repeats: Option<usize>,
    format: Option<PromptFormat>,
    #[serde(flatten)]
    options: SourceOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evaluation {
    sources: Vec<Source>,
    limit: Option<usize>,
    prompt: PromptFormat,
    max_new_tokens: usize,
    methods: Vec<Method>,
    batch_size: usize,
    batch_tokens: Option<usize>,
    seed: Option<u64>,
    mode: Option<AnswerMode>,
    response_text: Option<String>,
    chat_template: Option<bool>,
    compat: Option<Compat>,
    fused_share: Option<f64>,
    fused_from: Option<FusedFrom>,
    t2t_prompt: String,
    t2t_max_new_tokens: usize,
    few_shot_examples: usize,
    few_shot_sources: Option<Vec<Source>>,
    few_shot_reuse: bool,
    oracle_layers: String,
}

impl Train {
    fn resolve(self, file: &Path) -> TrainRecipe {
        let base = paths::base(file, self.base_dir.as_deref());
        TrainRecipe {
            receiver: self.receiver.resolve(&base),
            method: self.method,
            sharer: self.sharer.map(|model| model.resolve(&base)),
            alignment: self.alignment,
            fuser: self.fuser,
            all_in_one: self.all_in_one,
            single: self.single,
            optimizer: self.optimizer,
            schedule: self.schedule,
            training: self.training,
            data: DataSettings {
                sources: resolve_all(self.data.sources, &base, PromptFormat::Training),
                shuffle: self.data.shuffle,
                length_bucket: self.data.length_bucket,
                prepared: self.data.prepared.as_deref().map(|path| paths::file(&base, path)),
                prepared_as_written: self.data.prepared,
                prefetch: self.data.prefetch,
            },
            evaluation: self.evaluation.map(|evaluation| evaluation.resolve(&base, self.seed)),
            checkpoint: self.checkpoint,
            output: expanded(self.output),
            name: self.name,
            description: self.description,
            seed: self.seed,
            base_dir: base,
        }
    }
}

impl Eval {
    fn resolve(self, file: &Path) -> EvalRecipe {
        let base = paths::base(file, self.base_dir.as_deref());
        EvalRecipe {
            artefact: self
                .artefact
                .map(|artefact| Artefact { path: paths::file(&base, &artefact.path), path_as_written: artefact.path }),
            receiver: self.receiver.map(|model| model.resolve(&base)),
            sharer: self.sharer.map(|model| model.resolve(&base)),
            several: self.several.map(|several| several.resolve(&base)),
            evaluation: self.evaluation.resolve(&base, self.seed),
            output: expanded(self.output),
            name: self.name,
            description: self.description,
            seed: self.seed,
            base_dir: base,
        }
    }
}

impl Pretrain {
    fn resolve(self, file: &Path) -> PretrainRecipe {
        PretrainRecipe {
            base_dir: paths::base(file, self.base_dir.as_deref()),
            model: self.model,
            corpus: self.corpus,
            optimizer: self.optimizer,
            schedule: self.schedule,
            training: self.training,
            output: expanded(self.output),
            name: self.name,
            description: self.description,
            seed: self.seed,
        }
    }
}

impl Several {
    fn resolve(self, base: &Path) -> SeveralSettings {
        let link = |link: LinkPath| LinkRef {
            path: paths::file(base, &link.fuser),
            path_as_written: link.fuser,
            sharer_hint: link.sharer.as_deref().map(|sharer| paths::model(base, sharer)),
            sharer: link.sharer,
            dtype: link.dtype,
        };
        SeveralSettings {
            links: self.links.into_iter().map(link).collect(),
            order: self.order,
            use_as_written: self.used,
        }
    }
}

impl Model {
    fn resolve(self, base: &Path) -> ModelRef {
        ModelRef { path_hint: paths::model(base, &self.model), model: self.model, dtype: self.dtype }
    }
}

impl Evaluation {
    fn resolve(self, base: &Path, seed: u64) -> EvaluationSettings {
        let reads_examples = self.methods.iter().any(|method| method.reads_examples());
        let examples = self.few_shot_sources.filter(|_| reads_examples).unwrap_or_default();
        // Left out where nothing depends on it, so that neither the recipe's text nor its hash does.
        let needed = reads_examples || self.methods.iter().any(|method| method.writes_text());
        let baselines = needed.then(|| BaselineSettings {
            t2t_prompt: self.t2t_prompt,
            t2t_max_new_tokens: self.t2t_max_new_tokens,
            few_shot_examples: self.few_shot_examples,
            few_shot_sources: resolve_all(examples, base, self.prompt),
            few_shot_reuse: self.few_shot_reuse,
            oracle_layers: self.oracle_layers,
        });
        EvaluationSettings {
            sources: resolve_all(self.sources, base, self.prompt),
            limit: self.limit,
            prompt: self.prompt,
            max_new_tokens: self.max_new_tokens,
            methods: self.methods,
            batch_size: self.batch_size,
            batch_tokens: self.batch_tokens,
            seed: self.seed.unwrap_or(seed),
            mode: self.mode,
            response_text: self.response_text,
            chat_template: self.chat_template,
            compat: self.compat,
            fused_share: self.fused_share,
            fused_from: self.fused_from,
            baselines,
        }
    }
}

fn resolve_all(sources: Vec<Source>, base: &Path, format: PromptFormat) -> Vec<DataSource> {
    let resolve = |source: Source| DataSource {
        kind: source.kind,
        path: source.path.as_deref().map(|path| paths::file(base, path)),
        path_as_written: source.path,
        split: source.split,
        places: source.places,
        limit: source.limit,
        repeats: source.repeats,
        format: source.format.unwrap_or(format),
        options: source.options,
    };
    sources.into_iter().map(resolve).collect()
}

fn expanded(output: OutputSettings) -> OutputSettings {
    let dir = output.dir.to_str().map(paths::expand);
    OutputSettings { dir: dir.unwrap_or(output.dir) }
}
