//! Where the time of a question went.

use c2c_fuser::Phase;
use serde::{Deserialize, Serialize};

/// Milliseconds by what was done. What is left of the whole time went into putting the batch together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// The receiver reading its prompt, with the logits behind it.
    pub receiver_prefill: f64,
    /// The sharer reading its prompt, as deep as the layer map reaches; of several the sum.
    pub sharer_prefill: f64,
    /// The sharer writing a text for the receiver.
    pub sharer_decode: f64,
    /// The fuser at work on the caches, or all of them.
    pub fusion: f64,
    /// Choosing the tokens of the reply, one after the other.
    pub decode: f64,
}

impl Phases {
    /// The part that a phase of a fused prefill counts to.
    pub(crate) fn of(&mut self, phase: Phase) -> &mut f64 {
        match phase {
            Phase::Sharer => &mut self.sharer_prefill,
            Phase::Receiver => &mut self.receiver_prefill,
            Phase::Fusion => &mut self.fusion,
        }
    }

    /// The names of the parts, as in records and reports.
    pub const NAMES: [&'static str; 5] =
        ["receiver_prefill_ms", "sharer_prefill_ms", "sharer_decode_ms", "fusion_ms", "decode_ms"];

    /// The parts in the order of [`Phases::NAMES`].
    pub fn values(&self) -> [f64; 5] {
        [self.receiver_prefill, self.sharer_prefill, self.sharer_decode, self.fusion, self.decode]
    }

    /// The parts from their values, in the order of [`Phases::NAMES`].
    pub fn from_values([receiver_prefill, sharer_prefill, sharer_decode, fusion, decode]: [f64; 5]) -> Self {
        Self { receiver_prefill, sharer_prefill, sharer_decode, fusion, decode }
    }

    /// The parts of one of `n` equal shares.
    pub fn share(&self, n: usize) -> Self {
        Self::from_values(self.values().map(|part| part / n as f64))
    }

    /// All parts together.
    pub fn sum(&self) -> f64 {
        self.values().iter().sum()
    }
}

impl std::iter::Sum for Phases {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, phases| {
            let (sum, phases) = (sum.values(), phases.values());
            Self::from_values(std::array::from_fn(|part| sum[part] + phases[part]))
        })
    }
}
