//! Memory-mapped safetensors: one file, or shards named by an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::LmError;
use crate::config::{read_up_to, short};

/// An index larger than this is something else: that of a model with 100,000 tensors has 10 MB.
const MAX_INDEX_BYTES: u64 = 32 << 20;

/// Tensors that an index may name.
const MAX_INDEXED: usize = 500_000;

/// `model.safetensors.index.json`. What else it says is passed over unread.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// The shard of each tensor.
struct WeightMap(BTreeMap<String, FileName>);

struct FileName(String);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table `weight_map` of tensors and their files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WeightMap, A::Error> {
                let mut out = BTreeMap::new();
                while let Some(name) = entries.next_key::<String>()? {
                    let file = entries.next_value();
                    let file = file.map_err(|e| A::Error::custom(format!("weight_map.{name}: {e}")))?;
                    if out.len() == MAX_INDEXED {
                        return Err(A::Error::custom(format!("`weight_map` names more than {MAX_INDEXED} tensors")));
                    }
                    out.insert(name, file);
                }
                Ok(WeightMap(out))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = FileName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a file in the same folder")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<FileName, E> {
                Ok(FileName(name.to_owned()))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Where a tensor lies: which file, which bytes, what it is.
#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    range: std::ops::Range<usize>,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// The tensors of a model folder, by name. Bytes stay on disk until they are asked for.
///
/// Reading a tensor marks it as used; [`Checkpoint::unused`] lists the rest.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<Mmap>,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<String>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards of `model.safetensors.index.json`, of a folder.
    ///
    /// # Errors
    /// No weights, an unreadable file, a damaged header, or an index that disagrees with its shards.
    pub fn open(dir: &Path) -> Result<Self, LmError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.is_file() {
            return Self::open_files(dir, &[single]);
        }
        if !index.is_file() {
            return Err(LmError::NoWeights { path: dir.to_owned() });
        }
        let json = |reason: String| LmError::Json { path: index.clone(), reason };
        let Index { weight_map: WeightMap(map) } =
            serde_json::from_slice(&read_up_to(&index, MAX_INDEX_BYTES)?).map_err(|e| json(short(e.to_string())))?;
        let mut shards = BTreeSet::new();
        for (tensor, FileName(shard)) in &map {
            if !is_plain_file_name(shard) {
                return Err(json(format!(
                    "weight_map.{tensor} = {shard:?}: expected the name of a file in the same folder"
                )));
            }
            shards.insert(dir.join(shard));
        }
        let files: Vec<PathBuf> = shards.into_iter().collect();
        let checkpoint = Self::open_files(dir, &files)?;
        let missing: Vec<String> = map
            .keys()
            .filter(|name| !checkpoint.entries.contains_key(*name))
            .map(|name| format!("  {name}: named by the index, in no shard"))
            .collect();
        if missing.is_empty() {
            Ok(checkpoint)
        } else {
            Err(LmError::Weights { path: dir.to_owned(), problems: missing })
        }
    }

    /// Opens the given safetensors files as one checkpoint.
    ///
    /// # Errors
    /// An unreadable file or a damaged header.
    pub fn open_files(dir: &Path, paths: &[PathBuf]) -> Result<Self, LmError> {
        let mut files = Vec::new();
        let mut entries = BTreeMap::new();
        for path in paths {
            let map = map_file(path)?;
            let damaged = |reason: String| LmError::Safetensors { path: path.clone(), reason };
            let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| damaged(e.to_string()))?;
            let start = header + 8;
            for (name, info) in metadata.tensors() {
                let range = start + info.data_offsets.0..start + info.data_offsets.1;
                if range.end > map.len() {
                    return Err(damaged(format!(
                        "tensor {name} ends at byte {}, the file has {} (truncated?)",
                        range.end,
                        map.len()
                    )));
                }
                let entry = Entry { file: files.len(), range, dtype: info.dtype, shape: info.shape.clone() };
                if entries.insert(name.clone(), entry).is_some() {
                    return Err(damaged(format!("tensor {name} is in an earlier shard already")));
                }
            }
            files.push(map);
        }
        Ok(Self { path: dir.to_owned(), files, entries, used: BTreeSet::new() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// The names nobody asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        self.entries.keys().filter(|n| !self.used.contains(*n)).cloned().collect()
    }

    /// The tensor as f32 values, or why not. Marks it as used.
    ///
    /// # Errors
    /// A line that names the tensor: missing, of another shape, or of a dtype that isn't floating point.
    pub fn read_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let entry = self.entries.get(name).ok_or_else(|| format!("  {name}: missing, expected shape {shape:?}"))?;
        self.used.insert(name.to_owned());
        if entry.shape != shape {
            return Err(format!("  {name}: found shape {:?}, expected {shape:?}", entry.shape));
        }
        let bytes = &self.files[entry.file][entry.range.clone()];
        match entry.dtype {
            Dtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::BF16 => Ok(bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            Dtype::F16 => Ok(bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            other => Err(format!("  {name}: dtype {other:?}, expected F32, BF16 or F16")),
        }
    }
}

/// True for a name that stays inside its folder.
fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

#[allow(unsafe_code)]
fn map_file(path: &Path) -> Result<Mmap, LmError> {
    let io = |source| LmError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    // SAFETY: the map is read-only and its bytes are only ever interpreted as numbers. As for every memory-mapped model
    // file, another process that truncates the file while it is loaded would end this one.
    unsafe { Mmap::map(&file) }.map_err(io)
}
