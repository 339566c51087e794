//! LongBench's scorers.
//!
//! They compute what the tool of LongBench's authors (THUDM/LongBench, version 1) computes, for its figures to be
//! comparable: of several right answers the best score counts; few-shot tasks are scored by the reply's first line.

use std::collections::HashMap;
use std::sync::LazyLock;

use c2c_data::Scorer;
use regex::Regex;

use super::{Judged, ratio, rouge_l, words};
use crate::Record;
use crate::extract::Rule;

// Constant patterns, each compiled by the tests.
#[allow(clippy::expect_used)]
static DIGITS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d+").expect("a constant pattern"));
#[allow(clippy::expect_used)]
static PARAGRAPH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"Paragraph (\d+)").expect("a constant pattern"));
#[allow(clippy::expect_used)]
static PARAGRAPH_ZH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"段落(\d+)").expect("a constant pattern"));

pub(super) fn judge(scorer: Scorer, record: &Record) -> Judged {
    let (answer, rule) = scored_part(scorer, &record.output);
    let points = record.right_answers().map(|right| score(scorer, answer, right, &record.classes)).fold(0.0, f64::max);
    let answer = (!answer.trim().is_empty()).then(|| answer.to_owned());
    Judged { rule: answer.is_some().then_some(rule), answer, points }
}

/// The part of a reply that is scored.
fn scored_part(scorer: Scorer, output: &str) -> (&str, Rule) {
    let output = output.trim_start_matches('\n');
    match scorer {
        Scorer::F1Line | Scorer::RougeLine | Scorer::Class => {
            (output.split('\n').next().unwrap_or_default(), Rule::FirstLine)
        }
        Scorer::Code => {
            let is_code = |line: &&str| !line.contains('`') && !line.contains('#') && !line.contains("//");
            (output.split('\n').find(is_code).unwrap_or_default(), Rule::CodeLine)
        }
        _ => (output, Rule::Whole),
    }
}

/// The score of the scored part of a reply against one right answer, from 0 to 1. Scorers that only know right and
/// wrong give 0 here.
pub fn score(scorer: Scorer, text: &str, right: &str, classes: &[String]) -> f64 {
    match scorer {
        Scorer::Letter | Scorer::Number | Scorer::Maths => 0.0,
        Scorer::F1 | Scorer::F1Line => f1(&words::english(text), &words::english(right)),
        Scorer::F1Zh => f1(&words::chinese(text), &words::chinese(right)),
        Scorer::Rouge | Scorer::RougeLine => rouge_l(text, right),
        Scorer::RougeZh => rouge_l(&words::segments(text).join(" "), &words::segments(right).join(" ")),
        Scorer::Class => class(text, right, classes),
        Scorer::Paragraph => share(text, number_in(&PARAGRAPH, right)),
        Scorer::ParagraphZh => share(text, number_in(&PARAGRAPH_ZH, right)),
        Scorer::Count => share(text, Some(right)),
        Scorer::Code => ratio(text, right),
    }
}

/// F1 of the words that two texts share, counted as often as both have them.
fn f1(text: &[String], right: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in right {
        *left.entry(word).or_default() += 1;
    }
    let mut same = 0;
    for word in text {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    let precision = f64::from(same) / text.len() as f64;
    let recall = f64::from(same) / right.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// One over the number of classes that a text names, if the right one is among them. Names that are part of the right
/// one don't count, but for one that comes next behind another such name in the list of classes: the authors' tool
/// takes names out while it walks over them.
fn class(text: &str, right: &str, classes: &[String]) -> f64 {
    let mut named: Vec<&str> = classes.iter().map(String::as_str).filter(|class| text.contains(class)).collect();
    let mut place = 0;
    while place < named.len() {
        let class = named[place];
        if right.contains(class) && class != right {
            // The first of that name, as the tool does; a class comes once, so it is this one.
            named.remove(named.iter().position(|other| *other == class).unwrap_or(place));
        }
        place += 1;
    }
    if named.contains(&right) { 1.0 / named.len() as f64 } else { 0.0 }
}

/// The share of the right number among all numbers of a text.
fn share(text: &str, right: Option<&str>) -> f64 {
    let numbers: Vec<&str> = DIGITS.find_iter(text).map(|number| number.as_str()).collect();
    if numbers.is_empty() {
        return 0.0;
    }
    numbers.iter().filter(|number| Some(**number) == right).count() as f64 / numbers.len() as f64
}

fn number_in<'a>(pattern: &Regex, right: &'a str) -> Option<&'a str> {
    pattern.captures(right)?.get(1).map(|number| number.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scorer: Scorer, text: &str, right: &str) -> f64 {
        score(scorer, scored_part(scorer, text).0, right, &["cat", "category", "dog"].map(str::to_owned))
    }

    #[test]
    fn f1_by_hand() {
        // "the" goes; of 2 words against 3, two are shared: precision 1, recall 2/3.
        assert!((of(Scorer::F1, "The red fox", "a quick red fox") - 0.8).abs() < 1e-12);
        assert_eq!(of(Scorer::F1, "", "x"), 0.0);
        assert_eq!(of(Scorer::F1Line, "\nred\nblue", "red"), 1.0);
        assert_eq!(of(Scorer::F1Zh, "北京。", "北京"), 1.0);
    }

    #[test]
    fn classes_by_hand() {
        assert_eq!(of(Scorer::Class, "dog", "dog"), 1.0);
        // "category" also names "cat", which is part of it.
        assert_eq!(of(Scorer::Class, "category", "category"), 1.0);
        // But then the right answer "cat" is one of two.
        assert_eq!(of(Scorer::Class, "category", "cat"), 0.5);
        assert_eq!(of(Scorer::Class, "cat or dog", "dog"), 0.5);
        assert_eq!(of(Scorer::Class, "\n\ncat\ndog", "dog"), 0.0);
    }

    #[test]
    fn numbers_by_hand() {
        assert_eq!(of(Scorer::Paragraph, "Paragraph 3", "Paragraph 3"), 1.0);
        assert_eq!(of(Scorer::Paragraph, "3 or 4", "Paragraph 3"), 0.5);
        assert_eq!(of(Scorer::ParagraphZh, "段落13", "段落13"), 1.0);
        assert_eq!(of(Scorer::Count, "13 of 13, then 5, 6", "13"), 0.5);
        assert_eq!(of(Scorer::Count, "none", "13"), 0.0);
    }

    #[test]
    fn code_is_the_first_line_that_is_no_comment() {
        assert_eq!(of(Scorer::Code, "\n```rust\n// so\nlet x = 1;\nx", "let x = 1;"), 1.0);
        assert_eq!(of(Scorer::Code, "# a", "x"), 0.0);
    }
}
