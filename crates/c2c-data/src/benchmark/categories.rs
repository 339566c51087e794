//! Categories: the groups in which the authors of a benchmark put its subjects, and tell its figures.

use super::Benchmark;

/// Names of categories, each with its subjects, in the order in which they are told.
type Categories = &'static [(&'static str, &'static [&'static str])];

/// MMLU's, in the four groups that its authors put the subjects in (`categories.py` of hendrycks/test).
const MMLU: Categories = &[
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

/// C-Eval's, in the four groups of its authors (`subject_mapping.json` of hkust-nlp/ceval), under the names that MMLU's have.
const CEVAL: Categories = &[
    (
        "STEM",
        &[
            "advanced_mathematics",
            "college_chemistry",
            "college_physics",
            "college_programming",
            "computer_architecture",
            "computer_network",
            "discrete_mathematics",
            "electrical_engineer",
            "high_school_biology",
            "high_school_chemistry",
            "high_school_mathematics",
            "high_school_physics",
            "metrology_engineer",
            "middle_school_biology",
            "middle_school_chemistry",
            "middle_school_mathematics",
            "middle_school_physics",
            "operating_system",
            "probability_and_statistics",
            "veterinary_medicine",
        ],
    ),
    (
        "humanities",
        &[
            "art_studies",
            "chinese_language_and_literature",
            "high_school_chinese",
            "high_school_history",
            "ideological_and_moral_cultivation",
            "law",
            "legal_professional",
            "logic",
            "middle_school_history",
            "modern_chinese_history",
            "professional_tour_guide",
        ],
    ),
    (
        "social sciences",
        &[
            "business_administration",
            "college_economics",
            "education_science",
            "high_school_geography",
            "high_school_politics",
            "mao_zedong_thought",
            "marxism",
            "middle_school_geography",
            "middle_school_politics",
            "teacher_qualification",
        ],
    ),
    (
        "other",
        &[
            "accountant",
            "basic_medicine",
            "civil_servant",
            "clinical_medicine",
            "environmental_impact_assessment_engineer",
            "fire_engineer",
            "physician",
            "plant_protection",
            "sports_science",
            "tax_accountant",
            "urban_and_rural_planner",
        ],
    ),
];

/// LongBench's tasks, in the six kinds of its authors.
const LONGBENCH: Categories = &[
    ("single-document QA", &["multifieldqa_en", "multifieldqa_zh", "narrativeqa", "qasper"]),
    ("multi-document QA", &["2wikimqa", "dureader", "hotpotqa", "musique"]),
    ("summarization", &["gov_report", "multi_news", "qmsum", "vcsum"]),
    ("few-shot learning", &["lsht", "samsum", "trec", "triviaqa"]),
    ("synthetic tasks", &["passage_count", "passage_retrieval_en", "passage_retrieval_zh"]),
    ("code completion", &["lcc", "repobench-p"]),
];

fn of(benchmark: Benchmark) -> Categories {
    match benchmark {
        Benchmark::Mmlu | Benchmark::MmluRedux | Benchmark::Mmmlu => MMLU,
        Benchmark::Ceval => CEVAL,
        Benchmark::LongBench => LONGBENCH,
        // MMLU-Pro's subjects are as coarse as categories; the others have few or none.
        Benchmark::MultipleChoice
        | Benchmark::OpenBookQa
        | Benchmark::Arc
        | Benchmark::MmluPro
        | Benchmark::Gpqa
        | Benchmark::Gsm8k
        | Benchmark::Math500 => &[],
    }
}

/// The categories of a benchmark in the order in which they are told; none of one that has none.
pub fn categories(benchmark: Benchmark) -> impl Iterator<Item = &'static str> {
    of(benchmark).iter().map(|(category, _)| *category)
}

/// The category that a subject of a benchmark is part of. Of MMMLU that of the half that is no language, of LongBench-E
/// that of the task.
pub fn category(benchmark: Benchmark, subject: &str) -> Option<&'static str> {
    let subject = subject.rsplit('/').next().unwrap_or(subject);
    let subject = subject.strip_suffix("_e").unwrap_or(subject);
    of(benchmark).iter().find(|(_, subjects)| subjects.contains(&subject)).map(|(category, _)| *category)
}

/// LongBench's tasks that LongBench-E has.
const EXTENDED: usize = 13;

/// How many subjects a benchmark has, if they are known: of MMMLU without its languages, of LongBench the tasks, and with
/// `extended` those of LongBench-E.
pub fn subject_count(benchmark: Benchmark, extended: bool) -> Option<usize> {
    let all = of(benchmark).iter().map(|(_, subjects)| subjects.len()).sum();
    let count = if benchmark == Benchmark::LongBench && extended { EXTENDED } else { all };
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::longbench;

    #[test]
    fn every_subject_has_one_category() {
        for (benchmark, sizes) in [
            (Benchmark::Mmlu, &[18, 13, 12, 14][..]),
            (Benchmark::Ceval, &[20, 11, 10, 11]),
            (Benchmark::LongBench, &[4, 4, 4, 4, 3, 2]),
        ] {
            let found: Vec<usize> = of(benchmark).iter().map(|(_, subjects)| subjects.len()).collect();
            assert_eq!(found, sizes, "{benchmark:?}");
            let mut all: Vec<&str> = of(benchmark).iter().flat_map(|(_, subjects)| subjects.iter().copied()).collect();
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{benchmark:?}");
        }
        assert!(longbench::tasks().iter().all(|task| category(Benchmark::LongBench, task).is_some()));
    }

    #[test]
    fn subjects_are_counted_where_they_are_known() {
        let count = |benchmark| subject_count(benchmark, false);
        assert_eq!((count(Benchmark::MmluRedux), count(Benchmark::Ceval)), (Some(57), Some(52)));
        assert_eq!((count(Benchmark::LongBench), subject_count(Benchmark::LongBench, true)), (Some(21), Some(13)));
        assert_eq!(count(Benchmark::Gpqa), None);
    }

    #[test]
    fn a_subject_may_have_another_category_elsewhere() {
        assert_eq!(category(Benchmark::Mmlu, "high_school_geography"), Some("social sciences"));
        assert_eq!(category(Benchmark::Mmmlu, "ZH_CN/virology"), Some("other"));
        assert_eq!(category(Benchmark::Ceval, "logic"), Some("humanities"));
        assert_eq!(category(Benchmark::LongBench, "qasper_e"), Some("single-document QA"));
        assert_eq!((category(Benchmark::Mmlu, "logic"), category(Benchmark::MmluPro, "law")), (None, None));
        assert_eq!(
            categories(Benchmark::Ceval).collect::<Vec<_>>(),
            ["STEM", "humanities", "social sciences", "other"]
        );
    }
}
