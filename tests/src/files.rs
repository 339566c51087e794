//! Model folders that tests damage on purpose.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The tensors of a safetensors file, to be changed and written back.
#[derive(Clone, Debug)]
pub struct Tensors {
    /// Name, dtype, shape and bytes.
    pub entries: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Tensors {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let entry =
            |(name, view): (String, TensorView<'_>)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self { entries: file.tensors().into_iter().map(entry).collect() }
    }

    /// Writes a file.
    pub fn write(&self, path: &Path) {
        let views = self
            .entries
            .iter()
            .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    /// Adds an f32 tensor of zeros.
    pub fn push_zeros(&mut self, name: &str, shape: &[usize]) {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        self.entries.push((name.to_owned(), Dtype::F32, shape.to_vec(), bytes));
    }

    /// Takes a tensor away.
    pub fn remove(&mut self, name: &str) {
        let before = self.entries.len();
        self.entries.retain(|e| e.0 != name);
        assert_eq!(self.entries.len() + 1, before, "no tensor {name}");
    }
}

/// Copies the files (not the folders) of one folder into another.
pub fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}
