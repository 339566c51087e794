//! Mathematical answers in one way of writing: without what only shapes the text.

use std::sync::LazyLock;

use regex::Regex;

// Constant patterns, each compiled by the tests.
#[allow(clippy::expect_used)]
fn pattern(constant: &str) -> Regex {
    Regex::new(constant).expect("a constant pattern")
}

static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(-?\$?\d{1,3})((?:,\d{3})+)(\D.*)?$"));
static UNITS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\d|\})\s*\\text\{[^{}]*\}(?:\^(?:\d|\{\d\}))?$"));
static PLAIN_UNITS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(-?[\d.,/]+)\s+([A-Za-z][A-Za-z ]+)$"));
static TEXT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\\(?:text|textbf|textit|mbox|mathrm|mathbf|operatorname)\s*\{"));
static SPACES: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\\\\)|\\[ ,;:!]|\\q?quad|~|\\displaystyle"));
static SIZES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\(?:left|right|[bB]igg?[lr]?)\b"));
static DEGREES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\^\{?\\circ\}?|\\degree|°"));
static LEADING_POINT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|[^\d])\.(\d)"));
static WHOLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\d)\.0+$"));

/// Units of two letters. Others of two letters are as likely a product: `2 xy`.
const SHORT_UNITS: &[&str] =
    &["cm", "mm", "km", "ft", "in", "yd", "mi", "kg", "mg", "lb", "oz", "ml", "mL", "hr", "ms", "Hz", "am", "pm"];

/// Words behind a number that change its value.
const NO_UNITS: &[&str] = &[
    "pi",
    "tau",
    "phi",
    "alpha",
    "beta",
    "gamma",
    "theta",
    "lambda",
    "sqrt",
    "root",
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "log",
    "exp",
    "mod",
    "inf",
    "infty",
    "infinity",
    "plus",
    "minus",
    "times",
    "over",
    "divided",
    "squared",
    "cubed",
    "choose",
    "factorial",
    "and",
    "or",
    "to",
    "halves",
    "thirds",
    "quarters",
    "fourths",
    "fifths",
    "sixths",
    "eighths",
    "tenths",
    "hundredths",
    "dozen",
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
];

/// Whether a word behind a number can be part of a unit, or what is counted.
fn is_unit(word: &str) -> bool {
    let known = |words: &[&str]| words.contains(&word);
    word.is_empty() || known(SHORT_UNITS) || (word.len() > 2 && !NO_UNITS.contains(&word.to_lowercase().as_str()))
}

/// An answer without sizes of brackets, spaces, units, degrees, percent and dollar signs, and thousands separators.
pub(super) fn normal(text: &str) -> String {
    let mut text = text.trim().trim_end_matches(['.', ',', ';']).trim().to_owned();
    for (open, close) in [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")] {
        if let Some(inner) = text.strip_prefix(open).and_then(|text| text.strip_suffix(close)) {
            text = inner.trim().to_owned();
        }
    }
    text = SIZES.replace_all(&text, "").into_owned();
    text = text.replace("{,}", ",").replace("\\$", "").replace("\\%", "").replace(['$', '%'], "");
    // Two backslashes end a row of a matrix; the second one is not the start of a space.
    text = SPACES.replace_all(&text, "$1 ").into_owned();
    text = TEXT.replace_all(&text, "\\text{").into_owned();
    text = DEGREES.replace_all(&text, "").into_owned();
    for (from, to) in [
        ("\\le ", "\\leq "),
        ("\\ge ", "\\geq "),
        ("\\ne ", "\\neq "),
        ("≤", "\\leq "),
        ("≥", "\\geq "),
        ("∞", "\\infty"),
        ("∪", "\\cup"),
    ] {
        text = text.replace(from, to);
    }
    text = text.replace("\\lbrace", "\\{").replace("\\rbrace", "\\}").replace("\\lbrack", "[").replace("\\rbrack", "]");
    text = text.trim().trim_end_matches(['.', ',']).trim().to_owned();
    text = UNITS.replace(&text, "$1").into_owned();
    if let Some(found) = PLAIN_UNITS.captures(&text).filter(|found| found[2].split(' ').all(is_unit)) {
        text = found[1].to_owned();
    }
    if let Some(found) = THOUSANDS.captures(&text) {
        let rest = found.get(3).map_or("", |rest| rest.as_str());
        text = format!("{}{}{rest}", &found[1], found[2].replace(',', ""));
    }
    text = LEADING_POINT.replace_all(&text, "${1}0.$2").into_owned();
    text = WHOLE.replace(&text, "$1").into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether an answer is a word, not a formula.
pub(super) fn is_text(text: &str) -> bool {
    text.starts_with("\\text{") && text.ends_with('}') && !text[..text.len() - 1].contains('}')
}
