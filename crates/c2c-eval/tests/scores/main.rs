//! Our scorers against the programs that others use. `make.py` wrote the numbers; it says how.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_data::Scorer;
use c2c_eval::extract::Compat;
use c2c_eval::score::{maths, score};
use serde_json::Value;

fn cases(text: &str) -> Vec<Value> {
    let json: Value = serde_json::from_str(text).unwrap();
    json["cases"].as_array().unwrap().clone()
}

const CLASSES: [&str; 7] = ["cat", "category", "dog", "hot dog", "food", "fo", "number"];

#[test]
fn longbench_scores_are_those_of_the_packages_that_its_authors_use() {
    let cases = cases(include_str!("scores.json"));
    assert_eq!(cases.len(), 660);
    for case in cases {
        let scorer: Scorer = serde_json::from_value(case[0].clone()).unwrap();
        let (text, right) = (case[1].as_str().unwrap(), case[2].as_str().unwrap());
        let expected = case[3].as_f64().unwrap();
        let found = score(scorer, text, right, &CLASSES.map(str::to_owned));
        assert!((found - expected).abs() < 1e-9, "{scorer:?} of {text:?} against {right:?}: {found}, not {expected}");
    }
}

/// What a reply is worth by our rules.
fn is_right(case: &Value, compat: Compat) -> bool {
    let right = case["right"].as_str().unwrap();
    maths::find(case["output"].as_str().unwrap(), compat).is_some_and(|(answer, _)| maths::same(&answer, right))
}

#[test]
fn the_references_rules_judge_as_math_verify_but_for_percents() {
    let cases = cases(include_str!("maths.json"));
    assert_eq!(cases.len(), 400);
    for case in &cases {
        // math-verify takes 50 % for 0.5 as a formula and for 50 as a text.
        let percent = [&case["answer"], &case["right"]].iter().any(|text| text.as_str().unwrap().contains('%'));
        let expected = case["correct"].as_bool().unwrap();
        assert!(percent || is_right(case, Compat::Reference) == expected, "{case}");
    }
}

#[test]
fn our_rules_find_every_answer_that_math_verify_finds_and_those_it_misses() {
    for case in &cases(include_str!("maths.json")) {
        let (answer, right) = (case["answer"].as_str().unwrap(), case["right"].as_str().unwrap());
        // However it is put, an answer is right if it equals the right one; without any mark only numbers are found.
        let marked = !case["output"].as_str().unwrap().starts_with("It is");
        assert!(!marked || is_right(case, Compat::Fixed) == maths::same(answer, right), "{case}");
        assert!(is_right(case, Compat::Fixed) || !case["correct"].as_bool().unwrap(), "{case}");
    }
}
