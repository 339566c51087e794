//! Runs of the real binary that are killed, starved and resumed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..").canonicalize().unwrap()
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// 24 steps that have everything a resume can get wrong: dropout, gate noise, accumulation, epochs that end inside a
    /// run and with a partial window, validation.
    Short,
    /// The pocket recipe, 200 steps.
    Pocket,
}

impl Length {
    pub fn steps(self) -> usize {
        match self {
            Self::Short => 24,
            Self::Pocket => 200,
        }
    }

    pub fn checkpoint_every(self) -> usize {
        match self {
            Self::Short => 3,
            Self::Pocket => 5,
        }
    }

    fn overrides(self) -> Vec<String> {
        let mut overrides = vec![
            format!("training.max_steps={}", self.steps()),
            format!("checkpoint.every={}", self.checkpoint_every()),
            "evaluation.limit=8".into(),
        ];
        if self == Self::Short {
            overrides.extend([
                "training.batch_size=6".into(),
                "training.gradient_accumulation=2".into(),
                "training.validation_fraction=0.1".into(),
                "training.evaluate_every=4".into(),
                "fuser.dropout=0.1".into(),
                r#"data.sources=[{kind="pocket",split="train",places=7,format="plain_cued"}]"#.into(),
            ]);
        }
        overrides
    }

    /// The arguments of a new run below `dir`.
    pub fn train(self, dir: &Path) -> Vec<String> {
        let mut args = vec!["train".to_owned(), "recipes/train/pocket.toml".to_owned()];
        for one in self.overrides().into_iter().chain([format!("output.dir={}", dir.display())]) {
            args.extend(["-o".to_owned(), one]);
        }
        args
    }

    /// A run that nothing happened to, made once for all tests.
    pub fn reference(self) -> &'static Path {
        static SHORT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
        static POCKET: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
        let cell = if self == Self::Short { &SHORT } else { &POCKET };
        let (_, run) = cell.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            succeeds(&self.train(dir.path()));
            let run = only_folder(dir.path());
            (dir, run)
        });
        run
    }
}

pub fn command(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_c2c"));
    command.args(args).current_dir(root());
    command
}

pub fn resume(run: &Path) -> Vec<String> {
    vec!["train".into(), "--resume".into(), run.display().to_string()]
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn succeeds(args: &[String]) -> Output {
    let output = command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}\n{}", text(&output.stderr));
    output
}

/// Runs and expects this exit code and these words on stderr, which is returned.
pub fn fails(args: &[String], code: i32, words: &[&str]) -> String {
    let output = command(args).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no `{word}` in\n{stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

pub fn only_folder(dir: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// Names in a run's folder of checkpoints, sorted, without the lock.
pub fn checkpoints(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// The files that must not depend on what happened to a run: metrics, the exported fuser and its config, and the last
/// checkpoint's tensors. Returns those that differ.
pub fn differences(run: &Path, reference: &Path, length: Length) -> Vec<String> {
    let last = format!("checkpoints/step-{:06}", length.steps());
    let files = [
        "metrics.jsonl".to_owned(),
        "gates.jsonl".into(),
        "fuser/fuser.safetensors".into(),
        "fuser/fuser_config.json".into(),
        "fuser-best/fuser.safetensors".into(),
        format!("{last}/fuser.safetensors"),
        format!("{last}/optimizer.safetensors"),
        format!("{last}/metrics.jsonl"),
    ];
    let read = |run: &Path, file: &str| std::fs::read(run.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let files = files.into_iter().filter(|file| length == Length::Short || !file.starts_with("fuser-best"));
    files.filter(|file| read(run, file) != read(reference, file)).collect()
}

fn metrics_inode(run: &Path) -> Option<u64> {
    std::fs::metadata(run.join("metrics.jsonl")).ok().map(|facts| facts.ino())
}

/// A process that is watched; killed when dropped.
pub struct Watched {
    child: Child,
    run: PathBuf,
    /// The metrics file of an earlier session: going on begins with writing it anew.
    old_metrics: Option<u64>,
    limit: Instant,
}

impl Watched {
    /// Starts it; stderr goes to a file beside the run.
    pub fn start(args: &[String], run: &Path, stderr: &Path) -> Self {
        let stderr = std::fs::File::create(stderr).unwrap();
        let child = command(args).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        // Generous: the machine may be busy. A run that hangs fails here.
        let limit = Instant::now() + Duration::from_secs(600);
        Self { child, run: run.to_owned(), old_metrics: metrics_inode(run), limit }
    }

    /// Looks at this run from now on.
    pub fn watch(&mut self, run: &Path) {
        self.run = run.to_owned();
    }

    /// True once this process writes metrics.
    pub fn has_begun(&self) -> bool {
        let inode = metrics_inode(&self.run);
        inode.is_some() && inode != self.old_metrics
    }

    /// Steps that `metrics.jsonl` has.
    pub fn steps(&self) -> usize {
        let metrics = std::fs::read(self.run.join("metrics.jsonl")).unwrap_or_default();
        metrics.iter().filter(|byte| **byte == b'\n').count()
    }

    pub fn saving(&self) -> bool {
        let entries = std::fs::read_dir(self.run.join("checkpoints"));
        entries.is_ok_and(|mut entries| {
            entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().ends_with(".partial")))
        })
    }

    /// Waits for something; false if the process ended before.
    pub fn wait_until(&mut self, mut seen: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if seen(self) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < self.limit, "{} hangs", self.run.display());
            sleep(Duration::from_micros(300));
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
