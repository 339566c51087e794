//! The questions that a recipe's source names.

use c2c_data::pocket::{Split, world_questions};
use c2c_data::{
    Benchmark, Fingerprint, Input, Loaded, Part, Place, Question, Said, Wanted, load_benchmark, load_multiple_choice,
};
use c2c_recipe::{DataKind, DataSource};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::index;

use crate::EvalError;
use crate::extract::Compat;

/// A question with the name of the benchmark it is part of. The two together with the question's identifier name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchmarkQuestion {
    /// The benchmark's name, of [`benchmark_names`].
    pub benchmark: String,
    /// The question.
    pub question: Question,
}

/// A name for each source, for tables: `pocket-test` and `pocket-train` for the halves of the generated world, the
/// file's name without its ending for a file of questions, the kind and a chosen configuration for a published
/// benchmark. Where a name comes twice, the later one gets the place of its source behind it.
pub fn benchmark_names(sources: &[DataSource]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(sources.len());
    for (place, source) in sources.iter().enumerate() {
        let file = source.path.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
        let mut name = match (source.kind, &source.split, file) {
            (DataKind::Pocket, Some(split), _) => format!("pocket-{split}"),
            (kind, _, _) if published(kind).is_some() => match &source.options.config {
                Some(config) if config.starts_with(kind.as_str()) => config.clone(),
                Some(config) => format!("{kind}-{config}"),
                None => kind.to_string(),
            },
            (_, _, Some(file)) => {
                let file = file.strip_suffix(".gz").unwrap_or(&file);
                file.strip_suffix(".jsonl").or_else(|| file.strip_suffix(".json")).unwrap_or(file).to_owned()
            }
            (kind, _, None) => kind.to_string(),
        };
        if names.contains(&name) {
            name = format!("{name}#{}", place + 1);
        }
        names.push(name);
    }
    names
}

/// Reads or generates the questions of a source.
///
/// `seed` draws the choices of pocket questions and changes nothing about a file; `compat` says whose reading of a
/// benchmark's rows is followed. The fingerprint covers the bytes of the file, or for the pocket world the questions as
/// JSON lines.
///
/// # Errors
///
/// A file that can't be read or isn't well formed, a kind that holds no multiple-choice questions, a source without
/// what its kind needs.
pub fn load_questions(
    source: &DataSource,
    seed: u64,
    compat: Compat,
) -> Result<(Vec<Question>, Fingerprint), EvalError> {
    let benchmark = match source.kind {
        DataKind::Pocket => return pocket(source, seed),
        DataKind::MultipleChoice => {
            let path = source.path.as_ref().ok_or_else(|| refusal(source, "it needs a `path`"))?;
            let loaded = load_multiple_choice(path, source.limit)?;
            return Ok((loaded.rows.into_iter().map(Question::from).collect(), loaded.fingerprint));
        }
        kind => published(kind).ok_or_else(|| refusal(source, "it has no questions to ask; use another kind"))?,
    };
    let Loaded { rows, fingerprint } =
        load_benchmark(&Input::locate(&place_of(source, benchmark))?, benchmark, &wanted(source, compat))?;
    Ok((rows, fingerprint))
}

/// The benchmark that a kind of source is.
pub(crate) fn published(kind: DataKind) -> Option<Benchmark> {
    Some(match kind {
        DataKind::OpenBookQa => Benchmark::OpenBookQa,
        DataKind::Arc => Benchmark::Arc,
        DataKind::Mmlu => Benchmark::Mmlu,
        DataKind::MmluRedux => Benchmark::MmluRedux,
        DataKind::Ceval => Benchmark::Ceval,
        DataKind::Mmmlu => Benchmark::Mmmlu,
        DataKind::MmluPro => Benchmark::MmluPro,
        DataKind::Gpqa => Benchmark::Gpqa,
        DataKind::Gsm8k => Benchmark::Gsm8k,
        DataKind::Math500 => Benchmark::Math500,
        DataKind::LongBench => Benchmark::LongBench,
        DataKind::Pocket
        | DataKind::MultipleChoice
        | DataKind::Chat
        | DataKind::OpenHermes
        | DataKind::MmluProCot
        | DataKind::Generated => return None,
    })
}

/// Where the files of a published benchmark are; `None` for other sources.
pub fn place(source: &DataSource) -> Option<Place<'_>> {
    Some(place_of(source, published(source.kind)?))
}

fn place_of(source: &DataSource, benchmark: Benchmark) -> Place<'_> {
    benchmark.home().place(&Said {
        written: source.path_as_written.as_deref(),
        path: source.path.as_deref(),
        revision: source.options.revision.as_deref(),
        config: source.options.config.as_deref(),
        split: source.split.as_deref(),
    })
}

fn wanted(source: &DataSource, compat: Compat) -> Wanted {
    let options = &source.options;
    Wanted {
        subjects: options.subjects.clone().unwrap_or_default(),
        sample_interval: options.sample_interval.unwrap_or(1),
        limit_per_subject: options.limit_per_subject,
        limit: source.limit,
        part: match source.split.as_deref() {
            Some("train") => Part::Train,
            Some("all") => Part::All,
            _ => Part::Test,
        },
        cut_middle: options.cut_middle,
        max_new_tokens: options.max_new_tokens,
        as_reference: compat == Compat::Reference,
    }
}

/// At most `limit` of the questions, drawn without replacement and left in their order.
pub fn select_questions<Q>(questions: Vec<Q>, limit: Option<usize>, seed: u64) -> Vec<Q> {
    let Some(limit) = limit.filter(|limit| *limit < questions.len()) else { return questions };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut wanted = vec![false; questions.len()];
    for place in index::sample(&mut rng, questions.len(), limit) {
        wanted[place] = true;
    }
    questions.into_iter().zip(wanted).filter_map(|(question, wanted)| wanted.then_some(question)).collect()
}

fn pocket(source: &DataSource, seed: u64) -> Result<(Vec<Question>, Fingerprint), EvalError> {
    let split = match source.split.as_deref() {
        Some("train") => Split::Train,
        Some("test") => Split::Test,
        Some(other) => return Err(refusal(source, &format!("split is `{other}`, expected `train` or `test`"))),
        None => return Err(refusal(source, "it needs a `split`, `train` or `test`")),
    };
    let Loaded { rows, fingerprint } = world_questions(split, source.places, source.repeats.unwrap_or(1), seed);
    if rows.is_empty() {
        return Err(refusal(source, "no question is left; `places` and `repeats` must be 1 or more"));
    }
    Ok((rows.into_iter().map(Question::from).collect(), fingerprint))
}

fn refusal(source: &DataSource, reason: &str) -> EvalError {
    EvalError::Source { kind: source.kind.to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use c2c_data::pocket::ATTRIBUTE_COUNT;
    use c2c_recipe::PromptFormat;
    use std::io::Write;

    fn source(kind: DataKind) -> DataSource {
        DataSource {
            kind,
            path: None,
            path_as_written: None,
            split: Some("test".into()),
            places: None,
            limit: None,
            repeats: None,
            format: PromptFormat::Plain,
            options: c2c_recipe::SourceOptions::default(),
        }
    }

    #[test]
    fn pocket_sources_give_places_times_attributes_times_repeats() {
        let (all, fingerprint) = load_questions(&source(DataKind::Pocket), 1, Compat::Fixed).unwrap();
        assert_eq!((all.len(), fingerprint.rows), (48 * ATTRIBUTE_COUNT, 48 * ATTRIBUTE_COUNT));
        let few = DataSource { places: Some(3), repeats: Some(2), ..source(DataKind::Pocket) };
        let (few, few_print) = load_questions(&few, 1, Compat::Fixed).unwrap();
        assert_eq!(few.len(), 3 * ATTRIBUTE_COUNT * 2);
        let places = |questions: &[Question]| {
            let mut names: Vec<String> =
                questions.iter().map(|q| q.question.rsplit(' ').next().unwrap().to_owned()).collect();
            names.dedup();
            names
        };
        assert_eq!(places(&few), places(&all)[..3]);
        assert_ne!(few_print.sha256, fingerprint.sha256);
        let train = DataSource { split: Some("train".into()), ..source(DataKind::Pocket) };
        assert!(
            places(&load_questions(&train, 1, Compat::Fixed).unwrap().0)
                .iter()
                .all(|place| !places(&all).contains(place))
        );
    }

    #[test]
    fn benchmarks_are_named_by_their_source_and_each_name_comes_once() {
        let file = |path: &str| DataSource { path: Some(path.into()), ..source(DataKind::MultipleChoice) };
        let train = DataSource { split: Some("train".into()), ..source(DataKind::Pocket) };
        let sources = [
            source(DataKind::Pocket),
            train,
            file("a/arc-test.jsonl.gz"),
            file("b/arc-test.jsonl"),
            file("c/mmlu.json"),
        ];
        let expected = ["pocket-test", "pocket-train", "arc-test", "arc-test#4", "mmlu"];
        assert_eq!(benchmark_names(&sources), expected);
    }

    #[test]
    fn the_fingerprint_follows_the_questions() {
        let load = |seed| load_questions(&source(DataKind::Pocket), seed, Compat::Fixed).unwrap();
        assert_eq!(load(1), load(1));
        assert_ne!(load(1).1.sha256, load(2).1.sha256);
    }

    #[test]
    fn files_are_read_up_to_their_limit() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for id in ["a", "b", "c"] {
            writeln!(file, r#"{{"id": "{id}", "question": "Which?", "choices": ["x", "y"], "answer": 1}}"#).unwrap();
        }
        let source = DataSource { path: Some(file.path().into()), limit: Some(2), ..source(DataKind::MultipleChoice) };
        let (questions, fingerprint) = load_questions(&source, 0, Compat::Fixed).unwrap();
        assert_eq!(questions.iter().map(|q| q.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((fingerprint.rows, fingerprint.limit), (2, Some(2)));
    }

    #[test]
    fn sources_without_questions_are_refused() {
        let cases = [
            (source(DataKind::Chat), "no questions"),
            (source(DataKind::MultipleChoice), "`path`"),
            (DataSource { split: None, ..source(DataKind::Pocket) }, "`split`"),
            (DataSource { split: Some("dev".into()), ..source(DataKind::Pocket) }, "`dev`"),
            (DataSource { places: Some(0), ..source(DataKind::Pocket) }, "no question is left"),
        ];
        for (source, expected) in cases {
            let message = load_questions(&source, 0, Compat::Fixed).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_limit_draws_questions_and_keeps_their_order() {
        let (all, _) = load_questions(&source(DataKind::Pocket), 1, Compat::Fixed).unwrap();
        let some = select_questions(all.clone(), Some(20), 3);
        assert_eq!(some.len(), 20);
        let places: Vec<usize> = some.iter().map(|q| all.iter().position(|a| a == q).unwrap()).collect();
        assert!(places.is_sorted_by(|a, b| a < b));
        assert_eq!(some, select_questions(all.clone(), Some(20), 3));
        assert_ne!(some, select_questions(all.clone(), Some(20), 4));
        assert_eq!(select_questions(all.clone(), Some(10_000), 3), all);
        assert_eq!(select_questions(all.clone(), None, 3), all);
    }
}
