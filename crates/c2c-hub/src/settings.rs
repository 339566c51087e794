//! Where the hub is, where its files are kept, and who asks: the variables that Hugging Face's own clients read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::HubError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How failures that may pass are met.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles from one to the next.
    pub pause: Duration,
    /// Longest pause that a server's `Retry-After` may ask for; a longer one ends the work.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_millis(500), longest: Duration::from_secs(120) }
    }
}

/// A token for the hub. Its text is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from a variable or file; `name` is for messages. White space around it is dropped, and nothing is no token.
    ///
    /// # Errors
    /// Characters that can't be in a header.
    pub fn new(name: &str, text: &str) -> Result<Option<Self>, HubError> {
        let text = text.trim();
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            let reason = "a token is one word of ASCII characters".to_owned();
            return Err(HubError::Setting { name: name.to_owned(), reason, fix: "copy the token again" });
        }
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Everything a [`Hub`](crate::Hub) goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's address, without a path of a repository.
    pub endpoint: Url,
    /// The cache's folder.
    pub cache: PathBuf,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Token>,
    /// No connection is made.
    pub offline: bool,
    /// How failures that may pass are met.
    pub retries: Retries,
}

impl Settings {
    /// From `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `XDG_CACHE_HOME` and `HOME`.
    ///
    /// # Errors
    /// A value that can't be used.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_lookup(&|name| std::env::var_os(name).map(PathBuf::from).filter(|v| !v.as_os_str().is_empty()))
    }

    fn from_lookup(get: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Self, HubError> {
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().find_map(|name| text(name));
        let offline = offline.is_some_and(|value| is_true(&value));
        let none = text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value));
        let token = match text("HF_TOKEN").filter(|_| !none) {
            Some(token) => Token::new("HF_TOKEN", &token)?,
            None => None,
        };
        let token = match token {
            None if !none => stored_token(&get("HF_TOKEN_PATH").unwrap_or_else(|| home(get).join("token")))?,
            token => token,
        };
        Ok(Self { endpoint: endpoint_url(&endpoint)?, cache: cache(get), token, offline, retries: Retries::default() })
    }
}

/// The folder of the local hub cache: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in
/// `XDG_CACHE_HOME`, else in `~/.cache`.
pub fn cache_dir() -> PathBuf {
    cache(&|name| std::env::var_os(name).map(PathBuf::from).filter(|v| !v.as_os_str().is_empty()))
}

fn cache(get: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    get("HF_HUB_CACHE").unwrap_or_else(|| home(get).join("hub"))
}

fn home(get: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let of_user = || get("HOME").map(|home| home.join(".cache"));
    get("HF_HOME").unwrap_or_else(|| {
        get("XDG_CACHE_HOME").or_else(of_user).unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
    })
}

/// The words that Hugging Face's clients take for true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

fn stored_token(path: &Path) -> Result<Option<Token>, HubError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Token::new(&path.display().to_string(), &text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(HubError::Setting {
            name: path.display().to_string(),
            reason: format!("cannot read the token: {e}"),
            fix: "make it readable, or set HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to go without",
        }),
    }
}

/// A hub's address. It ends with `/`, so that paths are joined behind it.
pub(crate) fn endpoint_url(text: &str) -> Result<Url, HubError> {
    let refuse = |reason: String| HubError::Setting {
        name: format!("HF_ENDPOINT = {text}"),
        reason,
        fix: "give an address such as https://huggingface.co",
    };
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|e| refuse(e.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(refuse("no http(s) address".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("more than host and path".to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Settings, HubError> {
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
        Settings::from_lookup(&get)
    }

    #[test]
    fn the_cache_is_where_the_other_clients_have_it() {
        let cache = |pairs: &[(&str, &str)]| from(pairs).unwrap().cache.display().to_string();
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]), "/f/hub");
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), "/c");
    }

    #[test]
    fn the_token_is_the_variable_s_or_the_file_s_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| from(&[&[("HF_HOME", home)], more].concat()).unwrap().token;
        assert_eq!(token(&[]).unwrap().header(), "Bearer hf_file");
        assert_eq!(token(&[("HF_TOKEN", " hf_env ")]).unwrap().header(), "Bearer hf_env");
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HF_TOKEN", "hf_env")]), None);
        let settings = from(&[("HF_HOME", home)]).unwrap();
        assert!(!format!("{settings:?}").contains("hf_file"));
        let error = from(&[("HF_TOKEN", "a\r\nX-Other: b")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("X-Other"), "{error}");
    }

    #[test]
    fn offline_goes_by_the_words_of_the_other_clients() {
        for (word, offline) in [("1", true), ("TRUE", true), ("on", true), ("0", false), ("no", false)] {
            assert_eq!(from(&[("HF_HUB_OFFLINE", word)]).unwrap().offline, offline, "{word}");
            assert_eq!(from(&[("TRANSFORMERS_OFFLINE", word)]).unwrap().offline, offline, "{word}");
        }
    }

    #[test]
    fn an_endpoint_is_an_address_and_nothing_more() {
        assert_eq!(endpoint_url("http://localhost:1/hub/").unwrap().as_str(), "http://localhost:1/hub/");
        for text in ["huggingface.co", "ftp://x", "https://u:p@x", "https://x?y", "https://"] {
            assert!(endpoint_url(text).unwrap_err().to_string().contains("HF_ENDPOINT"), "{text}");
        }
    }
}
