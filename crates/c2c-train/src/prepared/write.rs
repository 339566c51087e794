//! Preparing: both models run over the batches of the run's first epoch, and what they know is written down.
//!
//! The batches are those of the run because the last bit of a cache depends on the shape of the batch that it was computed
//! in: a run reads, in its first epoch, what it would have computed.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use c2c_fuser::{ContextRecord, Contexts, HostContexts, PairBatch, PairModels, RecordShape};
use c2c_kernels::KernelBackend;
use c2c_recipe::TrainRecipe;
use c2c_text::Prompt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::read::{hash_file, read_about, read_json};
use super::{
    ABOUT_FILE, About, CacheDtype, ChunkList, INDEX_FILE, Index, LOCK_FILE, Listed, Prepared, PreparedError, VERSION,
    chunk_name,
};
use crate::checkpoint::hex;
use crate::contexts::Needs;
use crate::data::digest;
use crate::{Order, TrainError, fuser_config, load_examples, split};

/// Batches read back to measure reading.
const MEASURED_BATCHES: usize = 16;

/// How to prepare.
pub struct PrepareOptions {
    /// Number format of the caches.
    pub dtype: CacheDtype,
    /// A chunk is closed once it has so many bytes; that many are held in memory.
    pub chunk_bytes: usize,
    /// Told about what is done, in examples of all.
    pub progress: Box<dyn FnMut(usize, usize)>,
    /// Told what a user should know.
    pub notes: Box<dyn FnMut(&str)>,
}

/// What was prepared, and what it is worth on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Different examples in the folder.
    pub examples: usize,
    /// Of these, computed now.
    pub computed: usize,
    /// Bytes of the chunks.
    pub bytes: u64,
    /// Chunks.
    pub chunks: usize,
    /// Seconds of both models' passes, an example; `None` if none was computed.
    pub compute_seconds: Option<f64>,
    /// Seconds of gathering and writing, an example; `None` if none was.
    pub write_seconds: Option<f64>,
    /// Seconds to read an example back and to put it into its batch on the device.
    pub read_seconds: f64,
    /// Examples of an epoch.
    pub epoch: usize,
    /// Seconds of the whole command's work, loading apart.
    pub seconds: f64,
}

/// Prepares the caches of a recipe's examples in a folder, or goes on there.
///
/// # Errors
/// Data that can't be read, models that refuse, a folder that can't be written or is of something else.
pub fn prepare<B: KernelBackend>(
    recipe: &TrainRecipe,
    pair: &PairModels<B>,
    out: &Path,
    mut options: PrepareOptions,
) -> Result<Report, TrainError> {
    let clock = Instant::now();
    let config = fuser_config(recipe, pair, 1);
    let examples = load_examples(recipe, &pair.text)?.examples;
    let (training, validation) = split(examples, recipe.training.validation_fraction, recipe.seed);
    let order = Order::of(recipe, &training);
    let about = About::new(&config, &pair.receiver.fingerprint()?, &pair.sharer.fingerprint()?, options.dtype);
    let shape = RecordShape::new(&config, options.dtype.dtype());
    let mut folder = Folder::open(out, &about, options.chunk_bytes, &mut options.notes)?;

    let first = order.epoch(training.len(), 0);
    let train = first.iter().map(|index| &*training[*index].prompt);
    let batch_size = recipe.training.batch_size;
    let train: Vec<&Prompt> = train.collect();
    let held_out: Vec<&Prompt> = validation.iter().map(|example| &*example.prompt).collect();
    let batches: Vec<&[&Prompt]> = train.chunks(batch_size).chain(held_out.chunks(batch_size)).collect();
    // A weight below 1 leaves examples out of the first epoch that a later one has.
    let seen: HashSet<usize> = first.iter().copied().collect();
    let unseen: Vec<&Prompt> =
        (0..training.len()).filter(|i| !seen.contains(i)).map(|i| &*training[i].prompt).collect();
    let batches: Vec<&[&Prompt]> = batches.into_iter().chain(unseen.chunks(batch_size)).collect();

    let all = train.len() + held_out.len() + unseen.len();
    let (mut done, mut computed, mut compute, mut write) = (0, 0, 0.0, 0.0);
    let depth = config.sharer_depth();
    let pads = (pair.text.receiver().pad_id(), pair.text.sharer().pad_id());
    let run = |prompts: &[&Prompt]| -> Result<Vec<ContextRecord>, TrainError> {
        let batch = PairBatch::collate(prompts, pads.0, pads.1)?;
        Ok(Contexts::compute(&pair.receiver, &pair.sharer, depth, &batch)?.records(&batch, &shape)?)
    };
    for prompts in &batches {
        let digests: Vec<String> = prompts.iter().map(|prompt| digest([*prompt])).collect();
        done += prompts.len();
        if digests.iter().any(|digest| !folder.has(digest)) {
            let start = Instant::now();
            let records = run(prompts)?;
            compute += start.elapsed().as_secs_f64();
            for ((prompt, digest), record) in prompts.iter().zip(digests).zip(records) {
                if folder.has(&digest) {
                    continue;
                }
                let start = Instant::now();
                // Beside chats of more turns the batch is fused before this row is.
                let whole = record.receiver == Needs::of(prompt).receiver;
                let record = if whole { record } else { run(&[*prompt])?.remove(0) };
                compute += if whole { 0.0 } else { start.elapsed().as_secs_f64() };
                let start = Instant::now();
                folder.add(digest, record)?;
                write += start.elapsed().as_secs_f64();
                computed += 1;
            }
        }
        (options.progress)(done, all);
    }
    let start = Instant::now();
    let index = folder.finish()?;
    write += start.elapsed().as_secs_f64();

    let prepared = Prepared::open(out, &about, |_| shape.clone())?;
    let read_seconds = measure(&prepared, pair, &batches, pads)?;
    let share = |seconds: f64| (computed > 0).then(|| seconds / computed as f64);
    Ok(Report {
        examples: index.examples,
        computed,
        bytes: index.bytes,
        chunks: index.chunks.len(),
        compute_seconds: share(compute),
        write_seconds: share(write),
        read_seconds,
        epoch: first.len(),
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// Seconds an example to read some batches back; their chunks have been checked before.
fn measure<B: KernelBackend>(
    prepared: &Prepared,
    pair: &PairModels<B>,
    batches: &[&[&Prompt]],
    (receiver_pad, sharer_pad): (u32, u32),
) -> Result<f64, TrainError> {
    let mut seconds = 0.0;
    let mut examples = 0;
    for prompts in batches.iter().take(MEASURED_BATCHES) {
        let batch = PairBatch::collate(prompts, receiver_pad, sharer_pad)?;
        let digests: Vec<String> = prompts.iter().map(|prompt| digest([*prompt])).collect();
        prepared.record(&digests[0])?;
        let start = Instant::now();
        let records = digests.iter().map(|digest| prepared.record(digest)).collect::<Result<Vec<_>, _>>()?;
        HostContexts::assemble(&batch, prepared.shape(), &records)?.load(&pair.receiver, &pair.sharer)?;
        seconds += start.elapsed().as_secs_f64();
        examples += prompts.len();
    }
    Ok(seconds / examples.max(1) as f64)
}

/// A folder being filled.
struct Folder {
    path: PathBuf,
    chunk_bytes: usize,
    held: HashSet<String>,
    chunks: Vec<(String, String)>,
    bytes: u64,
    next: usize,
    data: Vec<u8>,
    examples: Vec<Listed>,
    /// Released when the process ends, however it ends.
    _lock: File,
}

impl Folder {
    fn open(path: &Path, about: &About, chunk_bytes: usize, note: &mut dyn FnMut(&str)) -> Result<Self, PreparedError> {
        fs::create_dir_all(path).map_err(failed(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PreparedError::Locked { path: lock_path }),
            // Some network file systems have no locks; there the user has to see to it.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(failed(&lock_path)(e)),
        }
        let mut folder = Self {
            path: path.to_owned(),
            chunk_bytes,
            held: HashSet::new(),
            chunks: Vec::new(),
            bytes: 0,
            next: 0,
            data: Vec::new(),
            examples: Vec::new(),
            _lock: lock,
        };
        if !path.join(ABOUT_FILE).exists() {
            folder.put(ABOUT_FILE, &json(about))?;
            return Ok(folder);
        }
        let was = read_about(path)?;
        let mut differences = was.differences(about);
        if was.dtype != about.dtype {
            differences.push(format!("dtype: prepared {:?}, now {:?}", was.dtype, about.dtype));
        }
        if !differences.is_empty() {
            return Err(PreparedError::Mismatch { path: path.to_owned(), differences });
        }
        folder.take_over(note)?;
        Ok(folder)
    }

    /// Keeps the good chunks of an earlier process; what is damaged is told and made again.
    fn take_over(&mut self, note: &mut dyn FnMut(&str)) -> Result<(), PreparedError> {
        // A folder that is being changed is not finished.
        let index = self.path.join(INDEX_FILE);
        if index.exists() {
            fs::remove_file(&index).map_err(failed(&index))?;
        }
        let entries = fs::read_dir(&self.path).map_err(failed(&self.path))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .filter(|name| name.starts_with("chunk-"))
            .collect();
        names.sort_unstable();
        for name in names {
            self.next = self.next.max(name.trim_start_matches("chunk-").parse().map_or(0, |n: usize| n + 1));
            let (list_path, data_path) =
                (self.path.join(format!("{name}.json")), self.path.join(format!("{name}.bin")));
            let list: Result<ChunkList, _> = read_json(&list_path, None);
            let good = list.as_ref().is_ok_and(|list| hash_file(&data_path).is_ok_and(|sha| sha == list.sha256));
            let (Ok(list), true) = (list, good) else {
                note(&format!("{} is damaged or gone; its examples are computed again", data_path.display()));
                fs::remove_file(&list_path).map_err(failed(&list_path))?;
                // The chunk itself may be what is gone.
                let _ = fs::remove_file(&data_path);
                continue;
            };
            self.bytes += list.bytes;
            self.held.extend(list.examples.into_iter().map(|listed| listed.sha256));
            self.chunks.push((name, hash_file(&list_path).map_err(failed(&list_path))?));
        }
        if !self.held.is_empty() {
            note(&format!("{} examples are prepared already", self.held.len()));
        }
        Ok(())
    }

    fn has(&self, digest: &str) -> bool {
        self.held.contains(digest)
    }

    fn add(&mut self, sha256: String, record: ContextRecord) -> Result<(), PreparedError> {
        self.held.insert(sha256.clone());
        self.examples.push(Listed { sha256, receiver: record.receiver, sharer: record.sharer });
        self.data.extend_from_slice(&record.bytes);
        if self.data.len() >= self.chunk_bytes { self.close() } else { Ok(()) }
    }

    /// Writes the chunk, then its list.
    fn close(&mut self) -> Result<(), PreparedError> {
        if self.examples.is_empty() {
            return Ok(());
        }
        let name = chunk_name(self.next);
        self.next += 1;
        let data = std::mem::take(&mut self.data);
        self.put(&format!("{name}.bin"), &data)?;
        let (bytes, sha256) = (data.len() as u64, hex(&Sha256::digest(&data)));
        let list = json(&ChunkList { bytes, sha256, examples: std::mem::take(&mut self.examples) });
        self.put(&format!("{name}.json"), &list)?;
        self.chunks.push((name, hex(&Sha256::digest(&list))));
        self.bytes += bytes;
        Ok(())
    }

    fn finish(&mut self) -> Result<Index, PreparedError> {
        self.close()?;
        let chunks = self.chunks.clone();
        let index = Index { version: VERSION, examples: self.held.len(), bytes: self.bytes, chunks };
        self.put(INDEX_FILE, &json(&index))?;
        Ok(index)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), PreparedError> {
        let path = self.path.join(name);
        c2c_lm::write_beside(&path, bytes).map_err(|e| failed(&path)(std::io::Error::other(e.to_string())))
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> PreparedError + use<> {
    let path = path.to_owned();
    move |source| PreparedError::Write { path: path.clone(), source }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain structs with text keys: nothing that JSON lacks.
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}
