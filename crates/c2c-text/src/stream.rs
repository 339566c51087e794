//! Text of ids that come one after the other.
//!
//! A token is no piece of text by itself: a character may be spread over several tokens, and a decoder may write the first
//! token of a text otherwise than the same token behind others (SentencePiece drops the space in front). So the newest ids
//! are decoded together with those before them, and what is new is told once its last character is whole.
//!
//! Invariant: the pieces joined are what [`Tokenizer::decode`] makes of all ids, unless a decoder takes back what it has
//! said: SentencePiece's writes a whole run of byte tokens as U+FFFD once a byte of it fits no character. Nothing is taken
//! back here.

use crate::{TextError, Tokenizer};

/// Tells the text of ids piece by piece. Special tokens have none.
///
/// A push costs the decoding of the ids that are told last and of those that aren't told yet, however long the text is.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Where the ids of the last piece begin, which say how those behind them are written.
    begin: usize,
    /// So many ids are told.
    told: usize,
}

impl<'a> TextStream<'a> {
    /// A stream without ids.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), begin: 0, told: 0 }
    }

    /// Takes the next id; gives the text that is whole now, which is empty in the middle of a character.
    ///
    /// # Errors
    /// [`TextError::Decode`].
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let text = self.untold()?;
        // Bytes that don't make a character yet. If they never will, what comes next shows it.
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.begin = self.told;
        self.told = self.ids.len();
        Ok(text)
    }

    /// The rest of the text when no id follows: bytes that make no character become U+FFFD.
    ///
    /// # Errors
    /// [`TextError::Decode`].
    pub fn finish(self) -> Result<String, TextError> {
        self.untold()
    }

    /// The text of the ids that aren't told, behind those that are.
    fn untold(&self) -> Result<String, TextError> {
        let before = self.tokenizer.decode(&self.ids[self.begin..self.told], true)?;
        let mut text = self.tokenizer.decode(&self.ids[self.begin..], true)?;
        // The same text again, but for a decoder that takes some of it back.
        let common = text.char_indices().zip(before.chars()).take_while(|((_, a), b)| a == b);
        let start = common.last().map_or(0, |((at, c), _)| at + c.len_utf8());
        Ok(text.split_off(start))
    }
}
