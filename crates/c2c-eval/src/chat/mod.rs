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

mod conversation;
mod reply;

use std::ops::ControlFlow;
use std::time::Instant;

use c2c_fuser::{C2c, FuserError, FusionOrder, PairBatch, Prefilled, Several, SeveralBatch};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, Lm, LogitsWanted, SamplingParams, decode_observed};
use c2c_text::{Message, PairText, Prompt, Section, TextError, TextStream, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

pub use conversation::Conversation;
pub use reply::{ChatError, ChatReply, End, FusedSlots};

use crate::SeveralSharers;
use crate::answer::{Stopwatch, left_padded, milliseconds_since, options};
use crate::input::rendered;
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

/// What a reply is made with, besides the models.
struct Making<'a> {
    settings: &'a ChatSettings,
    /// The stream of the seed that this turn draws from.
    draw: u64,
    watch: Watch<'a>,
}

/// The state behind a prompt.
struct Behind<B: KernelBackend> {
    /// What penalties count.
    ids: Vec<u32>,
    prefilled: Prefilled<B>,
}

/// What was read until then.
struct Read {
    receiver_tokens: Option<usize>,
    sharer_tokens: Vec<usize>,
    fused: FusedSlots,
    phases: Phases,
    start: Instant,
}

/// The model that answers.
struct Answering<'a, B: KernelBackend> {
    model: &'a Lm<B>,
    tokenizer: &'a Tokenizer,
    options: &'a DecodeOptions,
}

impl<B: KernelBackend> Answering<'_, B> {
    /// Reads a conversation alone.
    fn read(&self, speaker: Speaker, messages: &[Message]) -> Result<(Behind<B>, Read), ChatError> {
        let start = Instant::now();
        let ids = rendered(self.tokenizer, messages)?;
        within(speaker, self.model, ids.len())?;
        let tokens = left_padded(&[&ids], 0, self.options.pad).map_err(FuserError::from)?;
        let mut clock = Stopwatch::<B>::start(self.model);
        let mut cache = self.model.new_cache(1);
        let logits = self.model.forward(&tokens, &mut cache, LogitsWanted::Last).map_err(FuserError::from)?;
        let mut phases = Phases::default();
        let read = clock.lap();
        let (receiver_tokens, sharer_tokens) = match speaker {
            Speaker::Sharer(_) => {
                phases.sharer_prefill = read;
                (None, vec![ids.len()])
            }
            Speaker::C2c | Speaker::Receiver => {
                phases.receiver_prefill = read;
                (Some(ids.len()), Vec::new())
            }
        };
        let read = Read { receiver_tokens, sharer_tokens, fused: FusedSlots::default(), phases, start };
        Ok((Behind { ids, prefilled: Prefilled { cache, logits } }, read))
    }

    /// Decodes the reply and tells it.
    fn answer(
        &self,
        speaker: Speaker,
        (behind, read): (Behind<B>, Read),
        Making { settings, draw, watch }: Making<'_>,
    ) -> Result<ChatReply, ChatError> {
        let Behind { ids: prompt, prefilled: Prefilled { mut cache, logits } } = behind;
        let Read { receiver_tokens, sharer_tokens, fused, mut phases, start } = read;
        // The last token of a reply is never read, so it needs no position.
        let room = match self.model.config().max_position {
            0 => usize::MAX,
            limit => limit.saturating_sub(prompt.len()) + 1,
        };
        let options = DecodeOptions { max_new_tokens: settings.max_new_tokens.min(room), ..self.options.clone() };
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        rng.set_stream(draw);
        let mut stream = TextStream::new(self.tokenizer);
        let mut broken = None;
        let mut clock = Stopwatch::<B>::start(self.model);
        let next = [prompt.len()];
        let mut each = |_: usize, id: u32| match stream.push(id) {
            Ok(piece) => watch(&piece),
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        };
        let generated = decode_observed(
            self.model,
            &mut cache,
            logits,
            &[prompt],
            &next,
            &settings.sampling,
            &options,
            &mut rng,
            &mut each,
        )
        .map_err(FuserError::from)?;
        phases.decode = clock.lap();
        if let Some(error) = broken {
            return Err(error.into());
        }
        let rest = stream.finish()?;
        if !rest.is_empty() {
            // The reply has ended, whatever is said to its last piece.
            let _ = watch(&rest);
        }
        let ids = generated.tokens.concat();
        let finish = generated.finish.first().copied().unwrap_or(c2c_lm::Finish::Stopped);
        Ok(ChatReply {
            speaker,
            text: self.tokenizer.decode(&ids, true)?,
            finish: End::of(finish, room < settings.max_new_tokens),
            ids,
            receiver_tokens,
            sharer_tokens,
            fused,
            phases,
            milliseconds: milliseconds_since(start),
        })
    }
}

/// Refuses a prompt that is longer than a model's context. One that just fits leaves room for a token.
fn within<B: KernelBackend>(speaker: Speaker, model: &Lm<B>, found: usize) -> Result<(), ChatError> {
    match model.config().max_position {
        limit if limit > 0 && found > limit => Err(ChatError::Context { speaker, found, limit }),
        _ => Ok(()),
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
