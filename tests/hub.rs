//! End to end: models, data and fusers from a hub in this process, with the real binary.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../crates/c2c-hub/tests/common/mod.rs"]
mod fake;
mod kit;

use std::path::{Path, PathBuf};
use std::process::Output;

use fake::{COMMIT, FakeHub, Held, Reply, Server, large, small};
use kit::{command, failed, only_folder, root, stderr, stdout, succeeded};
use serde_json::{Value, json};

struct Lab {
    dir: tempfile::TempDir,
    hub: FakeHub,
}

impl Lab {
    fn new(files: Vec<Held>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hub: FakeHub::start(files) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn c2c(&self, args: &[&str], offline: &str) -> Output {
        let mut command = command(args);
        command.env("HF_HOME", self.dir.path()).env("HF_ENDPOINT", self.hub.endpoint.url());
        command.env("HF_HUB_OFFLINE", offline).env("HF_TOKEN", "hf_secret").env_remove("HF_HUB_CACHE");
        command.output().unwrap()
    }

    fn succeeds(&self, args: &[&str]) -> Output {
        succeeded(args, self.c2c(args, "0"))
    }

    fn offline(&self, args: &[&str]) -> Output {
        succeeded(args, self.c2c(args, "1"))
    }

    fn fails(&self, args: &[&str], code: i32, words: &[&str]) {
        failed(args, &self.c2c(args, "0"), code, words);
    }

    fn snapshot(&self, repo: &str) -> PathBuf {
        self.path("hub").join(repo).join("snapshots").join(COMMIT)
    }
}

fn model(name: &str) -> Vec<Held> {
    folder(&root().join("datasets/pocket").join(name), "")
}

/// The files of a folder as the hub keeps them: what isn't text is large.
fn folder(dir: &Path, prefix: &str) -> Vec<Held> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files.extend(folder(&entry.path(), &format!("{name}/")));
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let is_large = name.ends_with(".safetensors") || name.ends_with(".pt");
            files.push(if is_large { large(&name, &bytes) } else { small(&name, &bytes) });
        }
    }
    files
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_is_downloaded_once_and_then_found_without_a_connection() {
    let lab = Lab::new(model("receiver"));
    let output = lab.succeeds(&["download", "lab/receiver"]);
    let snapshot = lab.snapshot("models--lab--receiver");
    assert_eq!(stdout(&output), format!("{}\n", snapshot.display()));
    assert!(stderr(&output).contains("model.safetensors  2.4 MB"), "{}", stderr(&output));
    // What a model doesn't need stays where it is.
    assert!(snapshot.join("tokenizer.json").is_file() && !snapshot.join("pretrain.jsonl").exists());
    lab.succeeds(&["download", "lab/receiver", "--include", "*.jsonl"]);
    assert!(snapshot.join("pretrain.jsonl").is_file());
    assert_eq!(lab.hub.transfers(), 1);
    let connections = lab.hub.endpoint.connections();
    assert_eq!(stdout(&lab.offline(&["download", "lab/receiver"])), stdout(&output));
    let other = ["download", "lab/other"];
    failed(&other, &lab.c2c(&other, "1"), 3, &["lab/other", "HF_HUB_OFFLINE", "c2c download lab/other"]);
    assert_eq!(lab.hub.endpoint.connections(), connections);
    lab.fails(&["download", "lab/receiver", "--include", "*.bin"], 3, &["no file that fits *.bin", "config.json"]);
    lab.fails(&["download", "lab/receiver@v1", "--revision", "v2"], 2, &["--revision v2"]);
    lab.fails(&["download", "../etc"], 2, &["../etc", "org/name@revision"]);
}

#[test]
fn a_run_fetches_its_models_and_notes_their_commits() {
    let lab = Lab::new(model("receiver"));
    let (receiver, output) =
        (format!("receiver.model=lab/receiver@{COMMIT}"), format!("output.dir={}", lab.text("runs")));
    let mut args = vec!["train", "recipes/train/pocket.toml", "-o", &receiver, "-o", &output];
    args.extend(["-o", "training.max_steps=1", "-o", "training.batch_size=2", "-o", "evaluation.limit=2"]);
    args.extend(["-o", "data.sources[0].places=2"]);
    lab.succeeds(&args);
    let run = only_folder(&lab.path("runs"));
    let noted = json!({ "receiver": { "id": format!("lab/receiver@{COMMIT}"), "commit": COMMIT } });
    assert_eq!(read(&run.join("environment.json"))["hub"], noted);
    let card = std::fs::read_to_string(run.join("fuser/README.md")).unwrap();
    assert!(card.contains("base_model:\n- \"lab/receiver\"\ntags:"), "{card}");
    // Once more without a connection.
    let connections = lab.hub.endpoint.connections();
    lab.offline(&args);
    assert_eq!(lab.hub.endpoint.connections(), connections);
    assert_eq!(lab.hub.transfers(), 1);
}

#[test]
fn of_a_data_set_only_the_files_that_are_read_are_fetched() {
    let row = "{\"question\":\"Which?\",\"choices\":[\"x\",\"y\"],\"answer\":1}\n".repeat(3);
    let name = "all/auxiliary_train-00000-of-00001.jsonl";
    let test = "all/test-00000-of-00001.jsonl";
    let lab = Lab::new(vec![small("README.md", b"x"), large(name, row.as_bytes()), large(test, b"no rows\n")]);
    let pocket = root().join("datasets/pocket").display().to_string();
    let recipe = lab.text("recipe.toml");
    let text = format!(
        "kind = 'train'\nname = 'x'\nreceiver.model = '{pocket}/receiver'\nsharer.model = '{pocket}/sharer'\n\
         data.sources = [{{ kind = 'mmlu', revision = '{COMMIT}' }}]\ntraining.max_length = 200\n"
    );
    std::fs::write(&recipe, text).unwrap();
    let show = ["data", "show", &recipe, "--json"];
    failed(
        &show,
        &lab.c2c(&show, "1"),
        3,
        &["data set `cais/mmlu`", &format!("c2c download datasets/cais/mmlu@{COMMIT}")],
    );
    let report: Value = serde_json::from_str(&stdout(&lab.succeeds(&show))).unwrap();
    assert_eq!(report["sources"][0]["revision"], COMMIT);
    assert_eq!((&report["sources"][0]["rows"], &report["sources"][0]["source"]), (&json!(3), &json!("hub:cais/mmlu")));
    let snapshot = lab.snapshot("datasets--cais--mmlu");
    assert!(snapshot.join(name).is_file() && !snapshot.join(test).exists() && !snapshot.join("README.md").exists());
    lab.offline(&show);
    let other = [&show[..], &["-o", "data.sources[0].split=other"]].concat();
    lab.fails(&other, 3, &["split `other`", test]);
}

#[test]
fn a_published_fuser_is_imported_from_its_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let published = scratch.path().join("pocket_Fuser");
    let published_text = published.to_str().unwrap();
    let export = ["export", "exports/pocket", "--out", published_text, "--format", "pytorch"];
    succeeded(&export, command(&export).output().unwrap());
    let mut files = folder(&published, "pocket_Fuser/");
    files.push(small("pocket_Fuser/checkpoint-1/projector_config.json", b"{}"));
    files.push(small("other_Fuser/final/projector_config.json", b"{}"));
    let lab = Lab::new(files);
    let out = lab.text("out");
    let import = |source: &'static str| {
        let models = ["--receiver", "datasets/pocket/receiver", "--sharer", "datasets/pocket/sharer"];
        [&["import", source, "--out", &out], &models[..]].concat()
    };
    lab.fails(
        &import("lab/fusers"),
        2,
        &["name one of them", "  lab/fusers/other_Fuser\n", "  lab/fusers/pocket_Fuser"],
    );
    lab.fails(&import("lab/fusers/none"), 3, &["in `none`", "pocket_Fuser"]);
    lab.succeeds(&import("lab/fusers/pocket_Fuser@v1"));
    let weights = |dir: &Path| std::fs::read(dir.join("fuser.safetensors")).unwrap();
    assert!(weights(&lab.path("out")) == weights(&root().join("exports/pocket")), "the same bytes");
    let snapshot = lab.snapshot("models--lab--fusers");
    assert!(!snapshot.join("other_Fuser").exists() && !snapshot.join("pocket_Fuser/checkpoint-1").exists());
}

#[test]
fn a_fuser_is_evaluated_by_its_hub_id() {
    let lab = Lab::new(folder(&root().join("exports/pocket"), ""));
    let output = format!("output.dir={}", lab.text("runs"));
    let mut args = vec!["eval", "recipes/eval/pocket.toml", "--fuser", "lab/pocket", "--limit", "2", "-o", &output];
    args.extend(["-o", "evaluation.methods=[\"c2c\"]"]);
    lab.succeeds(&args);
    assert!(lab.snapshot("models--lab--pocket").join("fuser.safetensors").is_file());
    args[3] = "lab/pocket/x/../y";
    lab.fails(&args, 3, &["lab/pocket"]);
}

#[test]
fn wrong_bytes_end_a_run_before_it_begins() {
    let files = model("receiver");
    let flipped = |seen: &fake::Seen, _: usize| {
        let mut bytes = std::fs::read(root().join("datasets/pocket/receiver/model.safetensors")).unwrap();
        bytes[2_000_000] ^= 1;
        Some(fake::ranged(seen, &bytes))
    };
    let hub = FakeHub::faulty(files, Box::new(|_, _| None), Box::new(flipped));
    let lab = Lab { dir: tempfile::tempdir().unwrap(), hub };
    let output = format!("output.dir={}", lab.text("runs"));
    let args = ["train", "recipes/train/pocket.toml", "-o", "receiver.model=lab/receiver", "-o", &output];
    lab.fails(&args, 3, &["model.safetensors", "sha256", "deleted"]);
    assert!(!lab.path("runs").exists() && !lab.snapshot("models--lab--receiver").exists());
}

/// A hub that takes a fuser: everything into git, for brevity.
fn taking() -> Server {
    Server::start(|seen, _| match seen.path.as_str() {
        "/api/repos/create" => Reply::json(json!({})),
        "/api/models/lab/mine" => Reply::json(json!({ "private": true })),
        "/api/models/lab/mine/preupload/main" => {
            let asked: Value = serde_json::from_slice(&seen.body).unwrap();
            let mode = |file: &Value| json!({ "path": file["path"], "uploadMode": "regular" });
            Reply::json(json!({ "files": asked["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>() }))
        }
        "/api/models/lab/mine/commit/main" => {
            Reply::json(json!({ "commitOid": COMMIT, "commitUrl": "https://hub/lab/mine/commit/0123" }))
        }
        _ => Reply::new(404, ""),
    })
}

#[test]
fn a_fuser_is_checked_listed_and_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = taking();
    let push = |folder: &Path, more: &[&str]| {
        let args = [&["push", folder.to_str().unwrap(), "--to", "lab/mine"], more].concat();
        let mut command = command(&args);
        command.env("HF_HOME", dir.path()).env("HF_ENDPOINT", hub.url()).env("HF_HUB_OFFLINE", "0");
        command.env("HF_TOKEN", "hf_secret").output().unwrap()
    };
    let pocket = root().join("exports/pocket");
    let listed = succeeded(&["push"], push(&pocket, &["--dry-run"]));
    let weights = std::fs::read(pocket.join("fuser.safetensors")).unwrap();
    let line = format!("  fuser.safetensors      5.3 MB  sha256 {}\n", fake::sha256(&weights));
    assert!(
        stdout(&listed).contains("-> lab/mine: 3 files, 5.3 MB\n") && stdout(&listed).contains(&line),
        "{listed:?}"
    );
    assert!(stderr(&listed).contains("nothing was sent") && stderr(&listed).contains("../../datasets/pocket/sharer"));
    assert_eq!(hub.connections(), 0);

    let pushed = succeeded(&["push"], push(&pocket, &["--private", "--message", "First"]));
    assert_eq!(stdout(&pushed), "https://hub/lab/mine/commit/0123\n");
    let seen = hub.seen();
    let created: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(created["private"], true);
    let commit = String::from_utf8(seen.last().unwrap().body.clone()).unwrap();
    assert!(commit.lines().count() == 4 && commit.lines().next().unwrap().contains("\"summary\":\"First\""));

    // What isn't whole isn't sent.
    let connections = hub.connections();
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let card = std::fs::read_to_string(pocket.join("README.md")).unwrap();
    for name in ["README.md", "fuser.safetensors", "fuser_config.json"] {
        std::fs::copy(pocket.join(name), copy.join(name)).unwrap();
    }
    let refused = |words: &[&str]| failed(&["push"], &push(&copy, &[]), 3, words);
    let with = "---\nlibrary_name: c2c\nbase_model:\n- ../../x\n---\n";
    for (text, words) in [("# No front matter\n", ["front matter", "---"]), (with, ["base_model", "../../x"])] {
        std::fs::write(copy.join("README.md"), text).unwrap();
        refused(&words);
    }
    std::fs::remove_file(copy.join("README.md")).unwrap();
    refused(&["README.md"]);
    std::fs::write(copy.join("README.md"), card).unwrap();
    let mut damaged = weights;
    damaged[5_000_000] ^= 1;
    std::fs::write(copy.join("fuser.safetensors"), damaged).unwrap();
    refused(&["fuser.safetensors", "sha256", "weights_sha256"]);
    failed(&["push"], &push(&root().join("docs"), &[]), 2, &["holds no fuser", "c2c export"]);
    assert_eq!(hub.connections(), connections);
}
