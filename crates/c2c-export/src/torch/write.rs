//! Writes a state dict as `torch.save` does: a zip file of stored records, the pickle first.
//!
//! The pickle has protocol 2 and only the names and opcodes that [`super::pickle`] reads, which are those that
//! `torch.load(weights_only=True)` allows. Storages start at multiples of 64 bytes, as PyTorch wants them for memory maps.
//! The same tensors give the same bytes.

use std::io::Write;

use half::{bf16, f16};

use super::StorageType;

/// Storages start at multiples of this.
const ALIGNMENT: usize = 64;
const LOCAL_BYTES: usize = 30;
/// Names are UTF-8.
const FLAGS: u16 = 0x0800;
/// 1 January 1980, the first day of zip files.
const DATE: u16 = 0x21;

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct TensorFile {
    /// Its key.
    pub name: String,
    /// Its shape; the values are in row order.
    pub shape: Vec<usize>,
    /// The values as bytes of the file's number format.
    pub bytes: Vec<u8>,
}

impl TensorFile {
    /// A tensor whose values are rounded to a number format, ties to even.
    pub fn new(name: &str, shape: &[usize], values: &[f32], kind: StorageType) -> Self {
        let bytes = match kind {
            StorageType::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            StorageType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            StorageType::F32 | StorageType::Other(_) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        Self { name: name.to_owned(), shape: shape.to_vec(), bytes }
    }
}

/// Writes the file; `folder` is the name that its records lie under, by custom the file's stem.
///
/// # Errors
/// A writer that fails; 4 GiB or more, which zip files without extensions don't hold.
pub fn write_state_dict(
    out: &mut impl Write,
    folder: &str,
    kind: StorageType,
    tensors: &[TensorFile],
) -> std::io::Result<()> {
    let mut zip = Zip { out, at: 0, directory: Vec::new(), records: 0 };
    zip.record(&format!("{folder}/data.pkl"), &pickle(kind, tensors))?;
    zip.record(&format!("{folder}/byteorder"), b"little")?;
    for (i, tensor) in tensors.iter().enumerate() {
        zip.record(&format!("{folder}/data/{i}"), &tensor.bytes)?;
    }
    zip.record(&format!("{folder}/version"), b"3\n")?;
    zip.finish()
}

fn pickle(kind: StorageType, tensors: &[TensorFile]) -> Vec<u8> {
    const EMPTY_ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let (storage, size) = match kind {
        StorageType::Bf16 => ("BFloat16Storage", 2),
        StorageType::F16 => ("HalfStorage", 2),
        StorageType::F32 | StorageType::Other(_) => ("FloatStorage", 4),
    };
    let mut p = vec![0x80, 2];
    p.extend(EMPTY_ORDERED_DICT);
    p.push(b'(');
    for (i, tensor) in tensors.iter().enumerate() {
        text(&mut p, &tensor.name);
        p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut p, "storage");
        p.extend(format!("ctorch\n{storage}\n").bytes());
        text(&mut p, &i.to_string());
        text(&mut p, "cpu");
        integer(&mut p, tensor.bytes.len() / size);
        p.extend(b"tQ");
        integer(&mut p, 0);
        sizes(&mut p, tensor.shape.iter().copied());
        let strides = (0..tensor.shape.len()).map(|axis| tensor.shape[axis + 1..].iter().product());
        sizes(&mut p, strides);
        p.push(0x89);
        p.extend(EMPTY_ORDERED_DICT);
        p.extend(b"tR");
    }
    p.extend(b"u.");
    p
}

fn text(p: &mut Vec<u8>, text: &str) {
    p.push(b'X');
    p.extend((text.len() as u32).to_le_bytes());
    p.extend(text.bytes());
}

fn integer(p: &mut Vec<u8>, n: usize) {
    if let Ok(n) = u8::try_from(n) {
        p.extend([b'K', n]);
    } else if let Ok(n) = i32::try_from(n) {
        p.push(b'J');
        p.extend(n.to_le_bytes());
    } else {
        p.extend([0x8a, 8]);
        p.extend((n as u64).to_le_bytes());
    }
}

fn sizes(p: &mut Vec<u8>, sizes: impl Iterator<Item = usize>) {
    p.push(b'(');
    sizes.for_each(|n| integer(p, n));
    p.push(b't');
}

struct Zip<'a, W: Write> {
    out: &'a mut W,
    at: usize,
    directory: Vec<u8>,
    records: u16,
}

impl<W: Write> Zip<'_, W> {
    fn record(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let size = narrow(bytes.len())?;
        let start = self.at + LOCAL_BYTES + name.len();
        // An extra field has 4 bytes of its own. `FB` is what PyTorch calls its padding.
        let padding = (ALIGNMENT - (start + 4) % ALIGNMENT) % ALIGNMENT;
        let mut common = Vec::new();
        for field in [20, FLAGS, 0, 0, DATE] {
            common.extend(u16::to_le_bytes(field));
        }
        for field in [crc32fast::hash(bytes), size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());

        self.directory.extend(b"PK\x01\x02\x14\x00");
        self.directory.extend(&common);
        // No extra field, no comment, disk 0, no attributes.
        self.directory.extend([0; 12]);
        self.directory.extend(narrow(self.at)?.to_le_bytes());
        self.directory.extend(name.bytes());
        self.records += 1;

        let mut local = b"PK\x03\x04".to_vec();
        local.extend(&common);
        local.extend((padding as u16 + 4).to_le_bytes());
        local.extend(name.bytes());
        local.extend(b"FB");
        local.extend((padding as u16).to_le_bytes());
        local.resize(local.len() + padding, b'Z');
        self.write(&local)?;
        self.write(bytes)
    }

    fn finish(mut self) -> std::io::Result<()> {
        let start = narrow(self.at)?;
        let directory = std::mem::take(&mut self.directory);
        self.write(&directory)?;
        let mut end = b"PK\x05\x06\x00\x00\x00\x00".to_vec();
        end.extend(self.records.to_le_bytes());
        end.extend(self.records.to_le_bytes());
        end.extend(narrow(directory.len())?.to_le_bytes());
        end.extend(start.to_le_bytes());
        end.extend([0, 0]);
        self.write(&end)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }
}

fn narrow(n: usize) -> std::io::Result<u32> {
    let large = || std::io::Error::new(std::io::ErrorKind::FileTooLarge, "a PyTorch file of 4 GiB or more");
    u32::try_from(n).ok().filter(|n| *n != u32::MAX).ok_or_else(large)
}
