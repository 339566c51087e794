//! From a recipe to a trained fuser: collation, Burn's learner, optimiser and schedule.
//!
//! Two language models stay frozen; only the fuser is a Burn module that learns. [`single`] tunes the Receiver alone
//! instead, as a baseline; [`train_transformation`] maps one cache to the other. [`pretrain`] makes the small models of
//! the pocket pair from nothing.

mod adamw;
mod batcher;
pub mod checkpoint;
mod contexts;
mod data;
pub mod devices;
mod error;
mod fit;
pub mod geometry;
pub mod grads;
pub mod head_weights;
mod learner;
mod loader;
mod loss;
mod material;
mod metrics;
mod network;
mod optimizer;
mod order;
mod padding;
pub mod plan;
pub mod prepared;
pub mod pretrain;
mod recorder;
mod renderer;
mod run;
mod schedule;
mod setting;
pub mod single;
mod strategy;
mod transformation;
mod weights;

pub use adamw::OnePassAdamW;
pub use checkpoint::CheckpointError;
pub use data::{Examples, TrainExample, load_examples, place, split};
pub use error::TrainError;
pub use learner::{ErrorSlot, FrozenPair, FuserModule, StepOutput, TrainItem, ValidItem};
pub use loader::{BatchLoader, MakeItem};
pub use loss::{supervised_loss, weighted_loss};
pub use material::{Material, PairMaterial};
pub use metrics::{Figure, FigureInput, FigureMetric, GatesOpen, GradNorm, Loss, Padding, StepFacts, Temperature};
pub use network::fuser_parts;
pub use optimizer::{FuserOptimizer, Moments};
pub use order::{Order, Plan};
pub use padding::{EpochSlots, epoch_slots};
pub use recorder::{Cursor, GATES_FILE, Recorder, RunFacts, RunLog, Start, TIMINGS_FILE};
pub use run::{BestFuser, ExampleCounts, RunOptions, Trained, adam_w, fuser_config, fuser_shape, layer_mapping, train};
pub use schedule::{Schedule, ScheduleShape};
pub use strategy::{FuserLearning, Observer, StepPlan, StepStrategy, WindowMean};
pub use transformation::train_transformation;
