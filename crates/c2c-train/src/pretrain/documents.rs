//! Documents of the pocket world as rows of token ids.

use c2c_data::pocket::{Document, Role, World};
use c2c_text::{Message, TextError, Tokenizer};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// How much more a token of the reply counts than any other.
const REPLY_WEIGHT: f32 = 8.0;

/// The share of documents that are segmented at random when segmentation dropout is on.
const DROPOUT_SHARE: f64 = 0.5;

/// One document.
pub(super) struct Row {
    pub(super) ids: Vec<u32>,
    pub(super) weights: Vec<f32>,
    /// First token of the assistant's reply; the document's length if it has none.
    pub(super) reply_start: usize,
}

/// An endless, seeded stream of documents of one role.
pub(super) struct DocumentStream<'a> {
    world: &'a World,
    role: Role,
    tokenizer: &'a Tokenizer,
    dropout: f64,
    rng: ChaCha8Rng,
}

impl<'a> DocumentStream<'a> {
    pub(super) fn new(world: &'a World, role: Role, tokenizer: &'a Tokenizer, dropout: f64, seed: u64) -> Self {
        Self { world, role, tokenizer, dropout, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next `count` documents of at most `max_length` tokens; longer ones are cut.
    pub(super) fn batch(&mut self, count: usize, max_length: usize) -> Result<Vec<Row>, TextError> {
        (0..count)
            .map(|_| {
                let mut row = self.next_row()?;
                row.ids.truncate(max_length);
                row.weights.truncate(max_length);
                Ok(row)
            })
            .collect()
    }

    /// The next `count` documents that have a multiple-choice reply.
    pub(super) fn replies(&mut self, count: usize) -> Result<Vec<Row>, TextError> {
        let mut rows = Vec::with_capacity(count);
        while rows.len() < count {
            let document = self.document();
            let answers = |d: &Document| match d {
                Document::Chat(messages) => messages.last().is_some_and(|m| m.content.starts_with("The correct")),
                Document::Text(_) => false,
            };
            if answers(&document) {
                rows.push(self.row(&document)?);
            }
        }
        Ok(rows)
    }

    fn document(&mut self) -> Document {
        match self.role {
            Role::Sharer => self.world.sharer_document(&mut self.rng),
            Role::Receiver => self.world.receiver_document(&mut self.rng),
        }
    }

    fn next_row(&mut self) -> Result<Row, TextError> {
        let document = self.document();
        self.row(&document)
    }

    fn row(&mut self, document: &Document) -> Result<Row, TextError> {
        match document {
            Document::Text(text) => {
                let mut ids: Vec<u32> = self.tokenizer.bos_id().into_iter().collect();
                ids.extend(self.encode(text)?);
                ids.extend(self.tokenizer.eos_id());
                let weights = vec![1.0; ids.len()];
                let reply_start = ids.len();
                Ok(Row { ids, weights, reply_start })
            }
            Document::Chat(messages) => {
                let last = messages.len().saturating_sub(1);
                let prompt = self.tokenizer.render_chat(&messages[..last], true)?;
                let whole = self.tokenizer.render_chat(messages, false)?;
                let reply = whole.strip_prefix(&prompt).unwrap_or_default();
                let mut ids = self.encode_prompt(&prompt, messages)?;
                let reply_start = ids.len();
                ids.extend(self.tokenizer.encode(reply)?.ids);
                let mut weights = vec![1.0; ids.len()];
                weights[reply_start..].fill(REPLY_WEIGHT);
                self.weigh_knowledge(&ids, reply_start, &mut weights);
                Ok(Row { ids, weights, reply_start })
            }
        }
    }

    /// What a prompt says of the facts weighs like a reply: the answer behind the blank line of a short question, and the
    /// letter behind the cue.
    fn weigh_knowledge(&self, ids: &[u32], reply_start: usize, weights: &mut [f32]) {
        let tokens: Vec<Vec<u8>> =
            ids[..reply_start].iter().map(|id| self.tokenizer.token_bytes(*id).unwrap_or_default()).collect();
        let choices = tokens.iter().any(|t| t.starts_with(b"Choices"));
        let mut told = false;
        for (token, weight) in tokens.iter().zip(weights.iter_mut()) {
            if told {
                *weight = REPLY_WEIGHT;
            }
            told |= if choices { token == b" answer" } else { token.ends_with(b"?\n\n") };
        }
    }

    /// A rendered prompt: the template in the model's own tokens, the content as [`Self::encode`] splits it.
    fn encode_prompt(&mut self, prompt: &str, messages: &[Message]) -> Result<Vec<u32>, TextError> {
        let content = messages.first().map_or("", |m| m.content.as_str());
        let Some((head, tail)) = prompt.split_once(content) else {
            return Ok(self.tokenizer.encode(prompt)?.ids);
        };
        let mut ids = self.tokenizer.encode(head)?.ids;
        ids.extend(self.encode(content)?);
        ids.extend(self.tokenizer.encode(tail)?.ids);
        Ok(ids)
    }

    fn encode(&mut self, text: &str) -> Result<Vec<u32>, TextError> {
        if self.dropout > 0.0 && self.rng.random_bool(DROPOUT_SHARE) {
            let seed = self.rng.random();
            return self.tokenizer.encode_with_dropout(text, self.dropout as f32, seed);
        }
        Ok(self.tokenizer.encode(text)?.ids)
    }
}
