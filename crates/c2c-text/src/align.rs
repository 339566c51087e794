//! Token alignment (paper, "Model Alignment"): the Sharer's token for each of the Receiver's tokens.
//!
//! The Fuser combines the two caches position by position, so the Sharer has to read exactly as many tokens as the
//! Receiver, each standing for the same piece of text. A Receiver token is written out as text and encoded by the
//! Sharer; when that takes several tokens, an [`AlignStrategy`] picks one.
//!
//! Two rules go beyond the reference implementation (thu-nics/C2C). A token that holds part of a character (usual for
//! Chinese, Arabic or emoji) has no text of its own, and there turns into U+FFFD; here such tokens are taken
//! together until their bytes are text, and each gets the Sharer token that covers its last byte. And when the
//! Sharer's vocabulary holds a token of exactly the same bytes, that one is preferred to a part of it.
//!
//! Invariants: as many ids come out as go in; between identical vocabularies alignment is the identity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{TextError, Tokenizer};

/// Which of several Sharer tokens stands for one Receiver token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlignStrategy {
    /// The first one.
    First,
    /// The one with the most Unicode characters; of equals the earliest. The paper's choice.
    Longest,
    /// None: the Sharer reads all of its own tokens, and tokens that cover the same characters share positions. Where a
    /// single token has to stand for another all the same, as [`AlignStrategy::Longest`].
    Spans,
}

/// Maps the Receiver's token ids to the Sharer's. Answers are remembered, so that a long run over a data set costs a
/// look-up a token.
#[derive(Debug)]
pub struct TokenAligner {
    receiver: Arc<Tokenizer>,
    sharer: Arc<Tokenizer>,
    strategy: AlignStrategy,
    identical: bool,
    /// Receiver special tokens with a role, and the Sharer's token of the same role where it has one.
    roles: HashMap<u32, Option<u32>>,
    /// Sharer tokens by their bytes; built when first needed.
    exact: OnceLock<HashMap<Vec<u8>, u32>>,
    singles: Mutex<HashMap<u32, u32>>,
    spans: Mutex<HashMap<Vec<u32>, Vec<u32>>>,
}

impl TokenAligner {
    /// An aligner from one tokenizer to another.
    pub fn new(receiver: Arc<Tokenizer>, sharer: Arc<Tokenizer>, strategy: AlignStrategy) -> Self {
        let identical = Arc::ptr_eq(&receiver, &sharer) || receiver.tokens() == sharer.tokens();
        Self::build(receiver, sharer, strategy, identical)
    }

    fn build(receiver: Arc<Tokenizer>, sharer: Arc<Tokenizer>, strategy: AlignStrategy, identical: bool) -> Self {
        // Where one token has several roles, the later role counts.
        let roles = [
            (receiver.pad_or_eos(), sharer.pad_or_eos()),
            (receiver.eos_id(), sharer.eos_id()),
            (receiver.bos_id(), sharer.bos_id()),
            (receiver.unk_id(), sharer.unk_id()),
        ]
        .into_iter()
        .filter_map(|(from, to)| Some((from?, to)))
        .collect();
        Self {
            receiver,
            sharer,
            strategy,
            identical,
            roles,
            exact: OnceLock::new(),
            singles: Mutex::default(),
            spans: Mutex::default(),
        }
    }

    /// The Sharer's id for each of the Receiver's, as many as given.
    ///
    /// # Errors
    /// [`TextError::Encode`] or [`TextError::Decode`] from the Sharer's tokenizer.
    pub fn align(&self, receiver_ids: &[u32]) -> Result<Vec<u32>, TextError> {
        if self.identical {
            return Ok(receiver_ids.to_vec());
        }
        let mut out = Vec::with_capacity(receiver_ids.len());
        while let Some(&id) = receiver_ids.get(out.len()) {
            let rest = &receiver_ids[out.len()..];
            match self.partial_span(rest) {
                Some(count) => out.extend(self.align_span(&rest[..count])?),
                None => out.push(self.align_one(id)?),
            }
        }
        Ok(out)
    }

    /// When the first id holds part of a character: how many ids it takes until their joined bytes are text. None
    /// when it takes but this one, or when no number will do.
    fn partial_span(&self, ids: &[u32]) -> Option<usize> {
        let mut joined = Vec::new();
        for (place, &id) in ids.iter().enumerate() {
            if self.receiver.is_special(id) {
                return None;
            }
            joined.extend(self.receiver.token_bytes(id)?);
            match std::str::from_utf8(&joined) {
                Ok(_) => return (place > 0).then_some(place + 1),
                // Wrong bytes, not missing ones: more of them won't help.
                Err(err) if err.error_len().is_some() => return None,
                Err(_) => {}
            }
        }
        None
    }

    fn align_one(&self, id: u32) -> Result<u32, TextError> {
        if let Some(&known) = lock(&self.singles).get(&id) {
            return Ok(known);
        }
        let found = if self.receiver.is_special(id) { self.special(id) } else { self.ordinary(id)? };
        lock(&self.singles).insert(id, found);
        Ok(found)
    }

    fn special(&self, id: u32) -> u32 {
        if let Some(Some(same_role)) = self.roles.get(&id) {
            return *same_role;
        }
        self.receiver
            .id_to_token(id)
            .and_then(|token| self.sharer.token_to_id(&token))
            .unwrap_or_else(|| self.unknown())
    }

    fn ordinary(&self, id: u32) -> Result<u32, TextError> {
        let Some(text) = self.receiver.token_bytes(id).and_then(|bytes| String::from_utf8(bytes).ok()) else {
            // Not in the vocabulary, or a part of a character without its other parts.
            return Ok(self.unknown());
        };
        let candidates = self.sharer.encode(&text)?.ids;
        match candidates.as_slice() {
            [] => Ok(self.unknown()),
            [only] => Ok(*only),
            [first, rest @ ..] => {
                if let Some(&same) = self.exact().get(text.as_bytes()) {
                    return Ok(same);
                }
                match self.strategy {
                    AlignStrategy::First => Ok(*first),
                    AlignStrategy::Longest | AlignStrategy::Spans => self.longest(*first, rest),
                }
            }
        }
    }

    fn longest(&self, first: u32, rest: &[u32]) -> Result<u32, TextError> {
        let length = |id: u32| Ok::<usize, TextError>(self.sharer.decode(&[id], false)?.chars().count());
        let (mut best, mut most) = (first, length(first)?);
        for &id in rest {
            let characters = length(id)?;
            if characters > most {
                (best, most) = (id, characters);
            }
        }
        Ok(best)
    }

    fn align_span(&self, ids: &[u32]) -> Result<Vec<u32>, TextError> {
        if let Some(known) = lock(&self.spans).get(ids) {
            return Ok(known.clone());
        }
        let pieces: Vec<Vec<u8>> = ids.iter().map(|&id| self.receiver.token_bytes(id).unwrap_or_default()).collect();
        let joined = pieces.concat();
        let text = String::from_utf8_lossy(&joined);
        let encoding = self.sharer.encode(&text)?;
        // Where each Sharer token ends in the text: by its bytes or, if the Sharer rewrites the text (normaliser, a
        // space put in front), by the offsets, which only know whole characters.
        let mut end = 0;
        let mut ends: Vec<usize> = Vec::with_capacity(encoding.ids.len());
        for &id in &encoding.ids {
            end += self.sharer.token_bytes(id).map_or(0, |bytes| bytes.len());
            ends.push(end);
        }
        if end != joined.len() {
            ends = encoding.offsets.iter().map(|&(_, end)| end).collect();
        }
        let mut after = 0;
        let mut out = Vec::with_capacity(ids.len());
        for piece in &pieces {
            after += piece.len();
            let place = ends.iter().position(|&end| end >= after);
            let covering = place.and_then(|place| encoding.ids.get(place)).or(encoding.ids.last());
            out.push(covering.copied().unwrap_or_else(|| self.unknown()));
        }
        lock(&self.spans).insert(ids.to_vec(), out.clone());
        Ok(out)
    }

    /// What stands for a token that the Sharer can't write.
    fn unknown(&self) -> u32 {
        self.sharer.unk_id().unwrap_or(0)
    }

    fn exact(&self) -> &HashMap<Vec<u8>, u32> {
        self.exact.get_or_init(|| {
            let mut map = HashMap::new();
            for id in self.sharer.tokens().into_keys() {
                if !self.sharer.is_special(id)
                    && !self.sharer.is_byte_token(id)
                    && let Some(bytes) = self.sharer.token_bytes(id)
                {
                    map.entry(bytes).or_insert(id);
                }
            }
            map
        })
    }
}

/// A panic elsewhere can't leave a half-written entry behind, so a poisoned memo is still good.
fn lock<T>(memo: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    memo.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
