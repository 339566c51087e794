//! Recipe, fuser and questions against what the run says of them.

use std::path::{Path, PathBuf};

use c2c_data::{DataError, Fingerprint, Task};
use c2c_eval::{
    Asked, BenchmarkQuestion, EvalError, Record, benchmark_names, load_examples, load_questions, place,
    select_questions,
};
use c2c_export::artefact::{self, CONFIG_FILE, WEIGHTS_FILE};
use c2c_recipe::{DataSource, EvalRecipe, EvaluationSettings, Recipe, TrainMethod};
use serde_json::{Value, json};

use super::{Difference, Verdict, show};
use crate::run::{ENVIRONMENT, RECIPE, RunFiles, SUMMARY};
use crate::seal::sha256;

/// Hexadecimal digits of the recipe's hash at the end of a run directory's name.
const NAME_HASH: usize = 8;

/// What a run says of its evaluation, if it has one.
pub(super) struct Evaluated<'a> {
    pub asked: &'a Asked,
    pub records: &'a [Record],
}

/// Checks all of them; adds to the verdict.
pub(super) fn check(run: &RunFiles, summary: &Value, evaluated: Option<Evaluated<'_>>, verdict: &mut Verdict) {
    let recipe_path = run.path(RECIPE);
    let loaded = match c2c_recipe::load(&recipe_path, &[]) {
        Ok(loaded) => loaded,
        Err(_) if !recipe_path.exists() => {
            let expected = "the recipe as resolved, by which settings, fuser and questions are checked";
            verdict.differences.push(Difference::new(RECIPE, "", "file", "nothing", expected));
            return;
        }
        Err(errors) => {
            verdict.differences.push(Difference::new(RECIPE, "", "file", errors.to_string().trim(), "a recipe"));
            return;
        }
    };
    let before = verdict.differences.len();
    let hash = loaded.hash();
    recipe_hash(run, summary, &hash, verdict);
    if summary["recipe"].as_str() != Some(loaded.recipe.name()) {
        let found = show(summary.get("recipe"));
        verdict.differences.push(Difference::new(SUMMARY, "", "recipe", found, json!(loaded.recipe.name())));
    }
    let (settings, seed) = match &loaded.recipe {
        Recipe::Train(recipe) => {
            if recipe.method() != TrainMethod::Single {
                trained_fuser(run, summary, &hash, verdict);
            }
            (recipe.evaluation.as_ref(), recipe.seed)
        }
        Recipe::Eval(recipe) => {
            if let Some(artefact) = &recipe.artefact {
                let expected = summary["fuser_sha256"].as_str();
                evaluated_fuser("the fuser", &artefact.path, "fuser_sha256", expected, verdict);
            }
            further_fusers(recipe, summary, verdict);
            (Some(&recipe.evaluation), recipe.seed)
        }
        Recipe::Pretrain(_) => (None, 0),
    };
    let Some(Evaluated { asked, records }) = evaluated else { return };
    let Some(settings) = settings else {
        let expected = "a section, as there are figures";
        verdict.differences.push(Difference::new(RECIPE, "", "evaluation", "nothing", expected));
        return;
    };
    settings_as_asked(settings, asked, records, verdict);
    if before == verdict.differences.len() {
        verdict.checked.push("recipe and settings as recorded".into());
    }
    questions(settings, seed, summary, records, verdict);
}

fn recipe_hash(run: &RunFiles, summary: &Value, hash: &str, verdict: &mut Verdict) {
    let expected = json!(hash);
    if summary.get("recipe_sha256") != Some(&expected) {
        let found = show(summary.get("recipe_sha256"));
        verdict.differences.push(Difference::new(
            SUMMARY,
            "",
            "recipe_sha256",
            found,
            format!("{expected}, that of {RECIPE}"),
        ));
    }
    match run.json(ENVIRONMENT) {
        Ok(environment) if environment.get("recipe_sha256") == Some(&expected) => {}
        Ok(environment) => {
            let found = show(environment.get("recipe_sha256"));
            verdict.differences.push(Difference::new(ENVIRONMENT, "", "recipe_sha256", found, expected));
        }
        Err(error) => verdict.notes.push(format!("environment: {error}")),
    }
    // `<recipe>-<utc>-<hash8>`; a folder that was renamed says nothing.
    let name = run.name();
    let parts: Vec<&str> = name.rsplitn(3, '-').collect();
    let is_time = |text: &str| text.len() == 16 && text.ends_with('Z') && text.as_bytes()[8] == b'T';
    if let [tail, utc, _] = parts.as_slice()
        && is_time(utc)
        && tail.len() == NAME_HASH
        && *tail != &hash[..NAME_HASH]
    {
        verdict.differences.push(Difference::new("the run directory's name", "", "hash", tail, &hash[..NAME_HASH]));
    }
}

fn settings_as_asked(settings: &EvaluationSettings, asked: &Asked, records: &[Record], verdict: &mut Verdict) {
    let (expected, found) = (json!(Asked::of_format(settings, records, asked.format)), json!(asked));
    let Some(expected) = expected.as_object() else { return };
    // Older versions of records and figures are read as well; which ones these are was checked when they were.
    let is_version = |key: &str| matches!(key, "format" | "records_format");
    let differs = |key: &str, expected: &Value| !is_version(key) && found.get(key) != Some(expected);
    // What the recipe doesn't say may not have been asked.
    let unsaid = found.as_object().into_iter().flatten().filter(|(key, _)| !expected.contains_key(*key));
    for (key, found) in unsaid {
        let (field, expected) = (format!("evaluation.{key}"), format!("nothing, as in {RECIPE}"));
        verdict.differences.push(Difference::new(SUMMARY, "", field, found, expected));
    }
    for (key, expected) in expected.iter().filter(|(key, expected)| differs(key, expected)) {
        let expected = format!("{expected}, as in {RECIPE}");
        verdict.differences.push(Difference::new(
            SUMMARY,
            "",
            format!("evaluation.{key}"),
            show(found.get(key)),
            expected,
        ));
    }
}

/// The fuser that the run has trained, which lies in it.
fn trained_fuser(run: &RunFiles, summary: &Value, recipe_hash: &str, verdict: &mut Verdict) {
    let dir = run.path("fuser");
    let file = format!("fuser/{CONFIG_FILE}");
    let config = match artefact::read_config(&dir) {
        Ok(config) => config,
        Err(error) => {
            verdict.differences.push(Difference::new(&file, "", "file", error, "the config of a fuser"));
            return;
        }
    };
    let mut same = |field: &str, found: &str, expected: &str| {
        if found != expected {
            verdict.differences.push(Difference::new(&file, "", field, found, expected));
        }
    };
    // A run trains its fuser from whole models, so that none of this is unknown.
    let trained = config.training.as_ref().map_or("nothing", |training| training.recipe_hash.as_str());
    same("training.recipe_hash", trained, recipe_hash);
    for (role, found) in [("receiver", &config.receiver.weights_sha256), ("sharer", &config.sharer.weights_sha256)] {
        if let Some(expected) = summary["frozen"][format!("{role}_sha256")].as_str() {
            same(&format!("{role}.weights_sha256"), found.as_deref().unwrap_or("nothing"), expected);
        }
    }
    if weights_hash(&dir, &format!("fuser/{WEIGHTS_FILE}"), &config.weights_sha256, verdict) {
        verdict.checked.push("the fuser's weights by hash".into());
    }
}

/// The fuser that was evaluated, which lies elsewhere and may be gone.
fn evaluated_fuser(name: &str, dir: &Path, key: &str, expected: Option<&str>, verdict: &mut Verdict) {
    if !dir.join(CONFIG_FILE).is_file() {
        verdict.notes.push(format!("{name}, which isn't at {}", dir.display()));
        return;
    }
    let Some(expected) = expected else {
        verdict.differences.push(Difference::new(SUMMARY, "", key, "nothing", "the hash of the fuser"));
        return;
    };
    let file = dir.join(WEIGHTS_FILE).display().to_string();
    if weights_hash(dir, &file, expected, verdict) {
        verdict.checked.push(format!("{name}'s weights by hash"));
    }
}

/// The fusers of the sharers beside the first, as far as they were fused.
fn further_fusers(recipe: &EvalRecipe, summary: &Value, verdict: &mut Verdict) {
    let Some(several) = &recipe.several else { return };
    if !recipe.evaluation.methods.iter().any(|method| method.fuses_several()) {
        return;
    }
    let used = several.used();
    let links = several.links.iter().zip(2..).filter(|(_, sharer)| used.get(sharer - 1).copied().unwrap_or(true));
    for (place, (link, sharer)) in links.enumerate() {
        let key = format!("further_sharers[{place}].fuser_sha256");
        let expected = summary["further_sharers"][place]["fuser_sha256"].as_str();
        evaluated_fuser(&format!("the fuser of sharer {sharer}"), &link.path, &key, expected, verdict);
    }
}

fn weights_hash(dir: &Path, name: &str, expected: &str, verdict: &mut Verdict) -> bool {
    let hashed = sha256(&dir.join(WEIGHTS_FILE));
    let found = hashed.unwrap_or_else(|error| error.to_string());
    if found != expected {
        verdict.differences.push(Difference::new(name, "", "sha256", &found, expected));
    }
    found == expected
}

/// The questions of the recipe's sources, asked for again: their fingerprint and every gold answer.
fn questions(settings: &EvaluationSettings, seed: u64, summary: &Value, records: &[Record], verdict: &mut Verdict) {
    let found: Vec<Option<Fingerprint>> = match summary["evaluation_data"].as_array() {
        Some(data) => data.iter().map(|one| serde_json::from_value(one.clone()).ok()).collect(),
        None => Vec::new(),
    };
    if found.len() != settings.sources.len() {
        let expected = format!("{}, one a source of {RECIPE}", settings.sources.len());
        verdict.differences.push(Difference::new(SUMMARY, "", "evaluation_data", found.len(), expected));
        return;
    }
    let mut all = Vec::new();
    for (place, (source, name)) in settings.sources.iter().zip(benchmark_names(&settings.sources)).enumerate() {
        if let Some(path) = absent(source) {
            verdict.notes.push(format!("gold answers: the questions aren't at {}", path.display()));
            return;
        }
        let (rows, fingerprint) = match load_questions(source, seed, settings.compat.into()) {
            Ok(loaded) => loaded,
            Err(error) => {
                unreadable("gold answers", &format!("evaluation.sources[{place}]"), &error, verdict);
                return;
            }
        };
        // Only where a file lies, and at which commit, may differ.
        let what = |print: &Fingerprint| Fingerprint { source: String::new(), revision: None, ..print.clone() };
        let same = |other: &Fingerprint| what(other) == what(&fingerprint);
        if !found[place].as_ref().is_some_and(same) {
            let (field, found) = (format!("evaluation_data[{place}]"), show(summary["evaluation_data"].get(place)));
            let expected = format!("{}, the fingerprint of the questions", json!(fingerprint));
            verdict.differences.push(Difference::new(SUMMARY, "", field, found, expected));
            return;
        }
        all.extend(rows.into_iter().map(|question| BenchmarkQuestion { benchmark: name.clone(), question }));
    }
    let before = verdict.differences.len();
    let asked = select_questions(all, settings.limit, settings.seed);
    gold(&asked, records, verdict);
    examples(settings, seed, &asked, summary, verdict);
    if before == verdict.differences.len() {
        verdict.checked.push(format!("gold answers of {} questions against their source", asked.len()));
    }
}

/// Questions that aren't at hand are a note; questions that are and can't be read aren't those that were asked.
fn unreadable(what: &str, field: &str, error: &EvalError, verdict: &mut Verdict) {
    if matches!(error, EvalError::Data(DataError::NotFound { .. })) {
        verdict.notes.push(format!("{what}: {error}"));
    } else {
        let expected = "the questions that were asked";
        verdict.differences.push(Difference::new(RECIPE, "", field, error, expected));
    }
}

/// Where a source's files should be but aren't. Of a data set of the hub, reading it tells.
fn absent(source: &DataSource) -> Option<&PathBuf> {
    let of_hub = place(source).is_some_and(|place| place.hub_id().is_some());
    source.path.as_ref().filter(|path| !of_hub && !path.exists())
}

/// The examples that stood before the questions, if there were any, by the fingerprints of their sources.
fn examples(
    settings: &EvaluationSettings,
    seed: u64,
    asked: &[BenchmarkQuestion],
    summary: &Value,
    verdict: &mut Verdict,
) {
    let sources = settings.baselines.iter().flat_map(|baselines| &baselines.few_shot_sources);
    if let Some(path) = sources.filter_map(absent).next() {
        verdict.notes.push(format!("examples: their questions aren't at {}", path.display()));
        return;
    }
    let expected = match load_examples(settings, seed, asked) {
        Ok(examples) => examples.data,
        Err(error) => {
            unreadable("examples", "evaluation.few_shot_sources", &error, verdict);
            return;
        }
    };
    let found = summary.get("examples_data").cloned().unwrap_or_else(|| json!([]));
    let found: Vec<Fingerprint> = serde_json::from_value(found).unwrap_or_default();
    let one = |print: &Fingerprint| Fingerprint { source: String::new(), revision: None, ..print.clone() };
    let what = |prints: &[Fingerprint]| prints.iter().map(one).collect::<Vec<_>>();
    if what(&found) != what(&expected) {
        let (found, expected) = (show(summary.get("examples_data")), json!(expected));
        verdict.differences.push(Difference::new(SUMMARY, "", "examples_data", found, expected));
    }
}

fn gold(questions: &[BenchmarkQuestion], records: &[Record], verdict: &mut Verdict) {
    let first = records.first().map(|record| record.method);
    let records: Vec<&Record> = records.iter().filter(|record| Some(record.method) == first).collect();
    let file = crate::run::RECORDS;
    if records.len() != questions.len() {
        let expected = format!("{}, as many as the recipe asks", questions.len());
        verdict.differences.push(Difference::new(file, "", "questions", records.len(), expected));
    }
    for (record, BenchmarkQuestion { benchmark, question }) in records.into_iter().zip(questions) {
        let at = super::place(record.method, &record.benchmark, &record.question_id);
        let mut same = |field: &str, found: String, expected: String| {
            if found != expected {
                let expected = format!("{expected}, as in the source");
                verdict.differences.push(Difference::new(file, at.clone(), field, found, expected));
            }
        };
        same(
            "question_id",
            format!("{}/{}", record.benchmark, record.question_id),
            format!("{benchmark}/{}", question.id),
        );
        let right: Vec<&str> = record.right_answers().collect();
        same("gold", right.join(" | "), question.gold().join(" | "));
        let (found, expected) = (record.subject.as_deref(), question.subject.as_deref());
        same("subject", found.unwrap_or("nothing").to_owned(), expected.unwrap_or("nothing").to_owned());
        let classes = match &question.task {
            Task::Choice { .. } => String::new(),
            Task::Free(free) => free.classes.join(" | "),
        };
        same("classes", record.classes.join(" | "), classes);
        same("choices", record.choices.to_string(), question.choices().len().to_string());
        same("scorer", record.scorer.name().to_owned(), question.scorer().name().to_owned());
    }
}
