//! Rows of a batch, and how long they take.

use std::time::Instant;

use c2c_kernels::KernelBackend;
use c2c_lm::{Lm, LmError, TokenBatch};

/// Takes the time of one part of the work after another.
pub(crate) struct Stopwatch<B: KernelBackend> {
    device: B::Device,
    last: Instant,
}

impl<B: KernelBackend> Stopwatch<B> {
    pub(crate) fn start(model: &Lm<B>) -> Self {
        Self { device: model.device(), last: Instant::now() }
    }

    /// Milliseconds since the last call. A GPU works behind the program's back, so it is waited for; that happens once a
    /// part of a batch, a handful of times beside the thousands of kernels between them.
    pub(crate) fn lap(&mut self) -> f64 {
        // A device that has failed says so again where the reply is read back, and there the error is kept.
        let _ = B::sync(&self.device);
        let milliseconds = milliseconds_since(self.last);
        self.last = Instant::now();
        milliseconds
    }
}

pub(crate) fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Rows of one length, padded on the left; positions count a row's own tokens, from `start` on.
pub(crate) fn left_padded<R: AsRef<[u32]>>(rows: &[R], start: usize, pad: u32) -> Result<TokenBatch, LmError> {
    let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let (mut ids, mut mask, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.iter().map(AsRef::as_ref) {
        let missing = width - row.len();
        ids.push([vec![pad; missing], row.to_vec()].concat());
        mask.push([vec![false; missing], vec![true; row.len()]].concat());
        positions.push(std::iter::repeat_n(0, missing).chain(start..start + row.len()).collect());
    }
    TokenBatch::with_mask(ids, mask, positions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rows_are_padded_on_the_left_and_count_their_own_tokens() {
        let tokens = left_padded(&[vec![5, 6, 7], vec![8]], 0, 9).unwrap();
        assert_eq!(tokens.ids(), [[5, 6, 7], [9, 9, 8]]);
        assert_eq!(tokens.mask(), [[true; 3], [false, false, true]]);
        assert_eq!(tokens.positions(), [[0, 1, 2], [0, 0, 0]]);
        let behind = left_padded(&[vec![5, 6, 7], vec![8]], 4, 9).unwrap();
        assert_eq!(behind.positions(), [[4, 5, 6], [0, 0, 4]]);
        assert!(left_padded::<Vec<u32>>(&[], 0, 9).is_err());
    }
}
