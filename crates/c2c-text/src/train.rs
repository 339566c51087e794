//! Training of small byte-level BPE tokenizers in the style of a published family.
//!
//! Byte-level: all 256 bytes are in the vocabulary, so that any text can be written and read back. There is no
//! normaliser: decoding gives the very text that was encoded.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    TokenizerBuilder,
};

use crate::TextError;

/// The bytes that every vocabulary holds.
const ALPHABET: usize = 256;

/// How text is split into words before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreTok {
    /// As Qwen 2 to 3: each digit is a word.
    Qwen,
    /// As Llama 3: up to three digits are a word.
    Llama3,
}

impl PreTok {
    /// The expression that the family's tokenizer.json publishes.
    fn pattern(self) -> String {
        let digits = match self {
            Self::Qwen => r"\p{N}",
            Self::Llama3 => r"\p{N}{1,3}",
        };
        [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            digits,
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
        .join("|")
    }
}

/// Trains a byte-level BPE tokenizer and returns its tokenizer.json. Special tokens get the first ids, in the order
/// given; where they stand in the texts, they are left out of the counts. The vocabulary may end up smaller than
/// `vocab_size` when the texts hold too few words. The same arguments give the same bytes.
///
/// # Errors
/// [`TextError::TrainBpe`] when `vocab_size` can't hold the 256 bytes and the special tokens, or a special token is
/// empty or listed twice.
pub fn train_bpe(
    texts: &[String],
    vocab_size: usize,
    special_tokens: &[&str],
    pretokenizer: PreTok,
) -> Result<Vec<u8>, TextError> {
    let least = ALPHABET + special_tokens.len();
    if vocab_size < least {
        let reason =
            format!("vocab_size is {vocab_size}, expected at least {least} (256 bytes and the special tokens)");
        return Err(TextError::TrainBpe { reason });
    }
    for (place, token) in special_tokens.iter().enumerate() {
        if token.is_empty() || special_tokens[..place].contains(token) {
            let reason = format!("special token {place} ({token:?}) is empty or listed twice; give each one once");
            return Err(TextError::TrainBpe { reason });
        }
    }
    train(texts, vocab_size, special_tokens, pretokenizer)
        .map_err(|err| TextError::TrainBpe { reason: err.to_string() })
}

fn train(
    texts: &[String],
    vocab_size: usize,
    special_tokens: &[&str],
    pretokenizer: PreTok,
) -> Result<Vec<u8>, tokenizers::Error> {
    let split = Split::new(SplitPattern::Regex(pretokenizer.pattern()), SplitDelimiterBehavior::Isolated, false)?;
    let byte_level = ByteLevel::new(false, false, false);
    let words = Sequence::new(vec![split.into(), byte_level.into()]);
    let mut tokenizer =
        TokenizerBuilder::<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>::new()
            .with_model(BPE::default())
            .with_pre_tokenizer(Some(words.into()))
            .with_decoder(Some(byte_level.into()))
            .build()?;
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special_tokens.iter().map(|&token| AddedToken::from(token, true)).collect())
        .build();
    let pieces = texts.iter().flat_map(|text| without_specials(text, special_tokens));
    tokenizer.train(&mut trainer, pieces)?;
    Ok(tokenizer.to_string(true)?.into_bytes())
}

/// The text between special tokens. Of several that match at one place, the longest counts.
fn without_specials<'a>(text: &'a str, special_tokens: &[&str]) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let next = special_tokens
            .iter()
            .filter_map(|token| Some((rest.find(token)?, token.len())))
            .min_by_key(|&(place, length)| (place, usize::MAX - length));
        match next {
            Some((place, length)) => {
                pieces.push(&rest[..place]);
                rest = &rest[place + length..];
            }
            None => {
                pieces.push(rest);
                pieces.retain(|piece| !piece.is_empty());
                return pieces;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_cut_out_longest_first() {
        assert_eq!(without_specials("<a>x<a>>y", &["<a>", "<a>>"]), ["x", "y"]);
        assert_eq!(without_specials("plain", &["<a>"]), ["plain"]);
        assert!(without_specials("<a><a>", &["<a>"]).is_empty());
    }
}
