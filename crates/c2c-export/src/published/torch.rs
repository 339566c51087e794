//! `projector_{i}.pt`: the fuser of one layer, a PyTorch zip file.
//!
//! Burn's reader parses the pickle without running it, but fills up with zeros what it can't read. So every storage is
//! read through its checksum first, and sizes are compared, before any value is used. Limit: the reader takes storages
//! for contiguous, as PyTorch writes the parameters of modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use burn_store::pytorch::PytorchReader;
use burn_store::pytorch::lazy_data::ZipSource;

use super::args::Rounding;
use crate::layout::Slot;

/// The buffer beside the parameters.
pub(crate) const TEMPERATURE: &str = "gate_temperature";

/// How a zip file starts.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";

/// The checked fuser of one layer. Values stay on disk until they are asked for.
pub(crate) struct TorchFile {
    path: PathBuf,
    reader: PytorchReader,
    rounding: Rounding,
}

impl TorchFile {
    /// Opens and checks a file; all problems at once.
    pub fn open(path: &Path, slots: &[Slot], rounding: Rounding) -> Result<Self, Vec<String>> {
        let failed = |reason: String| vec![format!("  {}: {reason}", path.display())];
        let mut magic = [0; 4];
        File::open(path).and_then(|mut f| f.read_exact(&mut magic)).map_err(|e| failed(e.to_string()))?;
        if magic != ZIP_MAGIC {
            return Err(failed("no zip file, expected one as PyTorch 1.6 and later write".into()));
        }
        let reader = PytorchReader::new(path).map_err(|e| failed(e.to_string()))?;
        let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::from([(TEMPERATURE.to_owned(), Vec::new())]);
        for slot in slots {
            for branch in [0, slot.shape[0] / 2] {
                expected.insert(slot.published_name(branch), slot.published_shape());
            }
        }
        let mut problems = Vec::new();
        let mut sizes = Vec::new();
        for (name, shape) in &expected {
            let Some(tensor) = reader.get(name) else {
                problems.push(format!("  {}: {name}: missing, expected shape {shape:?}", path.display()));
                continue;
            };
            let found: Vec<usize> = tensor.shape.iter().copied().collect();
            if found != *shape {
                problems.push(format!("  {}: {name}: found shape {found:?}, expected {shape:?}", path.display()));
            }
            if !matches!(tensor.dtype, DType::F32 | DType::BF16 | DType::F16) {
                let dtype = tensor.dtype;
                problems
                    .push(format!("  {}: {name}: found dtype {dtype:?}, expected F32, BF16 or F16", path.display()));
            }
            sizes.push(shape.iter().product::<usize>() * tensor.dtype.size());
        }
        let mut unused: Vec<String> = reader.keys().into_iter().filter(|k| !expected.contains_key(k)).collect();
        unused.sort();
        problems.extend(unused.iter().map(|k| format!("  {}: {k}: unused, expected no such tensor", path.display())));
        if !problems.is_empty() {
            return Err(problems);
        }
        let total = sizes.iter().sum();
        check_storages(path, reader.metadata().total_data_size, total, sizes).map_err(failed)?;
        Ok(Self { path: path.to_owned(), reader, rounding })
    }

    /// The values of a tensor under its published name, in f32.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, String> {
        let failed = |reason: String| format!("  {}: {name}: {reason}", self.path.display());
        let tensor = self.reader.get(name).ok_or_else(|| failed("missing".into()))?;
        let data = tensor.to_data().map_err(|e| failed(format!("cannot be read: {e:?}")))?;
        let mut values = data.convert::<f32>().into_vec::<f32>().map_err(|e| failed(format!("{e:?}")))?;
        self.rounding.apply(&mut values);
        Ok(values)
    }
}

/// Reads every storage through its checksum, and compares their sizes with those of the tensors.
fn check_storages(path: &Path, found: Option<usize>, total: usize, mut sizes: Vec<usize>) -> Result<(), String> {
    // First of all, so that no storage that only claims to be large is read.
    if found != Some(total) {
        let found = found.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
        return Err(format!("{found} bytes of values, expected {total}"));
    }
    let source = ZipSource::new(path.to_owned()).map_err(|e| e.to_string())?;
    let names: BTreeSet<String> = source.data_files().into_iter().collect();
    let mut stored = Vec::new();
    for name in &names {
        stored.push(source.read_file(name).map_err(|e| format!("storage {name} is damaged: {e}"))?.len());
    }
    stored.sort_unstable();
    sizes.sort_unstable();
    if stored == sizes { Ok(()) } else { Err("storages of other sizes than the tensors".into()) }
}
