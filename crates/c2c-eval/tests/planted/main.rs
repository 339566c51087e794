//! Planted answers on every kind of benchmark: as many as were planted right are counted right, and against shuffled
//! gold the same answers are chance.

#![allow(clippy::unwrap_used)]

mod graded;
mod model;

use c2c_data::{Question, Scorer, Task, letter};
use c2c_eval::extract::Compat;
use c2c_eval::score::judge;
use c2c_eval::{Evaluation, Phases, Record, load_questions};
use c2c_recipe::{DataKind, DataSource, Method, PromptFormat, SourceOptions};
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const N: usize = 600;

/// Rows of a benchmark with answers that are spread evenly.
fn row(kind: DataKind, n: usize) -> Value {
    let texts = ["north", "south", "east", "west"];
    let id = format!("row-{n}");
    match kind {
        DataKind::OpenBookQa | DataKind::Arc => json!({
            "id": id, "question": "Which way?", "question_stem": "Which way?", "answerKey": letter(n % 4).to_string(),
            "choices": { "text": texts, "label": ["A", "B", "C", "D"] },
        }),
        DataKind::Mmlu | DataKind::MmluRedux => json!({
            "id": id, "question": "Which way?", "choices": texts, "answer": n % 4, "subject": "anatomy", "error_type": "ok",
        }),
        DataKind::Ceval | DataKind::Mmmlu => json!({
            "id": id, "question": "Which way?", "A": "1", "B": "2", "C": "3", "D": "4", "answer": letter(n % 4).to_string(),
        }),
        DataKind::MmluPro => json!({
            "question_id": n, "question": "Which?", "options": (0..10).map(|i| format!("c{i}")).collect::<Vec<_>>(),
            "answer_index": n % 10, "answer": letter(n % 10).to_string(), "category": "law",
        }),
        DataKind::Gpqa => json!({
            "Record ID": id, "Question": format!("Which way, {n}?"), "Correct Answer": "north", "Incorrect Answer 1": "south",
            "Incorrect Answer 2": "east", "Incorrect Answer 3": "west",
        }),
        DataKind::Gsm8k => {
            json!({ "id": id, "question": "How many?", "answer": format!("Work.\n#### {},{:03}", 1 + n % 7, n % 3) })
        }
        DataKind::Math500 => {
            json!({ "unique_id": id, "problem": "What part?", "answer": format!("\\frac{{{}}}{{7}}", 1 + n % 6) })
        }
        DataKind::LongBench => graded::row(n),
        other => panic!("no rows of {other}"),
    }
}

fn questions(kind: DataKind) -> Vec<Question> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.jsonl");
    let rows: String = (0..N).map(|n| format!("{}\n", row(kind, n))).collect();
    std::fs::write(&path, rows).unwrap();
    let source = DataSource {
        kind,
        path_as_written: Some(path.display().to_string()),
        path: Some(path),
        split: (kind == DataKind::LongBench).then(|| "all".to_owned()),
        places: None,
        limit: None,
        repeats: None,
        format: PromptFormat::C2c,
        options: SourceOptions::default(),
    };
    load_questions(&source, 0, Compat::Fixed).unwrap().0
}

/// The record of a question with this reply, or with these probabilities of letters.
fn record(question: &Question, output: String, letter_logprobs: Vec<f64>) -> Record {
    let mut gold = question.gold().into_iter();
    let mut record = Record {
        method: Method::Receiver,
        benchmark: "planted".to_owned(),
        question_id: question.id.clone(),
        subject: question.subject.clone(),
        gold: gold.next().unwrap(),
        choices: question.choices().len() as u32,
        answer: None,
        rule: None,
        correct: false,
        output,
        finish: None,
        prompt_sha256: String::new(),
        prompt_tokens: 1,
        output_tokens: 1,
        milliseconds: 1.0,
        phases: Phases::default(),
        partner: None,
        message: None,
        message_tokens: 0,
        error: None,
        scorer: question.scorer(),
        score: None,
        alternatives: gold.collect(),
        classes: match &question.task {
            Task::Choice { .. } => Vec::new(),
            Task::Free(free) => free.classes.clone(),
        },
        letter_logprobs,
        bit_equal: None,
        fused_tokens: None,
    };
    score(&mut record);
    record
}

fn score(record: &mut Record) {
    let judged = judge(record, Compat::Fixed);
    (record.answer, record.rule) = (judged.answer, judged.rule);
    record.correct = judged.points >= 1.0;
    record.score = record.scorer.is_graded().then_some(judged.points);
}

/// A reply that says an answer as a model would.
fn saying(scorer: Scorer, answer: &str) -> String {
    match scorer {
        Scorer::Letter => format!("The correct answer is {answer}."),
        Scorer::Number | Scorer::Maths => format!("First 3, then 4.\n\n**Answer: ${answer}$**"),
        _ => answer.to_owned(),
    }
}

/// The right answer of another question, one with another answer of the same scorer.
fn wrong(questions: &[Question], place: usize) -> String {
    let own = &questions[place];
    let others = questions.iter().cycle().skip(place + 1);
    let mut others = others.filter(|other| other.scorer() == own.scorer() && other.gold() != own.gold());
    others.next().unwrap().gold()[0].clone()
}

fn accuracy(records: &[Record]) -> f64 {
    Evaluation::of(records.to_vec(), &[Method::Receiver], None).unwrap().results[0].accuracy.accuracy
}

const CHOICES: [DataKind; 8] = [
    DataKind::OpenBookQa,
    DataKind::Arc,
    DataKind::Mmlu,
    DataKind::MmluRedux,
    DataKind::Ceval,
    DataKind::Mmmlu,
    DataKind::MmluPro,
    DataKind::Gpqa,
];
const FREE: [DataKind; 2] = [DataKind::Gsm8k, DataKind::Math500];

#[test]
fn as_many_as_were_planted_right_are_counted_right() {
    for kind in CHOICES.into_iter().chain(FREE) {
        let questions = questions(kind);
        assert_eq!(questions.len(), N, "{kind}");
        for right in [0, 217, N] {
            let answer = |(place, question): (usize, &Question)| {
                let answer = if place * 7 % N < right { question.gold()[0].clone() } else { wrong(&questions, place) };
                record(question, saying(question.scorer(), &answer), Vec::new())
            };
            let records: Vec<Record> = questions.iter().enumerate().map(answer).collect();
            assert_eq!(accuracy(&records), right as f64 / N as f64, "{kind}");
        }
    }
}

#[test]
fn the_likeliest_letter_is_the_answer() {
    for kind in CHOICES {
        let questions = questions(kind);
        let answer = |(place, question): (usize, &Question)| {
            let answer = if place % 3 == 0 { question.gold()[0].clone() } else { wrong(&questions, place) };
            let letters = (0..question.choices().len()).map(|index| letter(index).to_string());
            let logprobs = letters.map(|letter| if letter == answer { -0.5 } else { -2.0 }).collect();
            record(question, String::new(), logprobs)
        };
        let records: Vec<Record> = questions.iter().enumerate().map(answer).collect();
        assert_eq!(accuracy(&records), 1.0 / 3.0, "{kind}");
    }
}

#[test]
fn against_shuffled_gold_the_same_answers_are_chance() {
    for kind in CHOICES.into_iter().chain(FREE) {
        let questions = questions(kind);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        // Nine in ten right, so that an answerer that knows the answers must fall to chance.
        let answer = |(place, question): (usize, &Question)| {
            let right = rng.random_bool(0.9);
            let answer = if right { question.gold()[0].clone() } else { wrong(&questions, place) };
            record(question, saying(question.scorer(), &answer), Vec::new())
        };
        let mut records: Vec<Record> = questions.iter().enumerate().map(answer).collect();
        assert!(accuracy(&records) > 0.85, "{kind}");
        let share = |value: &str, of: &dyn Fn(&Record) -> Option<&str>| {
            records.iter().filter(|record| of(record) == Some(value)).count() as f64 / N as f64
        };
        let mut values: Vec<&str> = records.iter().map(|record| record.gold.as_str()).collect();
        values.sort_unstable();
        values.dedup();
        // With answers fixed and gold permuted, each pair of answer and gold has the product of its shares as chance.
        let chance: f64 = values
            .iter()
            .map(|value| share(value, &|record| record.answer.as_deref()) * share(value, &|record| Some(&record.gold)))
            .sum();
        let mut gold: Vec<String> = records.iter().map(|record| record.gold.clone()).collect();
        gold.shuffle(&mut rng);
        for (record, gold) in records.iter_mut().zip(gold) {
            record.gold = gold;
            score(record);
        }
        let sigma = (chance * (1.0 - chance) / N as f64).sqrt();
        let found = accuracy(&records);
        assert!((found - chance).abs() <= 3.0 * sigma, "{kind}: {found} against {chance}");
    }
}
