//! The hash chain: `hash = SHA-256(domain, previous hash, every field with its length)`. It proves nothing
//! against whoever owns the file and rewrites all of it; a head kept elsewhere does.

use sha2::{Digest, Sha256};

pub(crate) type Hash = [u8; 32];

/// Before the first row.
pub(crate) const GENESIS: Hash = [0; 32];

const DOMAIN: &[u8] = b"clawker.journal.v1\0";

/// Where the journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub seq: u64,
    pub hash: Hash,
    pub at_ms: u64,
}

/// A row as it is stored, its event as text.
#[derive(Debug, Clone)]
pub(crate) struct RawRow {
    pub seq: u64,
    pub at_ms: u64,
    pub cp_life: String,
    pub kind: String,
    pub agent: Option<String>,
    pub body: String,
    pub prev_hash: Vec<u8>,
    pub hash: Vec<u8>,
}

/// What the hash of a row covers.
pub(crate) struct Link<'a> {
    pub prev: &'a [u8],
    pub seq: u64,
    pub at_ms: u64,
    pub cp_life: &'a str,
    pub kind: &'a str,
    pub agent: Option<&'a str>,
    pub body: &'a str,
}

impl Link<'_> {
    /// Lengths go first, so that no two rows share an encoding.
    pub fn hash(&self) -> Hash {
        let mut sha = Sha256::new();
        let mut field = |bytes: &[u8]| {
            sha.update((bytes.len() as u64).to_be_bytes());
            sha.update(bytes);
        };
        field(DOMAIN);
        field(self.prev);
        field(&self.seq.to_be_bytes());
        field(&self.at_ms.to_be_bytes());
        field(self.cp_life.as_bytes());
        field(self.kind.as_bytes());
        match self.agent {
            Some(agent) => {
                field(&[1]);
                field(agent.as_bytes());
            }
            None => field(&[0]),
        }
        field(self.body.as_bytes());
        sha.finalize().into()
    }
}

impl RawRow {
    /// The hash that the row ought to have.
    pub fn expected_hash(&self) -> Hash {
        Link {
            prev: &self.prev_hash,
            seq: self.seq,
            at_ms: self.at_ms,
            cp_life: &self.cp_life,
            kind: &self.kind,
            agent: self.agent.as_deref(),
            body: &self.body,
        }
        .hash()
    }
}

pub(crate) fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter()
        .fold(String::with_capacity(hash.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Lower-case hex of exactly `N` bytes.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Fields one after another, each with its length, so that no two lists share an encoding: what is signed.
pub(crate) fn fields(fields: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for field in fields {
        message.extend((field.len() as u64).to_be_bytes());
        message.extend(*field);
    }
    message
}
