//! The run directory: what a run was, and what came of it.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use c2c_recipe::{Loaded, ModelRef, RecipeErrors};
use c2c_train::checkpoint::CHECKPOINTS;
use serde_json::{Value, json};

use crate::device::DeviceArg;
use crate::exit::{Failure, environment, usage};
use crate::{hub, machine};

/// The recipe as resolved.
pub const RECIPE_FILE: &str = "recipe.toml";
/// Device, version and time of each session.
pub const ENVIRONMENT_FILE: &str = "environment.json";

/// How long a name of a run directory that is taken is waited for.
const RETRY: Duration = Duration::from_millis(100);

/// `<dir>/<recipe>-<utc>-<hash8>/`, with `recipe.toml` (as resolved), `environment.json` and what the run adds.
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder and writes what is known before the run. `mark` stands behind the recipe's name.
    ///
    /// No two runs share a folder: one that starts in the same second as another takes the next.
    pub fn create(loaded: &Loaded, device: impl Display, mark: &str) -> Result<Self, Failure> {
        let (dir, hash) = (loaded.recipe.output_dir(), loaded.hash());
        let cannot = |path: &Path, e: std::io::Error| {
            environment(anyhow::anyhow!("cannot make the run directory {}: {e}", path.display()))
        };
        std::fs::create_dir_all(dir).map_err(|e| cannot(dir, e))?;
        loop {
            let now = chrono::Utc::now().format("%Y%m%dT%H%M%SZ");
            let path = dir.join(format!("{}{mark}-{now}-{}", loaded.recipe.name(), &hash[..8]));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self::create_at(path, loaded, device),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => std::thread::sleep(RETRY),
                Err(e) => return Err(cannot(&path, e)),
            }
        }
    }

    /// As [`RunDir::create`], in a folder that is named.
    pub fn create_at(path: PathBuf, loaded: &Loaded, device: impl Display) -> Result<Self, Failure> {
        let hash = loaded.hash();
        let run = Self { path };
        std::fs::create_dir_all(&run.path)
            .map_err(|e| environment(anyhow::anyhow!("cannot make the run directory {}: {e}", run.path.display())))?;
        run.write(RECIPE_FILE, loaded.resolved_toml().as_bytes())?;
        // A checkpoint is of no use without it, so it is on disk before there is one.
        let recipe = run.path.join(RECIPE_FILE);
        std::fs::File::open(&recipe)
            .and_then(|file| file.sync_all())
            .map_err(|e| environment(anyhow::anyhow!("cannot write {}: {e}", recipe.display())))?;
        run.write_json(ENVIRONMENT_FILE, &environment_facts(device, &hash))?;
        Ok(run)
    }

    /// The folder of an earlier run, and its recipe as it was resolved then, if that can still be read.
    pub fn open(path: &Path) -> Result<(Self, Result<Loaded, RecipeErrors>), Failure> {
        let recipe = path.join(RECIPE_FILE);
        if !path.join(CHECKPOINTS).is_dir() && !recipe.is_file() {
            return Err(usage(anyhow::anyhow!(
                "{} is no run directory: it has neither {RECIPE_FILE} nor {CHECKPOINTS}; give the folder that `c2c train` or `c2c eval` printed, runs/<recipe>-<utc>-<hash>",
                path.display()
            )));
        }
        Ok((Self { path: path.to_owned() }, c2c_recipe::load(&recipe, &[])))
    }

    /// Writes down that a run goes on now.
    pub fn note_session(&self, device: impl Display, hash: &str) -> Result<(), Failure> {
        let session = json!({
            "c2c": env!("CARGO_PKG_VERSION"),
            "device": device.to_string(),
            "started": chrono::Utc::now().to_rfc3339(),
        });
        // A file that was lost begins anew: it tells about the run and decides nothing.
        let text = std::fs::read_to_string(self.path.join(ENVIRONMENT_FILE)).unwrap_or_default();
        let mut facts = serde_json::from_str(&text).unwrap_or_else(|_| environment_facts(device, hash));
        if let Some(facts) = facts.as_object_mut() {
            let sessions = facts.entry("resumed").or_insert_with(|| json!([]));
            if let Some(sessions) = sessions.as_array_mut() {
                sessions.push(session);
            }
        }
        self.write_json(ENVIRONMENT_FILE, &facts)
    }

    /// Writes down which commits of the hub the models are; nothing of models that are folders.
    pub fn note_models(&self, models: &[(&str, &ModelRef)]) -> Result<(), Failure> {
        let noted = |model: &ModelRef| hub::commit(model).map(|commit| json!({ "id": model.model, "commit": commit }));
        let models: serde_json::Map<String, Value> =
            models.iter().filter_map(|(role, model)| noted(model).map(|note| ((*role).to_owned(), note))).collect();
        if models.is_empty() {
            return Ok(());
        }
        let path = self.path.join(ENVIRONMENT_FILE);
        let text = std::fs::read_to_string(&path).map_err(environment)?;
        let mut facts: Value = serde_json::from_str(&text).map_err(environment)?;
        facts["hub"] = Value::Object(models);
        self.write_json(ENVIRONMENT_FILE, &facts)
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
}

/// What the figures of a run depend on besides its recipe.
pub fn environment_facts(device: impl Display, recipe_hash: &str) -> Value {
    let mut facts = json!({
        "c2c": env!("CARGO_PKG_VERSION"),
        "commit": env!("C2C_COMMIT"),
        "device": device.to_string(),
        "backends": DeviceArg::built_in(),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "started": chrono::Utc::now().to_rfc3339(),
        "recipe_sha256": recipe_hash,
    });
    if let Some(facts) = facts.as_object_mut() {
        facts.extend(machine::facts());
    }
    facts
}
