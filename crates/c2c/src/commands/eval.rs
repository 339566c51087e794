//! `c2c eval`: a trained fuser and the two models answer questions, or two models without a fuser, or one alone.

use std::path::{Path, PathBuf};

use burn::{Dispatch, DispatchDevice};
use c2c_eval::journal::{Head, LinkHashes, Written};
use c2c_eval::{EvalModels, SeveralSharers, Shard};
use c2c_fuser::C2c;
use c2c_lm::Lm;
use c2c_recipe::{Artefact as ArtefactRef, EvalRecipe, FusionOrder, Loaded, ModelRef, Recipe, RecipeKind};
use c2c_text::{AlignStrategy, PairText, SectionCut, TokenMode};
use serde_json::{Value, json};

use super::eval_recipe::{fingerprints, load_eval, load_eval_text, model_of, open, standalone};
use super::eval_several::{self, First};
use super::{go_on_command, wrong_kind};
use crate::evaluation::{self, Ended, Facts, Questions};
use crate::exit::{Failure, Outcome, environment, usage};
use crate::run_dir::RunDir;
use crate::signals::Signals;
use crate::{DeviceOption, hub, models};

/// Arguments of `c2c eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe (kind = "eval"); not needed with --resume, or with --fuser and --questions
    #[arg(conflicts_with = "questions")]
    recipe: Option<PathBuf>,
    /// Go on with an interrupted or killed evaluation, behind the last batch that it finished
    #[arg(long, value_name = "RUN_DIR")]
    resume: Option<PathBuf>,
    /// Do only part I of N, such as 2/4; `c2c merge` puts the parts together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Change a value of the recipe, e.g. -o evaluation.limit=40
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The trained fuser, a folder or hub id; the same as -o artefact.path=DIR. Given again: further ones, each with a
    /// sharer of its own, in place of several.links, and the method `several` is asked, with
    /// its control if the recipe asks `mismatched`
    #[arg(long, value_name = "DIR")]
    fuser: Vec<PathBuf>,
    /// What is asked, in place of a recipe: a kind of evaluation.sources and, where it has files, their file, folder or
    /// hub id, such as `arc=DIR`; may be given again. The models are those that the fuser names, everything else has
    /// its default; -o changes it
    #[arg(long, value_name = "KIND[=PATH]", requires = "fuser", conflicts_with = "resume")]
    questions: Vec<String>,
    /// How several sharers are fused; the same as -o several.order=ORDER
    #[arg(long, value_name = "ORDER", value_parser = FusionOrder::WORDS.to_vec())]
    fusion_order: Option<String>,
    /// Ask only this many questions, drawn by seed, and mark the results PARTIAL; the same as -o evaluation.limit=N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let (resumed, loaded) = load(args)?;
    let Recipe::Eval(recipe) = &loaded.recipe else {
        return Err(wrong_kind(&loaded.path, &loaded, RecipeKind::Eval));
    };
    let earlier = match &resumed {
        Some(run) => match earlier(run)? {
            Earlier::Finished => return Ok(()),
            Earlier::Nothing => None,
            Earlier::Some(written) => Some(*written),
        },
        None => None,
    };
    let begun = earlier.as_ref().map(|written| written.head.shard);
    // A journal without a whole line doesn't say which part it was to be; the folder's name does.
    let named = || resumed.as_ref().and_then(|run| marked(run.path()));
    let shard = args.shard.or(begun).or_else(named).unwrap_or(Shard::WHOLE);
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let opened = Opened::load(recipe, &device)?;
    let questions = Questions::load(&recipe.evaluation, recipe.seed)?;
    let facts = Facts {
        recipe_sha256: loaded.hash(),
        fuser_sha256: opened.fuser_sha256.clone(),
        receiver_sha256: opened.receiver_sha256.clone(),
        sharer_sha256: opened.sharer_sha256.clone(),
        further_sharers: opened.further_sharers.clone(),
        device: args.device.device,
    };
    let head = facts.head(&recipe.evaluation, &questions, shard);
    if let (Some(written), Some(run)) = (&earlier, &resumed) {
        same_evaluation(&head, &written.head, run.path())?;
    }
    questions.check(&recipe.evaluation, (opened.models(), &opened.text))?;
    let run = match resumed {
        Some(run) => {
            run.note_session(args.device.device, &loaded.hash())?;
            run
        }
        None => {
            let run = RunDir::create(&loaded, args.device.device, &mark(shard))?;
            run.note_models(&opened.named.iter().map(|(role, model)| (role.as_str(), model)).collect::<Vec<_>>())?;
            run
        }
    };
    eprintln!("run directory {}", run.path().display());
    let again = go_on_command("eval", &run, args.device.device);
    let signals = Signals::handle(format!("stopped; go on with:\n  {again}"));
    let settings = &recipe.evaluation;
    let ended = evaluation::run(settings, &questions, &head, earlier, (opened.models(), &opened.text), &run, &signals)?;
    let of = questions.questions.len() * settings.methods.len();
    let result = match ended {
        Ended::Whole(result) => result,
        Ended::Stopped(answers) => {
            return Err(Failure::Interrupted(format!(
                "interrupted after {answers} of {of} answers, which are saved\ngo on with:\n  {again}"
            )));
        }
        Ended::Shard(answers) => {
            crate::print(&format!("{}\n", run.path().display()));
            eprintln!(
                "shard {shard}: {answers} of {of} answers; when all shards are there: c2c merge RUN... --out DIR"
            );
            return Ok(());
        }
    };
    run.write_json("summary.json", &summary(recipe, &head, &result))?;
    evaluation::conclude(&run)?;
    crate::print(&evaluation::table(settings, &result));
    eprintln!("figures in {}", run.path().join("summary.json").display());
    evaluation::check_gates(&result)
}

/// What the name of a shard's run directory has behind the recipe's name.
fn mark(shard: Shard) -> String {
    if shard == Shard::WHOLE { String::new() } else { format!("-shard{}of{}", shard.index(), shard.of()) }
}

/// The shard that [`mark`] has put into the name of a run directory, if it has.
fn marked(run: &Path) -> Option<Shard> {
    let name = run.file_name()?.to_str()?;
    // Behind it stand time and hash.
    let (_, tail) = name.rsplit_once("-shard")?;
    let (index, of) = tail.split('-').next()?.split_once("of")?;
    format!("{index}/{of}").parse().ok()
}

/// `summary.json` of an evaluation: what was evaluated, and the figures.
pub fn summary(recipe: &EvalRecipe, head: &Head, result: &c2c_eval::Evaluation) -> Value {
    let mut summary = json!({
        "recipe": recipe.name,
        "recipe_sha256": head.recipe_sha256,
        "models": { "receiver_sha256": head.receiver_sha256 },
        "evaluation_data": head.evaluation_data,
    });
    // An evaluation of one model has neither, one without a fuser the former.
    if let Some(sha256) = &head.sharer_sha256 {
        summary["models"]["sharer_sha256"] = json!(sha256);
    }
    if let Some(sha256) = &head.fuser_sha256 {
        summary["fuser_sha256"] = json!(sha256);
    }
    if !head.further_sharers.is_empty() {
        summary["further_sharers"] = json!(head.further_sharers);
    }
    if let Some(object) = summary.as_object_mut() {
        if !head.examples_data.is_empty() {
            object.insert("examples_data".into(), json!(head.examples_data));
        }
        object.extend(evaluation::summary(&recipe.evaluation, result));
    }
    summary
}

/// The run to go on with, if any, and the recipe.
fn load(args: &Args) -> Result<(Option<RunDir>, Loaded), Failure> {
    let order = args.fusion_order.as_ref().map(|order| format!("several.order={order}"));
    let limit = args.limit.map(|limit| format!("evaluation.limit={limit}"));
    let more: Vec<String> = order.into_iter().chain(limit).collect();
    let Some(dir) = &args.resume else {
        let loaded = match (&args.recipe, args.fuser.first()) {
            (Some(recipe), _) => load_eval(recipe, &args.overrides, &args.fuser, more)?,
            (None, Some(fuser)) if !args.questions.is_empty() => {
                let text = standalone(fuser, &args.questions)?;
                load_eval_text(&text, &args.overrides, &args.fuser, more)?
            }
            (None, Some(fuser)) => {
                return Err(usage(anyhow::anyhow!(
                    "--fuser {} without a recipe: say what is asked with --questions KIND[=PATH], such as --questions pocket or --questions multiple_choice=FILE; the kinds are those of evaluation.sources (docs/recipes.md)",
                    fuser.display()
                )));
            }
            (None, None) => {
                return Err(usage(anyhow::anyhow!(
                    "nothing to evaluate: give a recipe, or --fuser DIR with --questions KIND[=PATH], or --resume RUN_DIR"
                )));
            }
        };
        return Ok((None, loaded));
    };
    let (run, was) = RunDir::open(dir)?;
    let was = was.map_err(usage)?;
    let from = args.recipe.clone().unwrap_or_else(|| was.path.clone());
    let loaded = load_eval(&from, &args.overrides, &args.fuser, more)?;
    let differences = loaded.differences(&was);
    if differences.is_empty() {
        return Ok((Some(run), loaded));
    }
    Err(usage(anyhow::anyhow!(
        "an evaluation that goes on keeps its recipe, {}; this would change it:\n  {}\nleave that out, or evaluate anew without --resume",
        was.path.display(),
        differences.join("\n  ")
    )))
}

/// What an evaluation has done before.
enum Earlier {
    /// All of it.
    Finished,
    /// Nothing that can be used.
    Nothing,
    /// Some of it, or all but for the figures.
    Some(Box<Written>),
}

fn earlier(run: &RunDir) -> Result<Earlier, Failure> {
    let (journal, figures) = (evaluation::journal_path(run), run.path().join("summary.json"));
    if !journal.exists() {
        if figures.is_file() {
            eprintln!("this evaluation is finished; its figures are in {}", figures.display());
            return Ok(Earlier::Finished);
        }
        return Ok(Earlier::Nothing);
    }
    Ok(Written::read(&journal)
        .map_err(environment)?
        .map_or(Earlier::Nothing, |written| Earlier::Some(Box::new(written))))
}

/// Refuses to put answers of different evaluations together.
fn same_evaluation(head: &Head, was: &Head, run: &Path) -> Result<(), Failure> {
    let differences = head.differences(was);
    if differences.is_empty() {
        return Ok(());
    }
    Err(usage(anyhow::anyhow!(
        "what would be evaluated now isn't what {} was begun with:\n  {}\nput that right, or evaluate anew without --resume",
        run.display(),
        differences.join("\n  ")
    )))
}

/// The models of an evaluation, and what says which they are.
struct Opened {
    models: Loads,
    text: PairText,
    fuser_sha256: Option<String>,
    receiver_sha256: String,
    sharer_sha256: Option<String>,
    further_sharers: Vec<LinkHashes>,
    /// The models by role, as they are named.
    named: Vec<(String, ModelRef)>,
}

enum Loads {
    /// With those that are fused by `several`, if it is asked.
    Pair(Box<C2c<Dispatch>>, Option<SeveralSharers<Dispatch>>),
    Unfused {
        receiver: Box<Lm<Dispatch>>,
        sharer: Box<Lm<Dispatch>>,
    },
    Receiver(Box<Lm<Dispatch>>),
}

impl Opened {
    fn load(recipe: &EvalRecipe, device: &DispatchDevice) -> Result<Self, Failure> {
        let heard =
            recipe.sharer.as_ref().filter(|_| recipe.evaluation.methods.iter().any(|method| method.needs_sharer()));
        match (&recipe.artefact, &recipe.receiver, heard) {
            (Some(fuser), _, _) => Self::pair(recipe, fuser, device),
            (None, Some(receiver), Some(sharer)) => Self::unfused(receiver, sharer, device),
            (None, Some(receiver), None) => Self::alone(receiver, device),
            (None, None, _) => {
                Err(usage(anyhow::anyhow!("{}: neither an [artefact] nor a [receiver]: name one of them", recipe.name)))
            }
        }
    }

    fn pair(recipe: &EvalRecipe, fuser: &ArtefactRef, device: &DispatchDevice) -> Result<Self, Failure> {
        let folder = hub::fuser(&fuser.path_as_written, &fuser.path)?;
        let (artefact, pair) = open(recipe, fuser, None, device)?;
        let [receiver_sha256, sharer_sha256] = fingerprints(&artefact.config, &pair)?;
        let config = &artefact.config;
        let receiver = model_of(recipe.receiver.as_ref(), &config.receiver, &folder)?;
        let sharer = model_of(recipe.sharer.as_ref(), &config.sharer, &folder)?;
        let c2c = C2c::new(pair.receiver, pair.sharer, artefact.fuser).map_err(environment)?;
        let first = First {
            c2c: &c2c,
            text: &pair.text,
            sharer: &sharer,
            receiver_sha256: &receiver_sha256,
            sharer_sha256: &sharer_sha256,
        };
        let further = eval_several::open(recipe, &first, device)?;
        let mut named = vec![("receiver".to_owned(), receiver), ("sharer".to_owned(), sharer)];
        let (several, further_sharers) = match further {
            Some(further) => {
                named.extend(further.named);
                (Some(further.sharers), further.hashes)
            }
            None => (None, Vec::new()),
        };
        Ok(Self {
            models: Loads::Pair(Box::new(c2c), several),
            text: pair.text,
            fuser_sha256: Some(artefact.config.weights_sha256),
            receiver_sha256,
            sharer_sha256: Some(sharer_sha256),
            further_sharers,
            named,
        })
    }

    /// Two models without a fuser. Nobody who can answer then reads an aligned prompt, so any alignment will do.
    fn unfused(receiver: &ModelRef, sharer: &ModelRef, device: &DispatchDevice) -> Result<Self, Failure> {
        let mode = TokenMode::Aligned(AlignStrategy::Longest);
        let pair = models::load_pair(receiver, sharer, mode, SectionCut::Message, device)?;
        let sha256 = |model: &Lm<Dispatch>| model.fingerprint().map(|found| found.to_string()).map_err(environment);
        Ok(Self {
            fuser_sha256: None,
            receiver_sha256: sha256(&pair.receiver)?,
            sharer_sha256: Some(sha256(&pair.sharer)?),
            models: Loads::Unfused { receiver: Box::new(pair.receiver), sharer: Box::new(pair.sharer) },
            text: pair.text,
            further_sharers: Vec::new(),
            named: vec![("receiver".to_owned(), receiver.clone()), ("sharer".to_owned(), sharer.clone())],
        })
    }

    /// One model without a fuser.
    fn alone(receiver: &ModelRef, device: &DispatchDevice) -> Result<Self, Failure> {
        let found = models::find(receiver, device)?;
        let model = found.weights(&found.folder, device)?;
        let receiver_sha256 = model.fingerprint().map_err(environment)?.to_string();
        let text = PairText::new(found.tokenizer.clone(), found.tokenizer, TokenMode::Shared).map_err(environment)?;
        let models = Loads::Receiver(Box::new(model));
        let named = vec![("receiver".to_owned(), receiver.clone())];
        let (fuser_sha256, sharer_sha256, further_sharers) = (None, None, Vec::new());
        Ok(Self { models, text, fuser_sha256, receiver_sha256, sharer_sha256, further_sharers, named })
    }

    fn models(&self) -> EvalModels<'_, Dispatch> {
        match &self.models {
            Loads::Pair(c2c, None) => EvalModels::Pair(c2c),
            Loads::Pair(c2c, Some(several)) => EvalModels::Several(c2c, several),
            Loads::Unfused { receiver, sharer } => EvalModels::Unfused { receiver, sharer },
            Loads::Receiver(model) => EvalModels::Receiver(model),
        }
    }
}
