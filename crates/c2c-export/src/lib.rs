//! The fuser artefact: what training leaves behind and evaluation starts from.
//!
//! [`artefact`] writes and reads the project's own folder (`fuser_config.json`, `fuser.safetensors`, `README.md`), and
//! [`published`] reads and writes fusers in the layout of the reference implementation (thu-nics/C2C); [`torch`] does it for
//! PyTorch's files, without running any of the Python in them.
//!
//! Invariants:
//! - a folder is written whole or not at all, and loads back bit for bit;
//! - a file that isn't exactly what its config says is refused, with all differences at once; no file makes the
//!   program allocate more than about its own size.

pub mod artefact;
mod convert;
mod error;
mod files;
mod json;
mod layout;
mod measure;
mod onnx;
pub mod published;
pub mod torch;

pub use convert::{BURNPACK_FILE, ExportFormat, ExportOptions, convert};
pub use error::ExportError;
pub use measure::{fused_loss, random_caches};
pub use onnx::{EXTERNAL_FROM, ONNX_DATA_FILE, ONNX_FILE, write_onnx};
