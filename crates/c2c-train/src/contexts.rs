//! What of a prompt the frozen models read before anything is trained.

use c2c_text::Prompt;

/// Slots of a prompt's caches that training reads.
///
/// The Receiver's: its own tokens up to the end of the first fused section. The Sharer's: slots of fused sections that hold
/// a token of the Receiver's; elsewhere the fused cache is masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Slots of the Receiver's cache.
    pub receiver: usize,
    /// Slots of the Sharer's cache.
    pub sharer: usize,
    /// Slots that the Receiver runs for its part.
    pub context: usize,
    /// Slots that the Sharer runs for its part.
    pub read: usize,
}

impl Needs {
    /// Of one prompt.
    pub fn of(prompt: &Prompt) -> Self {
        let sections = &prompt.sections;
        let first = sections.iter().position(|s| s.fuse).map_or(sections.len().saturating_sub(1), |index| index + 1);
        let last = sections.iter().rposition(|s| s.fuse).map_or(0, |index| index + 1);
        let real = |section: &c2c_text::Section| section.receiver_mask.iter().filter(|real| **real).count();
        Self {
            receiver: sections[..first].iter().map(real).sum(),
            sharer: sections[..last].iter().filter(|s| s.fuse).map(real).sum(),
            context: sections[..first].iter().map(c2c_text::Section::len).sum(),
            read: sections[..last].iter().map(c2c_text::Section::len).sum(),
        }
    }
}
