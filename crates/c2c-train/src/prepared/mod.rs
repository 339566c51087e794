//! Caches of the frozen models, computed once and read by many runs.
//!
//! A folder holds `about.json` (of which models, layers and dtype), chunks of records (`chunk-000000.bin`) with a list of
//! their examples each (`chunk-000000.json`), and `index.json`, which is written last and makes the folder complete.
//!
//! Invariants:
//! * Every file is written beside and renamed; a chunk's list comes after the chunk. So a process killed anywhere leaves
//!   whole chunks, from which the next one goes on.
//! * An example is found by the SHA-256 of what both models read of it (the digest of a run's data): tokens, masks, sections.
//!   So another tokenizer, template, alignment or row is not found, and never mistaken.
//! * A chunk is checked against its SHA-256 before anything of it is used in a process.

mod error;
mod read;
mod write;

use burn::tensor::DType;
use c2c_fuser::{FuserConfig, RecordShape};
use c2c_lm::Fingerprint;
use serde::{Deserialize, Serialize};

pub use error::PreparedError;
pub use read::Prepared;
pub use write::{PrepareOptions, Report, prepare};

/// Version of the folder's layout.
pub const VERSION: u32 = 1;
/// What the caches are of.
const ABOUT_FILE: &str = "about.json";
/// The chunks, once all are there.
const INDEX_FILE: &str = "index.json";
/// Locked while a process writes.
const LOCK_FILE: &str = "lock";

/// Number format of prepared caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheDtype {
    /// bfloat16: exact for models held in bf16, rounded for models held in f32.
    Bf16,
    /// 32-bit floats: exact.
    F32,
}

impl CacheDtype {
    /// Burn's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F32 => DType::F32,
        }
    }
}

/// `about.json`: what the caches depend on, examples apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// [`VERSION`].
    pub version: u32,
    /// Number format of the values.
    pub dtype: CacheDtype,
    /// The Receiver's weights as they are in memory.
    pub receiver_sha256: String,
    /// The Sharer's.
    pub sharer_sha256: String,
    /// Layers, heads and head width of the Receiver's cache.
    pub receiver: [usize; 3],
    /// Heads and head width of the Sharer's cache.
    pub sharer: [usize; 2],
    /// The Sharer's layers that are held, ascending.
    pub sharer_layers: Vec<usize>,
}

impl About {
    /// What the caches of a run depend on.
    pub fn new(config: &FuserConfig, receiver: &Fingerprint, sharer: &Fingerprint, dtype: CacheDtype) -> Self {
        Self {
            version: VERSION,
            dtype,
            receiver_sha256: receiver.to_string(),
            sharer_sha256: sharer.to_string(),
            receiver: [config.layers(), config.receiver_heads, config.receiver_head_dim],
            sharer: [config.sharer_heads, config.sharer_head_dim],
            sharer_layers: RecordShape::new(config, dtype.dtype()).sharer_layers().to_vec(),
        }
    }

    /// What differs from what a run needs, a line each. The dtype is the folder's own choice.
    fn differences(&self, now: &Self) -> Vec<String> {
        let mut out = Vec::new();
        let mut compare = |what: &str, prepared: String, now: String| {
            if prepared != now {
                out.push(format!("{what}: prepared {prepared}, now {now}"));
            }
        };
        compare("layout version", self.version.to_string(), now.version.to_string());
        compare("receiver's weights", self.receiver_sha256.clone(), now.receiver_sha256.clone());
        compare("sharer's weights", self.sharer_sha256.clone(), now.sharer_sha256.clone());
        compare("receiver's layers, heads, width", format!("{:?}", self.receiver), format!("{:?}", now.receiver));
        compare("sharer's heads, width", format!("{:?}", self.sharer), format!("{:?}", now.sharer));
        compare(
            "sharer's layers (fuser.layer_mapping)",
            format!("{:?}", self.sharer_layers),
            format!("{:?}", now.sharer_layers),
        );
        out
    }
}

/// `chunk-N.json`: the list of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChunkList {
    bytes: u64,
    sha256: String,
    /// In the order of the chunk.
    examples: Vec<Listed>,
}

/// One example of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    sha256: String,
    receiver: usize,
    sharer: usize,
}

/// `index.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    version: u32,
    examples: usize,
    bytes: u64,
    /// Names of the chunks without ending, and the SHA-256 of their lists.
    chunks: Vec<(String, String)>,
}

/// The name of a chunk, without ending.
fn chunk_name(number: usize) -> String {
    format!("chunk-{number:06}")
}
