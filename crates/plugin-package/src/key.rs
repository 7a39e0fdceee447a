//! An author's keys: the secret one in a file of the author's alone, the public one as a line of text.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a key file, and of a public key's line.
const MAX_FILE: u64 = 4 << 10;
/// Bytes of a key's name.
const MAX_NAME: usize = 64;
const PREFIX: &str = PublicKey::PREFIX;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{doing} {}: {source}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "others than its owner have rights to {} (mode {mode:o}): `chmod 600` it, and make another key if somebody may \
         have read it",
        path.display()
    )]
    Readable { path: PathBuf, mode: u32 },
    #[error("{} is not a key file of `clawker plugin sign`: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    #[error("a public key is a line `{PREFIX}<base64 of 32 bytes> <name>`: {problem}")]
    Public { problem: &'static str },
    #[error("a key's id is 32 of 0-9 and a-f, not `{id:.64}`")]
    Id { id: String },
    #[error("a key's name is 1 to {MAX_NAME} printable ASCII characters without a space, not `{name:.80}`")]
    Name { name: String },
    #[error("making a key: no randomness")]
    Randomness,
}

/// Which key: the first half of SHA-256 of its public bytes, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// 32 lower-case hex digits.
    pub fn parse(id: &str) -> Result<Self, KeyError> {
        let hex = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex {
            Ok(Self(id.to_owned()))
        } else {
            Err(KeyError::Id { id: id.to_owned() })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(id: String) -> Result<Self, KeyError> {
        Self::parse(&id)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

/// What others know an author by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub(crate) bytes: [u8; 32],
    /// The author's own word for it; says nothing about who it is.
    pub name: String,
}

impl PublicKey {
    /// What a public key's line begins with.
    pub const PREFIX: &str = "clawker-plugin-key-1:";

    /// Reads `clawker-plugin-key-1:<base64> <name>`, with or without white space around it.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let wrong = |problem| KeyError::Public { problem };
        let line = line.trim();
        if line.len() as u64 > MAX_FILE {
            return Err(wrong("the line is too long"));
        }
        let rest = line.strip_prefix(PREFIX).ok_or_else(|| wrong("it begins otherwise"))?;
        let (base64, name) = rest.split_once(' ').ok_or_else(|| wrong("there is no name"))?;
        let bytes = BASE64_STANDARD.decode(base64).map_err(|_| wrong("that is no base64"))?;
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| wrong("those aren't 32 bytes"))?;
        Ok(Self {
            bytes,
            name: checked(name)?,
        })
    }

    pub fn id(&self) -> KeyId {
        let hash = Sha256::digest(self.bytes);
        KeyId(hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} {}", BASE64_STANDARD.encode(self.bytes), self.name)
    }
}

/// What an author signs with. The buffers that it is read and written with are wiped; the pair itself is not.
pub struct SecretKey {
    pub(crate) pair: Ed25519KeyPair,
    name: String,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id())
    }
}

impl SecretKey {
    /// Makes a key and its file, which must not be there yet, for its owner alone.
    pub fn make(path: &Path, name: &str) -> Result<Self, KeyError> {
        let name = checked(name)?;
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Randomness)?;
        let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
        let base64 = Zeroizing::new(BASE64_STANDARD.encode(&*pkcs8));
        // Text before the key is a comment (RFC 7468, section 2).
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
        text.push_str(&format!("clawker plugin key {name}\n-----BEGIN PRIVATE KEY-----\n"));
        let mut rest = base64.as_str();
        while let Some((line, after)) = rest.split_at_checked(64) {
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str(rest);
        text.push_str(if rest.is_empty() { "" } else { "\n" });
        text.push_str("-----END PRIVATE KEY-----\n");
        let file = |source| KeyError::File {
            doing: "writing the key file",
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        let mut made = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
        if let Err(error) = written {
            // Half a key would be in the way of the next.
            let _ = std::fs::remove_file(path);
            return Err(file(error));
        }
        Self::from_pem(path, &text)
    }

    /// Reads a key file. One that others could have read is refused.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File {
            doing: "reading the key file",
            path: path.to_owned(),
            source,
        };
        // Looked at first: to open a pipe is to wait for whoever writes to it.
        if !std::fs::metadata(path).map_err(file)?.is_file() {
            return Err(malformed(path, "it is no plain file".to_owned()));
        }
        let opened = File::open(path).map_err(file)?;
        let found = opened.metadata().map_err(file)?;
        let mode = found.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 1));
        opened.take(MAX_FILE + 1).read_to_string(&mut text).map_err(file)?;
        if text.len() as u64 > MAX_FILE {
            return Err(malformed(path, format!("it is larger than {MAX_FILE} bytes")));
        }
        Self::from_pem(path, &text)
    }

    fn from_pem(path: &Path, text: &str) -> Result<Self, KeyError> {
        let name = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("clawker plugin key "))
            .ok_or_else(|| malformed(path, "its first line isn't `clawker plugin key <name>`".to_owned()))?;
        let name = checked(name)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| malformed(path, format!("{error:?}")))?;
        let pair =
            Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|error| malformed(path, error.to_string()))?;
        Ok(Self { pair, name })
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes
            .iter_mut()
            .zip(self.pair.public_key().as_ref())
            .for_each(|(to, from)| *to = *from);
        PublicKey {
            bytes,
            name: self.name.clone(),
        }
    }
}

fn malformed(path: &Path, problem: String) -> KeyError {
    KeyError::Malformed {
        path: path.to_owned(),
        problem,
    }
}

fn checked(name: &str) -> Result<String, KeyError> {
    let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    if good {
        Ok(name.to_owned())
    } else {
        Err(KeyError::Name { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn made() -> (tempfile::TempDir, PathBuf, SecretKey) {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("a.key");
        let key = SecretKey::make(&path, "alice@example.org").expect("made");
        (dir, path, key)
    }

    #[test]
    fn a_key_is_read_back_as_it_was_made() {
        let (_dir, path, key) = made();
        let read = SecretKey::load(&path).expect("read");
        assert_eq!(read.public(), key.public());
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
        let line = key.public().to_string();
        assert_eq!(PublicKey::parse(&format!("  {line}\n")).expect("a line"), key.public());
        assert_eq!(
            KeyId::parse(key.public().id().as_str()).expect("an id"),
            key.public().id()
        );
    }

    #[test]
    fn a_key_is_never_written_over() {
        let (_dir, path, key) = made();
        assert!(matches!(SecretKey::make(&path, "bob"), Err(KeyError::File { .. })));
        assert_eq!(SecretKey::load(&path).expect("read").public(), key.public());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_dir, path, _) = made();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
            let error = SecretKey::load(&path).expect_err("readable");
            assert!(matches!(error, KeyError::Readable { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_plain_file_is_no_key() {
        let dir = tempfile::tempdir().expect("folder");
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo").success());
        for path in [dir.path(), &pipe] {
            let error = SecretKey::load(path).expect_err("no file");
            assert!(error.to_string().contains("no plain file"), "{error}");
        }
    }

    #[test]
    fn files_that_are_no_keys_are_refused() {
        let (_dir, path, _) = made();
        let whole = std::fs::read_to_string(&path).expect("there");
        let bodyless = "clawker plugin key a\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for text in [
            "",
            "clawker plugin key a\n",
            bodyless,
            &whole.replace("clawker plugin key", "key"),
            &whole[..whole.len() / 2],
            &format!("{whole}{}", " ".repeat(MAX_FILE as usize)),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = SecretKey::load(&path).expect_err("no key");
            assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
            assert!(!error.to_string().contains("AAAA"), "{error}");
        }
    }

    #[test]
    fn public_keys_and_names_out_of_bounds_are_refused() {
        let (dir, _, key) = made();
        let line = key.public().to_string();
        for bad in [
            "",
            "ssh-ed25519 AAAA",
            &line.replace("-1:", "-2:"),
            line.split(' ').next().expect("a key"),
            &line.replace('=', ""),
            "clawker-plugin-key-1:AAAA a",
            &format!("{line} and more"),
            &format!("{line}{}", "x".repeat(MAX_NAME)),
            &format!("{line}{}", "x".repeat(MAX_FILE as usize)),
        ] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
        for name in ["", "a b", "a\nb", "\u{e9}", &"x".repeat(MAX_NAME + 1)] {
            let error = SecretKey::make(&dir.path().join("b"), name).expect_err("a bad name");
            assert!(matches!(error, KeyError::Name { .. }), "{name}: {error}");
        }
        for id in ["", "0", &"A".repeat(32), &"0".repeat(33)] {
            assert!(KeyId::parse(id).is_err(), "{id}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            let _ = PublicKey::parse(&text);
            let _ = PublicKey::parse(&format!("{PREFIX}{text}"));
            let _ = KeyId::parse(&text);
        }
    }
}
