//! Whose plugins are taken, and which of them: the operator's file of keys.
//!
//! ```text
//! revoked? ─ signed? ─ by a key of the file? ─ not expired? ─ for this component? ─ this name, kind, grants?
//!          ─ the key that the installed version has, or its successor? ──► judged
//! ```
//! Pure: the time, the component's digest and what it asks for come in. A development key is of one call and no file: it
//! may do everything, in a class of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clawker_model::PluginDigest;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Grant, Grants, KeyId, Kind, PublicKey, Signature, SignatureError};

/// Bytes of the file.
pub const MAX_TRUST: u64 = 1 << 20;
/// Keys and revocations in it.
const MAX_ENTRIES: usize = 1_000;
const FORMAT: u32 = 1;

/// Why the file of keys can't be used. Then nothing is installed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: others than its owner may write to it (mode {mode:o}): `chmod go-w` it", path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("{}: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
}

/// Why a component isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the component is revoked: {why:.200}")]
    Revoked { why: String },
    #[error("its key {key} is revoked: {why:.200}")]
    KeyRevoked { key: KeyId, why: String },
    #[error("it isn't signed: have its author sign it, or `clawker plugin sign` it with a key of yours")]
    Unsigned,
    #[error("nobody here trusts the key {key}: add its line to the file of trusted keys if you know whose it is")]
    UnknownKey { key: KeyId },
    #[error("trust in the key {key} has ended at {at}")]
    Expired { key: KeyId, at: String },
    #[error("the key {key} isn't trusted for {what}: widen its entry in the file of trusted keys if it should be")]
    OutOfScope { key: KeyId, what: String },
    #[error("the version that is installed is by the key {before}, this one by {now}: only a successor may follow")]
    AnotherKey { before: KeyId, now: KeyId },
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Who vouches for a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    ThirdParty,
    /// A key of this machine's developer.
    Development,
}

impl Signer {
    /// As the lockfile says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::ThirdParty => "third-party",
            Self::Development => "development",
        }
    }
}

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub name: &'a str,
    pub kind: Kind,
    pub digest: &'a PluginDigest,
    pub asked: &'a Grants,
    pub signature: Option<&'a Signature>,
    /// The key of the version that is installed under that name.
    pub installed: Option<&'a KeyId>,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// By whose word it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub key: KeyId,
    /// The author's own word for the key.
    pub author: String,
    pub signer: Signer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    format: u32,
    #[serde(default)]
    key: Vec<KeyEntry>,
    #[serde(default)]
    revoked: Vec<RevokedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyEntry {
    key: String,
    plugins: Vec<String>,
    kinds: Vec<Kind>,
    #[serde(default)]
    grants: Vec<String>,
    expires: Option<String>,
    successor_of: Option<KeyId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedEntry {
    digest: Option<String>,
    key: Option<KeyId>,
    why: String,
}

#[derive(Debug, Clone)]
struct Trusted {
    key: PublicKey,
    plugins: Vec<String>,
    kinds: Vec<Kind>,
    grants: Grants,
    expires: Option<OffsetDateTime>,
    successor_of: Option<KeyId>,
}

/// The keys that are trusted, and what is revoked.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<Trusted>,
    digests: Vec<(PluginDigest, String)>,
    revoked: Vec<(KeyId, String)>,
    development: Option<PublicKey>,
}

impl Trust {
    /// Reads the file; nobody is trusted when there is none.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let read = |source| TrustError::Read {
            path: path.to_owned(),
            source,
        };
        let malformed = |problem| TrustError::Malformed {
            path: path.to_owned(),
            problem,
        };
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(read(error)),
        };
        if !found.is_file() || found.len() > MAX_TRUST {
            return Err(malformed(format!("it is no file of at most {MAX_TRUST} bytes")));
        }
        let mode = found.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(TrustError::Writable {
                path: path.to_owned(),
                mode,
            });
        }
        Self::parse(&fs::read_to_string(path).map_err(read)?).map_err(malformed)
    }

    /// Reads the file's text; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!(
                "it is of format {}; this clawker reads format {FORMAT}",
                file.format
            ));
        }
        if file.key.len() > MAX_ENTRIES || file.revoked.len() > MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} entries"));
        }
        let mut trust = Self::default();
        for entry in file.key {
            let trusted = trusted(entry)?;
            if trust.keys.iter().any(|other| other.key.id() == trusted.key.id()) {
                return Err(format!("the key {} stands in it twice", trusted.key.id()));
            }
            trust.keys.push(trusted);
        }
        for entry in file.revoked {
            match (entry.digest, entry.key) {
                (Some(digest), None) => {
                    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
                    let digest = PluginDigest::parse(hex)
                        .map_err(|_| format!("a revoked digest is `sha256:<64 of 0-9 and a-f>`, not `{digest:.80}`"))?;
                    trust.digests.push((digest, entry.why));
                }
                (None, Some(key)) => trust.revoked.push((key, entry.why)),
                _ => return Err("a revocation has a digest or a key".to_owned()),
            }
        }
        Ok(trust)
    }

    /// With a key that may do everything, for this machine's developer.
    #[must_use]
    pub fn with_development(mut self, key: PublicKey) -> Self {
        self.development = Some(key);
        self
    }

    /// Whether the component is taken, and by whose word.
    pub fn judge(&self, question: &Question<'_>) -> Result<Judged, Refused> {
        self.refuse_revoked(question.digest)?;
        let signature = question.signature.ok_or(Refused::Unsigned)?;
        let key = &signature.key;
        self.refuse_revoked_key(key)?;
        let judged = |public: &PublicKey, signer| {
            signature.verify(question.digest, public)?;
            Ok(Judged {
                key: key.clone(),
                author: public.name.clone(),
                signer,
            })
        };
        let Some(trusted) = self.keys.iter().find(|trusted| trusted.key.id() == *key) else {
            return match &self.development {
                Some(own) if own.id() == *key => {
                    self.follows(question, None)?;
                    judged(own, Signer::Development)
                }
                _ => Err(Refused::UnknownKey { key: key.clone() }),
            };
        };
        let answer = judged(&trusted.key, Signer::ThirdParty)?;
        trusted.covers(question)?;
        self.follows(question, trusted.successor_of.as_ref())?;
        Ok(answer)
    }

    /// Whether a component that is installed may still run.
    pub fn still(&self, digest: &PluginDigest, key: &KeyId) -> Result<(), Refused> {
        self.refuse_revoked(digest)?;
        self.refuse_revoked_key(key)
    }

    fn refuse_revoked_key(&self, key: &KeyId) -> Result<(), Refused> {
        match self.revoked.iter().find(|(id, _)| id == key) {
            Some((_, why)) => Err(Refused::KeyRevoked {
                key: key.clone(),
                why: why.clone(),
            }),
            None => Ok(()),
        }
    }

    fn refuse_revoked(&self, digest: &PluginDigest) -> Result<(), Refused> {
        match self.digests.iter().find(|(revoked, _)| revoked == digest) {
            Some((_, why)) => Err(Refused::Revoked { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// A version follows one of the same key, or of the key that this one succeeds.
    fn follows(&self, question: &Question<'_>, successor_of: Option<&KeyId>) -> Result<(), Refused> {
        let (Some(before), Some(signature)) = (question.installed, question.signature) else {
            return Ok(());
        };
        if *before == signature.key || successor_of == Some(before) {
            return Ok(());
        }
        Err(Refused::AnotherKey {
            before: before.clone(),
            now: signature.key.clone(),
        })
    }
}

impl Trusted {
    fn covers(&self, question: &Question<'_>) -> Result<(), Refused> {
        let key = self.key.id();
        if let Some(end) = self.expires
            && end.unix_timestamp_nanos() <= i128::from(question.now_ms) * 1_000_000
        {
            let at = end.format(&Rfc3339).unwrap_or_default();
            return Err(Refused::Expired { key, at });
        }
        let out = |what: String| Refused::OutOfScope { key: key.clone(), what };
        if !self.plugins.iter().any(|pattern| is_named(question.name, pattern)) {
            return Err(out(format!("a plugin called `{:.64}`", question.name)));
        }
        if !self.kinds.contains(&question.kind) {
            return Err(out(format!("a {}", question.kind.word())));
        }
        let beyond = question.asked.missing(&self.grants);
        if let Some(grant) = beyond.iter().next() {
            return Err(out(format!("`{grant}`")));
        }
        Ok(())
    }
}

fn trusted(entry: KeyEntry) -> Result<Trusted, String> {
    let key = PublicKey::parse(&entry.key).map_err(|error| error.to_string())?;
    let wrong = |problem: String| format!("the key {}: {problem}", key.id());
    if entry.plugins.is_empty() || entry.kinds.is_empty() {
        return Err(wrong("`plugins` and `kinds` name at least one each".to_owned()));
    }
    for pattern in &entry.plugins {
        let stem = pattern.strip_suffix('*').unwrap_or(pattern);
        let named = stem
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !named || pattern.is_empty() || pattern.len() > 65 {
            return Err(wrong(format!(
                "`{pattern:.80}` is no plugin's name, nor one with `*` at its end"
            )));
        }
    }
    let expires = entry.expires.as_deref().map(|at| OffsetDateTime::parse(at, &Rfc3339));
    let expires = expires
        .transpose()
        .map_err(|_| wrong("`expires` is a time like 2027-01-01T00:00:00Z".to_owned()))?;
    let grants = entry.grants.iter().map(|grant| Grant::parse(grant));
    let grants = grants
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Trusted {
        key,
        plugins: entry.plugins,
        kinds: entry.kinds,
        grants,
        expires,
        successor_of: entry.successor_of,
    })
}

fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests;
