//! Token ids on their way into a model.

use crate::LmError;

/// A rectangular batch of new tokens: ids, positions and which of them are real.
///
/// Invariant: every row of `ids`, `mask` and `positions` has the same, non-zero length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<Vec<u32>>,
    mask: Vec<Vec<bool>>,
    positions: Vec<Vec<usize>>,
}

impl TokenBatch {
    /// Unpadded rows whose positions go on from `start`.
    ///
    /// # Errors
    /// No row, an empty row, or rows of different lengths.
    pub fn new(ids: Vec<Vec<u32>>, start: usize) -> Result<Self, LmError> {
        let n = ids.first().map_or(0, Vec::len);
        let rows = ids.len();
        Self::with_mask(ids, vec![vec![true; n]; rows], vec![(start..start + n).collect(); rows])
    }

    /// Rows with padding (`mask` false) and explicit positions.
    ///
    /// # Errors
    /// No row, an empty row, or rows of different lengths.
    pub fn with_mask(ids: Vec<Vec<u32>>, mask: Vec<Vec<bool>>, positions: Vec<Vec<usize>>) -> Result<Self, LmError> {
        let n = ids.first().map_or(0, Vec::len);
        if n == 0 {
            return Err(LmError::EmptyPrompt);
        }
        let check = |what, row: usize, found: usize| {
            if found == n { Ok(()) } else { Err(LmError::Ragged { row, what, found, expected: n }) }
        };
        for (row, r) in ids.iter().enumerate() {
            check("ids", row, r.len())?;
            check("mask entries", row, mask.get(row).map_or(0, Vec::len))?;
            check("positions", row, positions.get(row).map_or(0, Vec::len))?;
        }
        for (what, rows) in [("mask rows", mask.len()), ("position rows", positions.len())] {
            if rows != ids.len() {
                return Err(LmError::Ragged { row: 0, what, found: rows, expected: ids.len() });
            }
        }
        Ok(Self { ids, mask, positions })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Tokens a row.
    pub fn tokens(&self) -> usize {
        self.ids[0].len()
    }

    /// The ids, row by row.
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// True where the token is real, row by row.
    pub fn mask(&self) -> &[Vec<bool>] {
        &self.mask
    }

    /// The positions, row by row.
    pub fn positions(&self) -> &[Vec<usize>] {
        &self.positions
    }

    pub(crate) fn check(&self, vocab: usize, max_position: usize) -> Result<(), LmError> {
        if let Some(&id) = self.ids.iter().flatten().find(|id| **id as usize >= vocab) {
            return Err(LmError::TokenOutOfRange { id, vocab });
        }
        let top = self.positions.iter().flatten().max().map_or(0, |p| p + 1);
        if top > max_position {
            return Err(LmError::ContextLength { found: top, limit: max_position });
        }
        Ok(())
    }
}
