//! The run directory: what a run was, and what came of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use c2c_recipe::Loaded;
use serde_json::{Value, json};

use crate::device::DeviceArg;
use crate::exit::{Failure, environment};

/// `<dir>/<recipe>-<utc>-<hash8>/`, with `recipe.toml` (as resolved), `environment.json` and what the run adds.
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder and writes what is known before the run.
    pub fn create(loaded: &Loaded, device: DeviceArg) -> Result<Self, Failure> {
        let hash = loaded.hash();
        let now = chrono::Utc::now().format("%Y%m%dT%H%M%SZ");
        let name = format!("{}-{now}-{}", loaded.recipe.name(), &hash[..8]);
        let run = Self { path: loaded.recipe.output_dir().join(name) };
        std::fs::create_dir_all(&run.path)
            .map_err(|e| environment(anyhow::anyhow!("cannot make the run directory {}: {e}", run.path.display())))?;
        run.write("recipe.toml", loaded.resolved_toml().as_bytes())?;
        run.write_json("environment.json", &environment_facts(device, &hash))?;
        Ok(run)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file beside and renames it.
    pub fn write(&self, name: &str, data: &[u8]) -> Result<(), Failure> {
        c2c_lm::write_beside(&self.path.join(name), data).map_err(environment)
    }

    /// Writes pretty JSON.
    pub fn write_json(&self, name: &str, value: &Value) -> Result<(), Failure> {
        self.write(name, format!("{value:#}\n").as_bytes())
    }

    /// A file that grows by JSON lines.
    pub fn json_lines(&self, name: &str) -> Result<impl FnMut(&Value) + Send + use<>, Failure> {
        let path = self.path.join(name);
        let mut file = std::fs::File::create(&path)
            .map_err(|e| environment(anyhow::anyhow!("cannot write {}: {e}", path.display())))?;
        Ok(move |value: &Value| {
            if let Err(e) = writeln!(file, "{value}") {
                log::warn!("metrics line lost: {e}");
            }
        })
    }
}

/// What the figures of a run depend on besides its recipe.
pub fn environment_facts(device: DeviceArg, recipe_hash: &str) -> Value {
    json!({
        "c2c": env!("CARGO_PKG_VERSION"),
        "device": device.to_string(),
        "backends": DeviceArg::built_in(),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "started": chrono::Utc::now().to_rfc3339(),
        "recipe_sha256": recipe_hash,
    })
}
