//! ROUGE-L of whole summaries (C.-Y. Lin, 2004), as the Python package `rouge` 1.0.1 computes it.
//!
//! That package, which LongBench uses, differs from the paper: sentences end at every full stop, words are counted once
//! however often they come, and a sentence's share is the union of its longest common subsequences with all sentences
//! of the other text.

use std::collections::BTreeSet;

/// ROUGE-L's F1 of a text against a right one, from 0 to 1. A text without any word before a full stop scores 0.
pub fn rouge_l(text: &str, right: &str) -> f64 {
    let (text, right) = (sentences(text), sentences(right));
    if text.is_empty() || right.is_empty() {
        return 0.0;
    }
    let distinct = |sentences: &[Vec<&str>]| sentences.iter().flatten().copied().collect::<BTreeSet<&str>>().len();
    let (in_text, in_right) = (distinct(&text), distinct(&right));
    let mut union: BTreeSet<&str> = BTreeSet::new();
    for sentence in &right {
        for other in &text {
            union.extend(common(sentence, other));
        }
    }
    let precision = union.len() as f64 / in_text as f64;
    let recall = union.len() as f64 / in_right as f64;
    2.0 * ((precision * recall) / (precision + recall + 1e-8))
}

/// The words of each sentence. What stands between two full stops is one, even of white space alone, whose only word is
/// empty.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let words = |sentence: &'_ str| -> usize { sentence.split_whitespace().count() };
    text.split('.')
        .filter(|sentence| !sentence.is_empty())
        .map(|sentence| if words(sentence) == 0 { vec![""] } else { sentence.split_whitespace().collect() })
        .collect()
}

/// The words of a longest common subsequence; of several, the one that is found from the end, giving way in `second`
/// first.
fn common<'a>(first: &[&'a str], second: &[&str]) -> Vec<&'a str> {
    let (n, m) = (first.len(), second.len());
    let mut lengths = vec![vec![0u32; m + 1]; n + 1];
    for i in 1..=n {
        for j in 1..=m {
            lengths[i][j] = if first[i - 1] == second[j - 1] {
                lengths[i - 1][j - 1] + 1
            } else {
                lengths[i - 1][j].max(lengths[i][j - 1])
            };
        }
    }
    let (mut i, mut j) = (n, m);
    let mut words = Vec::new();
    while i > 0 && j > 0 {
        if first[i - 1] == second[j - 1] {
            words.push(first[i - 1]);
            (i, j) = (i - 1, j - 1);
        } else if lengths[i - 1][j] > lengths[i][j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-7, "{found} {expected}");
    }

    #[test]
    fn scores_by_hand() {
        // Common: the cat sat. 3 of 4 distinct words on either side.
        near(rouge_l("the cat sat down", "the cat sat up"), 0.75);
        // Order counts: the longest common subsequence of "a b" and "b a" has one word.
        near(rouge_l("a b", "b a"), 0.5);
        // A repeated word counts once.
        near(rouge_l("no no no", "no"), 1.0);
        assert_eq!(rouge_l("", "x"), 0.0);
        assert_eq!(rouge_l("...", "x"), 0.0);
    }

    #[test]
    fn the_union_over_sentences() {
        // w1 w2 of the first sentence and w1 w3 w5 of the second cover four of five words.
        let score = rouge_l("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5");
        let (precision, recall) = (4.0 / 8.0, 4.0 / 5.0);
        near(score, 2.0 * precision * recall / (precision + recall));
    }
}
