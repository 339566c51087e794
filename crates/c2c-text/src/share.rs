//! A share of what a prompt would have fused, from one end of it (paper, "progressive behaviour").
//!
//! What is counted are the Receiver's tokens in fused sections, in the order of the text. Padding isn't counted, so that
//! prompts of several Sharers, which may be padded each in its own way, are cut behind the same token. A section in
//! which the share begins or ends is cut in two; the Receiver reads the later piece on whatever the earlier one has
//! become, as it does with any two sections.

use crate::{Prompt, Section};

/// An end of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// Where it begins.
    #[default]
    Front,
    /// Where the reply begins.
    Back,
}

/// Which of the tokens that would be fused are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FusedShare {
    /// How many, from 0 to 1. Of `n` tokens `floor(n * share)` are fused, in 64-bit floats.
    pub share: f64,
    /// From which end.
    pub from: End,
}

impl FusedShare {
    /// How many of so many tokens are fused.
    pub fn of(self, tokens: usize) -> usize {
        // From negative numbers and from NaN this is 0.
        ((tokens as f64 * self.share) as usize).min(tokens)
    }
}

impl Prompt {
    /// The Receiver's tokens in fused sections.
    pub fn fused_tokens(&self) -> usize {
        self.sections.iter().filter(|section| section.fuse).map(own_tokens).sum()
    }

    /// The prompt with a share of its fused tokens fused and the others not. Its text, its tokens and their padding stay
    /// as they are. With all of them it is the same prompt, and with none it has the same sections.
    pub fn fused_in_part(self, part: FusedShare) -> Self {
        if part.share >= 1.0 {
            return self;
        }
        let all = self.fused_tokens();
        let fused = part.of(all);
        let (mut left, before) = match part.from {
            End::Front => (fused, true),
            End::Back => (all - fused, false),
        };
        let mut sections = Vec::with_capacity(self.sections.len() + 1);
        for section in self.sections {
            if !section.fuse || fused == 0 {
                sections.push(Section { fuse: false, ..section });
                continue;
            }
            let (cut, length) = (slots_of(&section.receiver_mask, left), section.len());
            left = left.saturating_sub(own_tokens(&section));
            if (1..length).contains(&cut) {
                let fuse = [before, !before];
                let pieces = section.cut(&[cut, length]).into_iter().zip(fuse);
                sections.extend(pieces.map(|(piece, fuse)| Section { fuse, ..piece }));
            } else {
                sections.push(Section { fuse: before == (cut == length), ..section });
            }
        }
        Self { sections }
    }
}

fn own_tokens(section: &Section) -> usize {
    section.receiver_mask.iter().filter(|real| **real).count()
}

/// The slots up to so many tokens; all of them if there are no more tokens than that.
fn slots_of(mask: &[bool], tokens: usize) -> usize {
    if tokens == 0 {
        return 0;
    }
    let mut places = mask.iter().enumerate().filter(|(_, real)| **real).map(|(place, _)| place);
    let last = places.by_ref().nth(tokens - 1);
    // Padding behind the last token belongs to it.
    last.filter(|_| places.next().is_some()).map_or(mask.len(), |last| last + 1)
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
