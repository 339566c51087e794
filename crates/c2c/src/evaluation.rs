//! Evaluation as both `train` and `eval` do it: questions in, records, figures and a table out.

use std::path::PathBuf;
use std::time::Instant;

use burn::Dispatch;
use c2c_data::Fingerprint;
use c2c_eval::journal::{Head, JOURNAL_FORMAT, Journal, LinkHashes, Written};
use c2c_eval::{
    Asked, BenchmarkQuestion, Course, EvalError, EvalModels, EvalPair, EvalSettings, Evaluation, Examples,
    RECORDS_FORMAT, Session, Shard, benchmark_names, check_evaluation, evaluate_in, load_examples, load_questions,
    select_questions,
};
use c2c_export::artefact::{Asked as CardAsked, ResultRow};
use c2c_recipe::{EvaluationSettings, TrainRecipe};
use c2c_report::seal;
use c2c_text::PairText;
use serde_json::{Map, Value, json};

use crate::device::DeviceArg;
use crate::exit::{Failure, environment, usage};
use crate::progress::ProgressLine;
use crate::run_dir::RunDir;
use crate::signals::Signals;

/// The rows of an evaluation, in a run directory.
pub const RECORDS_FILE: &str = "eval/records.parquet";
/// What an evaluation has done so far, in a run directory.
pub const JOURNAL_FILE: &str = "eval/journal.jsonl";

/// What is asked.
pub struct Questions {
    pub questions: Vec<BenchmarkQuestion>,
    /// A fingerprint a source.
    pub data: Vec<Fingerprint>,
    /// What stands before a question, if a method wants it.
    pub examples: Examples,
}

impl Questions {
    /// Those that a train recipe asks at its end, read before the first step: training must not be lost for a file that isn't there.
    pub fn of_training(recipe: &TrainRecipe) -> Result<Option<Self>, Failure> {
        recipe.evaluation.as_ref().map(|settings| Self::load(settings, recipe.seed)).transpose()
    }

    /// The questions that a recipe asks.
    pub fn load(settings: &EvaluationSettings, recipe_seed: u64) -> Result<Self, Failure> {
        crate::hub::questions(settings)?;
        let mut questions = Vec::new();
        let mut data = Vec::new();
        for (source, name) in settings.sources.iter().zip(benchmark_names(&settings.sources)) {
            let (more, fingerprint) =
                load_questions(source, recipe_seed, settings.compat.into()).map_err(environment)?;
            questions.extend(more.into_iter().map(|question| BenchmarkQuestion { benchmark: name.clone(), question }));
            data.push(fingerprint);
        }
        let questions = select_questions(questions, settings.limit, settings.seed);
        let examples = load_examples(settings, recipe_seed, &questions).map_err(refused)?;
        Ok(Self { questions, data, examples })
    }

    /// How they are asked.
    fn settings(&self, settings: &EvaluationSettings) -> EvalSettings {
        let mut settings = EvalSettings::from(settings);
        settings.baselines.examples.clone_from(&self.examples.questions);
        settings
    }

    /// Refuses an evaluation that can't be done, before there is anything of it.
    pub fn check(
        &self,
        settings: &EvaluationSettings,
        (models, text): (EvalModels<'_, Dispatch>, &PairText),
    ) -> Result<(), Failure> {
        let checked = check_evaluation(&EvalPair { models, text }, &self.questions, &self.settings(settings));
        checked.map_err(refused)
    }
}

/// A recipe that asks what these models and questions can't do is a matter of usage, all else one of the environment.
fn refused(error: EvalError) -> Failure {
    match error {
        EvalError::Settings { .. } | EvalError::Examples { .. } | EvalError::Letters { .. } => usage(error),
        error => environment(error),
    }
}

/// Hashes that say what is evaluated, besides the questions.
pub struct Facts {
    pub recipe_sha256: String,
    pub fuser_sha256: Option<String>,
    pub receiver_sha256: String,
    pub sharer_sha256: Option<String>,
    /// Of the sharers beside that one, as far as they are fused.
    pub further_sharers: Vec<LinkHashes>,
    pub device: DeviceArg,
}

impl Facts {
    /// The journal's head.
    pub fn head(self, settings: &EvaluationSettings, questions: &Questions, shard: Shard) -> Head {
        Head {
            format: JOURNAL_FORMAT,
            records_format: RECORDS_FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.device.to_string(),
            recipe_sha256: self.recipe_sha256,
            fuser_sha256: self.fuser_sha256,
            receiver_sha256: self.receiver_sha256,
            sharer_sha256: self.sharer_sha256,
            further_sharers: self.further_sharers,
            evaluation_data: questions.data.clone(),
            examples_data: questions.examples.data.clone(),
            fused_share: settings.fused_share,
            fused_from: settings.fused_from,
            questions: questions.questions.len(),
            shard,
        }
    }
}

/// How a sitting ended.
pub enum Ended {
    /// With all records, which have been written.
    Whole(Box<Evaluation>),
    /// With those of a shard, which stand in the journal: so many answers.
    Shard(usize),
    /// Stopped by a signal; so many answers stand in the journal.
    Stopped(usize),
}

/// Where the journal of a run lies.
pub fn journal_path(run: &RunDir) -> PathBuf {
    run.path().join(JOURNAL_FILE)
}

/// Answers the questions of a recipe. Each batch is written into the journal when it is done; what `earlier` holds isn't
/// done again. At the end `eval/records.parquet` is written into the run directory. The journal stays until
/// [`conclude`], so that nothing is lost before the figures are written, too.
pub fn run(
    settings: &EvaluationSettings,
    questions: &Questions,
    head: &Head,
    earlier: Option<Written>,
    (models, text): (EvalModels<'_, Dispatch>, &PairText),
    run: &RunDir,
    signals: &Signals,
) -> Result<Ended, Failure> {
    let path = journal_path(run);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(environment)?;
    }
    let mut journal = match &earlier {
        Some(written) => Journal::append(&path, written),
        None => Journal::create(&path, head),
    }
    .map_err(environment)?;
    let ended = earlier.as_ref().is_some_and(|written| written.total.is_some());
    let done = earlier.map(|written| written.units).unwrap_or_default();
    let settings = questions.settings(settings);
    let pair = EvalPair { models, text };
    let mut line = ProgressLine::new();
    let course = signals.while_working(|interrupter| {
        let session = Session {
            shard: head.shard,
            done,
            save: Box::new(|unit| journal.unit(unit)),
            stop: Box::new(move || interrupter.should_stop()),
            progress: Box::new(|p| line.show(&p)),
        };
        evaluate_in(&pair, &questions.questions, &settings, session)
    });
    line.end();
    let Course { units, total } = course.map_err(environment)?;
    let answers = units.iter().map(|unit| unit.records.len()).sum();
    let Some(total) = total else { return Ok(Ended::Stopped(answers)) };
    if !ended {
        journal.end(total).map_err(environment)?;
    }
    if head.shard != Shard::WHOLE {
        return Ok(Ended::Shard(answers));
    }
    let evaluation = Evaluation::of_units(units, &settings, questions.questions.len()).map_err(environment)?;
    evaluation.write_parquet(run.path().join(RECORDS_FILE)).map_err(environment)?;
    Ok(Ended::Whole(Box::new(evaluation)))
}

/// An evaluation, and its figures as `summary.json` holds them.
pub type Figured = (Evaluation, Map<String, Value>);

/// The evaluation that a training run ends with, and what it adds to the run's figures. `None` if it was stopped; then it
/// goes on when the run does.
pub fn after_training(
    (settings, questions): (&EvaluationSettings, &Questions),
    facts: Facts,
    models: (EvalModels<'_, Dispatch>, &PairText),
    run: &RunDir,
    signals: &Signals,
) -> Result<Option<Figured>, Failure> {
    let start = Instant::now();
    let head = facts.head(settings, questions, Shard::WHOLE);
    // What a run that was stopped here has answered; of other weights it is of no use.
    let earlier = Written::read(&journal_path(run)).ok().flatten();
    let earlier = earlier.filter(|written| head.differences(&written.head).is_empty());
    let ended = self::run(settings, questions, &head, earlier, models, run, signals)?;
    let Ended::Whole(result) = ended else { return Ok(None) };
    let mut figures = summary(settings, &result);
    figures.insert("evaluation_seconds".into(), json!(start.elapsed().as_secs_f64()));
    figures.insert("evaluation_data".into(), json!(head.evaluation_data));
    if !head.examples_data.is_empty() {
        figures.insert("examples_data".into(), json!(head.examples_data));
    }
    Ok(Some((*result, figures)))
}

/// Seals a run whose records and figures are written, and removes the journal of its evaluation, which is of no use any more.
pub fn conclude(run: &RunDir) -> Result<(), Failure> {
    seal(run.path()).map_err(environment)?;
    let path = journal_path(run);
    std::fs::remove_file(&path).map_err(|e| environment(anyhow::anyhow!("cannot remove {}: {e}", path.display())))
}

/// What is printed: the table, a word on what was fused if not all was, and a warning if not all questions were asked.
pub fn table(settings: &EvaluationSettings, evaluation: &Evaluation) -> String {
    let mut table = evaluation.table();
    let asked = Asked::of(settings, &evaluation.records);
    if let Some(part) = asked.fused_in_part() {
        table.push_str(&format!("\nfused in part: {part}\n"));
    }
    let reasons = asked.partial_because;
    if !reasons.is_empty() {
        table.push_str(&format!("\nPARTIAL: {}; these are no figures of the whole set\n", reasons.join(", ")));
    }
    table
}

/// The figures of every method, controls apart.
pub fn summary(settings: &EvaluationSettings, evaluation: &Evaluation) -> Map<String, Value> {
    c2c_eval::summary(&Asked::of(settings, &evaluation.records), evaluation)
}

/// The failure of an evaluation whose shut gates changed something.
pub fn check_gates(evaluation: &Evaluation) -> Result<(), Failure> {
    match evaluation.gates_shut_bit_equal {
        Some(false) => {
            Err(Failure::Check(anyhow::anyhow!("with all gates shut the logits differ from the receiver's")))
        }
        _ => Ok(()),
    }
}

/// What the model card says of the questions: those of a run's figures.
pub fn card_asked(figures: &Map<String, Value>) -> CardAsked {
    let list = |key: &str| figures.get(key).and_then(Value::as_array).into_iter().flatten();
    let source = |data: &Value| Some(format!("{}, {} rows", data["source"].as_str()?, data["rows"]));
    let reasons = figures.get("evaluation").and_then(|asked| asked["partial_because"].as_array());
    let why = |reason: &Value| Some(reason.as_str()?.to_owned());
    let asked = figures.get("evaluation").and_then(|asked| serde_json::from_value::<Asked>(asked.clone()).ok());
    CardAsked {
        sources: list("evaluation_data").filter_map(source).collect(),
        partial: reasons.into_iter().flatten().filter_map(why).collect(),
        fused: asked.and_then(|asked| asked.fused_in_part()),
    }
}

/// The rows of the model card.
pub fn card_rows(evaluation: &Evaluation) -> Vec<ResultRow> {
    evaluation
        .results
        .iter()
        .map(|r| ResultRow {
            method: r.method.to_string(),
            correct: r.accuracy.correct,
            total: r.accuracy.total,
            accuracy: r.accuracy.accuracy,
            low: r.accuracy.low,
            high: r.accuracy.high,
            ms_per_question: r.ms_per_question,
        })
        .collect()
}
