//! A conversation with a fused pair, and with its models alone.
//!
//! The way of a turn: the whole conversation so far becomes a prompt, by the same text layer as in training and
//! evaluation ([`PairText::prompt`]): every message, earlier replies too, is fused, template text isn't. It is read by
//! the Sharers and the Receiver, and the reply is told piece by piece while it is decoded.
//!
//! The conversation is read anew at each turn. Nothing of the last turn's caches could stay but what stands before its
//! reply: the reply was decoded behind the fused cache, and as a message of the conversation it is fused itself, with what
//! the Sharers read of it; and templates may write an earlier turn otherwise than the last one.
//!
//! Invariants:
//! - the first reply of a conversation is the one that [`evaluate`](fn@crate::evaluate) records for the same text, given
//!   greedy decoding and as many tokens;
//! - a reply is a function of models, conversation and settings, whoever was asked before.

mod answering;
mod conversation;
mod reply;

use std::ops::ControlFlow;
use std::time::Instant;

use c2c_fuser::{C2c, FuserError, FusionOrder, PairBatch, Several, SeveralBatch};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, LogitsWanted, SamplingParams};
use c2c_text::{Message, PairText, Prompt, Section, TextError};

use answering::{Answering, Behind, Making, Read, within};
pub use conversation::Conversation;
pub use reply::{ChatError, ChatReply, End, FusedSlots};

use crate::SeveralSharers;
use crate::answer::{Stopwatch, options};
use crate::several::Joined;
use crate::times::Phases;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The Receiver, on a cache that is fused with those of all Sharers.
    C2c,
    /// The Receiver alone.
    Receiver,
    /// A Sharer alone, counted from 0.
    Sharer(usize),
}

/// How replies are made.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatSettings {
    /// How each token is chosen.
    pub sampling: SamplingParams,
    /// Longest reply, in tokens; 1 or more.
    pub max_new_tokens: usize,
    /// Seed of what is drawn. Each turn of a conversation draws by itself.
    pub seed: u64,
}

/// Receives a reply piece by piece; an empty piece is a token that makes no whole character yet. `Break` ends the reply.
pub type Watch<'a> = &'a mut dyn FnMut(&str) -> ControlFlow<()>;

/// A Receiver and its Sharers, ready to talk.
#[derive(Debug)]
pub struct Chat<'a, B: KernelBackend> {
    models: Several<B>,
    /// One a Sharer.
    texts: Vec<&'a PairText>,
    receiver: DecodeOptions,
    /// One a Sharer.
    sharers: Vec<DecodeOptions>,
}

impl<'a, B: KernelBackend> Chat<'a, B> {
    /// Joins a pair, and with it further Sharers. Weights are shared, not copied.
    ///
    /// # Errors
    /// Models of another shape than their Fuser was made for; gates that can't be read back from the device.
    pub fn new(pair: &C2c<B>, text: &'a PairText, several: Option<&'a SeveralSharers<B>>) -> Result<Self, FuserError> {
        let (joined, order) = match several {
            Some(several) => (several.joined(pair, text), several.order),
            // One Sharer has no order.
            None => (vec![Joined::first(pair, text)], FusionOrder::default()),
        };
        let texts: Vec<&PairText> = joined.iter().map(|one| one.text).collect();
        let sharers = joined.iter().map(|one| options(&one.link.sharer, one.text.sharer(), 0)).collect();
        let links = joined.into_iter().map(|one| one.ready(pair.receiver.dtype())).collect::<Result<_, _>>()?;
        let receiver = options(&pair.receiver, text.receiver(), 0);
        Ok(Self { models: Several::new(pair.receiver.clone(), links, order)?, texts, receiver, sharers })
    }
}

impl<B: KernelBackend> Chat<'_, B> {
    /// Sharers.
    pub fn sharers(&self) -> usize {
        self.texts.len()
    }

    /// The reply to a conversation, whose last message is to be answered. It ends within the context of the model that
    /// answers.
    ///
    /// # Errors
    /// A conversation that a template refuses or that doesn't fit the context of a model that reads it; a sampling
    /// parameter out of range; a Sharer that isn't there.
    pub fn reply(
        &self,
        speaker: Speaker,
        messages: &[Message],
        settings: &ChatSettings,
        watch: Watch<'_>,
    ) -> Result<ChatReply, ChatError> {
        if messages.last().is_none_or(|last| last.content.trim().is_empty()) {
            return Err(TextError::EmptyPrompt { what: "there is no text to answer".to_owned() }.into());
        }
        let draw = messages.len() as u64;
        match speaker {
            Speaker::C2c => self.fused(messages, Making { settings, draw, watch }),
            Speaker::Receiver => {
                let tokenizer = self.texts[0].receiver();
                let alone = Answering { model: self.models.receiver(), tokenizer, options: &self.receiver };
                let (prompt, read) = alone.read(speaker, messages)?;
                alone.answer(speaker, (prompt, read), Making { settings, draw, watch })
            }
            Speaker::Sharer(place) => {
                let (Some(link), Some(options)) = (self.models.links().get(place), self.sharers.get(place)) else {
                    return Err(ChatError::NoSharer { asked: place + 1, sharers: self.sharers() });
                };
                let alone = Answering { model: &link.sharer, tokenizer: self.texts[place].sharer(), options };
                let (prompt, read) = alone.read(speaker, messages)?;
                alone.answer(speaker, (prompt, read), Making { settings, draw, watch })
            }
        }
    }

    fn fused(&self, messages: &[Message], making: Making<'_>) -> Result<ChatReply, ChatError> {
        let start = Instant::now();
        let receiver = self.models.receiver();
        let prompts: Vec<Prompt> = self.texts.iter().map(|text| text.prompt(messages)).collect::<Result<_, _>>()?;
        let sharer_tokens: Vec<usize> = prompts.iter().map(sharer_tokens).collect();
        for (place, (link, found)) in self.models.links().iter().zip(&sharer_tokens).enumerate() {
            within(Speaker::Sharer(place), &link.sharer, *found)?;
        }
        let of = |(prompt, sharer): (&Prompt, &DecodeOptions)| {
            PairBatch::collate(std::slice::from_ref(prompt), self.receiver.pad, sharer.pad)
        };
        let batch = SeveralBatch::new(prompts.iter().zip(&self.sharers).map(of).collect::<Result<_, _>>()?)?;
        let ids = batch.first().receiver_prompts().concat();
        within(Speaker::C2c, receiver, ids.len())?;
        let mut clock = Stopwatch::<B>::start(receiver);
        let mut phases = Phases::default();
        let prefilled = self.models.prefill_observed(&batch, LogitsWanted::Last, &mut |phase| {
            *phases.of(phase) += clock.lap();
        })?;
        let read = Read {
            receiver_tokens: Some(ids.len()),
            sharer_tokens,
            fused: prompts.first().map(fused_slots).unwrap_or_default(),
            phases,
            start,
        };
        let answering = Answering { model: receiver, tokenizer: self.texts[0].receiver(), options: &self.receiver };
        answering.answer(Speaker::C2c, (Behind { ids, prefilled }, read), making)
    }
}

/// Tokens that a Sharer reads: up to the end of the last fused section.
fn sharer_tokens(prompt: &Prompt) -> usize {
    let fused = prompt.sections.iter().rposition(|section| section.fuse).map_or(0, |last| last + 1);
    prompt.sections[..fused].iter().flat_map(|section| &section.sharer_mask).filter(|real| **real).count()
}

fn fused_slots(prompt: &Prompt) -> FusedSlots {
    let fused: Vec<&Section> = prompt.sections.iter().filter(|section| section.fuse).collect();
    FusedSlots {
        sections: fused.len(),
        slots: fused.iter().map(|section| section.len()).sum(),
        tokens: fused.iter().flat_map(|section| &section.receiver_mask).filter(|real| **real).count(),
    }
}
