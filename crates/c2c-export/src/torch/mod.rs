//! PyTorch's zip files of tensors, read and written without Python.
//!
//! [`StateDict`] opens a file: its zip container, and the pickle that describes the tensors ([`state_dict`]).
//! [`write_state_dict`] is the way back.
//!
//! Invariants of reading: nothing is ever executed; only the opcodes and names that a state dict needs are known, every
//! other one is refused by its name; memory is bounded by the size of the file and by the limits that stand at the top
//! of each module, whatever the file claims.

mod archive;
mod error;
mod opcode;
mod pickle;
mod state;
mod view;
mod write;

pub use error::TorchError;
pub use pickle::state_dict;
pub use state::StateDict;
pub use view::{StorageType, TensorView};
pub use write::{TensorFile, write_state_dict};
