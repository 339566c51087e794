//! From the string that names a token in the vocabulary to the bytes that it stands for.
//!
//! A vocabulary writes bytes in one of two alphabets. Byte-level BPE (GPT-2, Qwen, Llama 3) gives each byte a printable
//! character; SentencePiece (Llama 2, Gemma) writes text as it is, with U+2581 for a space and `<0xNN>` for a byte
//! that no token covers. Joining the bytes of a text's tokens gives back the text, which a decoder that works token by
//! token can't do when a character is spread over several tokens.

use serde_json::Value;
use tokenizers::Tokenizer;

/// The character that SentencePiece writes for a space.
const SPM_SPACE: char = '\u{2581}';

/// How a vocabulary writes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteScheme {
    /// One printable character a byte.
    ByteLevel,
    /// Text with U+2581 for a space and `<0xNN>` byte tokens.
    SentencePiece,
    /// The token is its own text.
    Plain,
}

impl ByteScheme {
    /// The scheme that a tokenizer's decoder (or, without one, its other parts) reveals.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        let parts: Vec<Value> = [
            serde_json::to_value(tokenizer.get_decoder()),
            serde_json::to_value(tokenizer.get_pre_tokenizer()),
            serde_json::to_value(tokenizer.get_normalizer()),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.iter().any(|part| names_type(part, &["ByteLevel"])) {
            Self::ByteLevel
        } else if parts
            .iter()
            .any(|part| names_type(part, &["Metaspace", "ByteFallback"]) || part.to_string().contains(SPM_SPACE))
        {
            Self::SentencePiece
        } else {
            Self::Plain
        }
    }

    /// The bytes of an ordinary vocabulary entry. A string that isn't wholly in the byte-level alphabet stands for
    /// itself, as the decoders have it.
    pub(crate) fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::SentencePiece => match byte_token(token) {
                Some(byte) => vec![byte],
                None => spaces(token),
            },
            Self::Plain => token.as_bytes().to_vec(),
        }
    }

    /// The bytes of an added token that isn't special. SentencePiece models list runs of spaces among those (Gemma
    /// does), written with U+2581 like the rest of the vocabulary.
    pub(crate) fn added_bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::SentencePiece => spaces(token),
            _ => token.as_bytes().to_vec(),
        }
    }
}

fn spaces(token: &str) -> Vec<u8> {
    token.replace(SPM_SPACE, " ").into_bytes()
}

/// The byte of a `<0xNN>` token.
pub(crate) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // from_str_radix alone would take a sign.
    if digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// Whether a component of tokenizer.json, or a part of it, has one of these types.
fn names_type(part: &Value, types: &[&str]) -> bool {
    match part {
        Value::Object(map) => {
            map.get("type").and_then(Value::as_str).is_some_and(|name| types.contains(&name))
                || map.values().any(|value| names_type(value, types))
        }
        Value::Array(list) => list.iter().any(|value| names_type(value, types)),
        _ => false,
    }
}

/// The byte that a character of the byte-level alphabet stands for: printable Latin-1 characters stand for their own
/// code, and the 68 other bytes follow, in order, from U+0100.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    if let Ok(byte) = u8::try_from(code) {
        return is_printable(byte).then_some(byte);
    }
    let place = usize::try_from(code.checked_sub(256)?).ok()?;
    (0..=u8::MAX).filter(|&byte| !is_printable(byte)).nth(place)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_alphabet_is_the_librarys() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.iter().filter_map(|&c| byte_of(c)).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<u8>>());
        assert_eq!(byte_of('\u{120}'), Some(b' '));
        assert_eq!(byte_of('\u{10a}'), Some(b'\n'));
        assert_eq!(byte_of('北'), None);
        assert_eq!(byte_of(' '), None);
    }

    #[test]
    fn each_scheme_reads_its_own_alphabet() {
        assert_eq!(ByteScheme::ByteLevel.bytes("\u{120}of"), b" of");
        assert_eq!(ByteScheme::ByteLevel.bytes("a b"), b"a b");
        assert_eq!(ByteScheme::SentencePiece.bytes("\u{2581}of"), b" of");
        assert_eq!(ByteScheme::SentencePiece.bytes("<0xE5>"), [0xE5]);
        assert_eq!(ByteScheme::SentencePiece.bytes("<0xE5"), b"<0xE5");
        assert_eq!(ByteScheme::SentencePiece.bytes("<0x+5>"), b"<0x+5>");
        assert_eq!(ByteScheme::Plain.bytes("\u{120}"), "\u{120}".as_bytes());
    }
}
