//! Numbers with a shape: from a fixture file or from a device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use half::bf16;
use safetensors::{Dtype, SafeTensors};

use crate::B;

/// A tensor on the host. Values are widened to f64, which holds every f32, bf16 and token id exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f64>,
}

impl Array {
    /// Reads a tensor back from the device.
    pub fn of<const D: usize>(tensor: &Tensor<B, D>) -> Self {
        let data = tensor.to_data();
        Self { shape: tensor.dims().to_vec(), values: data.iter::<f64>().collect() }
    }

    /// The largest absolute value.
    pub fn max_abs(&self) -> f64 {
        self.values.iter().fold(0.0, |m, v| v.abs().max(m))
    }

    /// The slice `[start, start + length)` of an axis.
    pub fn narrow(&self, axis: usize, start: usize, length: usize) -> Self {
        let inner: usize = self.shape[axis + 1..].iter().product();
        let outer: usize = self.shape[..axis].iter().product();
        let block = self.shape[axis] * inner;
        let mut shape = self.shape.clone();
        shape[axis] = length;
        let values = (0..outer)
            .flat_map(|o| &self.values[o * block + start * inner..o * block + (start + length) * inner])
            .copied()
            .collect();
        Self { shape, values }
    }

    /// The values as f32.
    pub fn f32s(&self) -> Vec<f32> {
        self.values.iter().map(|v| *v as f32).collect()
    }

    /// A flat list of token ids.
    ///
    /// # Panics
    /// A value that is no id.
    pub fn id_list(&self) -> Vec<u32> {
        self.values
            .iter()
            .map(|v| {
                assert!(*v >= 0.0 && v.fract() == 0.0 && *v <= f64::from(u32::MAX), "{v} is no token id");
                *v as u32
            })
            .collect()
    }

    /// Rows of token ids.
    pub fn ids(&self) -> Vec<Vec<u32>> {
        assert_eq!(self.shape.len(), 2, "token ids have the shape [batch, tokens]");
        self.id_list().chunks(self.shape[1]).map(<[u32]>::to_vec).collect()
    }

    /// Rows of positions.
    pub fn positions(&self) -> Vec<Vec<usize>> {
        self.ids().into_iter().map(|row| row.into_iter().map(|p| p as usize).collect()).collect()
    }

    /// Rows of mask entries: true where the value isn't 0.
    pub fn mask(&self) -> Vec<Vec<bool>> {
        self.ids().into_iter().map(|row| row.into_iter().map(|m| m != 0).collect()).collect()
    }

    /// Rows of labels; negative values are unsupervised slots.
    pub fn labels(&self) -> Vec<Vec<Option<u32>>> {
        let label = |v: &f64| (*v >= 0.0).then_some(*v as u32);
        self.values.chunks(self.shape[1]).map(|row| row.iter().map(label).collect()).collect()
    }
}

/// The tensors of one fixture file.
#[derive(Debug)]
pub struct Fixture {
    path: PathBuf,
    tensors: BTreeMap<String, Array>,
}

impl Fixture {
    /// Reads a safetensors file of f32, f64, bf16 and i64 tensors.
    ///
    /// # Panics
    /// The file can't be read, or holds another dtype.
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read the fixture {}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values: Vec<f64> = match view.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
                Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                other => panic!("{}: tensor {name} has dtype {other:?}", path.display()),
            };
            tensors.insert(name, Array { shape: view.shape().to_vec(), values });
        }
        Self { path: path.to_owned(), tensors }
    }

    /// A tensor.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn get(&self, name: &str) -> &Array {
        self.find(name).unwrap_or_else(|| panic!("{} holds no tensor {name}", self.path.display()))
    }

    /// A tensor, if it is there.
    pub fn find(&self, name: &str) -> Option<&Array> {
        self.tensors.get(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// How many tensors are named `{prefix}0`, `{prefix}1` and so on.
    pub fn count(&self, prefix: &str) -> usize {
        (0..).take_while(|i| self.tensors.contains_key(&format!("{prefix}{i}"))).count()
    }
}
