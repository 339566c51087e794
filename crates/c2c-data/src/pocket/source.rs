//! The questions of the embedded pair's world, as a data source of a recipe.

use sha2::{Digest, Sha256};

use super::{ATTRIBUTE_COUNT, Split, World};
use crate::{Fingerprint, Loaded, McQuestion};

/// The seed of the world that the embedded pair was pretrained on. Questions about any other world are foreign to it.
pub const WORLD_SEED: u64 = 42;

/// Questions about the first `places` places of a split (all if `None`), each attribute `repeats` times with other
/// choices. `seed` draws the choices.
///
/// The fingerprint covers the questions as JSON lines.
pub fn world_questions(split: Split, places: Option<usize>, repeats: usize, seed: u64) -> Loaded<McQuestion> {
    let mut rows = World::new(WORLD_SEED).questions(split, repeats, seed);
    if let Some(places) = places {
        // The questions come place by place, all attributes and rounds of one together.
        rows.truncate(places.saturating_mul(ATTRIBUTE_COUNT).saturating_mul(repeats));
    }
    let mut hash = Sha256::new();
    for question in &rows {
        // A question is strings and numbers: its JSON can't fail, and an empty line would only weaken the fingerprint.
        hash.update(serde_json::to_vec(question).unwrap_or_default());
        hash.update(b"\n");
    }
    let name = match split {
        Split::Train => "train",
        Split::Test => "test",
    };
    let fingerprint = Fingerprint {
        source: format!("pocket world {WORLD_SEED}, split {name}, questions of seed {seed}"),
        rows: rows.len(),
        sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        ..Fingerprint::default()
    };
    Loaded { rows, fingerprint }
}
