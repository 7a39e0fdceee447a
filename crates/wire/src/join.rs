//! The join file: what a start of a container on an engine elsewhere is given before it runs.
//!
//! There is no socket that both sides could reach, so what PID 1 gets over one otherwise (identity, number of the start)
//! stands in a file that Docker puts into the container. PID 1 reads and unlinks it before anything else runs.
//! A u32 big-endian length and a postcard body: a file that Docker is still writing is told from a whole one.

use serde::{Deserialize, Serialize};

use crate::preamble::{Bundle, MAX_BUNDLE, PreambleError, decode};

/// Where it is put.
pub const JOIN_FILE: &str = "/.clawker/join";

/// Most bytes of the file.
pub const MAX_JOIN: usize = MAX_BUNDLE;

/// Version of this file.
const VERSION: u32 = 1;

/// What the file says. Its `Debug` names no key and no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    version: u32,
    /// Number of the start that it is for.
    pub start: u64,
    /// Where PID 1 is to listen, on every address of the container.
    pub port: u16,
    /// With the join token in it.
    pub bundle: Bundle,
}

impl Join {
    pub fn new(start: u64, port: u16, bundle: Bundle) -> Self {
        Self {
            version: VERSION,
            start,
            port,
            bundle,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>, PreambleError> {
        let what = "join file";
        let body = postcard::to_stdvec(self).map_err(|source| PreambleError::Malformed { what, source })?;
        let too_long = PreambleError::TooLong {
            what,
            len: body.len(),
            max: MAX_JOIN,
        };
        let len = u32::try_from(body.len()).map_err(|_| PreambleError::TooLong {
            what,
            len: body.len(),
            max: MAX_JOIN,
        })?;
        if body.len() + 4 > MAX_JOIN {
            return Err(too_long);
        }
        let mut file = len.to_be_bytes().to_vec();
        file.extend_from_slice(&body);
        Ok(file)
    }

    /// `None` while the file isn't whole.
    pub fn decode(file: &[u8]) -> Result<Option<Self>, PreambleError> {
        let what = "join file";
        let Some((prefix, body)) = file.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len + 4 > MAX_JOIN {
            return Err(PreambleError::TooLong {
                what,
                len,
                max: MAX_JOIN,
            });
        }
        let Some(body) = body.get(..len) else { return Ok(None) };
        let join: Self = decode(what, body)?;
        match join.version {
            VERSION => Ok(Some(join)),
            version => Err(PreambleError::Version { what, version }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> Join {
        let bundle = Bundle {
            generation: 3,
            project: "p".into(),
            agent: "a".into(),
            leaf: vec![1; 300],
            key: vec![2; 100],
            roots: vec![vec![3; 300]],
            join: Some("token".into()),
        };
        Join::new(7, 1234, bundle)
    }

    #[test]
    fn a_join_file_is_read_when_it_is_whole_and_not_before() {
        let file = join().encode().expect("small");
        assert_eq!(Join::decode(&file).expect("good"), Some(join()));
        for end in 0..file.len() {
            assert_eq!(Join::decode(&file[..end]).expect("not yet"), None, "cut at {end}");
        }
    }

    #[test]
    fn a_join_file_over_the_cap_or_of_another_version_is_refused() {
        assert!(Join::decode(&u32::MAX.to_be_bytes()).is_err());
        let mut huge = join();
        huge.bundle.leaf = vec![0; MAX_JOIN];
        assert!(huge.encode().is_err());
        let mut newer = join();
        newer.version += 1;
        let error = Join::decode(&newer.encode().expect("small"))
            .expect_err("newer")
            .to_string();
        assert!(error.contains("version 2"), "{error}");
    }

    #[test]
    fn neither_key_nor_token_is_shown() {
        let shown = format!("{:?}", join());
        assert!(!shown.contains("token") && !shown.contains("key"), "{shown}");
    }
}
