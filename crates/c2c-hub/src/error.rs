//! What can go wrong between this machine and a hub, said so that it can be put right.

use std::path::PathBuf;

/// Errors of references, downloads and uploads.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A text that names nothing on a hub.
    #[error("`{found}` is no reference to the hub: {reason}; expected {expected}")]
    Reference {
        /// The text.
        found: String,
        /// Which part is wrong.
        reason: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A variable of the environment that can't be used.
    #[error("{name}: {reason}; {fix}")]
    Setting {
        /// The variable or file.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        fix: &'static str,
    },
    /// A file or folder of the cache can't be read or written.
    #[error("cannot {action} {}: {source}; check free space and permissions of the hub cache, or set HF_HUB_CACHE", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A connection would be needed, and HF_HUB_OFFLINE forbids it.
    #[error("{what} isn't in the hub cache {}, and HF_HUB_OFFLINE is set, so that nothing is fetched; unset it, or {fix}", .cache.display())]
    Offline {
        /// What is needed.
        what: String,
        /// The cache.
        cache: PathBuf,
        /// What else can be done.
        fix: String,
    },
    /// No answer, or none that was whole, after all attempts.
    #[error(
        "no usable answer from {url} after {attempts} attempt(s): {reason}; check the network and HF_ENDPOINT, then try again: what is there already is kept"
    )]
    Unreachable {
        /// The address.
        url: String,
        /// The last reason.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An answer that says no.
    #[error("{what}: {url} answered {status}{}; {fix}", if .message.is_empty() { String::new() } else { format!(" ({})", .message) })]
    Refused {
        /// What was asked for.
        what: String,
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// What to do.
        fix: &'static str,
    },
    /// An answer that this program doesn't understand.
    #[error(
        "{url}: expected {expected}, found {found}; check that HF_ENDPOINT is a hub, and that no login page of the network stands in between"
    )]
    Answer {
        /// The address.
        url: String,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A redirect that isn't followed.
    #[error("{from} redirects to {to}: {reason}; not followed, check HF_ENDPOINT")]
    Redirect {
        /// Where the request went.
        from: String,
        /// Where it should go.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// A file name that leads out of its folder, or can't be one.
    #[error(
        "{repo} lists a file named {name:?}, which is no plain path below its folder; nothing of this repository is fetched, report it to its owner"
    )]
    UnsafeName {
        /// The repository.
        repo: String,
        /// The name.
        name: String,
    },
    /// Bytes that aren't those of the file. They have been deleted.
    #[error(
        "{file}: {algorithm} of the {size} bytes received is {found}, expected {expected}; they were deleted, try again or use another HF_ENDPOINT"
    )]
    Hash {
        /// Repository, commit and file.
        file: String,
        /// `sha256`, or `git sha1`.
        algorithm: &'static str,
        /// Bytes.
        size: u64,
        /// Hash of what came.
        found: String,
        /// Hash that the hub lists.
        expected: String,
    },
    /// An answer for another commit or file than was asked for.
    #[error(
        "{file}: the server sends {what} {found}, expected {expected}; its listing and its files disagree, try again later"
    )]
    OtherFile {
        /// Repository, commit and file.
        file: String,
        /// `commit`, `hash` or `size`.
        what: &'static str,
        /// What the server says.
        found: String,
        /// What was listed.
        expected: String,
    },
    /// A repository without what is needed.
    #[error("{repo} at {commit} has no {what}; it has {found}")]
    NoFile {
        /// The repository.
        repo: String,
        /// The commit.
        commit: String,
        /// What is needed.
        what: String,
        /// What it holds.
        found: String,
    },
    /// The server won't take an upload.
    #[error("{to}: {what}: {reason}; nothing was committed")]
    Upload {
        /// The repository.
        to: String,
        /// The file or step.
        what: String,
        /// Why.
        reason: String,
    },
}

pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Io { action, path, source }
}
