//! What the models read for a question.

use c2c_text::{Message, Prompt, TextError, Tokenizer};
use sha2::{Digest, Sha256};

/// What is read for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// By one model alone: its own chat template in its own tokens, without padding.
    Alone(Vec<u32>),
    /// By the receiver in step with a sharer, or with each of several: a prompt a sharer, all with the same tokens of the
    /// receiver.
    InStep(Vec<Prompt>),
    /// By the receiver, with examples that are dropped afterwards.
    Enriched(Enriched),
    /// By the sharer, which writes a text for the receiver.
    ToBeTold(Box<ToBeTold>),
}

/// A prompt with examples, and where in it the prompt without them lies: `ids[..header]` and `ids[rest..]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enriched {
    /// All of it.
    pub(crate) ids: Vec<u32>,
    /// Where the examples begin.
    pub(crate) header: usize,
    /// Where they have ended. At least two tokens follow.
    pub(crate) rest: usize,
}

/// A request for a text, and what is asked with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToBeTold {
    /// What the sharer is asked to write.
    pub(crate) request: String,
    /// The same in the sharer's chat template and tokens.
    pub(crate) ids: Vec<u32>,
    /// What the receiver is asked.
    pub(crate) question: String,
}

impl Input {
    /// What a model reads of a chat alone, and the start of its reply.
    pub(crate) fn alone(tokenizer: &Tokenizer, messages: &[Message], start: &[u32]) -> Result<Self, TextError> {
        rendered(tokenizer, messages).map(|ids| Self::Alone([&ids[..], start].concat()))
    }

    /// The chat's last message behind the others, which are examples, and the start of the reply.
    pub(crate) fn with_examples(tokenizer: &Tokenizer, messages: &[Message], start: &[u32]) -> Result<Self, String> {
        let with_start = |messages| match rendered(tokenizer, messages) {
            Ok(ids) => Ok([&ids[..], start].concat()),
            Err(err) => Err(err.to_string()),
        };
        let ids = with_start(messages)?;
        let last = &messages[messages.len().saturating_sub(1)..];
        let own = with_start(last)?;
        let common = ids.iter().rev().zip(own.iter().rev()).take_while(|(a, b)| a == b).count();
        let (header, rest) = (own.len() - common, ids.len() - common);
        if common < 2 || header >= rest || ids[..header] != own[..header] {
            return Err(
                "the prompt with examples doesn't end with the tokens that the question has alone, so there is \
                        no telling which slots are the question's"
                    .to_owned(),
            );
        }
        Ok(Self::Enriched(Enriched { ids, header, rest }))
    }

    /// Slots in the cache of the model that answers, or that writes a text.
    pub(crate) fn slots(&self) -> usize {
        match self {
            Self::Alone(ids) => ids.len(),
            // The receiver's slots are those of the first.
            Self::InStep(prompts) => prompts.first().map_or(0, Prompt::len),
            Self::Enriched(enriched) => enriched.ids.len(),
            Self::ToBeTold(told) => told.ids.len(),
        }
    }

    /// Slots that each sharer reads: up to the last fused section.
    pub(crate) fn sharer_slots(&self) -> Vec<usize> {
        let slots = |prompt: &Prompt| {
            let fused = prompt.sections.iter().rposition(|section| section.fuse).map_or(0, |last| last + 1);
            prompt.sections[..fused].iter().map(|section| section.len()).sum()
        };
        self.prompts().iter().map(slots).collect()
    }

    /// The prompts of models that read in step, one a sharer.
    pub(crate) fn prompts(&self) -> &[Prompt] {
        match self {
            Self::InStep(prompts) => prompts,
            Self::Alone(_) | Self::Enriched(_) | Self::ToBeTold(_) => &[],
        }
    }

    /// Which sections are fused. Only inputs that agree here can be read in one batch.
    pub(crate) fn shape(&self) -> Vec<bool> {
        let first = self.prompts().first();
        first.map(|prompt| prompt.sections.iter().map(|section| section.fuse).collect()).unwrap_or_default()
    }

    /// Tokens that the model that answers is known to read, without padding.
    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::Alone(ids) => ids.len(),
            Self::InStep(prompts) => prompts.first().map_or(0, |prompt| prompt.receiver_tokens().len()),
            Self::Enriched(enriched) => enriched.ids.len(),
            Self::ToBeTold(_) => 0,
        }
    }

    /// Of them, those whose slots are fused; none where nothing is read in step.
    pub(crate) fn fused_tokens(&self) -> Option<usize> {
        self.prompts().first().map(Prompt::fused_tokens)
    }

    /// What one model reads from beginning to end.
    pub(crate) fn ids(&self) -> Option<&[u32]> {
        match self {
            Self::Alone(ids) => Some(ids),
            _ => None,
        }
    }

    pub(crate) fn enriched(&self) -> Option<&Enriched> {
        match self {
            Self::Enriched(enriched) => Some(enriched),
            _ => None,
        }
    }

    /// The hash described at [`Record::prompt_sha256`](crate::Record::prompt_sha256).
    pub(crate) fn sha256(&self) -> String {
        hash(&self.read())
    }

    /// The same, of this and of what the sharer has read to write a text.
    pub(crate) fn sha256_and(&self, request: &[u32]) -> String {
        let mut read = self.read();
        read.push(request.to_vec());
        hash(&read)
    }

    /// What each model reads.
    fn read(&self) -> Vec<Vec<u32>> {
        match self {
            Self::Alone(ids) => vec![ids.clone()],
            Self::InStep(prompts) => {
                let receiver = prompts.first().map(Prompt::receiver_tokens);
                receiver.into_iter().chain(prompts.iter().map(sharer_tokens)).collect()
            }
            Self::Enriched(enriched) => vec![enriched.ids.clone()],
            Self::ToBeTold(told) => vec![told.ids.clone()],
        }
    }
}

/// A chat in a model's own template and tokens, up to where its reply begins.
pub(crate) fn rendered(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, TextError> {
    let ids = tokenizer.encode(&tokenizer.render_chat(messages, true)?)?.ids;
    if ids.is_empty() {
        return Err(TextError::PromptTooShort { owner: tokenizer.owner().to_owned(), found: 0 });
    }
    Ok(ids)
}

fn hash(read: &[Vec<u32>]) -> String {
    let mut hash = Sha256::new();
    for ids in read {
        hash.update((ids.len() as u64).to_le_bytes());
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    crate::hex(&hash.finalize())
}

fn sharer_tokens(prompt: &Prompt) -> Vec<u32> {
    let slots = prompt.sections.iter().flat_map(|section| section.sharer.iter().zip(&section.sharer_mask));
    slots.filter_map(|(id, real)| real.then_some(*id)).collect()
}
