//! A hub in this process: two HTTP servers on ports of their own, one the endpoint, one the storage that it redirects to.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub fn json(value: Value) -> Self {
        Self::new(200, value.to_string()).with("content-type", "application/json")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

pub struct Server {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers until the test ends. The handler also gets how many requests of that method and path came before.
    pub fn start(handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, log, handler) = (connections.clone(), seen.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (log, handler) = (log.clone(), handler.clone());
                // A client that goes away is no failure of the server.
                std::thread::spawn(move || serve(stream, &log, &*handler));
            }
        });
        Self { port, connections, seen }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

type Log = Mutex<Vec<Seen>>;

fn serve(mut stream: TcpStream, log: &Log, handler: &dyn Fn(&Seen, usize) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = Seen { method, path, headers, body };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|s| s.method == request.method && s.path == request.path).count();
        log.push(request.clone());
        before
    };
    let reply = handler(&request, before);
    let mut head =
        format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())]).ok()?;
    stream.flush().ok()
}

/// A file of the fake hub.
#[derive(Clone)]
pub struct Held {
    pub name: String,
    pub bytes: Vec<u8>,
    pub lfs: bool,
}

pub fn small(name: &str, bytes: &[u8]) -> Held {
    Held { name: name.into(), bytes: bytes.to_vec(), lfs: false }
}

pub fn large(name: &str, bytes: &[u8]) -> Held {
    Held { lfs: true, ..small(name, bytes) }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn git_sha1(bytes: &[u8]) -> String {
    hex(&Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, whatever id it is asked for. LFS files are redirected to the storage.
pub struct FakeHub {
    pub endpoint: Server,
    pub storage: Server,
}

/// `Some` answers in the hub's place; the number counts earlier requests of that path.
pub type Fault = Box<dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync>;

impl FakeHub {
    pub fn start(files: Vec<Held>) -> Self {
        Self::faulty(files, Box::new(|_, _| None), Box::new(|_, _| None))
    }

    pub fn faulty(files: Vec<Held>, at_endpoint: Fault, at_storage: Fault) -> Self {
        let held = files.clone();
        let storage = Server::start(move |seen, before| {
            at_storage(seen, before).unwrap_or_else(|| {
                let path = seen.path.split('?').next().unwrap();
                let file = held.iter().find(|file| path == format!("/blob/{}", sha256(&file.bytes)));
                file.map_or_else(|| Reply::new(404, ""), |file| ranged(seen, &file.bytes))
            })
        });
        let port = storage.port;
        let endpoint =
            Server::start(move |seen, before| at_endpoint(seen, before).unwrap_or_else(|| route(seen, &files, port)));
        Self { endpoint, storage }
    }

    /// How often the bytes of an LFS file were asked for.
    pub fn transfers(&self) -> usize {
        self.storage.seen().len()
    }
}

fn route(seen: &Seen, files: &[Held], storage: u16) -> Reply {
    let path = seen.path.split('?').next().unwrap();
    if path.starts_with("/api/") && path.contains("/revision/") {
        return Reply::json(json!({ "sha": COMMIT, "id": "x/y" }));
    }
    if path.starts_with("/api/") && path.ends_with(&format!("/tree/{COMMIT}")) {
        return Reply::json(tree(files));
    }
    let resolve = format!("/resolve/{COMMIT}/");
    let file = path.split_once(&resolve).and_then(|(_, name)| files.iter().find(|file| file.name == name));
    match file {
        None => Reply::new(404, "").with("x-error-code", "EntryNotFound").with("x-error-message", "Entry not found"),
        Some(file) if file.lfs => {
            let sha = sha256(&file.bytes);
            Reply::new(302, "")
                .with("location", &format!("http://127.0.0.1:{storage}/blob/{sha}?signature=secret"))
                .with("x-linked-etag", &format!("\"{sha}\""))
                .with("x-repo-commit", COMMIT)
        }
        Some(file) => ranged(seen, &file.bytes)
            .with("etag", &format!("\"{}\"", git_sha1(&file.bytes)))
            .with("x-repo-commit", COMMIT),
    }
}

pub fn tree(files: &[Held]) -> Value {
    let mut entries = vec![json!({ "type": "directory", "oid": "0", "size": 0, "path": "folder" })];
    for file in files {
        let (name, size) = (&file.name, file.bytes.len());
        entries.push(if file.lfs {
            json!({ "type": "file", "oid": git_sha1(b"pointer"), "size": size, "path": name,
                "lfs": { "oid": sha256(&file.bytes), "size": size, "pointerSize": 134 } })
        } else {
            json!({ "type": "file", "oid": git_sha1(&file.bytes), "size": size, "path": name })
        });
    }
    Value::Array(entries)
}

/// The bytes, or those that a `Range` asks for.
pub fn ranged(seen: &Seen, bytes: &[u8]) -> Reply {
    let from =
        seen.headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        Some(from) => Reply::new(206, &bytes[from..])
            .with("content-range", &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
        None => Reply::new(200, bytes),
    }
}
