//! The hub as the rest of the program sees it.

use crate::cache::{RepoCache, Snapshot};
use crate::http::Http;
use crate::listing::{self, Listing, RemoteFile};
use crate::transfer::{OnProgress, Transfer};
use crate::{HubError, Repo, Settings};

/// A hub and the local cache of its files.
pub struct Hub {
    http: Http,
}

impl Hub {
    /// A hub by its settings. Makes no connection.
    pub fn new(settings: Settings) -> Self {
        Self { http: Http::new(settings, Box::new(|_| {})) }
    }

    /// This hub, with somebody who hears why and how long it waits before it tries again.
    pub fn on_pause(self, hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { http: Http::new(self.settings().clone(), Box::new(hear)) }
    }

    /// A hub by the environment; see [`Settings::from_env`]. Makes no connection.
    ///
    /// # Errors
    /// A variable that can't be used.
    pub fn from_env() -> Result<Self, HubError> {
        Ok(Self::new(Settings::from_env()?))
    }

    /// What it goes by.
    pub fn settings(&self) -> &Settings {
        self.http.settings()
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// What the cache has of a repository, without a connection: the snapshot of the revision. It may lack files.
    ///
    /// Offline, if it isn't known which commit `main` is, the only snapshot there is stands for it: a folder that was copied may
    /// have no `refs`. Else the hub can be asked, and that one may be another revision.
    pub fn cached(&self, repo: &Repo, revision: &str) -> Option<Snapshot> {
        let cache = self.cache(repo);
        let guess = revision == "main" && self.settings().offline;
        cache.find(revision).or_else(|| if guess { cache.only() } else { None })
    }

    /// Asks what a repository holds at a revision.
    ///
    /// # Errors
    /// Offline, no such repository or revision, no access, no usable answer, a name that is no plain path.
    pub fn list(&self, repo: &Repo, revision: &str) -> Result<Listing, HubError> {
        listing::list(&self.http, repo, revision)
    }

    /// Fetches files into the cache, verified, and returns their snapshot. All of them appear there, or none.
    ///
    /// With `verify`, files that are in the cache already are hashed again and fetched anew if they are damaged.
    ///
    /// # Errors
    /// A file that can't be had, or whose bytes aren't those that the hub lists.
    pub fn fetch(
        &self,
        listing: &Listing,
        files: &[&RemoteFile],
        verify: bool,
        progress: OnProgress<'_>,
    ) -> Result<Snapshot, HubError> {
        let cache = self.cache(&listing.repo);
        for file in files {
            Transfer { http: &self.http, cache: &cache, listing, file }.run(verify, progress)?;
        }
        let snapshot = cache.snapshot(&listing.commit);
        for file in files {
            cache.link(&snapshot, &file.name, file.hash.digits())?;
        }
        cache.note(&listing.revision, &listing.commit)?;
        Ok(snapshot)
    }

    /// The error of something that isn't in the cache while no connection may be made.
    pub fn offline(&self, what: &str, fix: &str) -> HubError {
        HubError::Offline { what: what.to_owned(), cache: self.settings().cache.clone(), fix: fix.to_owned() }
    }

    fn cache(&self, repo: &Repo) -> RepoCache {
        RepoCache::new(&self.settings().cache, repo)
    }
}
