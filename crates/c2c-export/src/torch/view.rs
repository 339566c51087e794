//! What a pickle says about a tensor.

/// The number format of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageType {
    /// `torch.FloatStorage`.
    F32,
    /// `torch.BFloat16Storage`.
    Bf16,
    /// `torch.HalfStorage`.
    F16,
    /// Another of PyTorch's storages, by name.
    Other(&'static str),
}

/// Storages that are known but that no fuser has: named in the error about the tensor.
const OTHER_STORAGES: [&str; 7] =
    ["DoubleStorage", "LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"];

impl StorageType {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "FloatStorage" => Some(Self::F32),
            "BFloat16Storage" => Some(Self::Bf16),
            "HalfStorage" => Some(Self::F16),
            _ => OTHER_STORAGES.iter().find(|n| **n == name).map(|n| Self::Other(n)),
        }
    }

    /// Bytes of an element, for the formats that are read.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::F32 => Some(4),
            Self::Bf16 | Self::F16 => Some(2),
            Self::Other(_) => None,
        }
    }
}

/// A tensor as the pickle describes it; nothing in it is checked against a storage yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView {
    /// The number format.
    pub kind: StorageType,
    /// The storage's key: it lies in the record `data/<key>`.
    pub storage: String,
    /// Elements of the storage.
    pub storage_len: u64,
    /// The first element.
    pub offset: u64,
    /// Sizes of the axes.
    pub shape: Vec<u64>,
    /// Elements between neighbours on each axis.
    pub strides: Vec<u64>,
}
