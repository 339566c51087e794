//! Seeded BPE segmentation with merge dropout.
//!
//! The tokenizers library can drop merges, but draws from a generator that can't be seeded, so the merge loop stands
//! here. Splitting the text into words and special tokens is left to the library.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{ModelWrapper, OffsetReferential, OffsetType, PreTokenizer, Tokenizer};

/// What a pair of neighbouring tokens merges into.
#[derive(Debug, Clone, Copy)]
struct Merge {
    /// Lower ranks merge first.
    rank: usize,
    into: u32,
}

/// Merges waiting for their turn: rank, place of the left token, and the pair, lowest rank first, then leftmost.
type Queue = BinaryHeap<Reverse<(usize, usize, (u32, u32))>>;

/// The merges of a BPE model, by pair.
#[derive(Debug)]
pub(crate) struct MergeTable {
    merges: HashMap<(u32, u32), Merge>,
    vocab: HashMap<String, u32>,
    unk: Option<u32>,
    byte_fallback: bool,
}

impl MergeTable {
    /// The merges of a tokenizer's model, or why it has none that can be dropped.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else {
            return Err("the model isn't BPE, which alone has merges to drop".to_string());
        };
        let affix = |part: &Option<String>| part.as_deref().is_some_and(|part| !part.is_empty());
        if affix(&bpe.continuing_subword_prefix) || affix(&bpe.end_of_word_suffix) {
            return Err("the model marks subwords with a prefix or suffix, expected byte-level or SentencePiece BPE"
                .to_string());
        }
        let vocab = bpe.get_vocab();
        let merges = read_merges(bpe, &vocab)?;
        let unk = bpe.unk_token.as_ref().and_then(|token| vocab.get(token).copied());
        Ok(Self { merges, vocab, unk, byte_fallback: bpe.byte_fallback })
    }

    /// Encodes a text, dropping each merge with probability `p`.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        p: f32,
        seed: u64,
    ) -> Result<Vec<u32>, tokenizers::Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pieces = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let mut ids = Vec::new();
        for (word, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match tokens {
                // An added token, found whole.
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => self.merge_word(word, p, &mut rng, &mut ids),
            }
        }
        Ok(ids)
    }

    fn merge_word(&self, word: &str, p: f32, rng: &mut ChaCha8Rng, out: &mut Vec<u32>) {
        let mut symbols = Symbols::new(self.characters(word));
        let mut queue = Queue::new();
        for place in 0..symbols.ids.len() {
            self.push(&symbols, place, &mut queue);
        }
        let mut skipped = Vec::new();
        while let Some(Reverse((rank, place, pair))) = queue.pop() {
            if symbols.pair(place) != Some(pair) {
                continue; // One of the two has merged otherwise since.
            }
            if rng.random::<f32>() < p {
                skipped.push(Reverse((rank, place, pair)));
                continue;
            }
            let Some(merge) = self.merges.get(&pair) else { continue };
            symbols.merge(place, merge.into);
            // A dropped merge is dropped for this turn only.
            queue.extend(skipped.drain(..));
            if let Some(before) = symbols.before[place] {
                self.push(&symbols, before, &mut queue);
            }
            self.push(&symbols, place, &mut queue);
        }
        out.extend(symbols.ids.into_iter().flatten());
    }

    fn push(&self, symbols: &Symbols, place: usize, queue: &mut Queue) {
        if let Some(pair) = symbols.pair(place)
            && let Some(merge) = self.merges.get(&pair)
        {
            queue.push(Reverse((merge.rank, place, pair)));
        }
    }

    /// The tokens that a word is before any merge.
    fn characters(&self, word: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(word.len());
        let mut buffer = [0u8; 4];
        for c in word.chars() {
            let c: &str = c.encode_utf8(&mut buffer);
            if let Some(&id) = self.vocab.get(c) {
                ids.push(id);
            } else if let Some(bytes) = self.fallback(c) {
                ids.extend(bytes);
            } else {
                ids.extend(self.unk);
            }
        }
        ids
    }

    fn fallback(&self, c: &str) -> Option<Vec<u32>> {
        if !self.byte_fallback {
            return None;
        }
        c.bytes().map(|byte| self.vocab.get(&format!("<0x{byte:02X}>")).copied()).collect()
    }
}

/// A word in the course of merging: a doubly linked list over fixed places, so that a merge costs O(1).
struct Symbols {
    /// None where a token has merged into the one before it.
    ids: Vec<Option<u32>>,
    before: Vec<Option<usize>>,
    after: Vec<Option<usize>>,
}

impl Symbols {
    fn new(ids: Vec<u32>) -> Self {
        let count = ids.len();
        Self {
            ids: ids.into_iter().map(Some).collect(),
            before: (0..count).map(|place| place.checked_sub(1)).collect(),
            after: (0..count).map(|place| (place + 1 < count).then_some(place + 1)).collect(),
        }
    }

    /// The token at a place and the one after it.
    fn pair(&self, place: usize) -> Option<(u32, u32)> {
        Some((self.ids[place]?, self.ids[self.after[place]?]?))
    }

    /// Replaces the token at `place` and the one after it by `into`.
    fn merge(&mut self, place: usize, into: u32) {
        self.ids[place] = Some(into);
        if let Some(gone) = self.after[place] {
            self.ids[gone] = None;
            self.after[place] = self.after[gone];
            if let Some(next) = self.after[gone] {
                self.before[next] = Some(place);
            }
        }
    }
}

/// The library keeps its merge table to itself but serialises it, in the order of the ranks.
fn read_merges(bpe: &BPE, vocab: &HashMap<String, u32>) -> Result<HashMap<(u32, u32), Merge>, String> {
    let json = serde_json::to_value(bpe).map_err(|err| err.to_string())?;
    let list = json.get("merges").and_then(Value::as_array).ok_or("the model lists no merges")?;
    list.iter()
        .enumerate()
        .map(|(rank, entry)| {
            let part = |place: usize| entry.get(place).and_then(Value::as_str);
            let found = part(0).zip(part(1)).and_then(|(left, right)| {
                let into = *vocab.get(&format!("{left}{right}"))?;
                Some(((*vocab.get(left)?, *vocab.get(right)?), Merge { rank, into }))
            });
            found.ok_or_else(|| format!("merge {rank} ({entry}) isn't a pair of tokens of the vocabulary"))
        })
        .collect()
}
