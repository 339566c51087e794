//! The subjects of benchmarks that have some: from the row, or from the name of its file or folder.

use std::path::Path;

use serde_json::Value;

use super::Benchmark;
use crate::row::Row;

/// MMLU's subjects, each with its category, in the four groups of its authors.
const MMLU: &[(&str, &[&str])] = &[
    (
        "STEM",
        &[
            "abstract_algebra",
            "astronomy",
            "college_biology",
            "college_chemistry",
            "college_computer_science",
            "college_mathematics",
            "college_physics",
            "computer_security",
            "conceptual_physics",
            "electrical_engineering",
            "elementary_mathematics",
            "high_school_biology",
            "high_school_chemistry",
            "high_school_computer_science",
            "high_school_mathematics",
            "high_school_physics",
            "high_school_statistics",
            "machine_learning",
        ],
    ),
    (
        "humanities",
        &[
            "formal_logic",
            "high_school_european_history",
            "high_school_us_history",
            "high_school_world_history",
            "international_law",
            "jurisprudence",
            "logical_fallacies",
            "moral_disputes",
            "moral_scenarios",
            "philosophy",
            "prehistory",
            "professional_law",
            "world_religions",
        ],
    ),
    (
        "social sciences",
        &[
            "econometrics",
            "high_school_geography",
            "high_school_government_and_politics",
            "high_school_macroeconomics",
            "high_school_microeconomics",
            "high_school_psychology",
            "human_sexuality",
            "professional_psychology",
            "public_relations",
            "security_studies",
            "sociology",
            "us_foreign_policy",
        ],
    ),
    (
        "other",
        &[
            "anatomy",
            "business_ethics",
            "clinical_knowledge",
            "college_medicine",
            "global_facts",
            "human_aging",
            "management",
            "marketing",
            "medical_genetics",
            "miscellaneous",
            "nutrition",
            "professional_accounting",
            "professional_medicine",
            "virology",
        ],
    ),
];

/// C-Eval's subjects.
const CEVAL: &[&str] = &[
    "accountant",
    "advanced_mathematics",
    "art_studies",
    "basic_medicine",
    "business_administration",
    "chinese_language_and_literature",
    "civil_servant",
    "clinical_medicine",
    "college_chemistry",
    "college_economics",
    "college_physics",
    "college_programming",
    "computer_architecture",
    "computer_network",
    "discrete_mathematics",
    "education_science",
    "electrical_engineer",
    "environmental_impact_assessment_engineer",
    "fire_engineer",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_chinese",
    "high_school_geography",
    "high_school_history",
    "high_school_mathematics",
    "high_school_physics",
    "high_school_politics",
    "ideological_and_moral_cultivation",
    "law",
    "legal_professional",
    "logic",
    "mao_zedong_thought",
    "marxism",
    "metrology_engineer",
    "middle_school_biology",
    "middle_school_chemistry",
    "middle_school_geography",
    "middle_school_history",
    "middle_school_mathematics",
    "middle_school_physics",
    "middle_school_politics",
    "modern_chinese_history",
    "operating_system",
    "physician",
    "plant_protection",
    "probability_and_statistics",
    "professional_tour_guide",
    "sports_science",
    "tax_accountant",
    "teacher_qualification",
    "urban_and_rural_planner",
    "veterinary_medicine",
];

/// The group that an MMLU subject is part of.
pub fn category(subject: &str) -> Option<&'static str> {
    MMLU.iter().find(|(_, subjects)| subjects.contains(&subject)).map(|(category, _)| *category)
}

/// The subject of a row: of MMLU and its kin a subject, of MMMLU a language and a subject, of LongBench a task.
pub(super) fn of(benchmark: Benchmark, row: &Row<'_>) -> Option<String> {
    let column = |name: &str| match row.get(name) {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    };
    let is_mmlu = |word: &str| category(word).is_some();
    match benchmark {
        Benchmark::Mmlu | Benchmark::MmluRedux => column("subject").or_else(|| named(row.path, &is_mmlu)),
        Benchmark::Ceval => column("subject").or_else(|| named(row.path, &|word| CEVAL.contains(&word))),
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
    fn every_subject_has_one_category() {
        let all: Vec<&str> = MMLU.iter().flat_map(|(_, subjects)| subjects.iter().copied()).collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!((all.len(), once.len(), CEVAL.len()), (57, 57, 52));
        assert_eq!(category("anatomy"), Some("other"));
        assert_eq!(category("accountant"), None);
    }

    #[test]
    fn files_are_named_by_their_subject_in_many_ways() {
        let mmlu = |path: &str| named(Path::new(path), &|word| category(word).is_some());
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
