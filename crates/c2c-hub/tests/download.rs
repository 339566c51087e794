//! Downloads from a hub that misbehaves: wrong bytes are never below `snapshots`, and the token goes nowhere else.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use c2c_hub::{Hub, HubError, Repo, RepoKind, Retries, Settings, Snapshot, Token};
use common::{COMMIT, FakeHub, Fault, Held, Reply, Seen, git_sha1, large, ranged, sha256, small};
use serde_json::json;

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("hub")
    }

    fn repo(&self) -> PathBuf {
        self.cache().join("models--lab--model")
    }

    fn settings(&self, hub: &FakeHub) -> Settings {
        Settings {
            endpoint: hub.endpoint.url().parse().unwrap(),
            cache: self.cache(),
            token: Token::new("test", "hf_secret").unwrap(),
            offline: false,
            retries: Retries { attempts: 4, pause: Duration::from_millis(1), longest: Duration::from_secs(2) },
        }
    }

    fn fetch(&self, hub: &FakeHub) -> Result<Snapshot, HubError> {
        fetch(&Hub::new(self.settings(hub)), "main", false)
    }

    fn part(&self, bytes: &[u8]) -> PathBuf {
        self.repo().join("blobs").join(format!("{}.incomplete", sha256(bytes)))
    }

    /// Nothing has a name in a snapshot, no branch is known, and every blob has the bytes that its name says.
    fn is_bare(&self) -> bool {
        let whole = |path: PathBuf| {
            let (name, bytes) = (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            name.ends_with(".incomplete") || name == sha256(&bytes) || name == git_sha1(&bytes)
        };
        !self.repo().join("snapshots").exists()
            && !self.repo().join("refs").exists()
            && fs::read_dir(self.repo().join("blobs")).into_iter().flatten().all(|entry| whole(entry.unwrap().path()))
    }
}

fn repo() -> Repo {
    Repo::new(RepoKind::Model, "lab/model").unwrap()
}

fn fetch(hub: &Hub, revision: &str, verify: bool) -> Result<Snapshot, HubError> {
    let listing = hub.list(&repo(), revision)?;
    let files: Vec<_> = listing.files.iter().collect();
    hub.fetch(&listing, &files, verify, &mut |_| {})
}

fn weights() -> Vec<u8> {
    (0..1_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn files() -> Vec<Held> {
    vec![small("config.json", b"{}\n"), large("model.safetensors", &weights()), small("inner/empty.txt", b"")]
}

fn storage(fault: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> FakeHub {
    FakeHub::faulty(files(), Box::new(|_, _| None), Box::new(fault))
}

fn endpoint(fault: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> FakeHub {
    FakeHub::faulty(files(), Box::new(fault), Box::new(|_, _| None))
}

/// The download fails, says these words, and leaves nothing that could be read.
fn refused(hub: &FakeHub, words: &[&str]) {
    let scratch = Scratch::new();
    let error = scratch.fetch(hub).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
    assert!(!error.contains("secret"), "{error}");
    assert!(scratch.is_bare(), "{error}");
}

#[test]
fn the_cache_has_the_layout_of_the_other_clients() {
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    let snapshot = scratch.fetch(&hub).unwrap();
    assert_eq!((snapshot.commit.as_str(), &snapshot.folder), (COMMIT, &scratch.repo().join("snapshots").join(COMMIT)));
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(fs::read(snapshot.folder.join("inner/empty.txt")).unwrap(), b"");
    assert_eq!(fs::read_to_string(scratch.repo().join("refs/main")).unwrap(), COMMIT);
    let link = |name: &str| fs::read_link(snapshot.folder.join(name)).unwrap();
    assert_eq!(link("model.safetensors"), Path::new(&format!("../../blobs/{}", sha256(&weights()))));
    assert_eq!(link("inner/empty.txt"), Path::new(&format!("../../../blobs/{}", git_sha1(b""))));
    let mut names: Vec<_> = fs::read_dir(scratch.repo()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["blobs", "refs", "snapshots"]);

    // What is there isn't fetched again, and without a connection it is found.
    let before = hub.transfers();
    assert_eq!(scratch.fetch(&hub).unwrap(), snapshot);
    assert_eq!(hub.transfers(), before);
    assert_eq!(Hub::new(scratch.settings(&hub)).cached(&repo(), "main"), Some(snapshot));
}

#[test]
fn files_of_the_other_clients_are_used() {
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    let blobs = scratch.repo().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(sha256(&weights())), weights()).unwrap();
    fs::write(scratch.part(&weights()), "of nobody").unwrap();
    scratch.fetch(&hub).unwrap();
    assert_eq!(hub.transfers(), 0);
}

#[test]
fn the_token_goes_to_the_endpoint_alone() {
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    scratch.fetch(&hub).unwrap();
    assert!(hub.endpoint.seen().iter().all(|s| s.headers["authorization"] == "Bearer hf_secret"));
    assert_eq!(hub.transfers(), 1);
    assert!(hub.storage.seen().iter().all(|s| !s.headers.contains_key("authorization")));
}

#[test]
fn a_truncated_body_is_resumed_where_it_broke_off() {
    let cuts = |seen: &Seen, before: usize| (before < 2).then(|| ranged(seen, &weights()).cut(300_000));
    let (scratch, hub) = (Scratch::new(), storage(cuts));
    let snapshot = scratch.fetch(&hub).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> = hub.storage.seen().iter().map(|s| s.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-".into()), Some("bytes=600000-".into())]);
}

#[test]
fn a_server_that_ignores_ranges_and_always_breaks_off_is_given_up() {
    let (scratch, hub) = (Scratch::new(), storage(|_, _| Some(Reply::new(200, weights()).cut(600_000))));
    let error = scratch.fetch(&hub).unwrap_err().to_string();
    assert!(error.contains("broke off at 600000 of 1000003 bytes") && error.contains("4 attempt(s)"), "{error}");
    assert!(scratch.is_bare());
    // The first was progress, and the count began anew.
    assert!(hub.transfers() <= 5, "{}", hub.transfers());
}

#[test]
fn what_an_interrupted_download_left_is_gone_on_with() {
    let always = |seen: &Seen, before: usize| {
        Some(if before == 0 { ranged(seen, &weights()).cut(500_000) } else { ranged(seen, &weights()).cut(0) })
    };
    let scratch = Scratch::new();
    let error = scratch.fetch(&storage(always)).unwrap_err();
    assert!(error.to_string().contains("broke off at 500000 of 1000003 bytes"), "{error}");
    assert!(scratch.is_bare());
    assert_eq!(fs::metadata(scratch.part(&weights())).unwrap().len(), 500_000);
    let hub = FakeHub::start(files());
    scratch.fetch(&hub).unwrap();
    assert_eq!(hub.storage.seen()[0].headers["range"], "bytes=500000-");
    assert!(!scratch.part(&weights()).exists());
}

#[test]
fn a_part_that_is_wrong_too_long_or_not_resumable_is_fetched_anew() {
    for (left, transfers) in [(vec![7; 10], 2), (vec![7; 2_000_000], 1), (vec![7; 1_000_003], 1)] {
        let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
        fs::create_dir_all(scratch.repo().join("blobs")).unwrap();
        fs::write(scratch.part(&weights()), left).unwrap();
        let snapshot = scratch.fetch(&hub).unwrap();
        assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
        assert_eq!(hub.transfers(), transfers);
    }
    // A server that ignores the range sends everything.
    let (scratch, hub) = (Scratch::new(), storage(|_, _| Some(Reply::new(200, weights()))));
    fs::create_dir_all(scratch.repo().join("blobs")).unwrap();
    fs::write(scratch.part(&weights()), &weights()[..999]).unwrap();
    scratch.fetch(&hub).unwrap();
    assert_eq!(hub.transfers(), 1);
}

#[test]
fn a_flipped_byte_of_equal_size_is_refused() {
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[1] ^= 1;
        bytes
    };
    let hub = storage(move |seen, _| Some(ranged(seen, &flipped(&weights()))));
    refused(&hub, &["sha256 of the 1000003 bytes", &sha256(&weights()), &sha256(&flipped(&weights())), "deleted"]);
    // Small files are known by git's hash.
    let hub = endpoint(|seen, _| seen.path.ends_with("config.json").then(|| Reply::new(200, "{]\n")));
    refused(&hub, &["git sha1", &git_sha1(b"{}\n"), "config.json"]);
}

#[test]
fn a_wrong_end_after_a_resume_is_refused_and_nothing_is_left_to_resume() {
    let scratch = Scratch::new();
    let hub = storage(|seen, before| {
        let mut bytes = weights();
        bytes[900_000] ^= 1;
        let reply = ranged(seen, &bytes);
        Some(if before == 0 { reply.cut(500_000) } else { reply })
    });
    let error = scratch.fetch(&hub).unwrap_err();
    assert!(matches!(error, HubError::Hash { .. }), "{error}");
    assert!(scratch.is_bare() && !scratch.part(&weights()).exists());
}

#[test]
fn longer_answers_and_pages_of_html_are_no_files() {
    refused(&storage(|_, _| Some(Reply::new(200, vec![1; 1_000_004]))), &["size 1000004", "expected 1000003"]);
    let page = |_: &Seen, _: usize| {
        Some(Reply::new(200, "<!DOCTYPE html><p>Log in</p>").with("content-type", "text/html; charset=utf-8"))
    };
    refused(&storage(page), &["HTML page", "login page"]);
    refused(&endpoint(page), &["HTML page", "expected the API's JSON"]);
    // A range that isn't the one that was asked for.
    let scratch = Scratch::new();
    let hub = storage(|_, _| Some(Reply::new(206, &weights()[5..]).with("content-range", "bytes 5-1000002/1000003")));
    fs::create_dir_all(scratch.repo().join("blobs")).unwrap();
    fs::write(scratch.part(&weights()), &weights()[..999]).unwrap();
    let error = scratch.fetch(&hub).unwrap_err().to_string();
    assert!(error.contains("expected bytes 999-1000002/1000003") && scratch.is_bare(), "{error}");
}

#[test]
fn another_commit_or_another_file_is_refused() {
    let other = "f".repeat(40);
    let header = other.clone();
    let hub = endpoint(move |seen, _| {
        seen.path.ends_with("config.json").then(|| Reply::new(200, "{}\n").with("x-repo-commit", &header))
    });
    refused(&hub, &["commit", &other, COMMIT]);
    let hub = endpoint(|seen, _| {
        let answer = Reply::new(302, "").with("location", "/elsewhere").with("x-linked-etag", &"a".repeat(64));
        seen.path.ends_with("model.safetensors").then_some(answer)
    });
    refused(&hub, &["hash", &"a".repeat(64), &sha256(&weights())]);
    // A pinned commit that the server answers with another one.
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    let error = fetch(&Hub::new(scratch.settings(&hub)), &other, false).unwrap_err().to_string();
    assert!(error.contains("commit") && error.contains(&other) && scratch.is_bare(), "{error}");
}

#[test]
fn names_that_lead_elsewhere_are_refused_before_anything_is_fetched() {
    for name in ["../x", "a/../../x", "/etc/x", "a//b", "a\\..\\x", "C:x", "", ".", "a\u{0}b"] {
        let hub = FakeHub::start(vec![small("config.json", b"{}\n"), small(name, b"bad")]);
        refused(&hub, &["no plain path", "lab/model"]);
        assert!(hub.endpoint.seen().iter().all(|s| !s.path.contains("resolve")), "{name:?}");
    }
    let odd = json!([{ "type": "file", "oid": "../../x", "size": 1, "path": "config.json" }]);
    refused(
        &endpoint(move |s, _| s.path.contains("/tree/").then(|| Reply::json(odd.clone()))),
        &["git sha1", "../../x"],
    );
    refused(&endpoint(|s, _| s.path.contains("/revision/").then(|| Reply::json(json!({ "sha": "../x" })))), &["../x"]);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_so() {
    let busy = |seen: &Seen, before: usize| match (seen.path.ends_with("config.json"), before) {
        (true, 0) => Some(Reply::new(429, "").with("retry-after", "1")),
        (true, 1) => Some(Reply::new(503, "")),
        _ => None,
    };
    let (scratch, hub) = (Scratch::new(), endpoint(busy));
    let start = std::time::Instant::now();
    scratch.fetch(&hub).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After is waited for");
    assert_eq!(hub.endpoint.seen().iter().filter(|s| s.path.ends_with("config.json")).count(), 3);

    let hub = endpoint(|_, _| Some(Reply::new(503, "")));
    refused(&hub, &["503", "4 attempt(s)", "/api/models/lab/model/revision/main"]);
    assert_eq!(hub.endpoint.connections(), 4);
    refused(&endpoint(|_, _| Some(Reply::new(429, "").with("retry-after", "3600"))), &["429", "wait 3600 s"]);
}

#[test]
fn what_the_hub_refuses_is_said_with_what_helps() {
    let answer = |status: u16, code: &'static str, said: &'static str| {
        endpoint(move |_, _| Some(Reply::new(status, "").with("x-error-code", code).with("x-error-message", said)))
    };
    refused(&answer(404, "RevisionNotFound", "Invalid rev id: main"), &["404", "Invalid rev id", "behind the `@`"]);
    refused(&answer(401, "RepoNotFound", "Repository not found"), &["lab/model@main", "spelling", "HF_TOKEN"]);
    refused(&answer(403, "GatedRepo", "Access is restricted"), &["ask for access"]);
}

#[test]
fn redirects_stay_within_bounds() {
    let to = |location: &'static str| {
        endpoint(move |s, _| s.path.contains("resolve").then(|| Reply::new(302, "").with("location", location)))
    };
    refused(&to("file:///etc/passwd"), &["no http(s) address", "file:///etc/passwd"]);
    refused(&to(""), &["not followed"]);
    let hub = endpoint(|s, _| s.path.contains("resolve").then(|| Reply::new(302, "").with("location", &s.path)));
    refused(&hub, &["more redirects"]);
    // A relative one, as for repositories that were renamed.
    let renamed = |s: &Seen, _: usize| {
        let new = s.path.replace("lab/model", "lab/new");
        (new != s.path).then(|| Reply::new(307, "").with("location", &new))
    };
    let (scratch, hub) = (Scratch::new(), endpoint(renamed));
    scratch.fetch(&hub).unwrap();
    assert!(hub.endpoint.seen().iter().all(|s| s.headers.contains_key("authorization")));
}

#[test]
fn listings_of_many_pages_are_read_to_the_end_and_on_one_host() {
    let pages = |next: &'static str| -> Fault {
        Box::new(move |s, _| {
            let all = common::tree(&files());
            let all = all.as_array().unwrap();
            match s.path.split_once("/tree/")?.1.contains("cursor") {
                true => Some(Reply::json(json!(all[2..]))),
                false => Some(Reply::json(json!(all[..2])).with("link", &format!("<{next}>; rel=\"next\""))),
            }
        })
    };
    let (scratch, hub) = (Scratch::new(), FakeHub::faulty(files(), pages("?cursor=x"), Box::new(|_, _| None)));
    assert!(scratch.fetch(&hub).unwrap().folder.join("inner/empty.txt").exists());
    refused(&FakeHub::faulty(files(), pages("http://localhost:1/x"), Box::new(|_, _| None)), &["another host"]);
    refused(&FakeHub::faulty(files(), pages("?recursive=true"), Box::new(|_, _| None)), &["come to an end"]);
}

#[test]
fn a_listing_without_end_is_given_up() {
    let endless: Fault = Box::new(|s, _| {
        let (_, page) = s.path.split_once("/tree/")?;
        let number = page.split_once("cursor=").map_or(0, |(_, n)| n.parse::<usize>().unwrap());
        let next = format!("<?cursor={}>; rel=\"next\"", number + 1);
        Some(Reply::json(json!([])).with("link", &next))
    });
    refused(&FakeHub::faulty(files(), endless, Box::new(|_, _| None)), &["2000 pages", "a listing that goes on"]);
}

#[test]
fn a_servers_words_are_shown_without_control_characters_and_not_without_end() {
    let odd = format!("\u{1b}]0;owned\u{7}\u{1b}[2J{}", "x".repeat(100_000));
    let shown = |hub: &FakeHub| {
        let error = Scratch::new().fetch(hub).unwrap_err().to_string();
        assert!(error.len() < 2_000, "{} bytes", error.len());
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.contains("owned"), "{error}");
    };
    let sha = odd.clone();
    shown(&endpoint(move |s, _| s.path.contains("/revision/").then(|| Reply::json(json!({ "sha": sha })))));
    let tree = json!([{ "type": "file", "oid": odd, "size": 1, "path": "config.json" }]);
    shown(&endpoint(move |s, _| s.path.contains("/tree/").then(|| Reply::json(tree.clone()))));
    let kind = json!([{ "type": "file", "oid": 1, "size": odd, "path": "config.json" }]);
    let found =
        Scratch::new().fetch(&endpoint(move |s, _| s.path.contains("/tree/").then(|| Reply::json(kind.clone()))));
    assert!(found.unwrap_err().to_string().len() < 2_000);
    let message = json!({ "error": &odd[..10_000] });
    shown(&endpoint(move |_, _| Some(Reply::new(404, message.to_string()))));
    let name = json!([{ "type": "file", "oid": "a".repeat(40), "size": 1, "path": format!("../{odd}") }]);
    shown(&endpoint(move |s, _| s.path.contains("/tree/").then(|| Reply::json(name.clone()))));
}

#[test]
fn two_at_once_make_one_transfer() {
    let slow = |seen: &Seen, _: usize| {
        std::thread::sleep(Duration::from_millis(300));
        Some(ranged(seen, &weights()))
    };
    let (scratch, hub) = (Scratch::new(), storage(slow));
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| scratch.fetch(&hub).unwrap())).collect();
        for one in both {
            let folder = one.join().unwrap().folder;
            assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
        }
    });
    assert_eq!(hub.transfers(), 1);
}

#[test]
fn offline_makes_no_connection() {
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    let offline = Hub::new(Settings { offline: true, ..scratch.settings(&hub) });
    let error = fetch(&offline, "main", false).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(offline.cached(&repo(), "main"), None);
    assert_eq!((hub.endpoint.connections(), hub.storage.connections()), (0, 0));
}

#[test]
fn a_pinned_snapshot_stands_for_main_only_offline() {
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    let pinned = fetch(&Hub::new(scratch.settings(&hub)), COMMIT, false).unwrap();
    assert!(!scratch.repo().join("refs").exists());
    let cached = |offline: bool, revision: &str| {
        Hub::new(Settings { offline, ..scratch.settings(&hub) }).cached(&repo(), revision)
    };
    assert_eq!((cached(false, COMMIT), cached(true, COMMIT)), (Some(pinned.clone()), Some(pinned.clone())));
    assert_eq!((cached(false, "main"), cached(true, "main")), (None, Some(pinned)));
    assert_eq!((cached(true, "v1"), cached(true, "../snapshots")), (None, None));
}

#[test]
fn damage_in_the_cache_is_found_on_demand_and_mended() {
    let (scratch, hub) = (Scratch::new(), FakeHub::start(files()));
    let blob = scratch.repo().join("blobs").join(sha256(&weights()));
    let snapshot = scratch.fetch(&hub).unwrap();
    let mut bytes = weights();
    bytes[3] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    fetch(&Hub::new(scratch.settings(&hub)), "main", true).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.safetensors")).unwrap(), weights());
    // One of another length is noticed always.
    fs::write(&blob, &bytes[1..]).unwrap();
    scratch.fetch(&hub).unwrap();
    assert_eq!(fs::read(&blob).unwrap(), weights());
    assert_eq!(hub.transfers(), 3);
}
