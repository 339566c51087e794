//! Which rows of a source are used.
//!
//! The order is fixed, and each step counts what it leaves out: `limit` (rows read), `equal` and `contain` (columns),
//! then on the chat `min_turns`, `max_turns`, `max_tokens`, `max_prompt_tokens`, then `ratio` (a seeded draw), then
//! `take`. A row that a column filter leaves out is not looked at further, so it is never a bad row.

use c2c_text::{Message, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::index;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use crate::row::Row;
use crate::{DataError, Example, Loaded};

/// The filters of a source. What is `None` or empty changes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Rows read, from the first on.
    pub limit: Option<usize>,
    /// Values of which a column must have one.
    pub equal: BTreeMap<String, Vec<String>>,
    /// Texts of which a column must contain one.
    pub contain: BTreeMap<String, Vec<String>>,
    /// Least messages, the system's apart.
    pub min_turns: Option<usize>,
    /// Most messages, the system's apart.
    pub max_turns: Option<usize>,
    /// Most tokens of the chat in the Receiver's template.
    pub max_tokens: Option<usize>,
    /// Most tokens of the messages before the reply, without template.
    pub max_prompt_tokens: Option<usize>,
    /// Part of the rows that are left, drawn by `seed`.
    pub ratio: Option<f64>,
    /// Examples used, from the first on.
    pub take: Option<usize>,
    /// Seed of `ratio`.
    pub seed: u64,
}

impl Selection {
    /// At most this many rows.
    pub fn first(limit: Option<usize>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The steps that do something, in their order: `limit = 500000, max_tokens = 2048`.
    pub fn describe(&self) -> Option<String> {
        let number = |name: &str, value: Option<usize>| value.map(|value| format!("{name} = {value}"));
        let columns = |name: &str, columns: &BTreeMap<String, Vec<String>>| {
            (!columns.is_empty()).then(|| format!("{name} = {columns:?}"))
        };
        let steps = [
            number("limit", self.limit),
            columns("equal", &self.equal),
            columns("contain", &self.contain),
            number("min_turns", self.min_turns),
            number("max_turns", self.max_turns),
            number("max_tokens", self.max_tokens),
            number("max_prompt_tokens", self.max_prompt_tokens),
            self.ratio.map(|ratio| format!("ratio = {ratio} (seed {})", self.seed)),
            number("take", self.take),
        ];
        let steps: Vec<String> = steps.into_iter().flatten().collect();
        (steps.len() > usize::from(self.limit.is_some())).then(|| steps.join(", "))
    }

    /// The column filter that leaves a row out.
    pub(crate) fn refuses_row(&self, row: &Row<'_>, seen: &mut BTreeSet<String>) -> Option<&'static str> {
        let wanted = self.equal.keys().chain(self.contain.keys());
        seen.extend(wanted.filter(|column| row.object.contains_key(*column)).cloned());
        let all = |columns: &BTreeMap<String, Vec<String>>, fits: &dyn Fn(&str, &str) -> bool| {
            columns.iter().all(|(column, wanted)| {
                let found = row.get(column).map(plain).unwrap_or_default();
                wanted.iter().any(|wanted| fits(&found, wanted))
            })
        };
        if !all(&self.equal, &|found, wanted| found == wanted) {
            return Some("equal");
        }
        (!all(&self.contain, &|found, wanted| found.contains(wanted))).then_some("contain")
    }

    /// Takes out the examples whose chats a filter refuses, on all cores, since counting tokens takes long. Gives the
    /// filter of each that is gone, or why it couldn't be tokenised, in the order of the examples.
    pub(crate) fn filter_chats(
        &self,
        examples: &mut Vec<Example>,
        tokenizer: Option<&Tokenizer>,
    ) -> Vec<Result<&'static str, DataError>> {
        let refused: Vec<_> = examples.par_iter().map(|example| self.refuses_chat(&example.chat, tokenizer)).collect();
        let mut refused = refused.into_iter();
        let mut gone = Vec::new();
        examples.retain(|example| match refused.next() {
            Some(Ok(Some(by))) => {
                gone.push(Ok(by));
                false
            }
            Some(Err(reason)) => {
                gone.push(Err(DataError::Tokens { place: example.place.clone(), reason }));
                false
            }
            Some(Ok(None)) | None => true,
        });
        gone
    }

    /// The filter that leaves a chat out, if one does.
    ///
    /// # Errors
    /// What the template or the tokenizer says of the chat.
    fn refuses_chat(&self, chat: &[Message], tokenizer: Option<&Tokenizer>) -> Result<Option<&'static str>, String> {
        let turns = chat.iter().filter(|message| message.role != "system").count();
        if self.min_turns.is_some_and(|least| turns < least) {
            return Ok(Some("min_turns"));
        }
        if self.max_turns.is_some_and(|most| turns > most) {
            return Ok(Some("max_turns"));
        }
        let Some(tokenizer) = tokenizer else { return Ok(None) };
        let count =
            |text: &str| tokenizer.encode(text).map(|tokens| tokens.ids.len()).map_err(|error| error.to_string());
        if let Some(most) = self.max_tokens {
            let text = tokenizer.render_chat(chat, false).map_err(|error| error.to_string())?;
            if count(&text)? > most {
                return Ok(Some("max_tokens"));
            }
        }
        if let Some(most) = self.max_prompt_tokens {
            let before = &chat[..chat.len().saturating_sub(1)];
            let tokens: usize = before.iter().map(|message| count(&message.content)).sum::<Result<usize, _>>()?;
            if tokens > most {
                return Ok(Some("max_prompt_tokens"));
            }
        }
        Ok(None)
    }

    /// The filters on chats, the draw and the cut, on rows that are no file's.
    ///
    /// # Errors
    /// No row is left, or one can't be tokenised.
    pub fn apply(&self, loaded: Loaded<Example>, tokenizer: &Tokenizer) -> Result<Loaded<Example>, DataError> {
        let Loaded { rows: mut kept, mut fingerprint } = loaded;
        let read = kept.len();
        for refused in self.filter_chats(&mut kept, Some(tokenizer)) {
            *fingerprint.left_out.entry(refused?.to_owned()).or_default() += 1;
        }
        for (by, count) in self.narrow(&mut kept) {
            if count > 0 {
                fingerprint.left_out.insert(by.to_owned(), count);
            }
        }
        if kept.is_empty() {
            let (name, first) = (fingerprint.source, String::new());
            return Err(DataError::NoneLeft { name, read, bad: 0, filtered: read, first });
        }
        fingerprint.rows = kept.len();
        fingerprint.filter = self.describe();
        Ok(Loaded { rows: kept, fingerprint })
    }

    /// Draws and cuts the rows that are left; gives how many `ratio` and `take` left out.
    pub(crate) fn narrow<T>(&self, rows: &mut Vec<T>) -> [(&'static str, usize); 2] {
        let before = rows.len();
        if let Some(ratio) = self.ratio {
            let wanted = ((ratio * before as f64).round() as usize).min(before);
            let mut keep = vec![false; before];
            for place in index::sample(&mut ChaCha8Rng::seed_from_u64(self.seed), before, wanted) {
                keep[place] = true;
            }
            let mut keep = keep.into_iter();
            rows.retain(|_| keep.next().unwrap_or(false));
        }
        let drawn = rows.len();
        rows.truncate(self.take.unwrap_or(usize::MAX));
        [("ratio", before - drawn), ("take", drawn - rows.len())]
    }
}

/// A value as a filter compares it: texts as they are, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
