//! Uploads to a hub that looks at everything that it gets.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use c2c_hub::{Hub, HubError, PushOptions, Pushed, Repo, RepoKind, Retries, Settings, Token, UploadFile};
use common::{COMMIT, Reply, Seen, Server, sha256};
use serde_json::{Value, json};

const CARD: &[u8] = b"---\nlibrary_name: c2c\n---\n";

fn weights() -> Vec<u8> {
    (0..100_007_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What the hub says to the question where the weights should go.
type Object = Arc<dyn Fn(u16) -> Value + Send + Sync>;
type Fault = fn(&Seen, usize) -> Option<Reply>;

/// Path and body of what the storage took.
type Stored = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

struct Lab {
    dir: tempfile::TempDir,
    endpoint: Server,
    storage: Server,
    stored: Stored,
}

impl Lab {
    fn new(object: impl Fn(u16) -> Value + Send + Sync + 'static, fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("README.md"), CARD).unwrap();
        std::fs::write(dir.path().join("fuser.safetensors"), weights()).unwrap();
        let stored = Stored::default();
        let store = stored.clone();
        let storage = Server::start(move |seen, before| {
            if let Some(reply) = fault(seen, before) {
                return reply;
            }
            store.lock().unwrap().push((seen.path.clone(), seen.body.clone()));
            Reply::new(200, "").with("etag", &format!("\"tag-{}\"", sha256(&seen.body)))
        });
        let (port, object): (u16, Object) = (storage.port, Arc::new(object));
        let endpoint =
            Server::start(move |seen, before| fault(seen, before).unwrap_or_else(|| answer(seen, &object(port))));
        Self { dir, endpoint, storage, stored }
    }

    fn hub(&self) -> Hub {
        Hub::new(Settings {
            endpoint: self.endpoint.url().parse().unwrap(),
            cache: self.dir.path().join("hub"),
            token: Token::new("test", "hf_secret").unwrap(),
            offline: false,
            retries: Retries { attempts: 3, pause: Duration::from_millis(1), longest: Duration::from_secs(1) },
        })
    }

    fn files(&self) -> Vec<UploadFile> {
        ["README.md", "fuser.safetensors"].map(|name| UploadFile::new(self.dir.path(), name).unwrap()).to_vec()
    }

    fn push(&self) -> Result<Pushed, HubError> {
        let options = PushOptions { private: true, message: "Add the fuser".into() };
        self.hub().push(&repo(), &self.files(), &options, &mut |_| {})
    }

    /// The requests whose path has this in it.
    fn asked(&self, path: &str) -> Vec<Seen> {
        self.endpoint.seen().into_iter().filter(|seen| seen.path.contains(path)).collect()
    }

    /// The push fails with these words, and no commit was asked for.
    fn refused(&self, words: &[&str]) {
        let error = self.push().unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        assert!(!error.contains("secret"), "{error}");
        assert!(self.asked("/commit/").is_empty());
    }
}

fn repo() -> Repo {
    Repo::new(RepoKind::Model, "lab/fuser").unwrap()
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn answer(seen: &Seen, object: &Value) -> Reply {
    match seen.path.as_str() {
        "/api/repos/create" => Reply::json(json!({ "url": "x" })),
        "/api/models/lab/fuser" => Reply::json(json!({ "id": "lab/fuser", "private": true })),
        "/api/models/lab/fuser/preupload/main" => Reply::json(json!({ "files": [
            { "path": "README.md", "uploadMode": "regular", "shouldIgnore": false },
            { "path": "fuser.safetensors", "uploadMode": "lfs", "shouldIgnore": false },
        ] })),
        "/lab/fuser.git/info/lfs/objects/batch" => Reply::json(json!({ "transfer": "basic", "objects": [object] })),
        "/lab/fuser/verify" => Reply::new(200, ""),
        "/api/models/lab/fuser/commit/main" => {
            Reply::json(json!({ "success": true, "commitOid": COMMIT, "commitUrl": "https://hub/lab/fuser/commit/x" }))
        }
        _ => Reply::new(404, ""),
    }
}

fn single(port: u16) -> Value {
    json!({ "oid": sha256(&weights()), "size": weights().len(), "actions": {
        "upload": { "href": format!("http://127.0.0.1:{port}/put?signature=secret"), "header": { "x-kept": "yes" } },
    } })
}

fn in_parts(port: u16) -> Value {
    let base = format!("http://127.0.0.1:{port}");
    json!({ "oid": sha256(&weights()), "size": weights().len(), "actions": { "upload": {
        "href": format!("{base}/complete?signature=secret"),
        "header": { "chunk_size": "40000", "00002": format!("{base}/part/2"), "00001": format!("{base}/part/1"),
            "00003": format!("{base}/part/3") },
    } } })
}

fn no_fault(_: &Seen, _: usize) -> Option<Reply> {
    None
}

#[test]
fn a_folder_becomes_one_commit_with_its_large_file_in_the_storage() {
    let lab = Lab::new(single, no_fault);
    let pushed = lab.push().unwrap();
    assert_eq!(pushed, Pushed { commit: COMMIT.into(), url: "https://hub/lab/fuser/commit/x".into(), created: true });
    let created = body(&lab.asked("/repos/create")[0]);
    assert_eq!(created, json!({ "type": "model", "organization": "lab", "name": "fuser", "private": true }));
    let samples = body(&lab.asked("/preupload/")[0]);
    assert_eq!(samples["files"][0]["sample"], STANDARD.encode(CARD));
    assert_eq!(samples["files"][1]["sample"], STANDARD.encode(&weights()[..512]));
    assert_eq!(*lab.stored.lock().unwrap(), [("/put?signature=secret".to_owned(), weights())]);
    let lines: Vec<Value> = String::from_utf8(lab.asked("/commit/")[0].body.clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["value"]["summary"], "Add the fuser");
    let card = json!({ "path": "README.md", "encoding": "base64", "content": STANDARD.encode(CARD) });
    assert_eq!(lines[1], json!({ "key": "file", "value": card }));
    let (oid, size) = (sha256(&weights()), weights().len());
    let large = json!({ "path": "fuser.safetensors", "algo": "sha256", "oid": oid, "size": size });
    assert_eq!(lines[2..], [json!({ "key": "lfsFile", "value": large })]);
    // The token is the endpoint's; the storage gets what the endpoint said that it wants.
    assert!(lab.endpoint.seen().iter().all(|seen| seen.headers["authorization"] == "Bearer hf_secret"));
    let put = &lab.storage.seen()[0];
    assert!(!put.headers.contains_key("authorization") && put.headers["x-kept"] == "yes");
}

#[test]
fn a_file_goes_in_parts_where_the_storage_asks_for_them() {
    let lab = Lab::new(in_parts, |seen, before| (seen.path == "/part/2" && before == 0).then(|| Reply::new(503, "")));
    lab.push().unwrap();
    let stored = lab.stored.lock().unwrap();
    let paths: Vec<&str> = stored.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/part/1", "/part/2", "/part/3", "/complete?signature=secret"]);
    let sent: Vec<u8> = stored[..3].iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(sent == weights(), "the parts in order are the file");
    let complete: Value = serde_json::from_slice(&stored[3].1).unwrap();
    let tag = |n: usize| json!({ "partNumber": n, "etag": format!("\"tag-{}\"", sha256(&stored[n - 1].1)) });
    assert_eq!(complete, json!({ "oid": sha256(&weights()), "parts": [tag(1), tag(2), tag(3)] }));
}

#[test]
fn what_is_there_already_isn_t_sent_again() {
    let stored = |_: u16| json!({ "oid": sha256(&weights()), "size": weights().len() });
    let lab = Lab::new(stored, |seen, _| (seen.path == "/api/repos/create").then(|| Reply::new(409, "")));
    assert!(!lab.push().unwrap().created);
    assert_eq!(lab.storage.connections(), 0);
}

#[test]
fn nothing_is_committed_when_an_upload_fails() {
    let over = |seen: &Seen, _: usize| {
        let reply = Reply::json(json!({ "error": "You are over your quota" }));
        (seen.method == "PUT").then_some(Reply { status: 403, ..reply })
    };
    Lab::new(single, over).refused(&["uploading fuser.safetensors", "403", "over your quota"]);
    let error =
        |_: u16| json!({ "oid": sha256(&weights()), "size": 1, "error": { "code": 422, "message": "too large" } });
    Lab::new(error, no_fault).refused(&["fuser.safetensors", "422: too large", "nothing was committed"]);
    Lab::new(|_| json!({ "oid": "other" }), no_fault).refused(&["doesn't say where"]);
    let few = |port: u16| {
        let mut object = in_parts(port);
        object["actions"]["upload"]["header"]["chunk_size"] = json!("10");
        object
    };
    Lab::new(few, no_fault).refused(&["3 parts of 10 bytes", "expected 10001"]);
    let elsewhere = |_: u16| json!({ "oid": sha256(&weights()), "actions": { "upload": { "href": "file:///tmp/x" } } });
    Lab::new(elsewhere, no_fault).refused(&["no https or http address"]);
    let no_tag = |seen: &Seen, _: usize| seen.path.starts_with("/part/").then(|| Reply::new(200, ""));
    Lab::new(in_parts, no_tag).refused(&["no ETag for part 1"]);
    let verify = |port: u16| {
        let mut object = single(port);
        object["actions"]["verify"] = json!({ "href": format!("http://127.0.0.1:{port}/verify") });
        object
    };
    let lost = |seen: &Seen, _: usize| (seen.path == "/verify").then(|| Reply::new(404, ""));
    Lab::new(verify, lost).refused(&["uploading fuser.safetensors", "404"]);
    let ignored = |seen: &Seen, _: usize| {
        let file =
            |path: &str| json!({ "path": path, "uploadMode": "lfs", "shouldIgnore": path == "fuser.safetensors" });
        let files = json!({ "files": [file("README.md"), file("fuser.safetensors")] });
        seen.path.contains("preupload").then(|| Reply::json(files))
    };
    Lab::new(single, ignored).refused(&[".gitignore"]);
    let denied = |seen: &Seen, _: usize| match seen.path.as_str() {
        "/api/repos/create" => Some(Reply::new(403, "")),
        "/api/models/lab/fuser" => Some(Reply::new(404, "")),
        _ => None,
    };
    Lab::new(single, denied).refused(&["making the repository lab/fuser", "403", "may do that"]);
}

#[test]
fn the_storages_words_are_shown_without_control_characters() {
    let odd = format!("\u{1b}[2Jfull{}", "x".repeat(10_000));
    let full = move |_: u16| json!({ "oid": sha256(&weights()), "error": { "code": 507, "message": odd } });
    let error = Lab::new(full, no_fault).push().unwrap_err().to_string();
    assert!(error.contains("507") && error.contains("full") && error.len() < 1_000, "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn a_token_that_may_not_make_repositories_pushes_to_one_that_is_there() {
    let lab = Lab::new(single, |seen, _| (seen.path == "/api/repos/create").then(|| Reply::new(403, "")));
    assert!(!lab.push().unwrap().created);
}

#[test]
fn what_was_to_be_private_is_not_sent_where_others_can_see_it() {
    let public = |seen: &Seen, _: usize| {
        (seen.path == "/api/models/lab/fuser").then(|| Reply::json(json!({ "id": "lab/fuser", "private": false })))
    };
    let lab = Lab::new(single, public);
    lab.refused(&["others can see", "private", "nothing was committed"]);
    assert!(lab.asked("/preupload/").is_empty() && lab.storage.connections() == 0);
    // Unasked, the owner's default holds.
    let options = PushOptions { private: false, message: "x".into() };
    lab.hub().push(&repo(), &lab.files(), &options, &mut |_| {}).unwrap();
    assert!(body(lab.asked("/repos/create").last().unwrap()).get("private").is_none());
}

#[test]
fn a_commit_without_an_answer_is_not_sent_twice() {
    let lost = |seen: &Seen, _: usize| seen.path.contains("/commit/").then(|| Reply::new(500, ""));
    let lab = Lab::new(single, lost);
    assert!(lab.push().unwrap_err().to_string().contains("500"));
    assert_eq!(lab.asked("/commit/").len(), 1);
    // One that was refused before anything was done is.
    let busy =
        |seen: &Seen, before: usize| (seen.path.contains("/commit/") && before == 0).then(|| Reply::new(429, ""));
    let lab = Lab::new(single, busy);
    lab.push().unwrap();
    assert_eq!(lab.asked("/commit/").len(), 2);
}

#[test]
fn a_file_that_changed_since_it_was_hashed_is_not_committed() {
    let lab = Lab::new(single, no_fault);
    let files = lab.files();
    std::fs::write(lab.dir.path().join("README.md"), "other").unwrap();
    let options = PushOptions { private: false, message: "x".into() };
    let error = lab.hub().push(&repo(), &files, &options, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("README.md") && error.contains("changed"), "{error}");
    assert!(lab.asked("/commit/").is_empty());
}

#[test]
fn without_a_token_or_offline_no_connection_is_made() {
    let lab = Lab::new(single, no_fault);
    let options = PushOptions { private: false, message: "x".into() };
    for (offline, word) in [(true, "HF_HUB_OFFLINE"), (false, "HF_TOKEN")] {
        let settings = Settings { offline, token: None, ..lab.hub().settings().clone() };
        let error = Hub::new(settings).push(&repo(), &lab.files(), &options, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(lab.endpoint.connections() + lab.storage.connections(), 0);
}
