//! What the commands share that start from an evaluation recipe: its arguments, and fuser and models as it names them.

use std::path::{Path, PathBuf};

use burn::{Dispatch, DispatchDevice};
use c2c_export::artefact::{self, Artefact, ArtefactConfig, ModelId};
use c2c_fuser::PairModels;
use c2c_hub::HubRef;
use c2c_recipe::{AlignmentSettings, Dtype, EvalRecipe, Loaded, Method, ModelRef, Recipe, RecipeKind};
use serde_json::json;

use crate::exit::{Failure, environment, usage};
use crate::run_dir::RECIPE_FILE;
use crate::{hub, models};

/// Which recipe, and what is changed in it.
#[derive(clap::Args, Debug)]
pub struct EvalRecipeArgs {
    /// The recipe (kind = "eval")
    recipe: PathBuf,
    /// Change a value of the recipe, e.g. -o evaluation.limit=40
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The trained fuser, a folder or hub id; the same as -o artefact.path=DIR
    #[arg(long, value_name = "DIR")]
    fuser: Option<PathBuf>,
}

impl EvalRecipeArgs {
    /// Loads the recipe with its overrides and one more.
    pub fn load(&self, more: Option<String>) -> Result<Loaded, Failure> {
        load_eval(&self.recipe, &self.overrides, self.fuser.as_slice(), more)
    }

    /// The failure of a recipe of another kind.
    pub fn wrong_kind(&self, loaded: &Loaded) -> Failure {
        super::wrong_kind(&self.recipe, loaded, RecipeKind::Eval)
    }
}

/// Loads an evaluation recipe with its overrides, other fusers and more overrides. Of several fusers the first is that of
/// `[artefact]`; the others are those of `[several]`, and the method `several` is asked if the recipe doesn't,
/// with its control if the recipe asks that of `c2c`.
pub fn load_eval(
    recipe: &Path,
    overrides: &[String],
    fusers: &[PathBuf],
    more: impl IntoIterator<Item = String>,
) -> Result<Loaded, Failure> {
    load_with(&|overrides| super::load_recipe(recipe, overrides), overrides, fusers, more)
}

/// The same of the text of a recipe, whose paths start from the current folder.
pub fn load_eval_text(
    text: &str,
    overrides: &[String],
    fusers: &[PathBuf],
    more: impl IntoIterator<Item = String>,
) -> Result<Loaded, Failure> {
    let load = |overrides: &[String]| c2c_recipe::load_text(Path::new(COMMAND_LINE), text, overrides).map_err(usage);
    load_with(&load, overrides, fusers, more)
}

/// What a recipe is called that was made of the command line.
const COMMAND_LINE: &str = "command line";

/// The recipe that stands for `--fuser DIR --questions KIND[=PATH]`: called as the fuser's folder is, with the defaults of
/// everything else.
pub fn standalone(fuser: &Path, questions: &[String]) -> Result<String, Failure> {
    let absolute = std::path::absolute(fuser).map_err(environment)?;
    let name: String = absolute
        .file_name()
        .map(|name| name.to_string_lossy().chars().map(|c| if is_plain(c) { c } else { '-' }).collect())
        .unwrap_or_default();
    let name = name.trim_start_matches(['.', '-']);
    let name = if name.is_empty() { "fuser" } else { name };
    let source = |question: &String| match question.split_once('=') {
        Some((kind, path)) => format!("{{ kind = {}, path = {} }}", json!(kind.trim()), json!(path.trim())),
        None => format!("{{ kind = {} }}", json!(question.trim())),
    };
    let sources: Vec<String> = questions.iter().map(source).collect();
    Ok(format!(
        "kind = \"eval\"\nname = {}\n\n[artefact]\npath = \"\"\n\n[evaluation]\nsources = [ {} ]\n",
        json!(name),
        sources.join(", ")
    ))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-+".contains(c)
}

fn load_with(
    load: &dyn Fn(&[String]) -> Result<Loaded, Failure>,
    overrides: &[String],
    fusers: &[PathBuf],
    more: impl IntoIterator<Item = String>,
) -> Result<Loaded, Failure> {
    let mut overrides = overrides.to_vec();
    let named: Vec<PathBuf> = fusers.iter().map(|dir| folder_or_id(dir)).collect::<Result<_, _>>()?;
    if let Some(first) = named.first() {
        overrides.push(format!("artefact.path={}", first.display()));
    }
    let further = named.get(1..).unwrap_or_default();
    if !further.is_empty() {
        // A text in JSON is one in TOML.
        let links: Vec<String> = further.iter().map(|dir| format!("{{ fuser = {} }}", json!(dir))).collect();
        overrides.push(format!("several.links=[{}]", links.join(", ")));
    }
    overrides.extend(more);
    let loaded = load(&overrides)?;
    let Recipe::Eval(eval) = &loaded.recipe else { return Ok(loaded) };
    let asked = &eval.evaluation.methods;
    if further.is_empty() || asked.iter().any(|method| method.fuses_several()) {
        return Ok(loaded);
    }
    let control = asked.contains(&Method::Mismatched).then_some(Method::SeveralMismatched);
    let methods: Vec<Method> = asked.iter().copied().chain([Method::Several]).chain(control).collect();
    overrides.push(format!("evaluation.methods={}", json!(methods)));
    load(&overrides)
}

/// A fuser as a recipe may name it: a hub id as it is, a folder by its whole path. Of a run directory it is the fuser that
/// the run has trained.
pub fn folder_or_id(dir: &Path) -> Result<PathBuf, Failure> {
    let id = !dir.exists() && dir.to_str().is_some_and(|text| text.parse::<HubRef>().is_ok());
    if id {
        return Ok(dir.to_owned());
    }
    let is_fuser = |dir: &Path| dir.join(artefact::CONFIG_FILE).is_file();
    let trained = dir.join("fuser");
    std::path::absolute(if !is_fuser(dir) && is_fuser(&trained) { &trained } else { dir }).map_err(environment)
}

/// Loads the fuser of a recipe and its two models; with `dtype` the models in that format, else in the recipe's or the
/// fuser's.
pub fn open(
    recipe: &EvalRecipe,
    fuser: &c2c_recipe::Artefact,
    dtype: Option<Dtype>,
    device: &DispatchDevice,
) -> Result<(Artefact<Dispatch>, PairModels<Dispatch>), Failure> {
    let folder = hub::fuser(&fuser.path_as_written, &fuser.path)?;
    let artefact = artefact::load(&folder, device).map_err(environment)?;
    let config = &artefact.config;
    let model = |named: Option<&ModelRef>, id: &ModelId| {
        let model = model_of(named, id, &folder)?;
        Ok::<_, Failure>(ModelRef { dtype: dtype.unwrap_or(model.dtype), ..model })
    };
    let receiver = model(recipe.receiver.as_ref(), &config.receiver)?;
    let sharer = model(recipe.sharer.as_ref(), &config.sharer)?;
    let pair = models_of(config, [&receiver, &sharer], device)?;
    Ok((artefact, pair))
}

/// Loads receiver and sharer, who read as this fuser says.
pub fn models_of(
    config: &ArtefactConfig,
    [receiver, sharer]: [&ModelRef; 2],
    device: &DispatchDevice,
) -> Result<PairModels<Dispatch>, Failure> {
    let alignment: AlignmentSettings = known(json!(config.alignment), "alignment")?;
    let (mode, cut) = (models::token_mode(&alignment), models::section_cut(&alignment));
    models::load_pair(receiver, sharer, mode, cut, device)
}

/// Hashes of both models, with a word on those that the fuser wasn't trained with.
pub fn fingerprints(config: &ArtefactConfig, pair: &PairModels<Dispatch>) -> Result<[String; 2], Failure> {
    let of = |role: &str, expected: &ModelId, found: Result<c2c_lm::Fingerprint, c2c_lm::LmError>| {
        let found = found.map_err(environment)?;
        note_weights(role, "this fuser", expected, &found.0);
        Ok::<_, Failure>(found.0)
    };
    Ok([
        of("receiver", &config.receiver, pair.receiver.fingerprint())?,
        of("sharer", &config.sharer, pair.sharer.fingerprint())?,
    ])
}

/// The model of the recipe, else the one that the artefact in `folder` names. A folder is looked for from the current one,
/// then from the artefact's, then where the recipe of the run has it that the artefact lies in.
pub fn model_of(recipe: Option<&ModelRef>, id: &ModelId, folder: &Path) -> Result<ModelRef, Failure> {
    if let Some(model) = recipe {
        return Ok(model.clone());
    }
    let dtype = dtype_of(id)?;
    let (here, beside) = (PathBuf::from(&id.name), folder.join(&id.name));
    let is_model = |dir: &Path| dir.join("config.json").is_file();
    let found = [here.clone(), beside].into_iter().find(|dir| is_model(dir));
    let path_hint = found.or_else(|| of_run(folder, &id.name).filter(|dir| is_model(dir))).unwrap_or(here);
    if !is_model(&path_hint) && id.name.parse::<HubRef>().is_err() {
        return Err(environment(anyhow::anyhow!(
            "the fuser {} names a model `{}`, which is no folder with a config.json from here or from there, and no hub id; name it with -o receiver.model=FOLDER and -o sharer.model=FOLDER, for `c2c chat` with --receiver FOLDER and --sharer FOLDER",
            folder.display(),
            id.name
        )));
    }
    Ok(ModelRef { model: id.name.clone(), path_hint, dtype })
}

/// Where the training recipe of a run directory has the model of this name, if `folder` lies in one.
fn of_run(folder: &Path, name: &str) -> Option<PathBuf> {
    let recipe = folder.parent()?.join(RECIPE_FILE);
    let Ok(Loaded { recipe: Recipe::Train(recipe), .. }) = c2c_recipe::load(&recipe, &[]) else { return None };
    let models = [Some(recipe.receiver), recipe.sharer].into_iter().flatten();
    models.filter(|model| model.model == name).map(|model| model.path_hint).next()
}

/// The number format that a fuser was trained beside. Of an imported one it isn't known; f32 holds the weights of any file exactly.
pub fn dtype_of(id: &ModelId) -> Result<Dtype, Failure> {
    known(json!(id.dtype.as_deref().unwrap_or("f32")), "dtype")
}

/// A word on stderr if weights aren't those that a fuser was trained with.
pub fn note_weights(role: &str, fuser: &str, expected: &ModelId, found: &str) {
    match &expected.weights_sha256 {
        Some(expected) if found != *expected => eprintln!(
            "warning: the {role} isn't the one that {fuser} was trained with (weights sha256 {found}, trained with {expected})"
        ),
        Some(_) => {}
        None => eprintln!(
            "note: {fuser} is imported and doesn't say which {role} it was trained with; weights sha256 {found} are used"
        ),
    }
}

/// A value of the artefact in the recipe's own words.
pub fn known<T: serde::de::DeserializeOwned>(value: serde_json::Value, key: &str) -> Result<T, Failure> {
    let text = value.to_string();
    serde_json::from_value(value)
        .map_err(|e| environment(anyhow::anyhow!("{}: {key} = {text}: {e}", artefact::CONFIG_FILE)))
}
