//! From fixture tensors to the batches that models read.

use c2c_fuser::{BatchSection, PairBatch};
use c2c_lm::TokenBatch;

use crate::{Array, Fixture};

/// Slots `[start, start + length)` of all rows as a token batch. Without a mask every token is real; without positions
/// they are counted from 0.
pub fn token_batch(
    ids: &Array,
    mask: Option<&Array>,
    positions: Option<&Array>,
    start: usize,
    length: usize,
) -> TokenBatch {
    let rows = ids.shape[0];
    let ids = ids.narrow(1, start, length).ids();
    let mask = mask.map_or_else(|| vec![vec![true; length]; rows], |m| m.narrow(1, start, length).mask());
    let positions = positions
        .map_or_else(|| vec![(start..start + length).collect(); rows], |p| p.narrow(1, start, length).positions());
    TokenBatch::with_mask(ids, mask, positions).unwrap()
}

/// The batch of a run or micro-batch: tensors `{prefix}.input_ids` and, where they are there, `.attention_mask`,
/// `.position_ids`, `.labels`, `.sharer_input_ids`, `.sharer_attention_mask`, cut into `sections` of (length, mask);
/// a section whose mask is above 0 is fused. What the sharer lacks it takes from the receiver.
pub fn pair_batch(fixture: &Fixture, prefix: &str, sections: &[(usize, i64)]) -> PairBatch {
    let find = |name: &str| fixture.find(&format!("{prefix}.{name}"));
    let ids = fixture.get(&format!("{prefix}.input_ids"));
    let total: usize = sections.iter().map(|s| s.0).sum();
    assert_eq!(ids.shape[1], total, "{prefix}: the sections don't cover the prompt");
    let (mask, positions) = (find("attention_mask"), find("position_ids"));
    let sharer_ids = find("sharer_input_ids").unwrap_or(ids);
    let sharer_mask = find("sharer_attention_mask").or(mask);
    let mut start = 0;
    let mut out = Vec::new();
    for (length, fused) in sections.iter().copied() {
        out.push(BatchSection {
            receiver: token_batch(ids, mask, positions, start, length),
            sharer: token_batch(sharer_ids, sharer_mask, positions, start, length),
            fuse: fused > 0,
            labels: match find("labels") {
                Some(labels) => labels.narrow(1, start, length).labels(),
                None => vec![vec![None; length]; ids.shape[0]],
            },
        });
        start += length;
    }
    PairBatch::new(out).unwrap()
}
