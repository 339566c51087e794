//! What all prompts begin with, read once; and cache enrichment, which drops most of it afterwards.
//!
//! A prompt with examples is `P R`: the prefix `P` up to where the question alone would begin, and the rest `R`, which is
//! the end of the prompt of the question alone, `H R`. `H`, its beginning, is also that of `P`: a begin token, a system
//! prompt, or nothing.
//!
//! Enrichment (paper, section 3.2) keeps of the receiver's cache over `P R` only the slots of `H` and `R`, as many as
//! without examples, with the positions they have had. The last token of `R` is read on that cache, so that whatever is
//! answered is read from enriched slots alone, never from the examples themselves. Layers that aren't enriched have the
//! cache of `H R` as it is without examples, at the positions that put the same distances between its tokens.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use c2c_fuser::FuserError;
use c2c_kernels::KernelBackend;
use c2c_lm::{DecodeOptions, KvCache, LmError, LogitsWanted, TokenBatch};
use c2c_recipe::Method;

use super::rows::{Stopwatch, left_padded, milliseconds_since};
use super::{Answered, Answerer, Written, in_shares};
use crate::input::{Enriched, Input};
use crate::times::Phases;

/// What all prompts of a method begin with.
pub(super) struct Prefix<B: KernelBackend> {
    ids: Vec<u32>,
    /// Questions among which the time of reading it is shared.
    questions: usize,
    /// One row, and the milliseconds it took.
    cache: OnceCell<(KvCache<B>, f64)>,
}

impl<B: KernelBackend> Answerer<'_, B> {
    /// Is told everything that the method reads, whoever does it, and how many questions are left to do now.
    pub(crate) fn prepare<'i>(&self, inputs: impl Iterator<Item = &'i Input>, left: usize) {
        if !self.settings.baselines.reuse_prefix {
            return;
        }
        let ids = match self.method {
            // A window counts slots, so there may be no padding between prefix and rest.
            Method::FewShot if !self.is_windowed() => common(inputs),
            Method::Oracle => inputs.filter_map(Input::enriched).map(|e| e.ids[..e.rest].to_vec()).next(),
            _ => None,
        };
        if let Some(ids) = ids.filter(|ids| !ids.is_empty()) {
            // It is set once: a method is prepared once.
            let _ = self.prefix.set(Prefix { ids, questions: left.max(1), cache: OnceCell::new() });
        }
    }

    fn is_windowed(&self) -> bool {
        self.receiver.config().sliding_windows.iter().any(Option::is_some)
    }

    /// The prefix's cache and a question's share of its time. Read when it is first asked for.
    fn shared<'p>(&self, prefix: &'p Prefix<B>) -> Result<(&'p KvCache<B>, f64), LmError> {
        if prefix.cache.get().is_none() {
            let receiver = self.receiver;
            let mut watch = Stopwatch::<B>::start(receiver);
            let mut cache = receiver.new_cache(1);
            let tokens = TokenBatch::new(vec![prefix.ids.clone()], 0)?;
            receiver.fill_cache(&tokens, &mut cache, receiver.config().num_layers)?;
            let _ = prefix.cache.set((cache, watch.lap()));
        }
        match prefix.cache.get() {
            Some((cache, milliseconds)) => Ok((cache, milliseconds / prefix.questions as f64)),
            // It was set just now.
            None => Err(LmError::EmptyPrompt),
        }
    }

    /// Prompts that begin with the prefix.
    pub(super) fn behind(
        &self,
        prefix: &Prefix<B>,
        inputs: &[&Input],
        options: &DecodeOptions,
    ) -> Result<Answered, FuserError> {
        let receiver = self.receiver;
        let (cache, share) = self.shared(prefix)?;
        let start = std::time::Instant::now();
        let prompts: Vec<&[u32]> = inputs.iter().filter_map(|input| input.ids()).collect();
        let read = prefix.ids.len();
        let rests: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt[read..]).collect();
        let mut watch = Stopwatch::<B>::start(receiver);
        let mut cache = cache.select_rows(&vec![0; prompts.len()])?;
        let tokens = left_padded(&rests, read, self.options.pad)?;
        let logits = receiver.forward(&tokens, &mut cache, LogitsWanted::Last)?;
        let receiver_prefill = watch.lap();
        let next: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        let written = self.decode(receiver, &mut cache, logits, &prompts, &next, options)?;
        let phases = Phases { receiver_prefill, decode: watch.lap(), ..Phases::default() };
        Ok(with_prefix(in_shares(written, milliseconds_since(start), phases, None), share))
    }

    pub(super) fn enriched(&self, inputs: &[&Input], options: &DecodeOptions) -> Result<Answered, FuserError> {
        let rows: Vec<&Enriched> = inputs.iter().filter_map(|input| input.enriched()).collect();
        // Rows of one prefix are read together. Templates that say the date make no other.
        let mut groups: BTreeMap<(&[u32], usize), Vec<usize>> = BTreeMap::new();
        for (row, enriched) in rows.iter().enumerate() {
            groups.entry((&enriched.ids[..enriched.rest], enriched.header)).or_default().push(row);
        }
        // A window counts slots, so rows of its models are read without padding.
        let together = if self.is_windowed() { 1 } else { rows.len().max(1) };
        let mut replies: Vec<_> = rows.iter().map(|_| Err("not answered".to_owned())).collect();
        for ((_, _), members) in groups {
            for part in members.chunks(together) {
                let some: Vec<&Enriched> = part.iter().map(|row| rows[*row]).collect();
                let answered = self.enriched_rows(&some, options)?;
                for (row, reply) in part.iter().zip(answered) {
                    replies[*row] = reply;
                }
            }
        }
        Ok(replies)
    }

    /// Rows of the same prefix.
    fn enriched_rows(&self, rows: &[&Enriched], options: &DecodeOptions) -> Result<Answered, FuserError> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let receiver = self.receiver;
        let (prefix, header) = (&first.ids[..first.rest], first.header);
        let once = match self.prefix.get().filter(|once| once.ids == prefix) {
            Some(once) => Some(self.shared(once)?),
            None => None,
        };
        let start = std::time::Instant::now();
        let mut watch = Stopwatch::<B>::start(receiver);
        let mut cache = match once {
            Some((cache, _)) => cache.select_rows(&vec![0; rows.len()])?,
            None => self.filled(&TokenBatch::new(vec![prefix.to_vec(); rows.len()], 0)?)?,
        };
        // The prompt but for its last token, behind the examples; then the examples go.
        let bodies: Vec<&[u32]> = rows.iter().map(|row| &row.ids[row.rest..row.ids.len() - 1]).collect();
        let body = left_padded(&bodies, prefix.len(), self.options.pad)?;
        receiver.fill_cache(&body, &mut cache, receiver.config().num_layers)?;
        let mut cache = cache.without_slots(header..prefix.len())?;
        if let Some(layers) = &self.settings.baselines.oracle_layers {
            let direct = self.filled(&with_header(&prefix[..header], prefix.len() - header, &body)?)?;
            cache = direct.with_layers_of(&cache, layers)?;
        }
        let (written, receiver_prefill, decode) = self.answer_behind(rows, cache, options, &mut watch)?;
        let phases = Phases { receiver_prefill, decode, ..Phases::default() };
        let answered = in_shares(written, milliseconds_since(start), phases, None);
        Ok(with_prefix(answered, once.map_or(0.0, |(_, share)| share)))
    }

    /// Reads each row's last token on a cache of the others, and replies. Returns the milliseconds of prefill and decoding.
    fn answer_behind(
        &self,
        rows: &[&Enriched],
        mut cache: KvCache<B>,
        options: &DecodeOptions,
        watch: &mut Stopwatch<B>,
    ) -> Result<(Written, f64, f64), FuserError> {
        let receiver = self.receiver;
        let last: Vec<&[u32]> = rows.iter().map(|row| &row.ids[row.ids.len() - 1..]).collect();
        let ids = last.iter().map(|ids| ids.to_vec()).collect();
        let positions = rows.iter().map(|row| vec![row.ids.len() - 1]).collect();
        let last = TokenBatch::with_mask(ids, vec![vec![true]; rows.len()], positions)?;
        let logits = receiver.forward(&last, &mut cache, LogitsWanted::Last)?;
        let prefill = watch.lap();
        let prompts: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let next: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        let written = self.decode(receiver, &mut cache, logits, &prompts, &next, options)?;
        Ok((written, prefill, watch.lap()))
    }

    fn filled(&self, tokens: &TokenBatch) -> Result<KvCache<B>, LmError> {
        let receiver = self.receiver;
        let mut cache = receiver.new_cache(tokens.rows());
        receiver.fill_cache(tokens, &mut cache, receiver.config().num_layers)?;
        Ok(cache)
    }
}

/// Adds a question's share of the time of the prefix.
fn with_prefix(mut replies: Answered, share: f64) -> Answered {
    for reply in replies.iter_mut().flatten() {
        reply.milliseconds += share;
        reply.phases.receiver_prefill += share;
    }
    replies
}

/// What all inputs begin with, but for at least one token of each.
fn common<'i>(inputs: impl Iterator<Item = &'i Input>) -> Option<Vec<u32>> {
    let mut shared: Option<&[u32]> = None;
    for ids in inputs.filter_map(Input::ids) {
        let own = &ids[..ids.len() - 1];
        shared = Some(match shared {
            None => own,
            Some(shared) => &shared[..shared.iter().zip(own).take_while(|(a, b)| a == b).count()],
        });
    }
    shared.map(<[u32]>::to_vec)
}

/// The header of every row in front of its body, at positions from `start` on, so that the two follow each other.
fn with_header(header: &[u32], start: usize, body: &TokenBatch) -> Result<TokenBatch, LmError> {
    let join = |rows: &[Vec<u32>]| rows.iter().map(|row| [header, row].concat()).collect();
    let mask = body.mask().iter().map(|row| [vec![true; header.len()], row.clone()].concat()).collect();
    let places: Vec<usize> = (start..start + header.len()).collect();
    let positions = body.positions().iter().map(|row| [places.clone(), row.clone()].concat()).collect();
    TokenBatch::with_mask(join(body.ids()), mask, positions)
}
