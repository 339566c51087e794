//! The figures of an evaluation as `summary.json` holds them.
//!
//! One function makes them, from the records and from what was asked. `c2c verify` calls it again on the records as
//! they were written and compares value by value, so no figure can stand in a summary that the records don't give.

use c2c_recipe::{AnswerMode, DataKind, EvaluationSettings, FusedFrom, Method, PromptFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::extract::Compat;
use crate::partial::{left_out_by_keys, partial_because};
use crate::stats::{self, Interval};
use crate::{EvalSettings, Evaluation, MethodResult, RECORDS_FORMAT, Record};

/// The version of the figures' layout. Summaries without a version are from before there was one. Version 3 computes the
/// intervals of graded scores, tells more of what makes a result partial, and stands in a sealed run.
pub const SUMMARY_FORMAT: u32 = 3;

/// The oldest version whose figures can be made again.
pub const OLDEST_SUMMARY_FORMAT: u32 = 1;

/// From this version on, summaries have figures of categories.
const WITH_CATEGORIES: u32 = 2;

/// From this version on, results of other splits and of some subjects are partial.
const WITH_WHOLE_SETS: u32 = 3;

/// What was asked, and how the figures were made: all that they depend on besides the records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// [`SUMMARY_FORMAT`].
    pub format: u32,
    /// [`RECORDS_FORMAT`].
    pub records_format: u32,
    /// Who answered, in this order.
    pub methods: Vec<Method>,
    /// How a question was put.
    pub prompt: PromptFormat,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Questions answered together, which times depend on.
    pub batch_size: usize,
    /// The most tokens of prompts answered together, where the recipe says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Whose rules of prompts and answer extraction were followed.
    pub extraction: Compat,
    /// How answers were got, where the recipe says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<AnswerMode>,
    /// The start of the reply behind which letters were compared, where the recipe says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_text: Option<String>,
    /// Whether prompts were put in chat templates, where the recipe says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<bool>,
    /// How much of a prompt was fused by whoever fuses, where the recipe says it; else all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_share: Option<f64>,
    /// From which end, where the recipe says it; else from the front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused_from: Option<FusedFrom>,
    /// Seed of the questions' choice, of the mismatched pairs and of the examples' choice.
    pub seed: u64,
    /// How baselines were done, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baselines: Option<AskedBaselines>,
    /// What intervals and p-values are.
    pub statistics: stats::Methods,
    /// Why these are no figures of whole benchmarks; empty if they are.
    pub partial_because: Vec<String>,
}

/// What baselines depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedBaselines {
    /// What the sharer was asked to write.
    pub t2t_prompt: String,
    /// Longest text of the sharer, in tokens.
    pub t2t_max_new_tokens: usize,
    /// Examples before each question.
    pub few_shot_examples: usize,
    /// Whether the cache of what all prompts begin with was computed once, which times depend on.
    pub few_shot_reuse: bool,
    /// Layers that were enriched.
    pub oracle_layers: String,
}

impl Asked {
    /// What a recipe asks. Which subjects have been left out is told by the records.
    pub fn of(recipe: &EvaluationSettings, records: &[Record]) -> Self {
        Self::of_format(recipe, records, SUMMARY_FORMAT)
    }

    /// The same as an earlier version of the figures had it.
    pub fn of_format(recipe: &EvaluationSettings, records: &[Record], format: u32) -> Self {
        let settings = EvalSettings::from(recipe);
        let interval = Interval::of_format(format);
        Self {
            format,
            records_format: RECORDS_FORMAT,
            methods: settings.methods,
            prompt: recipe.prompt,
            max_new_tokens: settings.max_new_tokens,
            batch_size: settings.batch_size,
            batch_tokens: settings.batch_tokens,
            extraction: settings.compat,
            mode: recipe.mode,
            response_text: recipe.response_text.clone(),
            chat_template: recipe.chat_template,
            fused_share: recipe.fused_share,
            fused_from: recipe.fused_from,
            seed: settings.seed,
            baselines: recipe.baselines.as_ref().map(|baselines| AskedBaselines {
                t2t_prompt: baselines.t2t_prompt.clone(),
                t2t_max_new_tokens: baselines.t2t_max_new_tokens,
                few_shot_examples: baselines.few_shot_examples,
                few_shot_reuse: baselines.few_shot_reuse,
                oracle_layers: baselines.oracle_layers.clone(),
            }),
            statistics: match recipe.sources.iter().any(|source| source.kind == DataKind::LongBench) {
                true => stats::Methods::with_scores(interval),
                false => stats::Methods::default(),
            },
            partial_because: match format {
                ..WITH_WHOLE_SETS => left_out_by_keys(recipe),
                _ => partial_because(recipe, records),
            },
        }
    }
}

impl Asked {
    /// How much of prompts was fused, in words, if not all: `0.25 of the tokens that would be, from the back`.
    pub fn fused_in_part(&self) -> Option<String> {
        let share = self.fused_share.filter(|share| *share < 1.0)?;
        Some(match self.fused_from.unwrap_or_default() {
            // Nothing has no end.
            _ if share == 0.0 => "none of the tokens that would be".to_owned(),
            from => format!("{share} of the tokens that would be, from the {from}"),
        })
    }
}

/// The figures: receiver, sharer and C2C each under its name, the controls apart, then differences, failed questions,
/// the records' hashes and what was asked.
pub fn summary(asked: &Asked, evaluation: &Evaluation) -> Map<String, Value> {
    let mut summary = Map::new();
    summary.insert("partial".into(), json!(!asked.partial_because.is_empty()));
    let mut controls = Map::new();
    for result in &evaluation.results {
        let to = if result.method.is_control() { &mut controls } else { &mut summary };
        to.insert(result.method.to_string(), figures(result));
    }
    if let Some(equal) = evaluation.gates_shut_bit_equal {
        controls.insert("gates_shut_bit_equal".into(), json!(equal));
    }
    summary.insert("controls".into(), Value::Object(controls));
    let differences = evaluation
        .differences
        .iter()
        .map(|(first, second, paired)| json!({ "first": first, "second": second, "paired": paired }));
    summary.insert("differences".into(), differences.collect());
    // Summaries of older records don't have it, and have to come out as they are.
    if asked.records_format >= WITH_BENCHMARKS {
        summary.insert("benchmarks".into(), by_benchmark(asked, evaluation));
    }
    let failures = evaluation.records.iter().filter_map(|record| {
        let error = record.error.as_ref()?;
        Some(json!({
            "method": record.method, "benchmark": record.benchmark, "question_id": record.question_id, "error": error,
        }))
    });
    summary.insert("failures".into(), failures.collect());
    summary.insert("records".into(), hashes(&evaluation.records));
    summary.insert("evaluation".into(), json!(asked));
    summary
}

/// From this version of the records on, summaries have figures of each benchmark.
const WITH_BENCHMARKS: u32 = 3;

/// By benchmark and method: the averages in which benchmarks are told.
fn by_benchmark(asked: &Asked, evaluation: &Evaluation) -> Value {
    let mut benchmarks = Map::new();
    for result in &evaluation.results {
        for (name, averages) in evaluation.averages(result.method) {
            if let Value::Object(methods) = benchmarks.entry(name.to_owned()).or_insert_with(|| json!({})) {
                methods.insert(result.method.to_string(), averages.json(asked.format >= WITH_CATEGORIES));
            }
        }
    }
    Value::Object(benchmarks)
}

fn figures(result: &MethodResult) -> Value {
    let mut figures = json!({
        "accuracy": result.accuracy.accuracy,
        "correct": result.accuracy.correct,
        "total": result.accuracy.total,
        "low": result.accuracy.low,
        "high": result.accuracy.high,
        "ms_per_question": result.ms_per_question,
        "ms_by_phase": result.phases,
        "answers": result.answers,
        "failed": result.skipped,
    });
    if result.graded > 0 {
        figures["graded"] = json!(result.graded);
    }
    figures
}

/// Hashes over the contents of the records, so that they don't depend on how a file encodes them: of all fields, of the
/// questions alone (equal in two runs that asked the same), and of the prompts as the models read them.
fn hashes(records: &[Record]) -> Value {
    let mut all = Sha256::new();
    let mut questions = Sha256::new();
    let mut prompts = Sha256::new();
    let first = records.first().map(|record| record.method);
    for record in records {
        // A record is made of texts and finite numbers; one that couldn't be written would change the hash, not hide.
        all.update(serde_json::to_vec(record).unwrap_or_default());
        if Some(record.method) == first {
            let question = json!([record.benchmark, record.question_id, record.subject, record.gold, record.choices]);
            questions.update(question.to_string());
        }
        prompts.update(json!([record.method, record.prompt_sha256]).to_string());
    }
    json!({
        "rows": records.len(),
        "sha256": crate::hex(&all.finalize()),
        "questions_sha256": crate::hex(&questions.finalize()),
        "prompts_sha256": crate::hex(&prompts.finalize()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::tests::evaluation;
    use c2c_recipe::DataSource;

    pub(crate) fn recipe() -> EvaluationSettings {
        let source = DataSource {
            kind: DataKind::Pocket,
            path: None,
            path_as_written: None,
            split: Some("test".into()),
            places: None,
            limit: None,
            repeats: None,
            format: PromptFormat::Plain,
            options: c2c_recipe::SourceOptions::default(),
        };
        EvaluationSettings {
            sources: vec![source],
            limit: None,
            prompt: PromptFormat::Plain,
            max_new_tokens: 8,
            methods: vec![Method::Receiver, Method::C2c, Method::Mismatched],
            batch_size: 4,
            batch_tokens: None,
            seed: 7,
            mode: None,
            response_text: None,
            chat_template: None,
            compat: None,
            fused_share: None,
            fused_from: None,
            baselines: None,
        }
    }

    fn asked(recipe: &EvaluationSettings) -> Asked {
        Asked::of(recipe, &evaluation().records)
    }

    #[test]
    fn what_is_left_out_makes_a_result_partial() {
        let mut cut = EvaluationSettings { limit: Some(12), ..recipe() };
        cut.sources[0].places = Some(3);
        let marked = |recipe: &EvaluationSettings| summary(&asked(recipe), &evaluation())["partial"].clone();
        assert_eq!((marked(&recipe()), marked(&cut)), (json!(false), json!(true)));
    }

    #[test]
    fn a_summary_holds_the_figures_and_names_what_failed() {
        let summary = Value::Object(summary(&asked(&recipe()), &evaluation()));
        assert_eq!(summary["c2c"]["accuracy"], 1.0);
        assert_eq!(summary["receiver"]["failed"], 1);
        assert_eq!(summary["controls"]["mismatched"]["answers"]["D"], 2);
        assert_eq!(summary["controls"]["gates_shut_bit_equal"], true);
        assert_eq!(summary["differences"][0]["paired"]["only_first"], 3);
        let failure = json!([{
            "method": "receiver", "benchmark": "stones", "question_id": "q3", "error": "the prompt is too long"
        }]);
        assert_eq!(summary["failures"], failure);
        assert_eq!(summary["records"]["rows"], 12);
        let read: Asked = serde_json::from_value(summary["evaluation"].clone()).unwrap();
        assert_eq!(read, asked(&recipe()));
    }

    #[test]
    fn a_share_stands_in_what_was_asked_and_the_whole_leaves_it_as_it_was() {
        let of = |fused_share, fused_from| asked(&EvaluationSettings { fused_share, fused_from, ..recipe() });
        let whole = json!(of(None, None));
        assert!(whole.get("fused_share").is_none() && whole.get("fused_from").is_none(), "{whole}");
        let quarter = of(Some(0.25), Some(FusedFrom::Back));
        assert_eq!(
            (json!(quarter)["fused_share"].clone(), json!(quarter)["fused_from"].clone()),
            (json!(0.25), json!("back"))
        );
        assert_eq!(serde_json::from_value::<Asked>(json!(quarter)).unwrap(), quarter);
        let words = |asked: Asked| asked.fused_in_part();
        assert_eq!(words(quarter).unwrap(), "0.25 of the tokens that would be, from the back");
        assert_eq!(words(of(Some(0.5), None)).unwrap(), "0.5 of the tokens that would be, from the front");
        assert_eq!(words(of(Some(0.0), Some(FusedFrom::Back))).unwrap(), "none of the tokens that would be");
        assert_eq!((words(of(None, None)), words(of(Some(1.0), Some(FusedFrom::Back)))), (None, None));
    }

    #[test]
    fn the_hash_of_the_records_follows_every_field() {
        let of = |change: &dyn Fn(&mut Record)| {
            let mut evaluation = evaluation();
            change(&mut evaluation.records[5]);
            hashes(&evaluation.records)["sha256"].as_str().unwrap().to_owned()
        };
        let changes: [&dyn Fn(&mut Record); 7] = [
            &|_| {},
            &|record| record.output.push('.'),
            &|record| record.phases.decode += 1e-9,
            &|record| record.prompt_tokens += 1,
            &|record| record.subject = Some("metal".into()),
            &|record| record.error = Some(String::new()),
            &|record| record.fused_tokens = Some(0),
        ];
        let hashes: std::collections::BTreeSet<String> = changes.iter().map(|change| of(change)).collect();
        assert_eq!(hashes.len(), changes.len());
    }
}
