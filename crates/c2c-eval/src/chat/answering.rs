//! One model at work: what it reads alone, and the reply behind a prompt that has been read.

use std::ops::ControlFlow;
use std::time::Instant;

use c2c_fuser::{FuserError, Prefilled};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, Finish, Lm, LogitsWanted, decode_observed};
use c2c_text::{Message, TextStream, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use super::{ChatError, ChatReply, ChatSettings, End, FusedSlots, Speaker, Watch};
use crate::answer::{Stopwatch, left_padded, milliseconds_since};
use crate::input::rendered;
use crate::times::Phases;

/// What a reply is made with, besides the models.
pub(super) struct Making<'a> {
    pub(super) settings: &'a ChatSettings,
    /// The stream of the seed that this turn draws from.
    pub(super) draw: u64,
    pub(super) watch: Watch<'a>,
}

/// The state behind a prompt.
pub(super) struct Behind<B: KernelBackend> {
    /// What penalties count.
    pub(super) ids: Vec<u32>,
    pub(super) prefilled: Prefilled<B>,
}

/// What was read until then.
pub(super) struct Read {
    pub(super) receiver_tokens: Option<usize>,
    pub(super) sharer_tokens: Vec<usize>,
    pub(super) fused: FusedSlots,
    pub(super) phases: Phases,
    pub(super) start: Instant,
}

/// The model that answers.
pub(super) struct Answering<'a, B: KernelBackend> {
    pub(super) model: &'a Lm<B>,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) options: &'a DecodeOptions,
}

impl<B: KernelBackend> Answering<'_, B> {
    /// Reads a conversation alone.
    pub(super) fn read(&self, speaker: Speaker, messages: &[Message]) -> Result<(Behind<B>, Read), ChatError> {
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
    pub(super) fn answer(
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
        let finish = generated.finish.first().copied().unwrap_or(Finish::Stopped);
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
pub(super) fn within<B: KernelBackend>(speaker: Speaker, model: &Lm<B>, found: usize) -> Result<(), ChatError> {
    match model.config().max_position {
        limit if limit > 0 && found > limit => Err(ChatError::Context { speaker, found, limit }),
        _ => Ok(()),
    }
}
