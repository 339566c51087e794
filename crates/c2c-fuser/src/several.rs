//! A Receiver and several Sharers at work, each with a Fuser of its own.
//!
//! The Fusers were trained apart, each between the Receiver and one Sharer. Every Sharer reads the prompt in its own tokens
//! and its own unfused cache; a section is fused with those Sharers that it is marked for.
//!
//! Invariant: the Receiver's tokens are the same for all of them, section by section. Padding may differ, as token
//! alignment puts it; what a Sharer has at the Receiver's tokens is brought into the slots of the first one's layout.

use std::ops::{ControlFlow, Range};

use burn::tensor::{Int, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, Generated, KvCache, LayerKv, Lm, LogitsWanted, SamplingParams};
use rand::Rng;

use crate::c2c::fill_sharer;
use crate::{Fuser, FuserError, FuserMode, PairBatch, Phase, Prefilled};

/// How a section is fused with more than one Sharer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FusionOrder {
    /// One after the other: each Fuser reads what the one before has left, so that their order matters.
    #[default]
    Sequential,
    /// Side by side: each Fuser reads the Receiver's own cache, and what each would change is added up.
    Parallel,
}

/// A Sharer and the Fuser that was trained between it and the Receiver.
#[derive(Clone, Debug)]
pub struct Link<B: KernelBackend> {
    /// The model that shares its cache.
    pub sharer: Lm<B>,
    /// The trained link.
    pub fuser: Fuser<B>,
}

/// A Receiver joined with several Sharers, for inference.
#[derive(Clone, Debug)]
pub struct Several<B: KernelBackend> {
    receiver: Lm<B>,
    links: Vec<Link<B>>,
    order: FusionOrder,
}

/// The same prompts as each Sharer and the Receiver read them.
#[derive(Clone, Debug)]
pub struct SeveralBatch {
    sharers: Vec<PairBatch>,
}

impl SeveralBatch {
    /// One batch a Sharer, in the order of the links. Which sections are fused may differ.
    ///
    /// # Errors
    /// No batch; batches in which the Receiver reads other sections or other tokens.
    pub fn new(sharers: Vec<PairBatch>) -> Result<Self, FuserError> {
        let bad = |text: String| Err(FuserError::Sections(text));
        let Some(first) = sharers.first() else {
            return bad("fusion with several sharers needs at least one".into());
        };
        for (place, other) in sharers.iter().enumerate().skip(1) {
            let (count, found) = (first.sections().len(), other.sections().len());
            let differs =
                (0..count.min(found)).find(|section| receiver_ids(first, *section) != receiver_ids(other, *section));
            let advice = "give all of them the same way of alignment and the same prompts";
            if let Some(section) = differs {
                return bad(format!(
                    "section {section} has other tokens of the receiver for sharer {place} than for sharer 0; {advice}"
                ));
            }
            if count != found {
                return bad(format!("{found} sections for sharer {place}, {count} for sharer 0; {advice}"));
            }
        }
        Ok(Self { sharers })
    }

    /// As the first Sharer and the Receiver read it; the Receiver's slots are these.
    pub fn first(&self) -> &PairBatch {
        &self.sharers[0]
    }
}

impl<B: KernelBackend> Several<B> {
    /// Joins the parts after checking that they belong together.
    ///
    /// # Errors
    /// No Sharer; models of another shape than their Fuser was made for.
    pub fn new(receiver: Lm<B>, links: Vec<Link<B>>, order: FusionOrder) -> Result<Self, FuserError> {
        if links.is_empty() {
            return Err(FuserError::Sections("fusion with several sharers needs at least one".into()));
        }
        for link in &links {
            link.fuser.check_models(&receiver, &link.sharer)?;
        }
        Ok(Self { receiver, links, order })
    }

    /// The model that answers.
    pub fn receiver(&self) -> &Lm<B> {
        &self.receiver
    }

    /// The Sharers in their order.
    pub fn links(&self) -> &[Link<B>] {
        &self.links
    }

    /// Runs the prompts. The last section is run on the fused cache and never fused.
    ///
    /// # Errors
    /// Another number of batches than of Sharers; what the models refuse.
    pub fn prefill(&self, batch: &SeveralBatch, wanted: LogitsWanted) -> Result<Prefilled<B>, FuserError> {
        self.prefill_observed(batch, wanted, &mut |_| {})
    }

    /// As [`Several::prefill`]; calls `done` behind each part of the work: once a Sharer that has read its prompt, then for
    /// the Receiver and for the fusion of each section, with all its Sharers, in turn. See
    /// [`C2c::prefill_observed`](crate::C2c::prefill_observed).
    ///
    /// With one Sharer everything is computed as [`C2c`](crate::C2c) does it, to the bit.
    ///
    /// # Errors
    /// As [`Several::prefill`].
    pub fn prefill_observed(
        &self,
        batch: &SeveralBatch,
        wanted: LogitsWanted,
        done: &mut dyn FnMut(Phase),
    ) -> Result<Prefilled<B>, FuserError> {
        let (expected, found) = (self.links.len(), batch.sharers.len());
        if expected != found {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(FuserError::Shape { what: "batches, one a sharer:", expected, found });
        }
        let mut read = Vec::with_capacity(self.links.len());
        for (link, own) in self.links.iter().zip(&batch.sharers) {
            let depth = link.fuser.sharer_depth();
            if depth == 0 {
                // Nothing of it is read: every gate is shut.
                read.push(link.sharer.new_cache(own.rows()));
                continue;
            }
            read.push(shared(&link.sharer, depth, own, batch.first())?);
            done(Phase::Sharer);
        }
        let sections = batch.first().sections();
        let last = sections.len() - 1;
        let layers = self.receiver.config().num_layers;
        let mut cache = self.receiver.new_cache(batch.first().rows());
        let (mut place, mut offset) = (0, 0);
        while place < last {
            // Up to the end of the next section that anyone fuses, which later ones build on.
            let fused = |place: &usize| batch.sharers.iter().any(|own| own.sections()[*place].fuse);
            let next = (place..last).find(fused).map_or(last, |fused| fused + 1);
            let tokens = batch.first().join(place..next, |section| &section.receiver)?;
            self.receiver.fill_cache(&tokens, &mut cache, layers)?;
            offset += tokens.tokens();
            done(Phase::Receiver);
            if fused(&(next - 1)) {
                let chosen: Vec<(&Fuser<B>, &KvCache<B>)> = (self.links.iter().zip(&read))
                    .zip(&batch.sharers)
                    .filter(|(_, own)| own.sections()[next - 1].fuse)
                    .map(|((link, cache), _)| (&link.fuser, cache))
                    .collect();
                self.fuse(&chosen, &mut cache, offset - sections[next - 1].receiver.tokens()..offset)?;
                done(Phase::Fusion);
            }
            place = next;
        }
        let logits = self.receiver.forward(&sections[last].receiver, &mut cache, wanted)?;
        done(Phase::Receiver);
        Ok(Prefilled { cache, logits })
    }

    /// Runs the prompts and decodes the replies.
    ///
    /// # Errors
    /// As [`Several::prefill`]; also a reply past the context.
    pub fn generate(
        &self,
        batch: &SeveralBatch,
        sampling: &SamplingParams,
        options: &DecodeOptions,
        rng: &mut impl Rng,
    ) -> Result<Generated, FuserError> {
        self.generate_observed(batch, sampling, options, rng, &mut |_, _| ControlFlow::Continue(()))
    }

    /// As [`Several::generate`], watched token by token as [`Prefilled::decode_observed`] says.
    ///
    /// # Errors
    /// As [`Several::generate`].
    pub fn generate_observed(
        &self,
        batch: &SeveralBatch,
        sampling: &SamplingParams,
        options: &DecodeOptions,
        rng: &mut impl Rng,
        each: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated, FuserError> {
        let prefilled = self.prefill(batch, LogitsWanted::Last)?;
        prefilled.decode_observed(&self.receiver, batch.first(), sampling, options, rng, each)
    }

    fn fuse(
        &self,
        chosen: &[(&Fuser<B>, &KvCache<B>)],
        cache: &mut KvCache<B>,
        slots: Range<usize>,
    ) -> Result<(), FuserError> {
        if slots.is_empty() {
            return Ok(());
        }
        // One Sharer alone has no order.
        if self.order == FusionOrder::Sequential || chosen.len() < 2 {
            for (fuser, sharer) in chosen {
                fuser.fuse_cache(sharer, cache, slots.clone(), FuserMode::Infer)?;
            }
            return Ok(());
        }
        let slices = |cache: &KvCache<B>| -> Vec<LayerKv<B>> {
            (0..cache.num_layers()).map_while(|layer| cache.slice(layer, slots.start, slots.end)).collect()
        };
        let own = slices(cache);
        let mut sum = own.clone();
        for (fuser, sharer) in chosen {
            let fused = fuser.fuse(&slices(sharer), &own, FuserMode::Infer)?;
            for ((sum, fused), own) in sum.iter_mut().zip(fused).zip(&own) {
                sum.key = sum.key.clone() + (fused.key - own.key.clone());
                sum.value = sum.value.clone() + (fused.value - own.value.clone());
            }
        }
        for (layer, fused) in sum.into_iter().enumerate() {
            cache.replace(layer, slots.start, fused)?;
        }
        Ok(())
    }
}

/// What the first layers of a Sharer have read, in the slots of another batch of the same prompts.
fn shared<B: KernelBackend>(
    sharer: &Lm<B>,
    depth: usize,
    own: &PairBatch,
    to: &PairBatch,
) -> Result<KvCache<B>, FuserError> {
    let mut cache = sharer.new_cache(own.rows());
    fill_sharer(sharer, depth, own, &mut cache)?;
    // Nothing was read where nothing is fused; and most batches have one layout.
    let Some(last) = own.sections().iter().rposition(|section| section.fuse) else { return Ok(cache) };
    let (from, to) = (masks(own, last + 1), masks(to, last + 1));
    if from == to {
        return Ok(cache);
    }
    let width = from.first().map_or(0, Vec::len);
    let mut indexes = Vec::new();
    for (row, (from, to)) in from.iter().zip(&to).enumerate() {
        let mut tokens = (0..width).filter(|slot| from[*slot]);
        // What is in a slot of padding is never looked at.
        indexes.extend(to.iter().map(|real| (row * width + if *real { tokens.next().unwrap_or(0) } else { 0 }) as i32));
    }
    let (rows, slots) = (to.len(), to.first().map_or(0, Vec::len));
    let indexes: Tensor<B, 1, Int> = Tensor::from_data(TensorData::new(indexes, [rows * slots]), &sharer.device());
    let move_to = |x: Tensor<B, 4>| {
        let [_, heads, _, head_dim] = x.dims();
        let flat = x.swap_dims(1, 2).reshape([rows * width, heads * head_dim]).select(0, indexes.clone());
        flat.reshape([rows, slots, heads, head_dim]).swap_dims(1, 2)
    };
    let layers = (0..cache.num_layers()).map_while(|layer| cache.layer(layer));
    let layers = layers.map(|kv| LayerKv { key: move_to(kv.key), value: move_to(kv.value) });
    Ok(KvCache::from_layers(layers.collect(), to)?)
}

/// Where the Receiver's tokens are, in the first sections of each row.
fn masks(batch: &PairBatch, sections: usize) -> Vec<Vec<bool>> {
    let row = |row: usize| {
        batch.sections()[..sections].iter().flat_map(|section| section.receiver.mask()[row].clone()).collect()
    };
    (0..batch.rows()).map(row).collect()
}

/// The Receiver's tokens of a section, row by row.
fn receiver_ids(batch: &PairBatch, section: usize) -> Vec<Vec<u32>> {
    let tokens = &batch.sections()[section].receiver;
    let row = |row: usize| {
        tokens.ids()[row].iter().zip(&tokens.mask()[row]).filter(|(_, real)| **real).map(|(id, _)| *id).collect()
    };
    (0..batch.rows()).map(row).collect()
}
