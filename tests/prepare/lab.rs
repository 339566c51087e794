//! A small recipe of the embedded pair, its runs, and what they leave.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::kit::{command, failed, only_folder, root, stdout, succeeded};

/// A scratch folder with a recipe: 6 steps of 2 batches of 4 in epochs of about 4 steps, with dropout, noise and validation.
pub struct Lab(tempfile::TempDir);

impl Lab {
    pub fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        let text = format!(
            "kind = 'train'\nname = 'x'\nreceiver.model = '{0}/receiver'\nsharer.model = '{0}/sharer'\n\
             alignment.strategy = 'spans'\nfuser = {{ hidden_dim = 16, intermediate_dim = 16, dropout = 0.1 }}\n\
             training = {{ batch_size = 4, gradient_accumulation = 2, max_steps = 6, validation_fraction = 0.1 }}\n\
             checkpoint = {{ every = 2, keep_last = 9 }}\n\
             data.sources = [{{ kind = 'pocket', format = 'plain_cued', take = 30 }}]\noutput.dir = '{1}'\n",
            root().join("datasets/pocket").display(),
            lab.path("failed").display(),
        );
        std::fs::write(lab.recipe(), text).unwrap();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn recipe(&self) -> PathBuf {
        self.path("recipe.toml")
    }

    /// `c2c` with these arguments, `RECIPE` being the recipe.
    pub fn c2c(&self, args: &[&str]) -> Output {
        let recipe = self.recipe();
        let own = |arg: &&str| if *arg == "RECIPE" { recipe.to_str().unwrap().to_owned() } else { (*arg).to_owned() };
        let args: Vec<String> = args.iter().map(own).collect();
        command(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap()
    }

    pub fn succeeds(&self, args: &[&str]) -> String {
        stdout(&succeeded(args, self.c2c(args)))
    }

    pub fn fails(&self, args: &[&str], code: i32, words: &[&str]) {
        failed(args, &self.c2c(args), code, words);
    }

    /// Trains into a folder of this name; the run directory.
    pub fn train(&self, name: &str, args: &[&str]) -> PathBuf {
        let dir = self.path(name);
        let out = format!("output.dir={}", dir.display());
        self.succeeds(&[&["train", "RECIPE", "-o", &out], args].concat());
        only_folder(&dir)
    }
}

/// What two runs of one recipe must have in common: metrics, fuser, and the last checkpoint's tensors, byte for byte.
pub fn equal(one: &Path, other: &Path) {
    let last = "checkpoints/step-000006";
    for name in ["metrics.jsonl", "fuser/fuser.safetensors", &format!("{last}/optimizer.safetensors")] {
        let read = |run: &Path| std::fs::read(run.join(name)).unwrap();
        assert!(read(one) == read(other), "{name} differs between {} and {}", one.display(), other.display());
    }
}
