//! Prompts of several rows, cut into sections and padded section by section.

use std::borrow::Borrow;

use c2c_lm::TokenBatch;
use c2c_text::Prompt;

use crate::FuserError;

/// One section of a batch: the same slots for receiver and sharer.
#[derive(Clone, Debug)]
pub struct BatchSection {
    /// The receiver's tokens.
    pub receiver: TokenBatch,
    /// The sharer's tokens.
    pub sharer: TokenBatch,
    /// Whether the receiver's cache of this section is fused with the sharer's.
    pub fuse: bool,
    /// Target ids of supervised slots.
    pub labels: Vec<Vec<Option<u32>>>,
}

/// A batch of prompts whose sections line up.
///
/// Invariants: at least one section; the last one isn't fused; every section has the same rows; receiver and sharer have
/// the same length in each. Rows that are shorter in a section are padded on the left of it, so that the last slot of the
/// last section is real in every row. Positions count a model's own tokens in a row, as if it read them alone; padding of
/// any kind is masked and not counted (the reference implementation counts alignment padding).
#[derive(Clone, Debug)]
pub struct PairBatch {
    sections: Vec<BatchSection>,
}

impl PairBatch {
    /// A batch from finished sections.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn new(sections: Vec<BatchSection>) -> Result<Self, FuserError> {
        let bad = |text: String| Err(FuserError::Sections(text));
        let Some(last) = sections.last() else {
            return bad("a batch needs at least one section".into());
        };
        if last.fuse {
            return bad("the last section can't be fused: its own tokens have to read the fused cache".into());
        }
        let rows = last.receiver.rows();
        for (i, s) in sections.iter().enumerate() {
            let shape = (s.receiver.rows(), s.receiver.tokens());
            if s.receiver.rows() != rows || (s.sharer.rows(), s.sharer.tokens()) != shape {
                return bad(format!(
                    "section {i}: receiver {shape:?}, sharer {:?} (rows, tokens); expected {rows} rows and equal lengths",
                    (s.sharer.rows(), s.sharer.tokens())
                ));
            }
            if s.labels.len() != rows || s.labels.iter().any(|l| l.len() != shape.1) {
                return bad(format!("section {i}: labels don't have the shape {shape:?}"));
            }
        }
        Ok(Self { sections })
    }

    /// Pads prompts to a common shape. Sections are matched from the last one backwards, fused with fused and plain with
    /// plain, so that chats of different turn or paragraph counts fit together; what a row lacks is all padding.
    ///
    /// # Errors
    /// No prompt.
    pub fn collate<P: Borrow<Prompt>>(prompts: &[P], receiver_pad: u32, sharer_pad: u32) -> Result<Self, FuserError> {
        let prompts: Vec<&Prompt> = prompts.iter().map(Borrow::borrow).collect();
        if prompts.is_empty() {
            return Err(FuserError::Sections("a batch needs at least one prompt".into()));
        }
        let mut position = vec![(0, 0); prompts.len()];
        let mut sections = Vec::new();
        for row_sections in matched(&prompts) {
            let fuse = row_sections.iter().flatten().any(|s| s.fuse);
            let width = row_sections.iter().flatten().map(|s| s.receiver.len()).max().unwrap_or(0);
            let mut builder = Builder::default();
            for (row, section) in row_sections.iter().enumerate() {
                builder.push(*section, width, &mut position[row], receiver_pad, sharer_pad);
            }
            sections.push(builder.finish(fuse)?);
        }
        Self::new(sections)
    }

    /// The sections.
    pub fn sections(&self) -> &[BatchSection] {
        &self.sections
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.sections[0].receiver.rows()
    }

    /// Slots of all sections.
    pub fn tokens(&self) -> usize {
        self.sections.iter().map(|s| s.receiver.tokens()).sum()
    }

    /// The section that is never fused: the last.
    pub fn last(&self) -> &BatchSection {
        &self.sections[self.sections.len() - 1]
    }

    /// Real receiver tokens and all receiver slots, for the share of padding.
    pub fn padding(&self) -> (usize, usize) {
        let real = self.sections.iter().flat_map(|s| s.receiver.mask()).flatten().filter(|m| **m).count();
        (real, self.rows() * self.tokens())
    }

    /// The position of each row's next token.
    pub fn next_positions(&self) -> Vec<usize> {
        self.last().receiver.positions().iter().map(|p| p.last().map_or(0, |p| p + 1)).collect()
    }

    /// The real receiver ids of each row, in order: what penalties count.
    pub fn receiver_prompts(&self) -> Vec<Vec<u32>> {
        (0..self.rows())
            .map(|row| {
                self.sections
                    .iter()
                    .flat_map(|s| s.receiver.ids()[row].iter().zip(&s.receiver.mask()[row]))
                    .filter(|(_, real)| **real)
                    .map(|(id, _)| *id)
                    .collect()
            })
            .collect()
    }

    /// Some of the rows, with their padding.
    ///
    /// # Errors
    /// No row.
    pub fn part(&self, rows: std::ops::Range<usize>) -> Result<Self, FuserError> {
        let side = |tokens: &TokenBatch| {
            let rows = rows.clone();
            let (ids, mask) = (tokens.ids()[rows.clone()].to_vec(), tokens.mask()[rows.clone()].to_vec());
            TokenBatch::with_mask(ids, mask, tokens.positions()[rows].to_vec())
        };
        let section = |s: &BatchSection| -> Result<BatchSection, FuserError> {
            let labels = s.labels[rows.clone()].to_vec();
            Ok(BatchSection { receiver: side(&s.receiver)?, sharer: side(&s.sharer)?, fuse: s.fuse, labels })
        };
        Self::new(self.sections.iter().map(section).collect::<Result<_, _>>()?)
    }

    /// Sections `range` joined into one batch of tokens, picked by `side`.
    pub(crate) fn join(
        &self,
        range: std::ops::Range<usize>,
        side: impl Fn(&BatchSection) -> &TokenBatch,
    ) -> Result<TokenBatch, FuserError> {
        let rows = self.rows();
        let (mut ids, mut mask, mut positions) =
            (vec![Vec::new(); rows], vec![Vec::new(); rows], vec![Vec::new(); rows]);
        for section in &self.sections[range] {
            let tokens = side(section);
            for row in 0..rows {
                ids[row].extend_from_slice(&tokens.ids()[row]);
                mask[row].extend_from_slice(&tokens.mask()[row]);
                positions[row].extend_from_slice(&tokens.positions()[row]);
            }
        }
        Ok(TokenBatch::with_mask(ids, mask, positions)?)
    }
}

/// For each section of the batch, what each row has of it. Every row's sections appear once and in order, and those that
/// are put together are all fused or all not.
fn matched<'a>(prompts: &[&'a Prompt]) -> Vec<Vec<Option<&'a c2c_text::Section>>> {
    let mut left: Vec<usize> = prompts.iter().map(|p| p.sections.len()).collect();
    let mut out = Vec::new();
    // The row with most sections left decides what comes next (from the back); the others join in or wait.
    while let Some(longest) = (0..prompts.len()).filter(|row| left[*row] > 0).max_by_key(|row| left[*row]) {
        let fuse = prompts[longest].sections[left[longest] - 1].fuse;
        let row_sections = prompts.iter().zip(&mut left).map(|(prompt, left)| {
            let section = left.checked_sub(1).map(|last| &prompt.sections[last]).filter(|s| s.fuse == fuse)?;
            *left -= 1;
            Some(section)
        });
        out.push(row_sections.collect());
    }
    out.reverse();
    out
}

#[derive(Default)]
struct Builder {
    receiver: (Vec<Vec<u32>>, Vec<Vec<bool>>),
    sharer: (Vec<Vec<u32>>, Vec<Vec<bool>>),
    positions: (Vec<Vec<usize>>, Vec<Vec<usize>>),
    labels: Vec<Vec<Option<u32>>>,
}

impl Builder {
    fn push(
        &mut self,
        section: Option<&c2c_text::Section>,
        width: usize,
        position: &mut (usize, usize),
        receiver_pad: u32,
        sharer_pad: u32,
    ) {
        fn padded<T: Clone>(fill: T, width: usize, tail: Option<&Vec<T>>) -> Vec<T> {
            let tail = tail.map_or(&[][..], Vec::as_slice);
            let mut out = vec![fill; width - tail.len()];
            out.extend_from_slice(tail);
            out
        }
        let counted = |count: &mut usize, mask: Option<&Vec<bool>>| {
            let own = mask.into_iter().flatten().map(|real| {
                let position = *count;
                *count += usize::from(*real);
                position
            });
            let own: Vec<usize> = own.collect();
            padded(0, width, Some(&own))
        };
        self.positions.0.push(counted(&mut position.0, section.map(|s| &s.receiver_mask)));
        self.positions.1.push(counted(&mut position.1, section.map(|s| &s.sharer_mask)));
        self.receiver.0.push(padded(receiver_pad, width, section.map(|s| &s.receiver)));
        self.receiver.1.push(padded(false, width, section.map(|s| &s.receiver_mask)));
        self.sharer.0.push(padded(sharer_pad, width, section.map(|s| &s.sharer)));
        self.sharer.1.push(padded(false, width, section.map(|s| &s.sharer_mask)));
        self.labels.push(padded(None, width, section.map(|s| &s.labels)));
    }

    fn finish(self, fuse: bool) -> Result<BatchSection, FuserError> {
        Ok(BatchSection {
            receiver: TokenBatch::with_mask(self.receiver.0, self.receiver.1, self.positions.0)?,
            sharer: TokenBatch::with_mask(self.sharer.0, self.sharer.1, self.positions.1)?,
            fuse,
            labels: self.labels,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use c2c_text::{Section, SectionKind};

    fn section(receiver: &[(u32, bool)], sharer: &[(u32, bool)], fuse: bool) -> Section {
        let split = |side: &[(u32, bool)]| side.iter().copied().unzip();
        let ((receiver, receiver_mask), (sharer, sharer_mask)) = (split(receiver), split(sharer));
        let labels = vec![None; Vec::len(&receiver)];
        Section { kind: SectionKind::Template, receiver, sharer, receiver_mask, sharer_mask, labels, fuse }
    }

    #[test]
    fn rows_are_padded_on_the_left_and_positions_count_own_tokens() {
        let long = Prompt::new(vec![
            section(&[(5, true), (0, false), (6, true)], &[(7, true), (8, true), (9, true)], true),
            section(&[(4, true)], &[(4, true)], false),
        ]);
        let short = Prompt::new(vec![
            section(&[(5, true)], &[(7, true)], true),
            section(&[(4, true), (3, true)], &[(0, false), (3, true)], false),
        ]);
        let batch = PairBatch::collate(&[long.unwrap(), short.unwrap()], 0, 0).unwrap();
        let [first, last] = batch.sections() else { panic!("two sections") };
        assert_eq!(first.receiver.ids(), [vec![5, 0, 6], vec![0, 0, 5]]);
        assert_eq!(first.receiver.mask()[1], [false, false, true]);
        assert_eq!(first.receiver.positions()[0], [0, 1, 1]);
        assert_eq!(first.sharer.positions()[0], [0, 1, 2]);
        assert_eq!(last.receiver.positions(), [[0, 2], [1, 2]]);
        assert_eq!(last.sharer.positions()[1], [1, 1]);
        assert_eq!(batch.next_positions(), [3, 3]);
        assert_eq!(batch.receiver_prompts(), [vec![5, 6, 4], vec![5, 4, 3]]);
    }

    #[test]
    fn turns_are_matched_from_the_last_one_backwards() {
        let turn = |fuse| section(&[(5, true)], &[(5, true)], fuse);
        let two = Prompt::new(vec![turn(true), turn(false), turn(true), turn(false)]).unwrap();
        let one = Prompt::new(vec![turn(true), turn(false)]).unwrap();
        let batch = PairBatch::collate(&[two, one], 0, 0).unwrap();
        let fused: Vec<bool> = batch.sections().iter().map(|s| s.fuse).collect();
        assert_eq!(fused, [true, false, true, false]);
        assert_eq!(batch.sections()[0].receiver.mask(), [[true], [false]]);
    }

    #[test]
    fn paragraphs_of_one_row_are_never_put_with_the_template_of_another() {
        let turn = |fuse| section(&[(5, true)], &[(5, true)], fuse);
        let rows = [[false, true, true, true, false].as_slice(), &[false, true, true, false], &[true, false]];
        let prompts: Vec<Prompt> =
            rows.iter().map(|row| Prompt::new(row.iter().map(|fuse| turn(*fuse)).collect()).unwrap()).collect();
        let batch = PairBatch::collate(&prompts, 0, 0).unwrap();
        let fused: Vec<bool> = batch.sections().iter().map(|s| s.fuse).collect();
        assert_eq!(fused, [false, true, true, true, false]);
        for (row, own) in rows.iter().enumerate() {
            let real = batch.sections().iter().filter(|s| s.receiver.mask()[row][0]).map(|s| s.fuse);
            assert_eq!(real.collect::<Vec<_>>(), *own, "row {row} keeps its sections and their order");
        }
    }
}
