//! One request with everything that may befall it: redirects, pauses that a server asks for, connections that fail.
//!
//! Invariants: no connection is made offline; the token goes to the endpoint's own scheme, host and port and nowhere else;
//! redirects are followed here and not by the client library, so that both hold on every hop.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body, SendBody};
use url::{Host, Url};

use crate::error::io;
use crate::{HubError, Settings};

const MAX_REDIRECTS: usize = 8;
const CONNECT: Duration = Duration::from_secs(20);
/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest answer of the API that is held in memory.
const MAX_ANSWER: u64 = 64 << 20;
/// Of an answer that says no, so much is shown.
const MAX_MESSAGE: usize = 300;

/// What is sent with a request.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// A part of a file.
    Slice {
        path: &'a Path,
        from: u64,
        len: u64,
    },
}

/// A request.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub content: Content<'a>,
    /// Whether it may be sent again when it isn't known if the server has acted on it.
    pub repeatable: bool,
}

impl<'a> Ask<'a> {
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), content: Content::None, repeatable: true }
    }

    pub fn post(url: Url, kind: &str, body: &'a [u8]) -> Self {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Self { method: Method::POST, url, headers, content: Content::Bytes(body), repeatable: true }
    }
}

/// Looks at the answers of the endpoint itself, before a redirect is followed.
pub(crate) type OnHop<'a> = &'a dyn Fn(&Response<Body>) -> Result<(), HubError>;

pub(crate) struct Http {
    agent: Agent,
    settings: Settings,
    /// Hears of every pause.
    on_pause: Box<dyn Fn(&str) + Send + Sync>,
}

/// Why an attempt failed, if another one may help.
struct Passing {
    reason: String,
    /// What the server asks for.
    pause: Option<Duration>,
}

impl Http {
    pub fn new(settings: Settings, on_pause: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        let loopback = match settings.endpoint.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let mut config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("c2c/", env!("CARGO_PKG_VERSION")))
            // A compressed transfer can't be resumed by the bytes of the file.
            .accept_encoding("identity");
        if loopback {
            // No proxy leads back to this machine.
            config = config.proxy(None);
        }
        Self { agent: Agent::new_with_config(config.build()), settings, on_pause }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// An address below the endpoint; each part is encoded.
    pub fn url<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Url {
        let mut url = self.settings.endpoint.clone();
        // An http(s) address always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// The answer, whatever it says except "try again".
    pub fn send(&self, ask: &Ask<'_>, on_hop: OnHop<'_>) -> Result<Response<Body>, HubError> {
        let mut attempt = 1;
        loop {
            let passing = match self.follow(ask, on_hop)? {
                Ok(response) => return Ok(response),
                Err(passing) => passing,
            };
            self.pause(ask.url.as_str(), attempt, &passing.reason, passing.pause)?;
            attempt += 1;
        }
    }

    /// Waits before another attempt, or ends the attempts.
    pub fn pause(&self, url: &str, attempt: u32, reason: &str, asked: Option<Duration>) -> Result<(), HubError> {
        let retries = self.settings.retries;
        let give_up = |reason: String| HubError::Unreachable { url: shown(url), reason, attempts: attempt };
        if attempt >= retries.attempts {
            return Err(give_up(reason.to_owned()));
        }
        if let Some(asked) = asked.filter(|asked| *asked > retries.longest) {
            return Err(give_up(format!("{reason}; it asks to wait {} s", asked.as_secs())));
        }
        let doubled = retries.pause.saturating_mul(1 << (attempt - 1).min(16)).min(retries.longest);
        let pause = asked.unwrap_or(doubled);
        (self.on_pause)(&format!("{}: {reason}; trying again in {:.1} s", shown(url), pause.as_secs_f64()));
        std::thread::sleep(pause);
        Ok(())
    }

    fn follow(&self, ask: &Ask<'_>, on_hop: OnHop<'_>) -> Result<Result<Response<Body>, Passing>, HubError> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = match self.once(ask, &url)? {
                Ok(response) => response,
                Err(passing) => return Ok(Err(passing)),
            };
            let status = response.status().as_u16();
            if matches!(status, 429 | 500 | 502 | 503 | 504) {
                if !ask.repeatable && status != 429 && status != 503 {
                    return Ok(Ok(response));
                }
                let pause = header_of(&response, header::RETRY_AFTER.as_str()).and_then(|s| s.parse().ok());
                let reason = format!("it answered {status}");
                return Ok(Err(Passing { reason, pause: pause.map(Duration::from_secs) }));
            }
            if self.is_own(&url) {
                on_hop(&response)?;
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Ok(response));
            }
            url = next(ask, &url, &response)?;
        }
        let reason = "more redirects than a hub has";
        Err(HubError::Redirect { from: shown(ask.url.as_str()), to: shown(url.as_str()), reason })
    }

    /// One request to one host.
    fn once(&self, ask: &Ask<'_>, url: &Url) -> Result<Result<Response<Body>, Passing>, HubError> {
        if self.settings.offline {
            return Err(HubError::Offline {
                what: shown(url.as_str()),
                cache: self.settings.cache.clone(),
                fix: "name a local folder".to_owned(),
            });
        }
        let mut request = Request::builder().method(ask.method.clone()).uri(url.as_str());
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        // A storage may bring a permission of its own.
        let has_own = ask.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_own(url) && !has_own) {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        let unusable = |reason: String| HubError::Unreachable { url: shown(url.as_str()), reason, attempts: 1 };
        let build = |e: ureq::http::Error| unusable(e.to_string());
        let sent = match ask.content {
            Content::None => self.agent.run(request.body(()).map_err(build)?),
            Content::Bytes(bytes) => self.agent.run(request.body(bytes).map_err(build)?),
            Content::Slice { path, from, len } => {
                let mut file = File::open(path).map_err(io("read", path))?;
                file.seek(SeekFrom::Start(from)).map_err(io("read", path))?;
                let mut part = file.take(len);
                let request = request.header(header::CONTENT_LENGTH, len);
                self.agent.run(request.body(SendBody::from_reader(&mut part)).map_err(build)?)
            }
        };
        match sent {
            Ok(response) => Ok(Ok(response)),
            Err(error) if ask.repeatable && may_pass(&error) => {
                Ok(Err(Passing { reason: error.to_string(), pause: None }))
            }
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.settings.endpoint.origin()
    }

    /// An answer of the API as JSON, with the address of the next page if there is one.
    pub fn json<T: serde::de::DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
        what: &str,
    ) -> Result<(T, Option<Url>), HubError> {
        let mut attempt = 1;
        let (response, bytes) = loop {
            let mut response = self.send(ask, &|_| Ok(()))?;
            if !response.status().is_success() {
                return Err(refused(what, ask.url.as_str(), response));
            }
            match read(&mut response) {
                Ok(bytes) => break (response, bytes),
                // The answer broke off; asking again is all right if the first question was.
                Err(e) if ask.repeatable => self.pause(ask.url.as_str(), attempt, &e.to_string(), None)?,
                Err(e) => {
                    let (url, attempts) = (shown(ask.url.as_str()), attempt);
                    return Err(HubError::Unreachable { url, reason: e.to_string(), attempts });
                }
            }
            attempt += 1;
        };
        let value = serde_json::from_slice(&bytes).map_err(|e| HubError::Answer {
            url: shown(ask.url.as_str()),
            expected: format!("the API's JSON about {what}"),
            found: if looks_like_html(&bytes) {
                "an HTML page".to_owned()
            } else {
                format!("something else ({})", plain(&e.to_string()))
            },
        })?;
        let link = header_of(&response, "link").and_then(next_page);
        let page = match link.map(|link| ask.url.join(&link)) {
            None => None,
            Some(Ok(url)) if self.is_own(&url) => Some(url),
            Some(_) => {
                let found = "a next page on another host".to_owned();
                return Err(HubError::Answer {
                    url: shown(ask.url.as_str()),
                    expected: "pages of one host".into(),
                    found,
                });
            }
        };
        Ok((value, page))
    }
}

fn next(ask: &Ask<'_>, url: &Url, response: &Response<Body>) -> Result<Url, HubError> {
    let location = header_of(response, header::LOCATION.as_str()).unwrap_or_default();
    let refuse = |to: &str, reason| HubError::Redirect { from: shown(url.as_str()), to: shown(to), reason };
    let to = url.join(&location).map_err(|_| refuse(&location, "no address"))?;
    if location.is_empty() || !matches!(to.scheme(), "http" | "https") || to.host_str().is_none() {
        return Err(refuse(to.as_str(), "no http(s) address"));
    }
    if url.scheme() == "https" && to.scheme() != "https" {
        return Err(refuse(to.as_str(), "that would leave https"));
    }
    if ask.method != Method::GET {
        return Err(refuse(to.as_str(), "this request changes something"));
    }
    Ok(to)
}

/// Whether another attempt may help.
fn may_pass(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_)
    )
}

fn read(response: &mut Response<Body>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    response.body_mut().as_reader().take(MAX_ANSWER).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An answer that says no, with what to do about it.
pub(crate) fn refused(what: &str, url: &str, mut response: Response<Body>) -> HubError {
    let status = response.status().as_u16();
    let code = header_of(&response, "x-error-code").unwrap_or_default();
    let said = header_of(&response, "x-error-message").unwrap_or_else(|| {
        let mut bytes = Vec::new();
        // What can't be read isn't shown.
        let _ = response.body_mut().as_reader().take(1 << 16).read_to_end(&mut bytes);
        let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        json.and_then(|json| json["error"].as_str().map(str::to_owned)).unwrap_or_default()
    });
    let fix = match (status, code.as_str()) {
        (_, "GatedRepo") => "ask for access on its page, then set HF_TOKEN to a token of that account",
        (_, "RevisionNotFound") => "check the revision behind the `@`",
        (401, _) => "check the spelling; if it is private or gated, set HF_TOKEN to a token that may read it",
        (403, _) => "use a token (HF_TOKEN) that may do that",
        (404, _) => "check the spelling; if it is private, set HF_TOKEN to a token that may read it",
        _ => "check the name and HF_ENDPOINT",
    };
    HubError::Refused { what: what.to_owned(), url: shown(url), status, message: plain(&said), fix }
}

/// A server's words as a terminal may show them: without control characters, and not without end.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

pub(crate) fn header_of(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// An address without what may be secret in it: storage hosts sign requests in the query.
pub(crate) fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

/// The address of `rel="next"` in a `Link` header.
fn next_page(link: String) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    rest.split_once('>').map(|(address, _)| address.to_owned())
}
