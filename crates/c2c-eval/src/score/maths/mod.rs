//! Mathematical answers: where a reply gives one, and whether it is the right one.
//!
//! A reply's answer is looked for in this order: the last `\boxed{}`; what stands behind the last "Answer:" (or "the
//! answer is", or `####`); the last formula between marks; the last number. [`Compat::Reference`] keeps to what
//! math-verify 0.8.0 finds with the settings of the reference implementation (thu-nics/C2C): outside of formula marks
//! only numbers and fractions are read, and no marks of emphasis are taken off.
//!
//! Two answers are the same if they are equal as mathematics ([`same`]); that takes `1/2`, `0.5` and `\frac{1}{2}` for
//! one.

mod complex;
mod equal;
mod expression;
mod normal;
mod token;

use std::sync::LazyLock;

use c2c_data::Scorer;
use regex::Regex;

pub use equal::same;

use super::Judged;
use crate::Record;
use crate::extract::{Compat, Rule};

// Constant patterns, each compiled by the tests.
#[allow(clippy::expect_used)]
fn pattern(constant: &str) -> Regex {
    Regex::new(constant).expect("a constant pattern")
}

static ANSWER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?im)(?:\banswer(?:\s+is\b|\s*\*{0,2}\s*[:：]|\s*=)|^\s*####)[ \t]*:?[ \t]*([^\n]*)$"));
// A dollar sign with white space before it doesn't end a formula: "$80,000 and then $50,000" are two prices.
static FORMULA: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\$\$([^$]+)\$\$|\$([^\s$](?:[^$\n]*[^\s$])?)\$|\\\(((?s:.+?))\\\)|\\\[((?s:.+?))\\\]"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?"));
static BARE_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|[\s$=])(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?)(?:[.,;:!?%]*(?:\s|$))"));

static FRACTION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"-?\\[dt]?frac\{-?\d+\}\{-?\d+\}|-?\\[dt]?frac\d\d|-?\d+(?:\.\d+)?\\%"));

pub(super) fn judge(record: &Record, compat: Compat) -> Judged {
    let Some((answer, rule)) = find(&record.output, compat) else { return Judged::default() };
    let is_right =
        |right: &str| same(&answer, right) || (record.scorer == Scorer::Number && same_number(&answer, right, compat));
    let points = if record.right_answers().any(is_right) { 1.0 } else { 0.0 };
    Judged { answer: Some(answer), rule: Some(rule), points }
}

/// The answer of a reply, and how it was found.
pub fn find(output: &str, compat: Compat) -> Option<(String, Rule)> {
    if let Some(inner) = boxed(output) {
        return Some((inner, Rule::Boxed));
    }
    let line = ANSWER.captures_iter(output).filter_map(|found| found.get(1)).last().map(|line| line.as_str().trim());
    if let Some(line) = line.filter(|line| !line.is_empty()) {
        match compat {
            Compat::Fixed => {
                let line = plain(line);
                if let Some(formula) = last_formula(line) {
                    return Some((formula, Rule::AnswerLine));
                }
                if !line.is_empty() {
                    return Some((line.to_owned(), Rule::AnswerLine));
                }
            }
            Compat::Reference => {
                let bare = || FRACTION.find(line).map(|found| found.as_str().to_owned());
                let number = || BARE_NUMBER.captures(line).map(|found| found[1].to_owned());
                if let Some(answer) = last_formula(line).or_else(bare).or_else(number) {
                    return Some((answer, Rule::AnswerLine));
                }
            }
        }
    }
    if let Some(formula) = last_formula(output) {
        return Some((formula, Rule::Formula));
    }
    let number = match compat {
        Compat::Fixed => NUMBER.find_iter(output).last().map(|number| number.as_str().to_owned()),
        Compat::Reference => BARE_NUMBER.captures_iter(output).last().map(|found| found[1].to_owned()),
    };
    number.map(|number| (number, Rule::LastNumber))
}

/// A line without marks of emphasis around it, or around its beginning: `**1/2**.`, `**18** dollars`.
fn plain(line: &str) -> &str {
    let is_mark = |letter: char| "*_`".contains(letter) || letter.is_whitespace();
    let begun = line.trim_start_matches(is_mark);
    let line = match begun.split_once("**") {
        // What is bold from the start is the answer. Two marks between numbers are a power.
        Some((bold, rest)) if begun.len() < line.len() && !rest.starts_with(char::is_alphanumeric) => bold,
        _ => begun,
    };
    let line = line.trim_end_matches(is_mark);
    // A full stop behind the marks.
    let bare = line.trim_end_matches(['.', ',', ';', '!']);
    if bare.ends_with(['*', '_', '`']) { bare.trim_end_matches(is_mark) } else { line }
}

/// The contents of the last `\boxed{}` with balanced braces.
fn boxed(output: &str) -> Option<String> {
    let start = ["\\boxed{", "\\fbox{"].iter().filter_map(|open| Some(output.rfind(open)? + open.len())).max()?;
    let mut depth = 1;
    for (offset, letter) in output[start..].char_indices() {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(output[start..start + offset].trim().to_owned()).filter(|inner| !inner.is_empty());
        }
    }
    None
}

fn last_formula(text: &str) -> Option<String> {
    let found = FORMULA.captures_iter(text).last()?;
    let inner = (1..=4).find_map(|group| found.get(group))?.as_str().trim();
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// Whether a number that an answer names among words is the right one: "18 dollars", "$18 a day". The first number
/// counts, since a unit may follow it.
fn same_number(answer: &str, right: &str, compat: Compat) -> bool {
    if compat == Compat::Reference {
        return false;
    }
    // Behind the last sign of equality, if there is one: "3 + 4 = 7".
    let value = answer.rsplit('=').next().unwrap_or(answer);
    NUMBER.find(value).is_some_and(|number| same(number.as_str(), right))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fixed(output: &str) -> Option<(String, Rule)> {
        find(output, Compat::Fixed)
    }

    #[test]
    fn answers_are_found_in_order() {
        let cases = [
            ("Answer: 3\nso \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", Rule::Boxed),
            ("First 4.\nAnswer: 18 dollars", "18 dollars", Rule::AnswerLine),
            ("**Answer: 42**", "42", Rule::AnswerLine),
            ("**Answer:** $x^2$.", "x^2", Rule::AnswerLine),
            ("The answer is **1/2**.", "1/2", Rule::AnswerLine),
            ("The answer is **18** dollars.", "18", Rule::AnswerLine),
            ("**Answer: 1/2**.", "1/2", Rule::AnswerLine),
            ("**Answer:** 2**3", "2**3", Rule::AnswerLine),
            ("The final answer is 7", "7", Rule::AnswerLine),
            ("so 6\n#### 6", "6", Rule::AnswerLine),
            ("It is $12$ then.", "12", Rule::Formula),
            ("It is 12, or 1,200.", "1,200", Rule::LastNumber),
            ("First $80,000 and then $50,000", "50,000", Rule::LastNumber),
        ];
        for (output, answer, rule) in cases {
            assert_eq!(fixed(output), Some((answer.to_owned(), rule)), "{output}");
        }
        assert_eq!(fixed("no number"), None);
    }

    #[test]
    fn equal_as_mathematics() {
        let equal = [
            ("0.5", "\\frac{1}{2}"),
            ("\\dfrac12", "\\frac{1}{2}"),
            ("1/2", "\\frac{1}{2}"),
            ("1\\frac{3}{4}", "\\frac{7}{4}"),
            ("10,000", "10000"),
            ("10{,}000", "10000"),
            ("50\\%", "50"),
            ("\\$18", "18"),
            ("90^\\circ", "90"),
            ("x = 5", "5"),
            ("5", "x=5"),
            ("(x+1)^2", "x^2+2x+1"),
            ("2\\sqrt{2}", "\\sqrt{8}"),
            ("\\sqrt[3]{8}", "2"),
            ("\\sin^2 x + \\cos^2 x", "1"),
            ("\\frac{\\pi}{2}", "\\pi/2"),
            ("(3, 4)", "(3,4)"),
            ("\\left(3,\\frac{8}{2}\\right)", "(3,4)"),
            ("\\{2,1\\}", "\\{1, 2\\}"),
            ("2, 1", "1,2"),
            ("1 \\pm \\sqrt{3}", "1+\\sqrt3, 1-\\sqrt3"),
            ("(-\\infty, 2) \\cup (3, \\infty)", "(3,\\infty)\\cup(-\\infty,2)"),
            ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4/1 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
            ("5 \\geq x", "x \\leq 5"),
            ("y = 2x + 3", "2x - y + 3 = 0"),
            ("\\text{Evelyn}", "Evelyn"),
            ("(C)", "\\text{(C)}"),
            ("12 \\text{ cm}^2", "12"),
            ("5 cm", "5"),
            ("12 red apples", "12"),
            ("7 square in", "7"),
            ("\\frac{3}{x+1}", "3/(x+1)"),
            ("e^{2x}", "(e^x)^2"),
            ("\\log_2 8", "3"),
            ("5!", "120"),
            ("\\binom{5}{2}", "10"),
            ("3+4i", "4i+3"),
            (".5", "0.5"),
            ("11.00", "11"),
            ("-\\frac{1}{2}", "\\frac{-1}{2}"),
            ("2^{10}", "1024"),
            ("|{-3}|", "3"),
        ];
        for (answer, right) in equal {
            assert!(same(answer, right), "{answer} {right}");
        }
    }

    #[test]
    fn different_as_mathematics() {
        let different = [
            ("0.33", "\\frac{1}{3}"),
            ("", "0"),
            ("1000000001", "1000000000"),
            ("(3,4)", "(4,3)"),
            ("(3,4)", "[3,4]"),
            ("\\{1,2\\}", "\\{1,3\\}"),
            ("1,2", "1,2,3"),
            ("x+1", "x-1"),
            ("x", "y"),
            ("\\sqrt{2}", "1.41"),
            ("x < 5", "x > 5"),
            ("x \\leq 5", "x < 5"),
            ("y = 2x + 3", "y = 2x + 4"),
            ("Evelyn", "\\text{Briana}"),
            ("10", "1"),
            ("2\\pi", "2"),
            ("2 pi", "2"),
            ("2 xy", "2"),
            ("3 million", "3"),
            ("2 sqrt", "2"),
            ("((((((", "1"),
            ("\\frac{1}{0}", "1"),
        ];
        for (answer, right) in different {
            assert!(!same(answer, right), "{answer} {right}");
        }
        let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(!same(&deep, "2"));
    }
}
