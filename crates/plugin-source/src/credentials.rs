//! A registry's user and password, out of a file of the operator's. Never an argument, never the environment.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::file::{open, read_if_there, read_opened};
use crate::{Options, SourceError};

/// Bytes of a file with one line.
const MAX_LINE: u64 = 4 << 10;
/// Bytes of Docker's `config.json`.
const MAX_CONFIG: u64 = 1 << 20;

/// `Basic <base64>`, for a registry.
pub(crate) struct Credentials(Zeroizing<String>);

impl Credentials {
    /// Those that the options have for this registry.
    pub(crate) fn of(registry: &str, options: &Options) -> Result<Option<Self>, SourceError> {
        if let Some(path) = &options.registry_auth {
            return line(path).map(Some);
        }
        match &options.docker_config {
            Some(path) => docker(path, registry),
            None => Ok(None),
        }
    }

    /// The value of `Authorization`.
    pub(crate) fn basic(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Basic {}", *self.0))
    }

    fn new(user_and_password: &[u8]) -> Self {
        Self(Zeroizing::new(BASE64_STANDARD.encode(user_and_password)))
    }
}

fn wrong(path: &Path, problem: &str) -> SourceError {
    SourceError::Credentials {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}

fn line(path: &Path) -> Result<Credentials, SourceError> {
    let doing = "reading the registry's credentials in";
    let file = open(doing, path)?;
    let found = file.metadata().map_err(|source| SourceError::Io {
        doing,
        path: path.to_owned(),
        source,
    })?;
    if found.mode() & 0o077 != 0 {
        return Err(wrong(path, "others than its owner can read it: `chmod 600` it"));
    }
    let text = Zeroizing::new(read_opened(doing, path, file, MAX_LINE)?);
    let text = text.trim_ascii();
    let (user, _) = split(text).ok_or_else(|| wrong(path, "it isn't one line `user:password`"))?;
    if user.is_empty() || text.contains(&b'\n') {
        return Err(wrong(path, "it isn't one line `user:password`"));
    }
    Ok(Credentials::new(text))
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|b| *b == b':')?;
    text.split_at_checked(colon)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
}

/// What `docker login` left. Helpers that keep secrets elsewhere are programs, and none is run.
fn docker(path: &Path, registry: &str) -> Result<Option<Credentials>, SourceError> {
    let Some(json) = read_if_there("reading", path, MAX_CONFIG)? else {
        return Ok(None);
    };
    let json = Zeroizing::new(json);
    // What is wrong with it may quote it.
    let config: DockerConfig =
        serde_json::from_slice(&json).map_err(|_| wrong(path, "it isn't Docker's config.json"))?;
    let host = |key: &str| {
        let key = key.split_once("://").map_or(key, |(_, rest)| rest);
        key.split('/').next().unwrap_or(key).to_owned()
    };
    let found = config.auths.into_iter().find(|(key, _)| host(key) == registry);
    let Some(auth) = found
        .and_then(|(_, entry)| entry.auth)
        .filter(|auth| !auth.is_empty())
        .map(Zeroizing::new)
    else {
        return Ok(None);
    };
    let decoded = BASE64_STANDARD.decode(auth.as_bytes()).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| wrong(path, "an `auth` of it is no base64"))?;
    match split(&decoded) {
        Some(_) => Ok(Some(Credentials::new(&decoded))),
        None => Err(wrong(path, "an `auth` of it isn't `user:password`")),
    }
}
