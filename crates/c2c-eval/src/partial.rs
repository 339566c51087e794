//! Why a result is no figure of a whole benchmark.
//!
//! A figure of a part looks like one of the whole: it has the same name and the same unit. So what was left out is said
//! wherever the figure is.

use std::collections::BTreeSet;

use c2c_data::{Benchmark, subject_count};
use c2c_recipe::{DataSource, EvaluationSettings};
use serde_json::json;

use crate::questions::published;
use crate::{Record, benchmark_names};

/// Languages of MMMLU.
const LANGUAGES: usize = 14;

/// What leaves questions out, a reason each: keys of the recipe as they would be written, splits that aren't the benchmark's
/// own, and subjects that the records of a published benchmark don't have.
pub fn partial_because(recipe: &EvaluationSettings, records: &[Record]) -> Vec<String> {
    let mut reasons = left_out_by_keys(recipe);
    for (place, (source, name)) in recipe.sources.iter().zip(benchmark_names(&recipe.sources)).enumerate() {
        let Some(benchmark) = published(source.kind) else { continue };
        reasons.extend(other_split(source, benchmark).map(|why| format!("evaluation.sources[{place}]{why}")));
        // Of a draw, what subjects it missed says nothing more.
        if recipe.limit.is_none() && keys(source).is_empty() {
            reasons.extend(missing_subjects(benchmark, &name, records));
        }
    }
    reasons
}

/// The keys of a recipe's evaluation that leave questions out.
pub(crate) fn left_out_by_keys(recipe: &EvaluationSettings) -> Vec<String> {
    let limit = recipe.limit.map(|limit| format!("evaluation.limit = {limit}"));
    let sources = recipe.sources.iter().enumerate();
    let of_source =
        |(place, source)| keys(source).into_iter().map(move |key| format!("evaluation.sources[{place}].{key}"));
    limit.into_iter().chain(sources.flat_map(of_source)).collect()
}

fn keys(source: &DataSource) -> Vec<String> {
    let options = &source.options;
    let counts = [
        ("limit", source.limit),
        ("places", source.places),
        ("limit_per_subject", options.limit_per_subject),
        ("sample_interval", options.sample_interval.filter(|interval| *interval > 1)),
    ];
    let counts = counts.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
    counts.chain(options.subjects.as_ref().map(|subjects| format!("subjects = {}", json!(subjects)))).collect()
}

/// A split that isn't the one by which a benchmark is told. LongBench has one, of which the reference implementation (and
/// the paper) asks a quarter.
fn other_split(source: &DataSource, benchmark: Benchmark) -> Option<String> {
    let split = source.split.as_deref();
    if benchmark == Benchmark::LongBench {
        return match split {
            Some("all") => None,
            Some("train") => Some(".split = \"train\", three quarters of LongBench".to_owned()),
            _ => {
                Some(": the test quarter of LongBench, as the paper has it; split = \"all\" asks all of it".to_owned())
            }
        };
    }
    let (own, split) = (benchmark.home().split?, split?);
    (split != own && split != "test").then(|| format!(".split = {split:?}, not {own:?}"))
}

/// Subjects (languages of MMMLU, tasks of LongBench) that aren't there; none of a benchmark that has none, or whose rows
/// don't say theirs.
fn missing_subjects(benchmark: Benchmark, name: &str, records: &[Record]) -> Option<String> {
    let of = records.iter().filter(|record| record.benchmark == name).filter_map(|record| record.subject.as_deref());
    let (found, all, what) = match benchmark {
        Benchmark::Mmmlu => {
            let languages: BTreeSet<&str> = of.map(|subject| subject.split('/').next().unwrap_or(subject)).collect();
            (languages.len(), LANGUAGES, "languages")
        }
        _ => {
            let subjects: BTreeSet<&str> =
                of.filter(|subject| c2c_data::category(benchmark, subject).is_some()).collect();
            let extended = subjects.iter().any(|subject| subject.ends_with("_e"));
            let what = if benchmark == Benchmark::LongBench { "tasks" } else { "subjects" };
            (subjects.len(), subject_count(benchmark, extended)?, what)
        }
    };
    (1..all).contains(&found).then(|| format!("{name}: {found} of {all} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::evaluation;
    use crate::summary::tests::recipe;
    use c2c_recipe::DataKind;

    /// A recipe of one source, and records with these subjects.
    fn reasons(kind: DataKind, change: impl Fn(&mut EvaluationSettings), subjects: &[&str]) -> Vec<String> {
        let mut recipe = recipe();
        (recipe.sources[0].kind, recipe.sources[0].split) = (kind, None);
        change(&mut recipe);
        let name = benchmark_names(&recipe.sources).remove(0);
        let mut records = evaluation().records;
        for (place, record) in records.iter_mut().enumerate() {
            record.benchmark = name.clone();
            record.subject = subjects.get(place % subjects.len().max(1)).map(|subject| (*subject).to_owned());
        }
        partial_because(&recipe, &records)
    }

    #[test]
    fn every_key_that_leaves_questions_out_makes_a_result_partial() {
        assert!(partial_because(&recipe(), &evaluation().records).is_empty());
        let mut cut = EvaluationSettings { limit: Some(12), ..recipe() };
        cut.sources[0].places = Some(3);
        let expected = ["evaluation.limit = 12", "evaluation.sources[0].places = 3"];
        assert_eq!(partial_because(&cut, &evaluation().records), expected);
        assert_eq!(left_out_by_keys(&cut), expected);
    }

    #[test]
    fn another_split_is_no_figure_of_the_benchmark() {
        let split =
            |kind, split: &'static str| reasons(kind, |recipe| recipe.sources[0].split = Some(split.to_owned()), &[]);
        assert_eq!(split(DataKind::Arc, "train"), ["evaluation.sources[0].split = \"train\", not \"test\""]);
        assert!(split(DataKind::Arc, "test").is_empty() && split(DataKind::Gpqa, "train").is_empty());
        assert!(split(DataKind::Ceval, "test").is_empty() && split(DataKind::Ceval, "val").is_empty());
        assert_eq!(split(DataKind::Ceval, "dev").len(), 1);
        assert!(split(DataKind::LongBench, "all").is_empty());
        assert!(split(DataKind::LongBench, "train")[0].contains("three quarters"));
        let usual = reasons(DataKind::LongBench, |_| {}, &[]);
        assert!(usual.len() == 1 && usual[0].contains("test quarter of LongBench"), "{usual:?}");
    }

    #[test]
    fn subjects_that_are_not_there_are_counted() {
        let subjects = ["anatomy", "virology", "world_religions"];
        assert_eq!(reasons(DataKind::MmluRedux, |_| {}, &subjects), ["mmlu_redux: 3 of 57 subjects"]);
        assert_eq!(reasons(DataKind::Ceval, |_| {}, &["logic"]), ["ceval: 1 of 52 subjects"]);
        assert_eq!(reasons(DataKind::Mmmlu, |_| {}, &["ZH_CN/anatomy", "DE_DE/anatomy"]), ["mmmlu: 2 of 14 languages"]);
        let all = |recipe: &mut EvaluationSettings| recipe.sources[0].split = Some("all".to_owned());
        assert_eq!(reasons(DataKind::LongBench, all, &["qasper", "trec"]), ["longbench: 2 of 21 tasks"]);
        assert_eq!(reasons(DataKind::LongBench, all, &["qasper_e"]), ["longbench: 1 of 13 tasks"]);
        // Rows that don't say their subject, and a draw, of which the draw is the reason.
        assert!(reasons(DataKind::Mmlu, |_| {}, &[]).is_empty());
        assert_eq!(reasons(DataKind::Mmlu, |recipe| recipe.limit = Some(3), &["anatomy"]), ["evaluation.limit = 3"]);
    }
}
