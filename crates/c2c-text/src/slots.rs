//! Both models read their own tokens: tokens that cover the same characters share slots.
//!
//! One token of one model need not be one token of the other. A message is therefore cut into the smallest groups whose
//! ends both tokenizers have; within a group the tokens stand to the right, and the side with fewer is padded on the left.
//! Slot by slot the fuser then sees what both have read so far, and the last slot of a group ends at the same character.

use std::ops::Range;

use crate::Tokenizer;
use crate::section::{Section, SectionKind};

/// The groups of two tokenizations of one text, as ranges of their tokens.
fn groups(receiver: &[usize], sharer: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    if receiver.iter().sum::<usize>() != sharer.iter().sum::<usize>() {
        // A tokenizer that doesn't keep the bytes: nothing finer can be said.
        return vec![(0..receiver.len(), 0..sharer.len())];
    }
    let mut out = Vec::new();
    let (mut i, mut j, mut from) = (0, 0, (0, 0));
    let (mut a, mut b) = (0, 0);
    while i < receiver.len() || j < sharer.len() {
        if i < receiver.len() && (a <= b || j == sharer.len()) {
            a += receiver[i];
            i += 1;
        } else {
            b += sharer[j];
            j += 1;
        }
        if a == b && i > from.0 && j > from.1 {
            out.push((from.0..i, from.1..j));
            from = (i, j);
        }
    }
    if from != (i, j) {
        // Tokens without bytes at the end belong to the last group.
        match out.last_mut() {
            Some(last) => *last = (last.0.start..i, last.1.start..j),
            None => out.push((0..i, 0..j)),
        }
    }
    out
}

/// A fused message section from both models' own tokens of it.
pub(crate) fn shared_slots(
    index: usize,
    (receiver, receiver_ids): (&Tokenizer, &[u32]),
    (sharer, sharer_ids): (&Tokenizer, &[u32]),
) -> Section {
    let lengths = |tokenizer: &Tokenizer, ids: &[u32]| -> Vec<usize> {
        ids.iter().map(|id| tokenizer.token_bytes(*id).map_or(0, |bytes| bytes.len())).collect()
    };
    let groups = groups(&lengths(receiver, receiver_ids), &lengths(sharer, sharer_ids));
    let mut section = Section::new(SectionKind::Message(index), Vec::new(), Vec::new(), true);
    for (own, other) in groups {
        let width = own.len().max(other.len());
        let place = |ids: &mut Vec<u32>, mask: &mut Vec<bool>, tokens: &[u32], pad: u32| {
            ids.extend(std::iter::repeat_n(pad, width - tokens.len()));
            mask.extend(std::iter::repeat_n(false, width - tokens.len()));
            ids.extend_from_slice(tokens);
            mask.extend(std::iter::repeat_n(true, tokens.len()));
        };
        place(&mut section.receiver, &mut section.receiver_mask, &receiver_ids[own], receiver.pad_id());
        place(&mut section.sharer, &mut section.sharer_mask, &sharer_ids[other], sharer.pad_id());
        section.labels.extend(std::iter::repeat_n(None, width));
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_end_where_both_tokenizers_do() {
        // "abc|de|f" against "a|bcd|e|f".
        assert_eq!(groups(&[3, 2, 1], &[1, 3, 1, 1]), [(0..2, 0..3), (2..3, 3..4)]);
        assert_eq!(groups(&[1, 1, 1], &[3]), [(0..3, 0..1)]);
        assert_eq!(groups(&[2, 2], &[2, 2]), [(0..1, 0..1), (1..2, 1..2)]);
    }

    #[test]
    fn texts_of_other_bytes_and_empty_tokens_still_cover_everything() {
        assert_eq!(groups(&[2, 2], &[5]), [(0..2, 0..1)]);
        assert_eq!(groups(&[2, 0], &[2]), [(0..2, 0..1)]);
        assert_eq!(groups(&[0, 2], &[2, 0]), [(0..2, 0..2)]);
        assert!(groups(&[], &[]).is_empty());
    }
}
