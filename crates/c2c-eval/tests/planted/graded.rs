//! Planted answers for every scorer of LongBench.

use std::collections::BTreeMap;

use c2c_data::{Question, Scorer};
use c2c_eval::Record;
use c2c_eval::extract::Compat;
use c2c_eval::score::judge;
use c2c_recipe::DataKind;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{accuracy, questions, record, score, wrong};

/// A task for each scorer.
const TASKS: [&str; 11] = [
    "qasper",
    "triviaqa",
    "multifieldqa_zh",
    "gov_report",
    "samsum",
    "vcsum",
    "trec",
    "passage_retrieval_en",
    "passage_retrieval_zh",
    "passage_count",
    "lcc",
];
/// Seed by which right answers are dealt out anew. Of eleven draws one in 33 seeds has one beyond three sigma by luck.
const DEAL: u64 = 0;
const CLASSES: [&str; 4] = ["red", "blue", "green", "white"];

/// A row whose right answer shares words with some of the others' and equals a few of them.
pub(super) fn row(n: usize) -> Value {
    let (task, n) = (TASKS[n % TASKS.len()], n / TASKS.len());
    let (colour, thing) = (CLASSES[n % 4], ["stone", "river", "tower"][n % 3]);
    let answer = match task {
        "trec" => colour.to_owned(),
        "passage_count" => (1 + n % 5).to_string(),
        "passage_retrieval_en" => format!("Paragraph {}", 1 + n % 5),
        "passage_retrieval_zh" => format!("段落{}", 1 + n % 5),
        "lcc" => format!("let {colour} = {thing}({});", n % 5),
        "multifieldqa_zh" | "vcsum" => {
            format!("北京有{}的{}", ["红色", "蓝色", "绿色", "白色"][n % 4], ["石头", "河流", "高塔"][n % 3])
        }
        _ => format!("{colour} {thing} beside wall {}", n % 5),
    };
    // One answer of several where there may be several.
    let answers = if matches!(task, "qasper" | "triviaqa") { vec![answer, "nothing".to_owned()] } else { vec![answer] };
    json!({
        "_id": format!("row-{n}-{task}"), "dataset": task, "input": "Which?", "context": "Long.", "answers": answers,
        "all_classes": CLASSES,
    })
}

#[test]
fn graded_answers_have_the_mean_of_what_was_planted() {
    let questions = questions(DataKind::LongBench);
    let answer = |(place, question): (usize, &Question)| {
        let gold = &question.gold()[0];
        // A right answer, or none at all.
        record(question, if place % 4 == 0 { gold.clone() } else { "?".to_owned() }, Vec::new())
    };
    let records: Vec<Record> = questions.iter().enumerate().map(answer).collect();
    // ROUGE-L of equal texts is short of 1 by the package's guard against division by zero.
    assert!((accuracy(&records) - 0.25).abs() < 1e-8, "{}", accuracy(&records));
    // Five right words and four others: precision 5/9, recall 1.
    let half = questions.iter().filter(|question| question.scorer() == Scorer::F1);
    let halves: Vec<Record> =
        half.map(|q| record(q, format!("{} herring in sour cream", q.gold()[0]), Vec::new())).collect();
    assert!((accuracy(&halves) - 10.0 / 14.0).abs() < 1e-12, "{}", accuracy(&halves));
}

/// Mean and standard deviation of the mean score when the right answers of these records are dealt out anew at random: that
/// of a sum over a random permutation (Hoeffding 1951, A combinatorial central limit theorem).
fn permuted(records: &[Record]) -> (f64, f64) {
    let n = records.len();
    let points: Vec<Vec<f64>> = records
        .iter()
        .map(|answered| {
            records.iter().map(|asked| judge(&with_gold_of(answered, asked), Compat::Fixed).points).collect()
        })
        .collect();
    let mean = |sum: f64| sum / n as f64;
    let rows: Vec<f64> = points.iter().map(|row| mean(row.iter().sum())).collect();
    let columns: Vec<f64> = (0..n).map(|column| mean(points.iter().map(|row| row[column]).sum())).collect();
    let all = mean(rows.iter().sum());
    let left = |i: usize, j: usize| points[i][j] - rows[i] - columns[j] + all;
    let squares: f64 = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| left(i, j).powi(2)).sum();
    (all, mean((squares / (n - 1) as f64).sqrt()))
}

fn with_gold_of(answered: &Record, asked: &Record) -> Record {
    Record { gold: asked.gold.clone(), alternatives: asked.alternatives.clone(), ..answered.clone() }
}

#[test]
fn against_shuffled_gold_graded_answers_are_chance() {
    let questions = questions(DataKind::LongBench);
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut by_scorer: BTreeMap<Scorer, Vec<Record>> = BTreeMap::new();
    for (place, question) in questions.iter().enumerate() {
        // Nine in ten right, so that an answerer that knows the answers must fall to chance.
        let said = if rng.random_bool(0.9) { question.gold()[0].clone() } else { wrong(&questions, place) };
        by_scorer.entry(question.scorer()).or_default().push(record(question, said, Vec::new()));
    }
    assert_eq!(by_scorer.len(), TASKS.len());
    for (scorer, records) in by_scorer {
        let known = accuracy(&records);
        assert!(known > 0.8, "{scorer:?}: {known}");
        let (chance, sigma) = permuted(&records);
        // What is to fall lies far above where it is to fall to.
        assert!(known > chance + 4.0 * sigma, "{scorer:?}: {known} and chance {chance} +- {sigma}");
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(DEAL));
        let dealt = records.iter().zip(&order).map(|(answered, from)| {
            let mut record = with_gold_of(answered, &records[*from]);
            score(&mut record);
            record
        });
        let found = accuracy(&dealt.collect::<Vec<_>>());
        assert!((found - chance).abs() <= 3.0 * sigma, "{scorer:?}: {found}, {chance} +- {sigma}");
    }
}

/// Where an answer is one of a few that are equally frequent, and all are right, chance is one over their number.
#[test]
fn the_chance_of_exact_answers_is_one_over_their_number() {
    let questions = questions(DataKind::LongBench);
    for (scorer, answers) in [(Scorer::Class, 4), (Scorer::Paragraph, 5), (Scorer::ParagraphZh, 5), (Scorer::Count, 5)]
    {
        let own = questions.iter().filter(|question| question.scorer() == scorer);
        let records: Vec<Record> =
            own.map(|question| record(question, question.gold()[0].clone(), Vec::new())).collect();
        // As many of each answer.
        let records = &records[..records.len() / answers * answers];
        let (chance, _) = permuted(records);
        assert!((chance - 1.0 / answers as f64).abs() < 1e-12, "{scorer:?}: {chance}");
    }
}
