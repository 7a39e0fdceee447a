//! An agent's secrets, where its plan meets them: put in for pieces that stand for them, taken out of what comes back.

use std::io;

use clawker_model::{ContainerId, Piece, SecretForm};
use zeroize::Zeroizing;

use crate::agent::AgentError;
use crate::core::Core;

/// Most bytes of one secret.
const MAX_SECRET: u64 = 64 * 1024;
/// Shorter ones are not looked for: they would be found in what has nothing to do with them.
const MIN_LOOKED_FOR: usize = 4;

/// Names and contents. Has no `Debug`, so that none ends in a log.
#[derive(Default)]
pub struct Secrets(Vec<(String, Zeroizing<Vec<u8>>)>);

impl Secrets {
    /// Reads those that are named.
    pub async fn read(core: &Core, container: &ContainerId, names: Vec<String>) -> Result<Self, AgentError> {
        let dir = core.secrets_dir(container);
        let mut secrets = Vec::new();
        for name in names {
            let path = dir.join(&name);
            let read = async {
                if tokio::fs::metadata(&path).await?.len() > MAX_SECRET {
                    return Err(io::Error::other("larger than 64 KiB"));
                }
                tokio::fs::read(&path).await
            };
            let content = read.await.map_err(|source| AgentError::Secret {
                name: name.clone(),
                source,
            })?;
            secrets.push((name, Zeroizing::new(content)));
        }
        Ok(Self(secrets))
    }

    /// As it was given.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, content)| content.as_slice())
    }

    /// What the pieces stand for; the error is the name of a secret that isn't there.
    pub fn fill(&self, pieces: &[Piece]) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut filled = Zeroizing::new(Vec::new());
        for piece in pieces {
            match piece {
                Piece::Bytes { bytes } => filled.extend_from_slice(bytes),
                Piece::Secret { name, form } => {
                    let content = trimmed(self.get(name).ok_or_else(|| name.clone())?);
                    match form {
                        SecretForm::Plain => filled.extend_from_slice(content),
                        SecretForm::Percent => filled.extend_from_slice(&percent(content)),
                    }
                }
            }
        }
        Ok(filled)
    }

    /// The name of a secret that is in there.
    pub fn inside(&self, bytes: &[u8]) -> Option<&str> {
        let found = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.looked_for()
            .find(|(_, content)| found(content))
            .map(|(name, _)| name)
    }

    /// The same bytes with each secret's name in place of its content.
    pub fn redact(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (name, content) in self.looked_for() {
            let mut clean = Vec::with_capacity(bytes.len());
            let mut rest = bytes.as_slice();
            while let Some(at) = rest
                .windows(content.len())
                .position(|window| window == content.as_slice())
            {
                clean.extend_from_slice(&rest[..at]);
                clean.extend_from_slice(format!("[secret {name}]").as_bytes());
                rest = &rest[at + content.len()..];
            }
            clean.extend_from_slice(rest);
            bytes = clean;
        }
        bytes
    }

    /// In both forms.
    fn looked_for(&self) -> impl Iterator<Item = (&str, Zeroizing<Vec<u8>>)> {
        self.0
            .iter()
            .flat_map(|(name, content)| {
                let content = trimmed(content);
                [
                    (name.as_str(), Zeroizing::new(content.to_vec())),
                    (name.as_str(), percent(content)),
                ]
            })
            .filter(|(_, content)| content.len() >= MIN_LOOKED_FOR)
    }
}

fn trimmed(content: &[u8]) -> &[u8] {
    content.strip_suffix(b"\n").unwrap_or(content)
}

/// RFC 3986, 2.1, of all but the unreserved.
fn percent(content: &[u8]) -> Zeroizing<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Zeroizing::new(Vec::with_capacity(3 * content.len()));
    for &byte in content {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte),
            _ => encoded.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let secret = |name: &str, content: &[u8]| (name.to_owned(), Zeroizing::new(content.to_vec()));
        Secrets(vec![secret("TOKEN", b"hunter/2\n"), secret("PIN", b"12\n")])
    }

    #[test]
    fn pieces_are_filled_in_both_forms() {
        let piece = |name: &str, form| Piece::Secret {
            name: name.into(),
            form,
        };
        let pieces = [
            Piece::bytes("<"),
            piece("TOKEN", SecretForm::Plain),
            Piece::bytes("|"),
            piece("TOKEN", SecretForm::Percent),
            Piece::bytes(">"),
        ];
        assert_eq!(
            secrets().fill(&pieces).expect("filled").as_slice(),
            b"<hunter/2|hunter%2F2>"
        );
        assert_eq!(
            secrets()
                .fill(&[piece("OTHER", SecretForm::Plain)])
                .expect_err("unknown"),
            "OTHER"
        );
    }

    #[test]
    fn what_comes_back_shows_names_and_no_contents() {
        let clean = secrets().redact(b"a hunter/2, a hunter%2F2, hunter, 12".to_vec());
        assert_eq!(clean, b"a [secret TOKEN], a [secret TOKEN], hunter, 12");
        assert_eq!(secrets().inside(b"x hunter/2 y"), Some("TOKEN"));
        assert_eq!(secrets().inside(b"12"), None);
        assert_eq!(secrets().inside(b""), None);
    }
}
