//! The averages in which benchmarks are told: over questions, over subjects, over categories.
//!
//! They differ where subjects differ in size. The *micro* average is that of the questions, each counting once, and so leans to
//! subjects with many; MMLU is told by it. The *macro* average is that of the subjects, each counting once; C-Eval and each of
//! LongBench's six kinds of tasks are told by it, and LongBench as a whole by the mean of those kinds.

use std::collections::{BTreeMap, BTreeSet};

use c2c_data::{Benchmark, categories, category};
use c2c_recipe::{DataKind, Method};
use serde_json::{Value, json};

use crate::questions::published;
use crate::stats::{Accuracy, Interval, mean::mean};
use crate::{Evaluation, Record};

/// The averages of some questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    /// The micro average, with its interval.
    pub micro: Accuracy,
    /// The macro average.
    pub macro_: f64,
    /// Subjects that it is over; of MMMLU each in each language.
    pub subjects: usize,
}

/// The averages of a category.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryAverage {
    /// Its name.
    pub name: &'static str,
    /// Its averages.
    pub average: Average,
}

/// The averages of one method's scores on one benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Averages {
    /// Of all questions.
    pub all: Average,
    /// By category, in the order of the benchmark's authors; none of a benchmark that has none, or whose subjects are others.
    pub categories: Vec<CategoryAverage>,
}

impl Averages {
    /// Of scores from 0 to 1 with their subjects. `benchmark` is its name in the records, as [`benchmark_names`] gives it.
    ///
    /// [`benchmark_names`]: crate::benchmark_names
    pub fn of<'a>(benchmark: &str, scores: impl IntoIterator<Item = (Option<&'a str>, f64)>) -> Self {
        Self::by(Interval::default(), benchmark, scores)
    }

    /// As [`Averages::of`], with intervals of graded scores made in this way.
    pub(crate) fn by<'a>(
        interval: Interval,
        benchmark: &str,
        scores: impl IntoIterator<Item = (Option<&'a str>, f64)>,
    ) -> Self {
        let scores: Vec<(&str, f64)> =
            scores.into_iter().map(|(subject, score)| (subject.unwrap_or_default(), score)).collect();
        let benchmark = named(benchmark);
        let of = |subject: &str| category(benchmark?, subject);
        let known: BTreeSet<&str> = scores.iter().filter_map(|(subject, _)| of(subject)).collect();
        let categories = benchmark.into_iter().flat_map(categories).filter(|name| known.contains(name));
        let categories = categories.map(|name| CategoryAverage {
            name,
            average: Average::of(interval, scores.iter().copied().filter(|(subject, _)| of(subject) == Some(name))),
        });
        Self { categories: categories.collect(), all: Average::of(interval, scores.iter().copied()) }
    }

    /// The mean of the categories' macro averages, each category counting once; none of fewer than two.
    pub fn mean_of_categories(&self) -> Option<f64> {
        let means: Vec<f64> = self.categories.iter().map(|category| category.average.macro_).collect();
        (means.len() > 1).then(|| mean(&means))
    }

    /// As `summary.json` has them; `categories` only from the version on that knows them.
    pub(crate) fn json(&self, with_categories: bool) -> Value {
        let mut figures = self.all.json();
        if with_categories && !self.categories.is_empty() {
            let categories = self.categories.iter().map(|category| {
                let mut figures = category.average.json();
                figures["category"] = json!(category.name);
                figures
            });
            figures["categories"] = categories.collect();
            if let Some(mean) = self.mean_of_categories() {
                figures["mean_of_categories"] = json!(mean);
            }
        }
        figures
    }
}

impl Evaluation {
    /// The averages of a method by benchmark, in the order of the records.
    pub fn averages(&self, method: Method) -> Vec<(&str, Averages)> {
        let mut of_benchmark: Vec<(&str, Vec<&Record>)> = Vec::new();
        for record in self.records.iter().filter(|record| record.method == method) {
            match of_benchmark.iter_mut().find(|(name, _)| *name == record.benchmark) {
                Some((_, records)) => records.push(record),
                None => of_benchmark.push((&record.benchmark, vec![record])),
            }
        }
        let averages = |(name, records): (_, Vec<&Record>)| {
            let scores = records.iter().map(|record| (record.subject.as_deref(), record.points()));
            (name, Averages::by(self.interval, name, scores))
        };
        of_benchmark.into_iter().map(averages).collect()
    }
}

impl Average {
    fn of<'a>(interval: Interval, scores: impl Iterator<Item = (&'a str, f64)>) -> Self {
        let mut subjects: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut all = Vec::new();
        for (subject, score) in scores {
            subjects.entry(subject).or_default().push(score);
            all.push(score);
        }
        let means: Vec<f64> = subjects.values().map(|scores| mean(scores)).collect();
        Self { micro: Accuracy::of_scores_by(interval, &all), macro_: mean(&means), subjects: means.len() }
    }

    fn json(&self) -> Value {
        let mut figures = json!(self.micro);
        // The mean of one is the accuracy.
        if self.subjects > 1 {
            figures["subjects"] = json!(self.subjects);
            figures["mean_of_subjects"] = json!(self.macro_);
        }
        figures
    }
}

/// The published benchmark of a name in the records: the kind of its source, perhaps with a configuration (`longbench-e`) or
/// the place of the source (`ceval#2`) behind it.
pub(crate) fn named(benchmark: &str) -> Option<Benchmark> {
    let kind = benchmark.split(['#', '-']).next()?;
    let kind: DataKind = serde_json::from_value(Value::from(kind)).ok()?;
    published(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two questions of anatomy, one right; one of law, right; four of algebra, one right; none of the social sciences.
    const SCORES: [(&str, f64); 7] = [
        ("anatomy", 1.0),
        ("anatomy", 0.0),
        ("jurisprudence", 1.0),
        ("abstract_algebra", 1.0),
        ("abstract_algebra", 0.0),
        ("abstract_algebra", 0.0),
        ("abstract_algebra", 0.0),
    ];

    fn averages(benchmark: &str, scores: &[(&str, f64)]) -> Averages {
        Averages::of(benchmark, scores.iter().map(|(subject, score)| (Some(*subject), *score)))
    }

    #[test]
    fn questions_subjects_and_categories_count_once_each() {
        let found = averages("mmlu_redux#2", &SCORES);
        assert_eq!((found.all.micro.accuracy, found.all.subjects), (3.0 / 7.0, 3));
        assert!((found.all.macro_ - (0.5 + 1.0 + 0.25) / 3.0).abs() < 1e-12);
        let names: Vec<(&str, usize)> =
            found.categories.iter().map(|category| (category.name, category.average.micro.total)).collect();
        assert_eq!(names, [("STEM", 4), ("humanities", 1), ("other", 2)]);

        // A second subject of STEM with other accuracy parts micro and macro within the category, too.
        let more = [&SCORES[..], &[("astronomy", 1.0)]].concat();
        let found = averages("mmlu", &more);
        let stem = &found.categories[0].average;
        assert_eq!((stem.micro.accuracy, stem.macro_, stem.subjects), (2.0 / 5.0, 0.625, 2));
        let expected = (0.625 + 1.0 + 0.5) / 3.0;
        assert!((found.mean_of_categories().unwrap_or_default() - expected).abs() < 1e-12);
    }

    #[test]
    fn only_benchmarks_with_categories_have_them() {
        for name in ["stones", "mmlu_pro", "openbookqa", "mmlu_val"] {
            assert!(averages(name, &SCORES).categories.is_empty(), "{name}");
        }
        let tasks = [("qasper_e", 0.5), ("hotpotqa_e", 0.25), ("hotpotqa_e", 0.75), ("lcc_e", 1.0)];
        let found = averages("longbench-e", &tasks);
        assert_eq!(found.categories.len(), 3);
        // (0.5 + 0.5 + 1) / 3, as its authors tell the whole.
        assert_eq!(found.mean_of_categories(), Some(2.0 / 3.0));
        let two = averages("mmmlu", &[("ZH_CN/virology", 1.0), ("DE_DE/virology", 0.0), ("DE_DE/virology", 0.0)]);
        assert_eq!((two.categories.len(), two.categories[0].average.subjects), (1, 2));
        assert_eq!(two.mean_of_categories(), None);
    }
}
