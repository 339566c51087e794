//! `projector_{i}.pt`: the fuser of one layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Rounding;
use crate::files::shown;
use crate::layout::Slot;
use crate::torch::{StateDict, StorageType};

/// The buffer beside the parameters.
pub(crate) const TEMPERATURE: &str = "gate_temperature";

/// The checked fuser of one layer. Values stay on disk until they are asked for.
pub(crate) struct TorchFile {
    path: PathBuf,
    state: StateDict,
    rounding: Rounding,
}

impl TorchFile {
    /// Opens and checks a file; all problems at once.
    pub fn open(path: &Path, slots: &[Slot], gates: bool, rounding: Rounding) -> Result<Self, Vec<String>> {
        let state = StateDict::open(path).map_err(|e| vec![format!("  {}: {e}", path.display())])?;
        let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        if gates {
            expected.insert(TEMPERATURE.to_owned(), Vec::new());
        }
        for slot in slots {
            let shape: Vec<u64> = slot.published_shape().into_iter().map(|n| n as u64).collect();
            for branch in slot.sides() {
                expected.insert(slot.published_name(branch), shape.clone());
            }
        }
        let mut problems = Vec::new();
        for (name, shape) in &expected {
            let problem = match state.view(name) {
                None => format!("missing, expected shape {shape:?}"),
                Some(view) if view.shape != *shape => format!("found shape {:?}, expected {shape:?}", view.shape),
                Some(view) => match view.kind {
                    StorageType::Other(kind) => {
                        format!("found a torch.{kind}, expected FloatStorage, BFloat16Storage or HalfStorage")
                    }
                    _ => continue,
                },
            };
            problems.push(format!("  {}: {name}: {problem}", path.display()));
        }
        let unused = state.names().filter(|name| !expected.contains_key(*name));
        problems.extend(
            unused.map(|name| format!("  {}: {}: unused, expected no such tensor", path.display(), shown(name))),
        );
        if problems.is_empty() { Ok(Self { path: path.to_owned(), state, rounding }) } else { Err(problems) }
    }

    /// The values of a tensor under its published name, in f32.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, String> {
        let values = self.state.read(name).map_err(|e| format!("  {}: {e}", self.path.display()))?;
        let mut values = values.ok_or_else(|| format!("  {}: {name}: missing", self.path.display()))?;
        self.rounding.apply(&mut values);
        Ok(values)
    }
}
