//! Prompts cut into sections: what the Receiver and the Sharer read in step.

use crate::TextError;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Text of the chat template. With shared ids, where no alignment is needed, the whole prompt.
    Template,
    /// The content of one message, by its place in the chat.
    Message(usize),
}

/// One run of positions, as long for the Receiver as for the Sharer. All six lists have the section's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Template or message.
    pub kind: SectionKind,
    /// The Receiver's ids.
    pub receiver: Vec<u32>,
    /// The Sharer's ids.
    pub sharer: Vec<u32>,
    /// True where the Receiver's id is a token, false where it is padding and must not be attended to.
    pub receiver_mask: Vec<bool>,
    /// The same for the Sharer.
    pub sharer_mask: Vec<bool>,
    /// The supervised id at this position (not shifted by one), None where there is no loss.
    pub labels: Vec<Option<u32>>,
    /// Whether the Fuser writes into the Receiver's cache over this section.
    pub fuse: bool,
}

impl Section {
    /// A section without padding or labels, for both models.
    pub(crate) fn new(kind: SectionKind, receiver: Vec<u32>, sharer: Vec<u32>, fuse: bool) -> Self {
        Self {
            kind,
            receiver_mask: vec![true; receiver.len()],
            sharer_mask: vec![true; sharer.len()],
            labels: vec![None; receiver.len()],
            receiver,
            sharer,
            fuse,
        }
    }

    /// An unfused template section: the shorter side is padded on the left, so that the last position is a token for
    /// both. (The next section, or the first generated token, is predicted from that position.) A side that has no
    /// text here at all, which no chat template in use does, is all padding.
    pub(crate) fn template(receiver: Vec<u32>, sharer: Vec<u32>, receiver_pad: u32, sharer_pad: u32) -> Self {
        let length = receiver.len().max(sharer.len());
        let (receiver, receiver_mask) = pad_left(receiver, length, receiver_pad);
        let (sharer, sharer_mask) = pad_left(sharer, length, sharer_pad);
        Self {
            kind: SectionKind::Template,
            receiver,
            sharer,
            receiver_mask,
            sharer_mask,
            labels: vec![None; length],
            fuse: false,
        }
    }

    /// The section in pieces that end at the given positions, the last one at its end.
    pub(crate) fn cut(self, ends: &[usize]) -> Vec<Self> {
        let mut start = 0;
        let piece = |end: &usize| {
            let range = std::mem::replace(&mut start, *end)..*end;
            Self {
                kind: self.kind,
                receiver: self.receiver[range.clone()].to_vec(),
                sharer: self.sharer[range.clone()].to_vec(),
                receiver_mask: self.receiver_mask[range.clone()].to_vec(),
                sharer_mask: self.sharer_mask[range.clone()].to_vec(),
                labels: self.labels[range].to_vec(),
                fuse: self.fuse,
            }
        };
        ends.iter().map(piece).collect()
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether the section has no positions. A [`Prompt`] holds no such section.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        let length = self.receiver.len();
        let lists = [
            ("sharer", self.sharer.len()),
            ("receiver_mask", self.receiver_mask.len()),
            ("sharer_mask", self.sharer_mask.len()),
            ("labels", self.labels.len()),
        ];
        for (name, found) in lists {
            if found != length {
                return Err(format!("{name} has {found} entries, expected {length}, as many as receiver ids"));
            }
        }
        if length == 0 {
            return Err("it has no positions; leave it out".to_string());
        }
        let labelled_padding =
            self.labels.iter().zip(&self.receiver_mask).position(|(label, real)| label.is_some() && !real);
        if let Some(place) = labelled_padding {
            return Err(format!("position {place} has a label but is padding; only tokens can be supervised"));
        }
        Ok(())
    }
}

fn pad_left(ids: Vec<u32>, length: usize, pad: u32) -> (Vec<u32>, Vec<bool>) {
    let missing = length.saturating_sub(ids.len());
    let mut padded = vec![pad; missing];
    let mut mask = vec![false; missing];
    mask.resize(missing + ids.len(), true);
    padded.extend(ids);
    (padded, mask)
}

/// A prompt or training example as sections.
///
/// Invariants, checked by [`Prompt::new`]: there is at least one section, none is empty, the lists of a section are of
/// one length, no padding has a label, and the last section isn't fused and ends in a token of the Receiver (it is the
/// one whose logits are read).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The sections, in the order of the text.
    pub sections: Vec<Section>,
}

impl Prompt {
    /// A prompt of these sections.
    ///
    /// # Errors
    /// [`TextError::BadSection`] naming the rule that a section breaks.
    pub fn new(sections: Vec<Section>) -> Result<Self, TextError> {
        let bad = |index: usize, reason: String| TextError::BadSection { index, reason };
        for (index, section) in sections.iter().enumerate() {
            section.check().map_err(|reason| bad(index, reason))?;
        }
        let Some(last) = sections.last() else {
            return Err(bad(0, "there is none, expected at least one".to_string()));
        };
        let index = sections.len() - 1;
        if last.fuse {
            return Err(bad(index, "the last section is fused; its logits are read, so it must not be".to_string()));
        }
        if last.receiver_mask.last() != Some(&true) {
            return Err(bad(index, "the last position is padding; pad on the left".to_string()));
        }
        Ok(Self { sections })
    }

    /// The prompt with the start of a reply behind it, which the Receiver reads and nobody is taught. The Sharer reads
    /// nothing behind the last fused section, so it has padding there.
    pub fn with_reply_start(mut self, ids: &[u32], sharer_pad: u32) -> Self {
        if let Some(last) = self.sections.last_mut() {
            let length = last.len() + ids.len();
            last.receiver.extend(ids);
            last.receiver_mask.resize(length, true);
            last.sharer.resize(length, sharer_pad);
            last.sharer_mask.resize(length, false);
            last.labels.resize(length, None);
        }
        self
    }

    /// Number of positions, padding included.
    pub fn len(&self) -> usize {
        self.sections.iter().map(Section::len).sum()
    }

    /// Whether there are no positions; false for any prompt that [`Prompt::new`] accepted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The Receiver's ids, padding included.
    pub fn receiver_ids(&self) -> Vec<u32> {
        self.sections.iter().flat_map(|section| section.receiver.iter().copied()).collect()
    }

    /// The Sharer's ids, padding included.
    pub fn sharer_ids(&self) -> Vec<u32> {
        self.sections.iter().flat_map(|section| section.sharer.iter().copied()).collect()
    }

    /// The Receiver's tokens without padding: the text as the Receiver alone would read it.
    pub fn receiver_tokens(&self) -> Vec<u32> {
        self.sections
            .iter()
            .flat_map(|section| section.receiver.iter().zip(&section.receiver_mask))
            .filter_map(|(&id, &real)| real.then_some(id))
            .collect()
    }

    /// Number of supervised positions.
    pub fn supervised(&self) -> usize {
        self.sections.iter().flat_map(|section| &section.labels).flatten().count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(section: Section) -> String {
        Prompt::new(vec![section]).unwrap_err().to_string()
    }

    #[test]
    fn padding_goes_to_the_left_of_the_shorter_side() {
        let section = Section::template(vec![1], vec![2, 3, 4], 9, 8);
        assert_eq!(section.receiver, [9, 9, 1]);
        assert_eq!(section.receiver_mask, [false, false, true]);
        assert_eq!(section.sharer, [2, 3, 4]);
        assert_eq!(section.sharer_mask, [true; 3]);
        let prompt = Prompt::new(vec![section]).unwrap();
        assert_eq!((prompt.len(), prompt.is_empty(), prompt.supervised()), (3, false, 0));
        assert_eq!(prompt.receiver_ids(), [9, 9, 1]);
        assert_eq!(prompt.receiver_tokens(), [1]);
        assert_eq!(prompt.sharer_ids(), [2, 3, 4]);
    }

    #[test]
    fn broken_sections_are_refused_by_rule() {
        let good = Section::new(SectionKind::Template, vec![1, 2], vec![1, 2], false);
        assert!(Prompt::new(vec![]).unwrap_err().to_string().contains("at least one"));
        assert!(refusal(Section { fuse: true, ..good.clone() }).contains("last section is fused"));
        assert!(refusal(Section { sharer: vec![1], ..good.clone() }).contains("sharer has 1 entries, expected 2"));
        assert!(refusal(Section { labels: vec![], ..good.clone() }).contains("labels has 0 entries"));
        assert!(refusal(Section { receiver_mask: vec![true, false], ..good.clone() }).contains("pad on the left"));
        let labelled = Section { receiver_mask: vec![false, true], labels: vec![Some(1), None], ..good.clone() };
        assert!(refusal(labelled).contains("position 0 has a label"));
        let empty = Section::new(SectionKind::Message(0), vec![], vec![], true);
        let err = Prompt::new(vec![good, empty]).unwrap_err().to_string();
        assert!(err.contains("section 1") && err.contains("no positions"), "{err}");
    }
}
