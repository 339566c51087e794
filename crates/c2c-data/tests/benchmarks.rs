//! Benchmarks in the layouts that their authors publish.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use c2c_data::{
    Benchmark, Cut, DataError, Framing, Input, Part, Place, Question, Scorer, Task, Wanted, load_benchmark,
};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};
use serde_json::json;

/// A folder with these files.
fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn lines(rows: &[serde_json::Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn load_from(path: &Path, benchmark: Benchmark, wanted: &Wanted) -> Result<c2c_data::Loaded<Question>, DataError> {
    let home = benchmark.home();
    let place = Place {
        path: path.to_owned(),
        usual_config: home.config,
        usual_split: home.split,
        extended: (benchmark == Benchmark::LongBench).then_some(false),
        ..Place::default()
    };
    load_benchmark(&Input::locate(&place)?, benchmark, wanted)
}

fn load(files: &[(&str, String)], benchmark: Benchmark, wanted: &Wanted) -> Vec<Question> {
    load_from(folder(files).path(), benchmark, wanted).unwrap().rows
}

fn reference() -> Wanted {
    Wanted { as_reference: true, ..Wanted::default() }
}

fn ids(questions: &[Question]) -> Vec<&str> {
    questions.iter().map(|question| question.id.as_str()).collect()
}

fn answers(questions: &[Question]) -> Vec<String> {
    questions.iter().map(|question| question.gold()[0].clone()).collect()
}

#[test]
fn arc_reads_numeric_keys_and_fifth_choices_that_the_reference_leaves_out() {
    let row = |id: &str, labels: [&str; 5], key: &str| {
        json!({"id": id, "question": "Which?", "answerKey": key,
               "choices": {"text": ["v", "w", "x", "y", "z"], "label": labels}})
    };
    let letters = ["A", "B", "C", "D", "E"];
    let rows = [row("a", letters, "C"), row("b", ["1", "2", "3", "4", "5"], "2"), row("c", letters, "E")];
    let files = [
        ("ARC-Challenge/test-00000-of-00001.jsonl", lines(&rows)),
        ("ARC-Challenge/train-00000-of-00001.jsonl", lines(&rows[..1])),
        ("ARC-Easy/test-00000-of-00001.jsonl", lines(&rows[..2])),
    ];
    let all = load(&files, Benchmark::Arc, &Wanted::default());
    assert_eq!((ids(&all), answers(&all)), (vec!["a", "b", "c"], vec!["C".into(), "B".into(), "E".into()]));
    assert_eq!(ids(&load(&files, Benchmark::Arc, &reference())), ["a"]);
}

#[test]
fn redux_leaves_out_and_corrects_as_its_error_types_say() {
    let dir = tempfile::tempdir().unwrap();
    let types = [
        "ok",
        "wrong_groundtruth",
        "wrong_groundtruth",
        "no_correct_answer",
        "expert",
        "multiple_correct_answers",
        "wrong_groundtruth",
    ];
    let corrections = ["", "3", "", "", "", "", "x"];
    let texts = ["x", "y", "z", "w"].map(str::to_owned);
    let n = types.len();
    let columns = vec![
        Column::new("question".into(), vec!["Which?"; n]),
        Column::new("choices".into(), vec![Series::new("".into(), &texts); n]),
        Column::new("answer".into(), vec![1i64; n]),
        Column::new("error_type".into(), types.to_vec()),
        Column::new("correct_answer".into(), corrections.to_vec()),
    ];
    let mut frame = DataFrame::new(n, columns).unwrap();
    for subject in ["anatomy", "virology"] {
        let file = dir.path().join(subject).join("test-00000-of-00001.parquet");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        ParquetWriter::new(std::fs::File::create(file).unwrap()).finish(&mut frame).unwrap();
    }
    let only = Wanted { subjects: vec!["virology".into()], ..Wanted::default() };
    let loaded = load_from(dir.path(), Benchmark::MmluRedux, &only).unwrap();
    // The subject is that of the folder; an answer known to be wrong and without a correction is not asked.
    assert_eq!(ids(&loaded.rows), ["virology/1", "virology/2", "virology/6", "virology/7"]);
    assert_eq!(answers(&loaded.rows), ["B", "D", "B", "A"]);
    let left: Vec<(&str, usize)> = loaded.fingerprint.left_out.iter().map(|(by, n)| (by.as_str(), *n)).collect();
    let expected =
        [("expert", 1), ("no_correct_answer", 1), ("subjects", 7), ("wrong_groundtruth without a correction", 1)];
    assert_eq!(left, expected);
    let as_reference = load_from(dir.path(), Benchmark::MmluRedux, &Wanted { subjects: only.subjects, ..reference() });
    assert_eq!(answers(&as_reference.unwrap().rows), ["B", "D", "B", "B", "A"]);
}

#[test]
fn tables_of_columns_are_read_with_their_subject_or_language() {
    let ceval = [
        (
            "val/law_val.csv",
            "id,question,A,B,C,D,answer\n0,\"问题, 1\",甲,乙,丙,丁,C\n1,问题2,甲,乙,丙,丁,\n".to_owned(),
        ),
        ("val/logic_val.csv", "id,question,A,B,C,D,answer\n0,\"多\n行\",甲,乙,丙,丁,A\n".to_owned()),
        ("test/law_test.csv", "id,question,A,B,C,D\n0,x,甲,乙,丙,丁\n".to_owned()),
    ];
    let questions = load(&ceval, Benchmark::Ceval, &Wanted::default());
    assert_eq!(
        (ids(&questions), answers(&questions)),
        (vec!["law/0", "logic/0"], vec!["C".to_owned(), "A".to_owned()])
    );
    assert_eq!(questions[1].question, "多\n行");
    let row = ",Question,A,B,C,D,Answer,Subject\n0,Was?,a,b,c,d,B,anatomy\n1,Wer?,a,b,c,d,2,virology\n";
    let mmmlu = [("test/mmlu_DE-DE.csv", row.to_owned()), ("test/mmlu_SW-KE.csv", row.to_owned())];
    let german = Wanted { subjects: vec!["DE_DE".into()], ..Wanted::default() };
    let questions = load(&mmmlu, Benchmark::Mmmlu, &german);
    assert_eq!(questions[0].subject.as_deref(), Some("DE_DE/anatomy"));
    assert_eq!(answers(&questions), ["B", "C"]);
}

#[test]
fn ten_choices_keep_their_letters() {
    let options: Vec<String> = (0..10).map(|index| format!("choice {index}")).collect();
    let row = json!({"question_id": 7, "question": "Which?", "options": options, "answer": "J", "answer_index": 9, "category": "law"});
    let questions = load(&[("data/test-00000-of-00001.jsonl", lines(&[row]))], Benchmark::MmluPro, &Wanted::default());
    assert_eq!((ids(&questions), answers(&questions)), (vec!["7"], vec!["J".to_owned()]));
    assert_eq!(questions[0].subject.as_deref(), Some("law"));
}

#[test]
fn gpqa_mixes_its_choices_by_the_questions_text_and_prefers_revisions() {
    let head = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3,Extra Revised Question,Record ID,High-level domain";
    let rows: Vec<String> = (0..200)
        .map(|n| format!("Q {n},right,wrong 1,wrong 2,wrong 3,{},r{n},Physics", if n == 0 { "Better?" } else { "" }))
        .collect();
    let files =
        [("gpqa_diamond.csv", format!("{head}\n{}\n", rows.join("\n"))), ("gpqa_main.csv", format!("{head}\n"))];
    let questions = load(&files, Benchmark::Gpqa, &Wanted::default());
    assert_eq!((questions.len(), questions[0].question.as_str(), questions[0].id.as_str()), (200, "Better?", "r0"));
    for question in &questions {
        let Task::Choice { choices, answer } = &question.task else { panic!("no choices") };
        assert_eq!(choices[*answer], "right");
    }
    // 50 of each letter are expected, with a standard deviation of 6.1.
    for letter in ["A", "B", "C", "D"] {
        let count = answers(&questions).iter().filter(|answer| *answer == letter).count();
        assert!((32..=68).contains(&count), "{letter}: {count}");
    }
    assert_eq!(questions, load(&files, Benchmark::Gpqa, &Wanted::default()));
}

#[test]
fn numbers_of_gsm8k_lose_their_separators_but_as_the_reference_has_it() {
    let row =
        |answer: &str| json!({"question": "How many?", "answer": format!("Some <<1+1=2>>2 work.\n#### {answer}")});
    let files = [
        ("main/test-00000-of-00001.jsonl", lines(&[row("1,200"), row("-3.5")])),
        ("socratic/test.jsonl", lines(&[row("1")])),
    ];
    let questions = load(&files, Benchmark::Gsm8k, &Wanted::default());
    assert_eq!(
        (answers(&questions), questions[0].scorer()),
        (vec!["1200".to_owned(), "-3.5".to_owned()], Scorer::Number)
    );
    assert_eq!(answers(&load(&files, Benchmark::Gsm8k, &reference())), ["1", "-3.5"]);
    let without = folder(&[("test.jsonl", lines(&[json!({"question": "x", "answer": "12"})]))]);
    let error = load_from(without.path(), Benchmark::Gsm8k, &Wanted::default()).unwrap_err().to_string();
    assert!(error.contains("test.jsonl:1") && error.contains("####"), "{error}");
}

#[test]
fn math_500_is_asked_in_latex() {
    let row = json!({"problem": "Half?", "solution": "..", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 1, "unique_id": "test/a/1.json"});
    let questions = load(&[("test.jsonl", lines(&[row]))], Benchmark::Math500, &Wanted::default());
    assert_eq!((ids(&questions), answers(&questions)), (vec!["test/a/1.json"], vec!["\\frac{1}{2}".to_owned()]));
    let Task::Free(free) = &questions[0].task else { panic!("no free answer") };
    assert_eq!((free.max_new_tokens, free.framing, free.cut), (1024, Framing::Chat, Cut::Never));
    assert!(free.prompt.contains("\n\nHalf?\n\n"));
}

#[test]
fn longbench_has_a_prompt_a_scorer_and_a_length_for_each_task() {
    let row = |id: &str, dataset: &str| {
        json!({"_id": id, "dataset": dataset, "input": "Who?", "context": "Long ago.", "answers": ["one", "two"],
               "all_classes": if dataset == "trec" { json!(["one", "x"]) } else { json!(null) }, "language": "en", "length": 3})
    };
    // SHA-256 of "abc" ends in ad: it is for the test. That of "abe" is for training.
    let files = [
        ("data/qasper.jsonl", lines(&[row("abc", "qasper"), row("abe", "qasper")])),
        ("data/trec.jsonl", lines(&[row("abc", "trec")])),
        ("data/qasper_e.jsonl", lines(&[row("abc", "qasper")])),
    ];
    let test = Wanted { part: Part::Test, ..Wanted::default() };
    let questions = load(&files, Benchmark::LongBench, &test);
    let free = |question: &Question| match &question.task {
        Task::Free(free) => free.clone(),
        Task::Choice { .. } => panic!("choices"),
    };
    assert_eq!(questions.len(), 2);
    let (qasper, trec) = (free(&questions[0]), free(&questions[1]));
    assert_eq!(
        (qasper.scorer, qasper.max_new_tokens, qasper.framing, qasper.cut),
        (Scorer::F1, 128, Framing::Chat, Cut::ToContext)
    );
    assert!(qasper.prompt.contains("Article: Long ago.") && qasper.prompt.ends_with("Question: Who?\n\nAnswer:"));
    assert_eq!((qasper.gold, qasper.classes.len()), (vec!["one".to_owned(), "two".to_owned()], 0));
    assert_eq!((trec.scorer, trec.framing, trec.classes.len()), (Scorer::Class, Framing::Bare, 2));
    let as_reference = Wanted { cut_middle: Some(100), max_new_tokens: Some(5), ..reference() };
    let questions = load(&files, Benchmark::LongBench, &Wanted { part: Part::Test, ..as_reference });
    assert_eq!((free(&questions[0]).framing, free(&questions[1]).framing), (Framing::ChatTwice, Framing::Chat));
    assert_eq!((free(&questions[0]).cut, free(&questions[0]).max_new_tokens), (Cut::To(100), 5));
}

#[test]
fn intervals_and_limits_count_what_they_leave_out() {
    let row = |subject: &str, n: usize| json!({"id": format!("{subject}-{n}"), "subject": subject, "question": "?", "choices": ["a", "b"], "answer": n % 2});
    let rows: Vec<_> =
        ["anatomy", "virology"].iter().flat_map(|subject| (0..10).map(move |n| row(subject, n))).collect();
    let files = [("all/test.jsonl", lines(&rows))];
    let with = |wanted: Wanted| load_from(folder(&files).path(), Benchmark::Mmlu, &wanted);
    let every_third = with(Wanted { sample_interval: 3, ..Wanted::default() }).unwrap();
    let expected =
        ["anatomy-0", "anatomy-3", "anatomy-6", "anatomy-9", "virology-0", "virology-3", "virology-6", "virology-9"];
    assert_eq!(ids(&every_third.rows), expected);
    assert_eq!(every_third.fingerprint.left_out["sample_interval"], 12);
    let first_two = with(Wanted { limit_per_subject: Some(2), limit: Some(3), ..Wanted::default() }).unwrap();
    assert_eq!(ids(&first_two.rows), ["anatomy-0", "anatomy-1", "virology-0"]);
    let left: usize = first_two.fingerprint.left_out.values().sum();
    assert_eq!(left + first_two.rows.len(), 20);
    let unknown = with(Wanted { subjects: vec!["alchemy".into()], ..Wanted::default() }).unwrap_err().to_string();
    assert!(unknown.contains("`alchemy`") && unknown.contains("anatomy, virology"), "{unknown}");
}

#[test]
fn an_identifier_names_one_question() {
    let arc = |id: &str| json!({"id": id, "question": "Which?", "answerKey": "A", "choices": {"text": ["v", "w"], "label": ["A", "B"]}});
    let of_arc = |ids: [&str; 3]| {
        let folder = folder(&[("test.jsonl", lines(&ids.map(arc)))]);
        load_from(folder.path(), Benchmark::Arc, &Wanted::default())
    };
    assert_eq!(of_arc(["a", "b", "c"]).unwrap().rows.len(), 3);
    let error = of_arc(["a", "b", "a"]).unwrap_err().to_string();
    assert!(error.contains("test.jsonl:3: the identifier `a`") && error.contains("test.jsonl:1;"), "{error}");

    // Rows without one are called by their places, which shards of a subject share.
    let row = json!({"question": "?", "choices": ["a", "b"], "answer": 1, "subject": "anatomy"});
    let rows = lines(&[row]);
    let shards = [("test-00000-of-00002.jsonl", rows.clone()), ("test-00001-of-00002.jsonl", rows)];
    assert_eq!(ids(&load(&shards, Benchmark::Mmlu, &Wanted::default())), ["anatomy/1", "anatomy/1#2"]);

    // LongBench's are unique within a task.
    let row = |id: &str, dataset: &str| json!({"_id": id, "dataset": dataset, "context": "x", "answers": ["y"]});
    let all = Wanted { part: Part::All, ..Wanted::default() };
    let load_rows = |rows: &[serde_json::Value]| {
        load_from(folder(&[("data/x.jsonl", lines(rows))]).path(), Benchmark::LongBench, &all)
    };
    let two = load_rows(&[row("abc", "qasper"), row("abc", "trec")]).unwrap().rows;
    assert_eq!(ids(&two), ["abc", "abc#2"]);
    let error = load_rows(&[row("abc", "qasper"), row("abc", "qasper")]).unwrap_err().to_string();
    assert!(error.contains("x.jsonl:2") && error.contains("`qasper/abc`"), "{error}");
}
