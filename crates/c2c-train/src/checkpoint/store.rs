//! All checkpoints of a run: saved, thinned out, and found again.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig};
use c2c_kernels::TrainBackend;
use c2c_recipe::CheckpointSettings;

use super::folder::{self, DELETED, PARTIAL, Staging, Verified, beside, sync_folder, write_error};
use super::{
    CHECKPOINTS, CheckpointError, DataCursor, FUSER_FILE, Identity, Kept, METRICS_FILE, OPTIMIZER_FILE, STATE_FILE,
    State, WEIGHTS_FILE, tensors,
};
use crate::FuserOptimizer;

/// Told what a user should know, a sentence at a time.
pub type Notes = Box<dyn FnMut(&str) + Send>;

/// Ending of a folder that failed its check and was put aside.
const DAMAGED: &str = "damaged";
/// The lock's file name.
const LOCK: &str = "lock";
/// What the names of checkpoints begin with.
const STEP: &str = "step-";

/// The checkpoints of one run directory, which this process holds the lock of.
pub struct Store {
    dir: PathBuf,
    settings: CheckpointSettings,
    notes: Notes,
    /// Released when the process ends, however it ends.
    _lock: File,
}

/// What is saved.
pub struct Snapshot<'a, B: TrainBackend> {
    /// What the run is.
    pub identity: &'a Identity,
    /// The fuser.
    pub fuser: &'a Fuser<B>,
    /// Its optimiser.
    pub optimizer: &'a FuserOptimizer<B>,
    /// Where the run stands; the optimiser's times are filled in.
    pub state: State,
    /// The metrics up to this step.
    pub metrics: &'a [u8],
}

/// A checkpoint that was checked and read.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run stood.
    pub state: State,
    /// The metrics up to its step.
    pub metrics: Vec<u8>,
    weights: Vec<u8>,
    /// What the file of the weights is called.
    weights_file: &'static str,
    optimizer: Vec<u8>,
}

impl Store {
    /// Opens the checkpoints of a run directory, takes the lock, and clears away what a killed process left half done.
    ///
    /// # Errors
    /// A folder that can't be written; another process in this run.
    pub fn open(run_dir: &Path, settings: &CheckpointSettings, notes: Notes) -> Result<Self, CheckpointError> {
        let dir = run_dir.join(CHECKPOINTS);
        fs::create_dir_all(&dir).map_err(write_error(&dir))?;
        let path = dir.join(LOCK);
        let lock = File::create(&path).map_err(write_error(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Locked { path }),
            // Some network file systems have no locks; there the user has to see to it.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(write_error(&path)(e)),
        }
        // The names on the way to the first checkpoint are on disk before it is. The outer folder may be closed to us.
        sync_folder(run_dir)?;
        let outer = run_dir.parent().filter(|outer| !outer.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = sync_folder(outer);
        let mut store = Self { dir, settings: settings.clone(), notes, _lock: lock };
        store.clear_leftovers()?;
        Ok(store)
    }

    /// Tells the user something.
    pub fn note(&mut self, text: &str) {
        (self.notes)(text);
    }

    fn clear_leftovers(&mut self) -> Result<(), CheckpointError> {
        for name in folder::names(&self.dir)? {
            let partial = name.ends_with(&format!(".{PARTIAL}"));
            if name.starts_with(STEP) && (partial || name.ends_with(&format!(".{DELETED}"))) {
                let path = self.dir.join(&name);
                fs::remove_dir_all(&path).map_err(write_error(&path))?;
                if partial {
                    self.note(&format!("removed {}, which an earlier process did not finish", path.display()));
                }
            }
        }
        Ok(())
    }

    /// The folder of a step.
    pub fn path(&self, step: usize) -> PathBuf {
        self.dir.join(format!("{STEP}{step:06}"))
    }

    /// The steps that there are checkpoints of, the oldest first.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub fn steps(&self) -> Result<Vec<usize>, CheckpointError> {
        let step = |name: &String| {
            let step = name.strip_prefix(STEP)?.parse().ok()?;
            (self.path(step).file_name()? == name.as_str()).then_some(step)
        };
        let mut steps: Vec<usize> = folder::names(&self.dir)?.iter().filter_map(step).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Saves a checkpoint, complete or not at all, then deletes those that are no longer kept.
    ///
    /// # Errors
    /// A file that can't be written (older checkpoints stay, what was begun is deleted); a tensor that can't be read
    /// back.
    pub fn save<B: TrainBackend>(&mut self, snapshot: Snapshot<'_, B>) -> Result<PathBuf, CheckpointError> {
        let Snapshot { identity, fuser, optimizer, state, metrics } = snapshot;
        self.save_kept(identity, Kept::of_fuser(fuser, optimizer), state, metrics)
    }

    /// As [`Store::save`], of anything that is trained; the optimiser's times in `state` are filled in.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_kept(
        &mut self,
        identity: &Identity,
        kept: Kept,
        mut state: State,
        metrics: &[u8],
    ) -> Result<PathBuf, CheckpointError> {
        let Kept { file: weights, weights: tensors, moments, times } = kept;
        let target = self.path(state.step);
        state.optimizer_times = times;
        let text = state.text().map_err(|e| write_error(&target.join(STATE_FILE))(e.into()))?;

        let mut staging = Staging::create(&target)?;
        staging.file(weights, |file| tensors::write(file, &target.join(weights), &tensors))?;
        staging.file(OPTIMIZER_FILE, |file| tensors::write(file, &target.join(OPTIMIZER_FILE), &moments))?;
        staging.file(STATE_FILE, |file| file.put(&text))?;
        staging.file(METRICS_FILE, |file| file.put(metrics))?;
        if target.exists() {
            self.delete(state.step)?;
        }
        staging.publish(state.step, identity)?;
        self.thin_out(state.best.map(|best| best.step));
        Ok(target)
    }

    /// Deletes what is neither among the newest nor the best. What can't be deleted is told and stays.
    fn thin_out(&mut self, best: Option<usize>) {
        let steps = match self.steps() {
            Ok(steps) => steps,
            Err(error) => return self.note(&format!("no old checkpoint was deleted: {error}")),
        };
        let old = steps.len().saturating_sub(self.settings.keep_last);
        for step in &steps[..old] {
            if self.settings.keep_best && best == Some(*step) {
                continue;
            }
            if let Err(error) = self.delete(*step) {
                self.note(&format!("an old checkpoint was not deleted: {error}"));
            }
        }
    }

    /// Renamed first: what is half deleted must not look like a checkpoint.
    fn delete(&self, step: usize) -> Result<(), CheckpointError> {
        let path = self.path(step);
        let doomed = beside(&path, DELETED);
        fs::rename(&path, &doomed).map_err(write_error(&path))?;
        sync_folder(&self.dir)?;
        fs::remove_dir_all(&doomed).map_err(write_error(&doomed))
    }

    /// The checkpoint of a step, checked.
    ///
    /// # Errors
    /// A damaged one, or none.
    pub fn read(&self, step: usize) -> Result<Checkpoint, CheckpointError> {
        read(&self.path(step), step).map(|(checkpoint, _)| checkpoint)
    }

    /// The newest checkpoint whose every file is good; `None` if there is no checkpoint at all.
    ///
    /// Newer ones that are damaged are told, with the bad files, and put aside as `step-N.damaged`.
    ///
    /// # Errors
    /// Only damaged ones; a good one of another recipe, model or data.
    pub fn newest(&mut self, identity: &Identity, data: &DataCursor) -> Result<Option<Checkpoint>, CheckpointError> {
        let mut damaged: Vec<(PathBuf, CheckpointError)> = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            let path = self.path(step);
            match read(&path, step) {
                Ok((checkpoint, found)) => {
                    fits(&path, identity, &found)?;
                    checkpoint.state.check_data(data, &path)?;
                    for (path, error) in damaged {
                        let aside = self.put_aside(&path)?;
                        self.note(&format!(
                            "damaged checkpoint {error}; falling back to step {step}, and the damaged one is now {}",
                            aside.display()
                        ));
                    }
                    return Ok(Some(checkpoint));
                }
                Err(error) if error.is_damage() => damaged.push((path, error)),
                Err(error) => return Err(error),
            }
        }
        if damaged.is_empty() {
            return Ok(None);
        }
        let problems = damaged.iter().map(|(_, error)| format!("  {error}")).collect();
        Err(CheckpointError::NoneGood { path: self.dir.clone(), problems })
    }

    fn put_aside(&self, path: &Path) -> Result<PathBuf, CheckpointError> {
        let mut aside = beside(path, DAMAGED);
        let mut n = 1;
        while fs::symlink_metadata(&aside).is_ok() {
            n += 1;
            aside = beside(path, &format!("{DAMAGED}-{n}"));
        }
        fs::rename(path, &aside).map_err(write_error(&aside))?;
        Ok(aside)
    }
}

/// Checks and reads one checkpoint.
fn read(path: &Path, step: usize) -> Result<(Checkpoint, Identity), CheckpointError> {
    let Verified { manifest, mut files } = folder::read(path, step)?;
    // A verified folder holds every listed file.
    let mut take = |name: &str| files.remove(name).unwrap_or_default();
    let (state, metrics) = (take(STATE_FILE), take(METRICS_FILE));
    let state = State::read(&state, &metrics, step)
        .map_err(|problem| CheckpointError::Damaged { path: path.to_owned(), problems: vec![problem] })?;
    let weights_file = if manifest.files.contains_key(WEIGHTS_FILE) { WEIGHTS_FILE } else { FUSER_FILE };
    let (weights, optimizer) = (take(weights_file), take(OPTIMIZER_FILE));
    let checkpoint = Checkpoint { path: path.to_owned(), state, metrics, weights, weights_file, optimizer };
    Ok((checkpoint, manifest.identity()))
}

/// Compares what a checkpoint belongs to with what is to go on.
fn fits(path: &Path, now: &Identity, written: &Identity) -> Result<(), CheckpointError> {
    let path = path.to_owned();
    if now.recipe_sha256 != written.recipe_sha256 {
        let (found, expected) = (now.recipe_sha256.clone(), written.recipe_sha256.clone());
        return Err(CheckpointError::Recipe { path, found, expected });
    }
    for (model, found, expected) in [
        ("receiver", &now.receiver_sha256, &written.receiver_sha256),
        ("sharer", &now.sharer_sha256, &written.sharer_sha256),
    ] {
        if found != expected {
            let (found, expected) = (found.clone(), expected.clone());
            return Err(CheckpointError::Model { path, model, found, expected });
        }
    }
    Ok(())
}

impl Checkpoint {
    /// The trained parameters by name, and the file that they are from.
    ///
    /// # Errors
    /// A file that holds something else than f32 tensors.
    pub(crate) fn weights(&self) -> Result<(PathBuf, HashMap<String, TensorData>), CheckpointError> {
        let path = self.path.join(self.weights_file);
        let tensors = tensors::read_all(&path, &self.weights)?;
        Ok((path, tensors))
    }

    /// The optimiser's moments by name, and the file that they are from.
    ///
    /// # Errors
    /// A file that holds something else than f32 tensors.
    pub(crate) fn moments(&self) -> Result<(PathBuf, HashMap<String, TensorData>), CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let tensors = tensors::read_all(&path, &self.optimizer)?;
        Ok((path, tensors))
    }

    /// The fuser, on a device.
    ///
    /// # Errors
    /// Tensors that don't fit the config.
    pub fn fuser<B: Backend>(&self, config: &FuserConfig, device: &B::Device) -> Result<Fuser<B>, CheckpointError> {
        tensors::read_fuser(&self.path.join(self.weights_file), &self.weights, config, device)
    }

    /// Puts the optimiser of this fuser where it stood.
    ///
    /// # Errors
    /// Tensors that don't fit the fuser.
    pub fn restore_optimizer<B: TrainBackend>(
        &self,
        optimizer: &FuserOptimizer<B>,
        fuser: &Fuser<B>,
    ) -> Result<(), CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let moments = tensors::read_moments(&path, &self.optimizer, &self.state.optimizer_times, fuser)?;
        optimizer.restore(fuser, moments);
        Ok(())
    }
}
