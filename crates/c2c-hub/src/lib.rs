//! Files from the Hugging Face hub, verified, in the cache that its own clients use; and fusers to the hub.
//!
//! A download asks the hub's API what a repository holds at a commit, with the size and hash of each file; fetches what is
//! needed into `blobs`; and gives the files their names below `snapshots/<commit>` when all of them are there and have the
//! hashes that were listed. So nothing that is read from a snapshot was cut short, flipped, or of another commit.
//!
//! Blocking, one connection at a time, no async runtime. `docs/hub.md` says how it is used, and what the crate `hf-hub`
//! leaves open.

mod cache;
mod error;
mod http;
mod hub;
mod listing;
mod push;
mod reference;
mod select;
mod settings;
mod transfer;

pub use cache::Snapshot;
pub use error::HubError;
pub use hub::Hub;
pub use listing::{FileHash, Listing, RemoteFile};
pub use push::{PushOptions, Pushed, UploadFile};
pub use reference::{HubRef, Repo, RepoKind};
pub use select::{Need, fuser_files, matching, model_files};
pub use settings::{Retries, Settings, Token, cache_dir};
pub use transfer::{OnProgress, Progress};
