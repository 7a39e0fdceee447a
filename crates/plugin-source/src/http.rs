//! Asking a server: TLS with the system's roots, times, bounded answers, few redirects and never to plain http.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::plain;
use crate::file::read;
use crate::{MAX_REDIRECTS, Options, SourceError};

/// Bytes of a file with root certificates.
const MAX_ROOTS: u64 = 4 << 20;

/// Asks servers, as the options say.
pub(crate) struct Http {
    client: Client,
    times: Times,
}

/// What is waited for at most.
#[derive(Clone, Copy)]
struct Times {
    connect: Duration,
    read: Duration,
}

/// One question.
pub(crate) struct Get<'a> {
    pub url: Url,
    /// What it is about, for people.
    pub what: &'a str,
    pub accept: &'a str,
    pub authorization: Option<HeaderValue>,
}

/// An answer's head; its body is read only within a limit.
pub(crate) struct Answer {
    response: Response,
    what: String,
    times: Times,
}

impl Http {
    /// Reads files: the system's root certificates and the operator's.
    pub(crate) fn new(options: &Options, to: &Url) -> Result<Self, SourceError> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls(options)?)
            .connect_timeout(options.connect)
            .read_timeout(options.read)
            .redirect(Policy::custom(follow))
            .referer(false)
            .user_agent(concat!("clawker/", env!("CARGO_PKG_VERSION")));
        if is_loopback(to) {
            // A proxy's loopback isn't ours.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| SourceError::Unreachable {
            what: "https".to_owned(),
            problem: chain(&error),
        })?;
        Ok(Self {
            client,
            times: Times {
                connect: options.connect,
                read: options.read,
            },
        })
    }

    pub(crate) async fn get(&self, get: Get<'_>) -> Result<Answer, SourceError> {
        let mut request = self.client.get(get.url).header(ACCEPT, get.accept);
        if let Some(value) = get.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        match request.send().await {
            Ok(response) => Ok(Answer {
                response,
                what: get.what.to_owned(),
                times: self.times,
            }),
            Err(error) => Err(failed(get.what, &error, self.times)),
        }
    }
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The header's values that are text.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.response.headers().get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    }

    /// Refuses what isn't 200.
    pub(crate) fn ok(self) -> Result<Self, SourceError> {
        let (what, status) = (self.what.clone(), self.status());
        match status {
            StatusCode::OK => Ok(self),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(SourceError::NotFound { what }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SourceError::Denied {
                what,
                status: status.as_u16(),
            }),
            _ => Err(SourceError::Status {
                what,
                status: status.as_u16(),
            }),
        }
    }

    /// The whole body, of `max` bytes at most. One that says it has more isn't begun.
    pub(crate) async fn body(mut self, max: u64) -> Result<Vec<u8>, SourceError> {
        let said = self.response.content_length();
        if let Some(len) = said.filter(|len| *len > max) {
            return Err(SourceError::TooLarge {
                what: self.what,
                len,
                max,
            });
        }
        let mut body = Vec::new();
        loop {
            match self.response.chunk().await {
                Ok(Some(piece)) if (body.len() + piece.len()) as u64 > max => {
                    return Err(SourceError::Endless { what: self.what, max });
                }
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(body),
                Err(error) => return Err(failed(&self.what, &error, self.times)),
            }
        }
    }
}

/// Whether a URL's host is this machine by its very name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether we go to `to` when `from` says so.
pub(crate) fn is_downgrade(from: &Url, to: &Url) -> bool {
    match to.scheme() {
        "https" => false,
        "http" => from.scheme() != "http" || !is_loopback(to),
        _ => true,
    }
}

/// Why a redirect isn't followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("too many redirects")]
    TooMany,
    #[error("a redirect to {0}")]
    Downgrade(String),
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    // The first of those before is where we began.
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(Refused::TooMany);
    }
    if attempt.previous().iter().any(|from| is_downgrade(from, attempt.url())) {
        let to = without_query(attempt.url());
        return attempt.error(Refused::Downgrade(to));
    }
    attempt.follow()
}

/// A query may have somebody's token in it.
fn without_query(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

fn failed(what: &str, error: &reqwest::Error, times: Times) -> SourceError {
    let what = what.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        match inner.downcast_ref::<Refused>() {
            Some(Refused::TooMany) => return SourceError::Redirects { what },
            Some(Refused::Downgrade(to)) => return SourceError::Downgrade { what, to: to.clone() },
            None => cause = inner.source(),
        }
    }
    if error.is_timeout() {
        let after = if error.is_connect() { times.connect } else { times.read };
        return SourceError::Slow { what, after };
    }
    SourceError::Unreachable {
        what,
        problem: chain(error),
    }
}

/// All that an error says, without the address that it repeats.
fn chain(error: &reqwest::Error) -> String {
    let mut said = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        said.push(inner.to_string());
        cause = inner.source();
    }
    if said.is_empty() {
        said.push("it failed".to_owned());
    }
    said.dedup();
    plain(said.join(": "))
}

fn tls(options: &Options) -> Result<rustls::ClientConfig, SourceError> {
    let mut roots = RootCertStore::empty();
    // What is unreadable among the system's is left out, as everywhere; with none at all no https answers.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &options.extra_roots {
        let wrong = |problem: String| SourceError::Roots {
            from: format!("in {}", path.display()),
            problem,
        };
        let pem = read("reading root certificates in", path, MAX_ROOTS)?;
        let mut any = false;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            any = true;
        }
        if !any {
            return Err(wrong("there is none".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SourceError::Roots {
            from: "of the system".to_owned(),
            problem: error.to_string(),
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_tls_and_nothing_falls_back_to_it() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        for here in ["http://localhost:5000/", "http://127.0.0.9/", "http://[::1]:1/"] {
            assert!(is_loopback(&url(here)), "{here}");
            assert!(!is_downgrade(&url("http://127.0.0.1/"), &url(here)), "{here}");
            assert!(is_downgrade(&url("https://127.0.0.1/"), &url(here)), "{here}");
        }
        for there in [
            "http://localhost.example.org/",
            "http://127.0.0.1.example.org/",
            "http://10.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(!is_loopback(&url(there)), "{there}");
            assert!(is_downgrade(&url("http://localhost/"), &url(there)), "{there}");
        }
        assert!(is_downgrade(&url("https://a/"), &url("ftp://a/")));
        assert!(!is_downgrade(&url("http://localhost/"), &url("https://a/")));
        assert_eq!(without_query(&url("https://a/b?token=c#d")), "https://a/b");
    }
}
