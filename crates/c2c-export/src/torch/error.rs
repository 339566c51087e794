//! What can be wrong in a PyTorch file. The caller adds the path.

/// Errors of reading a PyTorch zip file.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The file can't be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The container isn't what PyTorch writes.
    #[error("zip container: {0}")]
    Zip(String),
    /// An opcode that no file of tensors needs.
    #[error("pickle, byte {at}: opcode {name} is refused; only tensors, numbers and plain containers are read")]
    Opcode {
        /// Where in `data.pkl`.
        at: usize,
        /// Its name in Python's pickletools, or the byte.
        name: String,
    },
    /// A name that no file of tensors needs.
    #[error(
        "pickle, byte {at}: opcode GLOBAL names `{name}`, which is refused; only tensors, numbers and plain containers are read"
    )]
    Global {
        /// Where in `data.pkl`.
        at: usize,
        /// Module and name.
        name: String,
    },
    /// The pickle ends within an opcode or without STOP, or goes on behind it.
    #[error("pickle, byte {at}: {what}")]
    Truncated {
        /// Where in `data.pkl`.
        at: usize,
        /// What is missing or too much.
        what: String,
    },
    /// An opcode without the operands that it needs.
    #[error("pickle, byte {at}: opcode {opcode}: found {found}, expected {expected}")]
    Operand {
        /// Where in `data.pkl`.
        at: usize,
        /// The opcode's name.
        opcode: &'static str,
        /// What it was given.
        found: String,
        /// What it takes.
        expected: &'static str,
    },
    /// More than any file of tensors has.
    #[error("{what}: {found}, at most {limit} are read")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A tensor that doesn't lie inside its storage.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its key in the state dict.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The pickle holds something else than a state dict.
    #[error("no state dict: {0}")]
    NotAStateDict(String),
}
