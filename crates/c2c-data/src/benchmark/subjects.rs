//! The subjects of benchmarks that have some: from the row, or from the name of its file or folder.

use std::path::Path;

use serde_json::Value;

use super::{Benchmark, category};
use crate::row::Row;

/// The subject of a row: of MMLU and its kin a subject, of MMMLU a language and a subject, of LongBench a task.
pub(super) fn of(benchmark: Benchmark, row: &Row<'_>) -> Option<String> {
    let column = |name: &str| match row.get(name) {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    };
    match benchmark {
        Benchmark::Mmlu | Benchmark::MmluRedux | Benchmark::Ceval => {
            column("subject").or_else(|| named(row.path, &|word| category(benchmark, word).is_some()))
        }
        Benchmark::Mmmlu => match (locale(row.path), column("Subject").or_else(|| column("subject"))) {
            (Some(locale), Some(subject)) => Some(format!("{locale}/{subject}")),
            (locale, subject) => locale.or(subject),
        },
        Benchmark::MmluPro => column("category"),
        Benchmark::Gpqa => column("High-level domain"),
        Benchmark::Math500 | Benchmark::MultipleChoice => column("subject"),
        Benchmark::LongBench => column("dataset"),
        Benchmark::OpenBookQa | Benchmark::Arc | Benchmark::Gsm8k => None,
    }
}

/// A known word that a file is named by, the nearest folder first: `anatomy/test.parquet`, `val/accountant_val.csv`,
/// `mmlu_anatomy.csv`.
fn named(path: &Path, known: &dyn Fn(&str) -> bool) -> Option<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    let bare = ["_test", "_val", "_dev"].iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(stem);
    let bare = bare.strip_prefix("mmlu_").unwrap_or(bare);
    let folders =
        path.ancestors().skip(1).filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
    std::iter::once(bare.to_owned()).chain(folders).find(|word| known(word))
}

/// The language of a file of MMMLU: `ZH_CN` of `test/mmlu_ZH-CN.csv` or of a folder `ZH_CN`.
fn locale(path: &Path) -> Option<String> {
    let is_locale = |word: &str| {
        let bytes = word.as_bytes();
        matches!(bytes, [a, b, b'_' | b'-', c, d] if [a, b, c, d].iter().all(|byte| byte.is_ascii_uppercase()))
    };
    named(path, &is_locale).map(|locale| locale.replace('-', "_"))
}

/// Whether a row of this subject is asked.
pub(super) fn is_wanted(wanted: &[String], subject: Option<&str>) -> bool {
    wanted.is_empty() || subject.is_some_and(|subject| wanted.iter().any(|wanted| matches(wanted, subject)))
}

/// Whether a wanted subject names this one: itself, or one half of a language with a subject, or LongBench-E's
/// `qasper_e` by `qasper`.
pub(super) fn matches(wanted: &str, subject: &str) -> bool {
    let halves = subject.split_once('/');
    wanted == subject
        || halves.is_some_and(|(first, second)| wanted == first || wanted == second)
        || subject.strip_suffix("_e") == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_subject_in_many_ways() {
        let mmlu = |path: &str| named(Path::new(path), &|word| category(Benchmark::Mmlu, word).is_some());
        for path in [
            "anatomy/test-00000-of-00001.parquet",
            "x/anatomy_test.csv",
            "mmlu_anatomy.csv",
            "anatomy/test/0000.parquet",
        ] {
            assert_eq!(mmlu(path).as_deref(), Some("anatomy"), "{path}");
        }
        assert_eq!(mmlu("all/test-00000-of-00001.parquet"), None);
        assert_eq!(locale(Path::new("test/mmlu_ZH-CN.csv")).as_deref(), Some("ZH_CN"));
        assert_eq!(locale(Path::new("SW_KE/test.parquet")).as_deref(), Some("SW_KE"));
    }

    #[test]
    fn a_wanted_subject_may_be_one_half() {
        let wanted = ["ZH_CN".to_owned(), "anatomy".to_owned(), "qasper".to_owned()];
        for subject in ["ZH_CN/virology", "DE_DE/anatomy", "anatomy", "qasper_e", "qasper"] {
            assert!(is_wanted(&wanted, Some(subject)), "{subject}");
        }
        assert!(!is_wanted(&wanted, Some("DE_DE/virology")) && !is_wanted(&wanted, None) && is_wanted(&[], None));
    }
}
