//! Runs whose figures are known by construction, written by the same code that writes real ones.

#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use std::path::Path;

use c2c_data::Scorer;
use c2c_eval::extract::{Compat, extract_letter};
use c2c_eval::stats::Methods;
use c2c_eval::{Asked, Evaluation, Phases, RECORDS_FORMAT, Record, SUMMARY_FORMAT, summary};
use c2c_recipe::{Method, PromptFormat};
use c2c_report::seal;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde_json::{Value, json};

/// The letters of the planted questions.
pub const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// A question of four choices.
pub struct Planted {
    pub benchmark: String,
    pub id: String,
    pub subject: Option<String>,
    pub gold: char,
}

/// `n` questions of two benchmarks and five subjects, gold letters in turn.
pub fn questions(n: usize) -> Vec<Planted> {
    let question = |index: usize| Planted {
        benchmark: if index.is_multiple_of(2) { "stones" } else { "metals" }.to_owned(),
        id: format!("q{index}"),
        subject: Some(format!("subject {}", index % 5)),
        gold: LETTERS[index % 4],
    };
    (0..n).map(question).collect()
}

/// A method's record of a question: a reply in a sentence, read by the rules of extraction.
pub fn record(method: Method, question: &Planted, answer: char, milliseconds: f64) -> Record {
    let output = format!("The correct answer is {answer}.");
    let found = extract_letter(&output, LETTERS.len(), Compat::Fixed);
    let fused = matches!(method, Method::C2c | Method::Mismatched | Method::GatesShut);
    let [receiver, sharer, fusion, decode]: [f64; 4] = match method {
        Method::Sharer => [0.0, 0.5, 0.0, 0.25],
        _ if fused => [0.25, 0.25, 0.125, 0.25],
        _ => [0.5, 0.0, 0.0, 0.25],
    };
    Record {
        method,
        benchmark: question.benchmark.clone(),
        question_id: question.id.clone(),
        subject: question.subject.clone(),
        gold: question.gold.to_string(),
        choices: LETTERS.len() as u32,
        answer: found.map(|found| found.letter.to_string()),
        rule: found.map(|found| found.rule),
        correct: found.is_some_and(|found| found.letter == question.gold),
        output,
        finish: Some(serde_json::from_value(json!("eos")).unwrap()),
        prompt_sha256: format!("{:064x}", question.id.len()),
        prompt_tokens: 30,
        output_tokens: 6,
        milliseconds,
        phases: Phases::from_values([receiver, sharer, 0.0, fusion, decode].map(|share| share * milliseconds)),
        partner: None,
        message: None,
        message_tokens: 0,
        error: None,
        scorer: c2c_data::Scorer::Letter,
        score: None,
        alternatives: Vec::new(),
        classes: Vec::new(),
        letter_logprobs: Vec::new(),
        bit_equal: None,
        fused_tokens: None,
    }
}

/// The letter behind the gold one: always wrong.
pub fn wrong(gold: char) -> char {
    LETTERS[(LETTERS.iter().position(|letter| *letter == gold).unwrap() + 1) % LETTERS.len()]
}

pub fn asked(methods: &[Method], partial_because: &[&str]) -> Asked {
    Asked {
        format: SUMMARY_FORMAT,
        records_format: RECORDS_FORMAT,
        methods: methods.to_vec(),
        prompt: PromptFormat::PlainCued,
        max_new_tokens: 8,
        batch_size: 32,
        batch_tokens: None,
        extraction: Compat::Fixed,
        mode: None,
        response_text: None,
        chat_template: None,
        fused_share: None,
        fused_from: None,
        seed: 42,
        baselines: None,
        statistics: Methods::default(),
        partial_because: partial_because.iter().map(|reason| (*reason).to_owned()).collect(),
    }
}

/// Writes a run of these records: summary, environment and records.
pub fn write_run(dir: &Path, records: Vec<Record>, asked: &Asked) {
    std::fs::create_dir_all(dir.join("eval")).unwrap();
    let evaluation = Evaluation::of_format(records, &asked.methods, None, asked.format).unwrap();
    evaluation.write_parquet(dir.join("eval/records.parquet")).unwrap();
    let recipe = dir.join("recipe.toml");
    if !recipe.is_file() {
        std::fs::write(&recipe, recipe_of(asked)).unwrap();
    }
    let hash = c2c_recipe::load(&recipe, &[]).unwrap().hash();
    let mut facts = json!({ "recipe": "planted", "recipe_sha256": hash, "evaluation_data": [{}] });
    facts.as_object_mut().unwrap().extend(summary(asked, &evaluation));
    write_json(&dir.join("summary.json"), &facts);
    write_json(&dir.join("environment.json"), &json!({ "device": "cpu", "recipe_sha256": hash }));
    seal(dir).unwrap();
}

/// The recipe that asks so, of questions that aren't at hand.
fn recipe_of(asked: &Asked) -> String {
    let methods: Vec<&str> = asked.methods.iter().map(|method| method.as_str()).collect();
    let share = asked.fused_share.map_or_else(String::new, |share| format!("fused_share = {share:?}\n"));
    let from = asked.fused_from.map_or_else(String::new, |from| format!("fused_from = '{from}'\n"));
    format!(
        "kind = 'eval'\nname = 'planted'\n[artefact]\npath = 'fuser'\n[evaluation]\n\
         sources = [{{ kind = 'multiple_choice', path = 'gone.jsonl' }}]\nprompt = 'plain_cued'\n\
         max_new_tokens = {}\nbatch_size = {}\nseed = {}\nmethods = {methods:?}\n{share}{from}",
        asked.max_new_tokens, asked.batch_size, asked.seed
    )
}

pub fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, format!("{value:#}\n")).unwrap();
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Receiver, sharer and C2C on `n` questions, right on exactly so many: the receiver on the first `right[0]`, and so
/// on.
pub fn planted(n: usize, right: [usize; 3]) -> Vec<Record> {
    let questions = questions(n);
    let methods = [Method::Receiver, Method::Sharer, Method::C2c];
    let times = [1.0, 2.0, 4.0];
    let mut records = Vec::new();
    for ((method, right), ms) in methods.into_iter().zip(right).zip(times) {
        for (index, question) in questions.iter().enumerate() {
            let answer = if index < right { question.gold } else { wrong(question.gold) };
            records.push(record(method, question, answer, ms));
        }
    }
    records
}

/// Methods of a run of random answers.
pub const FIVE: [Method; 5] = [Method::Receiver, Method::Sharer, Method::C2c, Method::Mismatched, Method::GatesShut];
/// How often each is right, and its milliseconds.
const CHANCES: [(f64, f64); 5] = [(0.4, 2.0), (0.7, 3.0), (0.6, 6.0), (0.4, 6.0), (0.4, 6.0)];

/// All five methods on these questions, right by chance; `graded` gives each answer a score of its own instead.
pub fn synthetic(questions: &[Planted], graded: bool, rng: &mut ChaCha8Rng) -> Vec<Record> {
    let mut records = Vec::with_capacity(questions.len() * FIVE.len());
    for (method, (share, ms)) in FIVE.into_iter().zip(CHANCES) {
        for (index, question) in questions.iter().enumerate() {
            let answer = if rng.random_bool(share) { question.gold } else { wrong(question.gold) };
            let mut record = record(method, question, answer, ms * rng.random_range(0.9..1.1));
            if method == Method::Mismatched {
                record.partner = Some(questions[(index + 1) % questions.len()].id.clone());
            }
            record.bit_equal = (method == Method::GatesShut).then_some(true);
            (record.prompt_tokens, record.output_tokens) = (20 + (7 * index % 300) as u32, 2 + (index % 50) as u32);
            if graded {
                (record.scorer, record.choices, record.correct) = (Scorer::F1, 0, false);
                record.score = Some(share * rng.random::<f64>());
            }
            records.push(record);
        }
    }
    records
}
