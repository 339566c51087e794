//! Whether two mathematical answers are the same.
//!
//! An answer is taken apart from the outside in: a list or a set, a tuple or an interval, a matrix, an inequality or an
//! equation, a formula ([`Expr`]), and what is none of these is a text.

use super::expression::Expr;
use super::normal::{is_text, normal};

/// How far values with decimals or roots may be apart: half a unit of the sixth decimal, and of like size.
const ABSOLUTE: f64 = 5e-7;
const RELATIVE: f64 = 1e-6;
/// How far rounding of the arithmetic may put equal values apart.
const ROUNDING: f64 = 1e-9;

/// How many points two formulas with variables are compared at.
const POINTS: u64 = 4;

/// Longer answers are compared as texts: no answer to a problem is that long, and brackets are taken off by recursion.
const LONGEST: usize = 1000;

/// Whether an answer says the same as the right one.
pub fn same(answer: &str, right: &str) -> bool {
    if answer.len() > LONGEST {
        return answer.trim() == right.trim();
    }
    let (answer, right) = (normal(answer), normal(right));
    !answer.is_empty() && (answer == right || alike(&answer, &right))
}

fn alike(answer: &str, right: &str) -> bool {
    if answer == right {
        return true;
    }
    if is_text(answer) || is_text(right) {
        return plain(answer) == plain(right);
    }
    if let (Some(a), Some(b)) = (matrix(answer), matrix(right)) {
        return a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| each(a, b));
    }
    if answer.contains("\\cup") || right.contains("\\cup") {
        return unordered(&split(answer, &["\\cup"]), &split(right, &["\\cup"]));
    }
    // Lists without brackets; `x = 2 or x = 3` says it as one, too.
    let (a, b) = (list(answer), list(right));
    if a.len() > 1 || b.len() > 1 {
        return unordered(&a, &b);
    }
    match (brackets(answer), brackets(right)) {
        (Some((open, inner, close)), Some((other_open, other, other_close))) => {
            let (a, b) = (split(inner, &[","]), split(other, &[","]));
            if a.len() > 1 || b.len() > 1 || open == "\\{" {
                let is_set = open == "\\{" && other_open == "\\{";
                return (open == other_open && close == other_close)
                    && if is_set { unordered(&a, &b) } else { each(&a, &b) };
            }
        }
        (Some(("\\{", inner, _)), None) => return unordered(&split(inner, &[","]), &[right.to_owned()]),
        (None, Some(("\\{", inner, _))) => return unordered(&[answer.to_owned()], &split(inner, &[","])),
        _ => {}
    }
    relation(answer, right).unwrap_or_else(|| formula(answer, right))
}

/// Two formulas, or texts if they are none.
fn formula(answer: &str, right: &str) -> bool {
    match (Expr::parse(answer), Expr::parse(right)) {
        (Some(a), Some(b)) => equal(&a, &b),
        _ => plain(answer) == plain(right),
    }
}

fn equal(a: &Expr, b: &Expr) -> bool {
    if let (Some(a_exact), Some(b_exact)) = (a.exact(), b.exact())
        && (a_exact == b_exact || !(a.has_decimals() || b.has_decimals()))
    {
        return a_exact == b_exact;
    }
    if a.has_variables() || b.has_variables() {
        return (1..=POINTS).all(|point| {
            let (a, b) = (a.value(point), b.value(point));
            a.sub(b).abs() <= ROUNDING * b.abs().max(1e-3)
        });
    }
    let (x, y) = (a.value(0), b.value(0));
    let apart = x.sub(y).abs();
    let decimals = a.has_decimals() || b.has_decimals();
    apart <= ROUNDING * y.abs().min(1.0) || (decimals && apart <= ABSOLUTE && apart <= RELATIVE * y.abs())
}

/// Equations and inequalities; `None` if neither side is one.
fn relation(answer: &str, right: &str) -> Option<bool> {
    const RELATIONS: &[(&str, &str)] =
        &[("\\leq", "\\geq"), ("\\geq", "\\leq"), ("\\neq", "\\neq"), ("<", ">"), (">", "<"), ("\\in", ""), ("=", "=")];
    let parted = |text: &str| -> Option<(Vec<String>, &'static str)> {
        RELATIONS.iter().find_map(|(sign, _)| {
            let parts = split(text, &[sign]);
            (parts.len() > 1).then_some((parts, *sign))
        })
    };
    match (parted(answer), parted(right)) {
        (None, None) => None,
        // `x = 5` for `5`, and `x \in [0, 1]` for the interval.
        (Some((parts, "=" | "\\in")), None) => Some(alike(parts.last()?, right)),
        (None, Some((parts, "=" | "\\in"))) => Some(parts.len() == 2 && is_name(&parts[0]) && alike(answer, &parts[1])),
        (Some((a, sign)), Some((b, other))) => {
            let turned = RELATIONS.iter().find(|(one, _)| *one == sign).map_or("", |(_, turned)| *turned);
            let backwards: Vec<String> = a.iter().rev().cloned().collect();
            let same = (sign == other && each(&a, &b)) || (turned == other && each(&backwards, &b));
            Some(same || (sign == "=" && other == "=" && same_equation(&a, &b)))
        }
        _ => Some(false),
    }
}

/// Whether two equations are each a multiple of the other, as `y = 2x` and `2x - y = 0` are.
fn same_equation(a: &[String], b: &[String]) -> bool {
    let difference = |parts: &[String]| -> Option<Expr> {
        let [left, right] = parts else { return None };
        Some(Expr::Sum(vec![Expr::parse(left)?, Expr::Negative(Box::new(Expr::parse(right)?))]))
    };
    let (Some(a), Some(b)) = (difference(a), difference(b)) else { return false };
    let shares: Vec<_> = (1..=POINTS).map(|point| a.value(point).div(b.value(point))).collect();
    shares.iter().all(|share| share.abs() > ROUNDING && share.sub(shares[0]).abs() <= ROUNDING * shares[0].abs())
}

fn is_name(text: &str) -> bool {
    matches!(Expr::parse(text), Some(Expr::Name(_)))
        || matches!(Expr::parse(text), Some(Expr::Product(parts)) if parts.len() == 2 && text.contains('('))
}

fn each(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
}

/// Whether two lists hold the same, in any order.
fn unordered(a: &[String], b: &[String]) -> bool {
    let mut left: Vec<&String> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(|one| match left.iter().position(|other| alike(one, other)) {
            Some(place) => {
                left.remove(place);
                true
            }
            None => false,
        })
}

/// The values of a list without brackets, those of `a \pm b` one by one.
fn list(text: &str) -> Vec<String> {
    let parts = split(text, &[",", "\\text{and}", "\\text{or}", " and ", " or "]);
    parts.into_iter().flat_map(|part| plus_minus(&part).unwrap_or_else(|| vec![part])).collect()
}

/// Both values of `a \pm b`.
fn plus_minus(text: &str) -> Option<Vec<String>> {
    let (before, after) = text.split_once("\\pm")?;
    Some(vec![format!("{before}+{after}"), format!("{before}-{after}")])
}

/// The brackets around a whole text, and what they hold.
fn brackets(text: &str) -> Option<(&str, &str, &str)> {
    let open = ["\\{", "(", "["].into_iter().find(|open| text.starts_with(open))?;
    let close = ["\\}", ")", "]"].into_iter().find(|close| text.ends_with(close))?;
    let inner = text.strip_prefix(open)?.strip_suffix(close)?;
    // `(1, 2) + (3, 4)` begins and ends with brackets that don't belong together.
    let mut depth = 0i32;
    for letter in inner.chars() {
        depth += match letter {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        if depth < 0 {
            return None;
        }
    }
    Some((open, inner, close))
}

/// A text cut at separators outside all brackets.
fn split(text: &str, separators: &[&str]) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0i32;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let separator = separators.iter().find(|separator| {
            // `\in` is not the start of `\infty`.
            let behind = rest.strip_prefix(**separator).and_then(|behind| behind.chars().next());
            let is_word = separator.starts_with('\\') && separator.ends_with(|l: char| l.is_alphabetic());
            rest.starts_with(**separator) && !(is_word && behind.is_some_and(char::is_alphabetic))
        });
        if let Some(separator) = separator.filter(|_| depth == 0) {
            parts.push(String::new());
            rest = &rest[separator.len()..];
            continue;
        }
        depth += match letter {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
        rest = &rest[letter.len_utf8()..];
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// The rows of a matrix.
fn matrix(text: &str) -> Option<Vec<Vec<String>>> {
    let inner = text.strip_prefix("\\begin{")?;
    let (kind, inner) = inner.split_once('}')?;
    let inner = inner.strip_suffix(&format!("\\end{{{kind}}}"))?;
    let inner = if kind == "array" { inner.split_once('}').map_or(inner, |(_, inner)| inner) } else { inner };
    let rows = inner.split("\\\\").filter(|row| !row.trim().is_empty());
    Some(rows.map(|row| row.split('&').map(|cell| cell.trim().to_owned()).collect()).collect())
}

/// A text without frames, marks and case.
fn plain(text: &str) -> String {
    let text = text.replace("\\text", "");
    text.to_lowercase().chars().filter(|letter| !letter.is_whitespace() && !"{}()*.".contains(*letter)).collect()
}
