//! Words of English and Chinese texts as LongBench counts them.

use std::sync::LazyLock;

use jieba_rs::Jieba;
use regex::Regex;

static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Punctuation that is taken out of Chinese texts, besides that of ASCII.
const CHINESE_MARKS: &str = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";

// Constant patterns, each compiled by the tests.
#[allow(clippy::expect_used)]
static ARTICLES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(a|an|the)\b").expect("a constant pattern"));
#[allow(clippy::expect_used)]
static NUMBERS_AND_WORDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[a-zA-Z0-9]+(?:\.[0-9]+)?%?").expect("a constant pattern"));

/// The words of a text: lower case, without punctuation and articles.
pub(super) fn english(text: &str) -> Vec<String> {
    let lower: String = text.to_lowercase().chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    ARTICLES.replace_all(&lower, " ").split_whitespace().map(str::to_owned).collect()
}

/// The words of a Chinese text: lower case, without punctuation and white space; words of nothing else are left out.
pub(super) fn chinese(text: &str) -> Vec<String> {
    let plain = |word: String| -> String {
        let is_mark = |letter: char| letter.is_ascii_punctuation() || CHINESE_MARKS.contains(letter);
        word.to_lowercase().chars().filter(|letter| !is_mark(*letter) && !letter.is_whitespace()).collect()
    };
    segments(text).into_iter().map(plain).filter(|word| !word.is_empty()).collect()
}

/// A Chinese text cut into words, punctuation and white space among them.
///
/// The dictionary and the model of unknown words are jieba's. Where a text isn't Chinese, the Rust port keeps runs such
/// as `x-1` and `6.0m` whole which the original cuts into numbers and words; that is made good here.
pub(super) fn segments(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    for token in JIEBA.cut(text, true) {
        let word = token.word;
        if !word.is_ascii() || word.len() < 2 || JIEBA.has_word(word) || word.trim().is_empty() {
            segments.push(word.to_owned());
            continue;
        }
        let mut from = 0;
        for piece in NUMBERS_AND_WORDS.find_iter(word) {
            if from < piece.start() {
                segments.push(word[from..piece.start()].to_owned());
            }
            segments.push(piece.as_str().to_owned());
            from = piece.end();
        }
        if from < word.len() {
            segments.push(word[from..].to_owned());
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_words_by_hand() {
        assert_eq!(english("The cat's  an Actor, (a) theatre!"), ["cats", "actor", "theatre"]);
        assert!(english("A, the?").is_empty());
    }

    #[test]
    fn chinese_words_by_hand() {
        assert_eq!(chinese("我来到北京，清华大学。"), ["我", "来到", "北京", "清华大学"]);
        assert_eq!(segments("x-1和6.0m"), ["x", "-", "1", "和", "6.0", "m"]);
    }
}
