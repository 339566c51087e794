//! Cache-to-Cache: one model's KV cache projected into another's and added to it.
//!
//! The [`Fuser`] is the paper's (section 3.3): a projection, a dynamic weight per head, and a gate per layer, for keys and
//! for values; with [`AllInOneConfig`] it is the reference implementation's older network instead. It works on tensors and can
//! be used alone by a program that brings its own caches ([`Fuser::fuse`]). [`C2c`] joins it with a Receiver and a Sharer:
//! prefill in sections, fusion of the marked ones, decoding. [`Several`] joins a Receiver with several
//! Sharers.
//!
//! The fusers of all layers have one shape, so their parameters are stacked: branch `m` of `2 * layers` is the key branch
//! of layer `m`, or the value branch of layer `m - layers`. One batched product a sub-layer serves all of them.

mod all_in_one;
mod batch;
mod c2c;
mod cache_pairs;
mod config;
mod contexts;
mod error;
mod fuser;
mod gate;
mod head_weights;
mod in_place;
mod layer_map;
mod pair;
mod paper;
mod several;
mod stacked;
mod traced;

pub use all_in_one::{Activation, AllInOneConfig, Features, Granularity, ReceiverTerm, Scaling};
pub use batch::{BatchSection, PairBatch};
pub use c2c::{C2c, Fusion, Phase, Prefilled};
pub use cache_pairs::CachePairs;
pub use config::{FuserConfig, FuserParts, GateNoise};
pub use contexts::{ContextRecord, Contexts, HostContexts, RecordShape};
pub use error::FuserError;
pub use fuser::{Fuser, FuserMode};
pub use gate::{GateDraw, anneal};
pub use head_weights::HeadWeights;
pub use layer_map::LayerMapping;
pub use pair::{ModelSource, PairModels};
pub use several::{FusionOrder, Link, Several, SeveralBatch};
pub use traced::{LossGradient, TracedLoss};
