//! A receiver, a sharer and a fuser at work.
//!
//! The sharer reads its side of the prompt once, on its own unfused cache, and only as deep as the fuser's open branches
//! reach; not at all if every gate is shut.
//! The receiver runs up to the end of each fused section, whose slice of its cache is then replaced by the fused one;
//! later sections build on it. The last section is run on the fused cache and never fused itself.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use c2c_kernels::{KernelBackend, TrainBackend};
use c2c_lm::{DecodeOptions, Generated, KvCache, Lm, LogitsWanted, SamplingParams, decode_observed};
use rand::Rng;

use crate::contexts::before_fusion;
use crate::{Contexts, Fuser, FuserError, FuserMode, PairBatch};

/// Whether the sharer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Sections marked for fusion are fused.
    On,
    /// The receiver alone, over the same sections.
    Off,
}

/// A part of the work on a prompt; [`C2c::prefill_observed`] says when one has been given to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The sharer has read its prompt. Not told where nothing reads the sharer's cache.
    Sharer,
    /// The receiver has read one or more sections.
    Receiver,
    /// A section's slice of the cache has been fused.
    Fusion,
}

/// The state after the prompt.
#[derive(Clone, Debug)]
pub struct Prefilled<B: KernelBackend> {
    /// The receiver's cache, fused where it should be.
    pub cache: KvCache<B>,
    /// Of the last section: `[batch, 1 or tokens, vocab]`, f32.
    pub logits: Tensor<B, 3>,
}

impl<B: KernelBackend> Prefilled<B> {
    /// Decodes the replies behind the prompts of `batch`, of which this is the state in `receiver`; shows row and id of
    /// every token to `each` as soon as it is chosen, and ends where that breaks ([`decode_observed`]).
    ///
    /// # Errors
    /// A sampling parameter out of range; a reply past the context.
    pub fn decode_observed(
        self,
        receiver: &Lm<B>,
        batch: &PairBatch,
        sampling: &SamplingParams,
        options: &DecodeOptions,
        rng: &mut impl Rng,
        each: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated, FuserError> {
        let Self { mut cache, logits } = self;
        let (prompts, next) = (batch.receiver_prompts(), batch.next_positions());
        Ok(decode_observed(receiver, &mut cache, logits, &prompts, &next, sampling, options, rng, each)?)
    }
}

/// A receiver and a sharer joined by a fuser, for inference.
#[derive(Clone, Debug)]
pub struct C2c<B: KernelBackend> {
    /// The model that answers.
    pub receiver: Lm<B>,
    /// The model that shares its cache.
    pub sharer: Lm<B>,
    /// The trained link.
    pub fuser: Fuser<B>,
}

impl<B: KernelBackend> C2c<B> {
    /// Joins the parts after checking that they belong together.
    ///
    /// # Errors
    /// Models of another shape than the fuser was made for.
    pub fn new(receiver: Lm<B>, sharer: Lm<B>, fuser: Fuser<B>) -> Result<Self, FuserError> {
        fuser.check_models(&receiver, &sharer)?;
        Ok(Self { receiver, sharer, fuser })
    }

    /// Runs the prompt.
    ///
    /// # Errors
    /// What the models refuse: foreign ids, a prompt past the context.
    pub fn prefill(&self, batch: &PairBatch, fusion: Fusion, wanted: LogitsWanted) -> Result<Prefilled<B>, FuserError> {
        self.prefill_observed(batch, fusion, wanted, &mut |_| {})
    }

    /// From contexts that are there already to the state after the prompt, fused.
    ///
    /// # Errors
    /// As [`C2c::prefill`].
    pub fn prefill_from(
        &self,
        contexts: &Contexts<B>,
        batch: &PairBatch,
        wanted: LogitsWanted,
    ) -> Result<Prefilled<B>, FuserError> {
        let start = Context { cache: contexts.receiver.clone(), done: contexts.done };
        let link = Link { fuser: &self.fuser, sharer: &contexts.sharer, mode: FuserMode::Infer };
        finish(&self.receiver, Some(link), batch, start, wanted, &mut |_| {})
    }

    /// As [`C2c::prefill`], one part of the work after the other; calls `done` behind each, in the order in which it is done.
    ///
    /// A device may still be at work on what was given to it: whoever takes times waits for it in `done`.
    ///
    /// # Errors
    /// As [`C2c::prefill`].
    pub fn prefill_observed(
        &self,
        batch: &PairBatch,
        fusion: Fusion,
        wanted: LogitsWanted,
        done: &mut dyn FnMut(Phase),
    ) -> Result<Prefilled<B>, FuserError> {
        let sharer = match fusion {
            Fusion::On => Some(self.sharer_cache(batch)?),
            Fusion::Off => None,
        };
        if sharer.is_some() && self.fuser.sharer_depth() > 0 {
            done(Phase::Sharer);
        }
        let start = context(&self.receiver, batch)?;
        done(Phase::Receiver);
        let link = sharer.as_ref().map(|sharer| Link { fuser: &self.fuser, sharer, mode: FuserMode::Infer });
        finish(&self.receiver, link, batch, start, wanted, done)
    }

    /// What the sharer has read of the prompt, up to the last fused section: the layers that the fuser reads
    /// ([`Fuser::sharer_depth`]), nothing if it reads none or no section is fused.
    ///
    /// # Errors
    /// What the sharer refuses.
    pub fn sharer_cache(&self, batch: &PairBatch) -> Result<KvCache<B>, FuserError> {
        let mut cache = self.sharer.new_cache(batch.rows());
        fill_sharer(&self.sharer, self.fuser.sharer_depth(), batch, &mut cache)?;
        Ok(cache)
    }

    /// Runs the prompt and decodes the replies.
    ///
    /// # Errors
    /// As [`C2c::prefill`]; also a reply past the context.
    pub fn generate(
        &self,
        batch: &PairBatch,
        fusion: Fusion,
        sampling: &SamplingParams,
        options: &DecodeOptions,
        rng: &mut impl Rng,
    ) -> Result<Generated, FuserError> {
        self.generate_observed(batch, fusion, sampling, options, rng, &mut |_, _| ControlFlow::Continue(()))
    }

    /// As [`C2c::generate`], watched token by token as [`Prefilled::decode_observed`] says.
    ///
    /// # Errors
    /// As [`C2c::generate`].
    pub fn generate_observed(
        &self,
        batch: &PairBatch,
        fusion: Fusion,
        sampling: &SamplingParams,
        options: &DecodeOptions,
        rng: &mut impl Rng,
        each: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated, FuserError> {
        let prefilled = self.prefill(batch, fusion, LogitsWanted::Last)?;
        prefilled.decode_observed(&self.receiver, batch, sampling, options, rng, each)
    }
}

impl<B: TrainBackend> Fuser<B> {
    /// The training forward pass of a pair through this fuser: frozen context on the plain device, the fuser and what
    /// follows it on the autodiff device. Returns the logits of the last section, `[batch, tokens, vocab]`.
    ///
    /// `receiver` and `receiver_autodiff` share their weights (`<Lm<B> as AutodiffModule<B>>::from_inner`).
    ///
    /// # Errors
    /// As [`C2c::prefill`].
    pub fn train_forward(
        &self,
        receiver: &Lm<B::InnerBackend>,
        receiver_autodiff: &Lm<B>,
        sharer: &Lm<B::InnerBackend>,
        batch: &PairBatch,
        mode: FuserMode,
    ) -> Result<Tensor<B, 3>, FuserError> {
        let contexts = Contexts::compute(receiver, sharer, self.config().sharer_depth(), batch)?;
        self.train_from(contexts, receiver_autodiff, batch, mode)
    }

    /// As [`Fuser::train_forward`], from contexts that are there already.
    ///
    /// # Errors
    /// As [`C2c::prefill`].
    pub fn train_from(
        &self,
        contexts: Contexts<B::InnerBackend>,
        receiver_autodiff: &Lm<B>,
        batch: &PairBatch,
        mode: FuserMode,
    ) -> Result<Tensor<B, 3>, FuserError> {
        let sharer = contexts.sharer.map(Tensor::from_inner);
        let start = Context { cache: contexts.receiver.map(Tensor::from_inner), done: contexts.done };
        let link = Link { fuser: self, sharer: &sharer, mode };
        Ok(finish(receiver_autodiff, Some(link), batch, start, LogitsWanted::All, &mut |_| {})?.logits)
    }
}

/// What fusion needs besides the receiver.
struct Link<'a, B: KernelBackend> {
    fuser: &'a Fuser<B>,
    sharer: &'a KvCache<B>,
    mode: FuserMode,
}

/// The receiver's cache over the first `done` sections.
pub(crate) struct Context<B: KernelBackend> {
    pub(crate) cache: KvCache<B>,
    pub(crate) done: usize,
}

/// Runs the receiver up to the end of the first fused section, or up to the last section if none is fused.
pub(crate) fn context<B: KernelBackend>(receiver: &Lm<B>, batch: &PairBatch) -> Result<Context<B>, FuserError> {
    let done = before_fusion(batch);
    let mut cache = receiver.new_cache(batch.rows());
    if done > 0 {
        let tokens = batch.join(0..done, |s| &s.receiver)?;
        receiver.fill_cache(&tokens, &mut cache, receiver.config().num_layers)?;
    }
    Ok(Context { cache, done })
}

/// Runs the sharer's first `depth` layers over its side of the prompt, up to the last fused section.
pub(crate) fn fill_sharer<B: KernelBackend>(
    sharer: &Lm<B>,
    depth: usize,
    batch: &PairBatch,
    cache: &mut KvCache<B>,
) -> Result<(), FuserError> {
    if let Some(last) = batch.sections().iter().rposition(|s| s.fuse)
        && depth > 0
    {
        let tokens = batch.join(0..last + 1, |s| &s.sharer)?;
        sharer.fill_cache(&tokens, cache, depth)?;
    }
    Ok(())
}

/// From the context to the logits of the last section.
fn finish<B: KernelBackend>(
    receiver: &Lm<B>,
    link: Option<Link<'_, B>>,
    batch: &PairBatch,
    start: Context<B>,
    wanted: LogitsWanted,
    observe: &mut dyn FnMut(Phase),
) -> Result<Prefilled<B>, FuserError> {
    let sections = batch.sections();
    let Context { mut cache, mut done } = start;
    let mut offset: usize = sections[..done].iter().map(|s| s.receiver.tokens()).sum();
    let last = sections.len() - 1;
    let mut fused = 0;
    loop {
        if done > 0
            && sections[done - 1].fuse
            && let Some(link) = &link
        {
            let begin = offset - sections[done - 1].receiver.tokens();
            link.fuser.fuse_cache(link.sharer, &mut cache, begin..offset, link.mode.of_section(fused))?;
            fused += 1;
            observe(Phase::Fusion);
        }
        if done == last {
            break;
        }
        let next = sections[done..last].iter().position(|s| s.fuse).map_or(last, |i| done + i + 1);
        let tokens = batch.join(done..next, |s| &s.receiver)?;
        offset += tokens.tokens();
        receiver.fill_cache(&tokens, &mut cache, receiver.config().num_layers)?;
        observe(Phase::Receiver);
        done = next;
    }
    let logits = receiver.forward(&sections[last].receiver, &mut cache, wanted)?;
    observe(Phase::Receiver);
    Ok(Prefilled { cache, logits })
}
