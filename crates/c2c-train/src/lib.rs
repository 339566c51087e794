//! From a recipe to a trained fuser: collation, Burn's learner, optimiser and schedule.
//!
//! Two language models stay frozen; only the fuser is a Burn module that learns. [`pretrain`] makes the small models of
//! the pocket pair from nothing.

mod data;
mod error;
pub mod grads;
mod learner;
mod loader;
mod loss;
mod metrics;
mod order;
mod padding;
pub mod pretrain;
mod run;
mod schedule;
mod strategy;

pub use data::{Examples, TrainExample, load_examples, split};
pub use error::TrainError;
pub use learner::{ErrorSlot, FrozenPair, FuserModule, StepOutput, TrainItem, ValidItem};
pub use loader::{BatchLoader, MakeBatch, MakeItem};
pub use loss::{supervised_loss, weighted_loss};
pub use metrics::{Figure, FigureInput, FigureMetric, GatesOpen, GradNorm, Loss, Padding, StepFacts, Temperature};
pub use order::{Order, Plan};
pub use padding::{EpochSlots, epoch_slots};
pub use run::{ExampleCounts, RunOptions, Trained, adam_w, adam_w_of, fuser_config, layer_mapping, train};
pub use schedule::{Schedule, ScheduleShape};
pub use strategy::{FuserLearning, FuserOptimizer, Observer, StepPlan, StepStrategy, WindowMean};
