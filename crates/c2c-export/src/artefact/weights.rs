//! `fuser.safetensors`: written one tensor at a time, read the same way.
//!
//! The header is written here rather than by the safetensors crate for two reasons: that crate keeps the metadata in a
//! hash map, so the same fuser would give other bytes each time, and it wants all tensors in memory at once. Reading
//! leaves the checks of the header (offsets that follow on each other, sizes that match shapes) to the crate, and adds
//! those of a fuser.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use c2c_fuser::Fuser;
use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::config::{KIND, SCHEMA_VERSION};
use super::format::{Stored, WeightsFormat, decode, encode};
use crate::files::{hex, read_error, reason, shown, write_error};
use crate::layout::{Form, MAX_NUM_LAYERS, Slot};
use crate::{ExportError, files, layout};

/// A header larger than this belongs to something else; one of a fuser has about 600 bytes for each of its own layers.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// Tensors of a fuser: three a block (six a layer of an all-in-one network) and some more, each with its scales.
const MAX_TENSORS: usize = 2 * (6 * MAX_NUM_LAYERS + 20);

/// Unused tensors that an error names.
const MAX_LISTED: usize = 50;

/// Bytes before the header: its length.
const LENGTH_BYTES: u64 = 8;

/// The values of a parameter, in row order.
pub(crate) fn values<B: Backend>(name: &str, param: &Param<Tensor<B, 3>>) -> Result<Vec<f32>, ExportError> {
    tensor_values(name, param.val())
}

/// The values of a tensor, in row order.
pub(crate) fn tensor_values<B: Backend>(name: &str, tensor: Tensor<B, 3>) -> Result<Vec<f32>, ExportError> {
    let failed = |reason: String| ExportError::Readback { name: name.to_owned(), reason };
    let data = tensor.try_into_data().map_err(|e| failed(format!("{e:?}")))?;
    data.convert::<f32>().into_vec::<f32>().map_err(|e| failed(format!("{e:?}")))
}

/// Writes a new file and returns its SHA-256. `slots` are those of the whole fuser; `fuser` holds all branches, or exactly
/// those that the format keeps.
pub(crate) fn write<B: Backend>(
    fuser: &Fuser<B>,
    slots: &[Slot],
    format: &WeightsFormat,
    path: &Path,
) -> Result<String, ExportError> {
    let params = fuser.named_params();
    let mut stored = Vec::new();
    for (name, _) in &params {
        let slot = layout::find(slots, name).ok_or_else(|| ExportError::Parameter {
            name: name.clone(),
            found: "no such parameter".into(),
            expected: "one of the fuser's".into(),
        })?;
        stored.push((slot, format.stored(slot)));
    }
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": KIND, "schema_version": SCHEMA_VERSION.to_string() }));
    let mut end = 0;
    for tensor in stored.iter().flat_map(|(_, tensors)| tensors) {
        let (start, shape) = (end, tensor.shape);
        end += tensor.bytes();
        let dtype = format!("{:?}", tensor.dtype);
        header.insert(tensor.name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');

    let failed = write_error(path);
    let mut file = BufWriter::new(File::create_new(path).map_err(&failed)?);
    let mut sha = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sha.update(bytes);
        file.write_all(bytes).map_err(&failed)
    };
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    // Those of branches that the fuser doesn't hold are written, too.
    let gates = match fuser.open_branches() {
        Some(_) => {
            let (keys, values) = fuser.gate_logits()?;
            Some([keys, values].concat())
        }
        None => None,
    };
    for ((name, param), (slot, tensors)) in params.iter().zip(&stored) {
        let found = match &gates {
            Some(gates) if slot.form == Form::Scalar => gates.clone(),
            _ if slot.stays_wide() => values(name, param)?,
            _ => kept(slot, format, values(name, param)?),
        };
        for bytes in encode(tensors, &found) {
            put(&bytes)?;
        }
    }
    let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(&failed)?;
    Ok(hex(sha))
}

/// The branches of a parameter that the format keeps.
fn kept(slot: &Slot, format: &WeightsFormat, values: Vec<f32>) -> Vec<f32> {
    match format.open(slot.shape[0]) {
        Some(open) if values.len() == slot.shape[0] * slot.branch_len() => {
            let branch = |b: &usize| &values[b * slot.branch_len()..][..slot.branch_len()];
            open.iter().flat_map(branch).copied().collect()
        }
        _ => values,
    }
}

/// An open file whose header is sound: tensors lie one behind the other and fill the file to its end.
#[derive(Debug)]
pub(crate) struct Weights {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: Metadata,
}

impl Weights {
    /// Opens the file and checks its header; no more than the header is read.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let damaged = |reason: String| ExportError::Safetensors { path: path.to_owned(), reason };
        let failed = read_error(path);
        let mut file = File::open(path).map_err(&failed)?;
        let size = file.metadata().map_err(&failed)?.len();
        if size < LENGTH_BYTES {
            return Err(damaged(format!("{size} bytes, expected {LENGTH_BYTES} or more")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(&failed)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > size - LENGTH_BYTES {
            let limit = MAX_HEADER_BYTES.min(size - LENGTH_BYTES);
            return Err(damaged(format!("a header of {length} bytes, expected at most {limit} in a file of {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(&failed)?;

        let Names { twice } = serde_json::from_slice(&header).map_err(|e| damaged(format!("header: {}", reason(e))))?;
        if let Some(name) = twice {
            return Err(damaged(format!("header: tensor `{}` is there twice", shown(&name))));
        }
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(format!("header: {}", reason(e))))?;
        let data_start = LENGTH_BYTES + length;
        let (found, expected) = (size - data_start, metadata.data_len() as u64);
        if found != expected {
            return Err(damaged(format!("{found} bytes of tensors, expected {expected}")));
        }
        let entry = |key| metadata.metadata().as_ref().and_then(|m| m.get(key)).map(String::as_str);
        if entry("format") != Some(KIND) {
            let found = shown(entry("format").unwrap_or("none"));
            return Err(damaged(format!("metadata `format` is `{found}`, expected `{KIND}`")));
        }
        let version = entry("schema_version").unwrap_or("none");
        if version != SCHEMA_VERSION.to_string() {
            let found = shown(version);
            return Err(ExportError::SchemaVersion { path: path.to_owned(), found, expected: SCHEMA_VERSION });
        }
        Ok(Self { path: path.to_owned(), file, data_start, tensors: metadata })
    }

    /// Compares the hash of the whole file.
    pub fn check_hash(&self, expected: &str) -> Result<(), ExportError> {
        let found = files::hash_file(&self.path)?;
        if found == expected {
            Ok(())
        } else {
            Err(ExportError::Hash { path: self.path.clone(), found, expected: expected.to_owned() })
        }
    }

    /// Compares the tensors with those of the config: all that are missing, unused, misshapen or of another dtype.
    pub fn check_tensors(&self, slots: &[Slot], format: &WeightsFormat) -> Result<(), ExportError> {
        let mut problems = Vec::new();
        let expected: Vec<Stored> = slots.iter().flat_map(|slot| format.stored(slot)).collect();
        for tensor in &expected {
            let name = &tensor.name;
            match self.tensors.info(name) {
                None => problems.push(format!("  {name}: missing, expected shape {:?}", tensor.shape)),
                Some(info) => {
                    if info.dtype != tensor.dtype {
                        problems.push(format!("  {name}: found dtype {:?}, expected {:?}", info.dtype, tensor.dtype));
                    }
                    if info.shape != tensor.shape {
                        problems.push(format!("  {name}: found shape {:?}, expected {:?}", info.shape, tensor.shape));
                    }
                }
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut unused = self.tensors.offset_keys();
        unused.retain(|name| !known.contains(name.as_str()));
        unused.sort();
        let more = unused.len().saturating_sub(MAX_LISTED);
        unused.truncate(MAX_LISTED);
        problems.extend(unused.iter().map(|name| format!("  {}: unused, expected no such tensor", shown(name))));
        if more > 0 {
            problems.push(format!("  and {more} more that are unused"));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ExportError::Tensors { path: self.path.clone(), config: "fuser_config.json", problems })
        }
    }

    /// The values of a parameter, of the branches that are there.
    pub fn read(&mut self, slot: &Slot, format: &WeightsFormat) -> Result<Vec<f32>, String> {
        let stored = format.stored(slot);
        let bytes = stored.iter().map(|tensor| self.bytes(&tensor.name)).collect::<Result<Vec<_>, _>>()?;
        Ok(decode(&stored, &bytes))
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let (start, end) = self.tensors.info(name).ok_or_else(|| format!("  {name}: missing"))?.data_offsets;
        let mut bytes = vec![0; end - start];
        let at = SeekFrom::Start(self.data_start + start as u64);
        let read = self.file.seek(at).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|e| format!("  {name}: cannot be read: {e}"))?;
        Ok(bytes)
    }
}

/// The keys of a header: JSON parsers keep the last of two equal ones, so a tensor could hide another.
struct Names {
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let (mut seen, mut twice) = (BTreeSet::new(), None);
                while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if seen.len() > MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    if let Some(name) = seen.replace(name) {
                        twice = Some(name);
                    }
                }
                Ok(Names { twice })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
