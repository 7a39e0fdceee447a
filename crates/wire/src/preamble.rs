//! The preamble: what PID 1 and the control plane say on `session.sock` after attestation and before TLS.
//!
//! One message each way, a u32 big-endian length and a postcard body. Descriptors travel as SCM_RIGHTS of the
//! control plane's message and nowhere else, in the order of [`ServerPreamble::descriptors`].
//! Also owns the layout of the identity bundle, whose bytes only ever stand in a sealed memfd.

use serde::{Deserialize, Serialize};

/// Version of this exchange. It is apart from the session's protocol, because PID 1 never upgrades.
pub const WIRE: u32 = 1;

/// Most bytes of a preamble's body.
pub const MAX_PREAMBLE: usize = 4096;

/// Most bytes of a bundle.
pub const MAX_BUNDLE: usize = 64 * 1024;

/// What PID 1 says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPreamble {
    pub wire: u32,
    /// Generation of the bundle that PID 1 holds; 0 for none.
    pub held_generation: u64,
    /// SHA-256 (hex) of each root in that bundle.
    pub root_ids: Vec<String>,
}

/// What the control plane answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPreamble {
    pub wire: u32,
    pub start: u64,
    /// Generation of the bundle that is in force from here on.
    pub generation: u64,
    /// What each descriptor of this message is, in order.
    pub descriptors: Vec<Descriptor>,
}

/// Meaning of a passed descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Descriptor {
    /// Sealed memfd with an encoded [`Bundle`].
    Bundle,
    /// `agent/cgroup.procs`, write only.
    CgroupProcs,
    /// `agent`'s freeze file, write only.
    Freeze,
    /// Sealed memfd with the session half that `Upgrade` announced.
    SessionHalf,
}

/// An agent's identity. Its `Debug` names no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub generation: u64,
    pub project: String,
    pub agent: String,
    /// Certificate, DER.
    pub leaf: Vec<u8>,
    /// Private key, PKCS#8 DER.
    pub key: Vec<u8>,
    /// Roots that the control plane's certificate may chain to, DER.
    pub roots: Vec<Vec<u8>>,
    /// The single-use token of a start on an engine elsewhere, which registers within its session.
    pub join: Option<String>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("generation", &self.generation)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// Why bytes aren't a preamble or a bundle.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    #[error("{what} of {len} bytes, the limit is {max}")]
    TooLong { what: &'static str, len: usize, max: usize },
    #[error("{what} is malformed: {source}")]
    Malformed {
        what: &'static str,
        source: postcard::Error,
    },
    #[error("{what} of version {version}, which this build doesn't read")]
    Version { what: &'static str, version: u32 },
}

/// Encodes with the length in front, for [`ClientPreamble`] and [`ServerPreamble`].
pub fn encode_framed<T: Serialize>(what: &'static str, message: &T) -> Result<Vec<u8>, PreambleError> {
    let body = postcard::to_stdvec(message).map_err(|source| PreambleError::Malformed { what, source })?;
    let len = frame_len(what, body.len())?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(&body);
    Ok(framed)
}

/// Length of the body that a 4-byte prefix announces.
pub fn body_len(what: &'static str, prefix: [u8; 4]) -> Result<usize, PreambleError> {
    let len = u32::from_be_bytes(prefix) as usize;
    frame_len(what, len).map(|_| len)
}

fn frame_len(what: &'static str, len: usize) -> Result<u32, PreambleError> {
    match u32::try_from(len) {
        Ok(small) if len <= MAX_PREAMBLE => Ok(small),
        _ => Err(PreambleError::TooLong {
            what,
            len,
            max: MAX_PREAMBLE,
        }),
    }
}

/// Decodes a body, without its length.
pub fn decode<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, PreambleError> {
    if body.len() > MAX_BUNDLE {
        return Err(PreambleError::TooLong {
            what,
            len: body.len(),
            max: MAX_BUNDLE,
        });
    }
    postcard::from_bytes(body).map_err(|source| PreambleError::Malformed { what, source })
}

impl Bundle {
    /// Encodes for a sealed memfd.
    pub fn encode(&self) -> Result<Vec<u8>, PreambleError> {
        let body = postcard::to_stdvec(self).map_err(|source| PreambleError::Malformed { what: "bundle", source })?;
        if body.len() > MAX_BUNDLE {
            return Err(PreambleError::TooLong {
                what: "bundle",
                len: body.len(),
                max: MAX_BUNDLE,
            });
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> ClientPreamble {
        ClientPreamble {
            wire: WIRE,
            held_generation: 3,
            root_ids: vec!["ab".repeat(32)],
        }
    }

    #[test]
    fn a_preamble_round_trips() {
        let framed = encode_framed("preamble", &hello()).expect("small");
        let len = body_len("preamble", [framed[0], framed[1], framed[2], framed[3]]).expect("small");
        assert_eq!(len, framed.len() - 4);
        assert_eq!(
            decode::<ClientPreamble>("preamble", &framed[4..]).expect("whole"),
            hello()
        );
    }

    #[test]
    fn a_preamble_truncated_at_any_byte_is_refused() {
        let framed = encode_framed("preamble", &hello()).expect("small");
        for end in 4..framed.len() {
            assert!(
                decode::<ClientPreamble>("preamble", &framed[4..end]).is_err(),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn a_length_over_the_cap_is_refused() {
        assert!(body_len("preamble", 4096u32.to_be_bytes()).is_ok());
        assert!(body_len("preamble", 4097u32.to_be_bytes()).is_err());
        assert!(body_len("preamble", u32::MAX.to_be_bytes()).is_err());
    }
}
