//! The host key: ed25519, made when there is none, `host.key` in the state folder with mode 0600.
//!
//! Signs the journal's heads and checkpoints. Whoever has it can sign another history: heads that were handed to
//! somebody else before are what remains then.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::Error;
use crate::chain::{hex, unhex};

pub(crate) const FILE: &str = "host.key";

/// Hex digits and a newline.
const LENGTH: usize = 65;

pub(crate) type PublicKey = [u8; 32];
pub(crate) type Sealed = [u8; 64];

pub(crate) struct HostKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl HostKey {
    /// The key of a state folder, and whether it had to be made.
    pub fn open(dir: &Path) -> Result<(Self, bool), Error> {
        let file = dir.join(FILE);
        match std::fs::File::open(&file) {
            Ok(found) => Ok((Self::read(&file, found)?, false)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok((Self::make(dir, &file)?, true)),
            Err(e) => Err(Error::io("opening the host key", &file, &e)),
        }
    }

    fn read(file: &Path, found: std::fs::File) -> Result<Self, Error> {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH + 1));
        let damaged = |detail: &str| Error::HostKey {
            file: file.to_owned(),
            detail: detail.to_owned(),
        };
        found
            .take(LENGTH as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|e| damaged(&e.to_string()))?;
        let seed = Zeroizing::new(unhex::<32>(text.trim_end()).ok_or_else(|| damaged("it isn't 64 hex digits"))?);
        Self::from_seed(file, seed.as_ref())
    }

    /// Whole or not at all: a crash leaves at most a file of another name.
    fn make(dir: &Path, file: &Path) -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|e| Error::Io {
            doing: "making the host key",
            file: file.to_owned(),
            detail: e.to_string(),
        })?;
        let part: PathBuf = dir.join("host.key.new");
        let write = || -> std::io::Result<()> {
            let _ = std::fs::remove_file(&part);
            let mut new = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?;
            let text = Zeroizing::new(format!("{}\n", hex(seed.as_ref())));
            new.write_all(text.as_bytes())?;
            new.sync_all()?;
            std::fs::rename(&part, file)?;
            std::fs::File::open(dir)?.sync_all()
        };
        write().map_err(|e| Error::io("making the host key", file, &e))?;
        Self::from_seed(file, seed.as_ref())
    }

    fn from_seed(file: &Path, seed: &[u8]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok();
        let public = pair
            .as_ref()
            .and_then(|pair| pair.public_key().as_ref().try_into().ok());
        match (pair, public) {
            (Some(pair), Some(public)) => Ok(Self { pair, public }),
            _ => Err(Error::HostKey {
                file: file.to_owned(),
                detail: "it is no ed25519 key".into(),
            }),
        }
    }

    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub fn secret(&self) -> HostSecret {
        HostSecret::of(self)
    }

    pub fn sign(&self, message: &[u8]) -> Sealed {
        let mut sealed = [0; 64];
        // An ed25519 signature has 64 bytes; were it otherwise, nothing would verify.
        for (to, from) in sealed.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        sealed
    }
}

/// What other keys of this host are made from. It comes from the host key, and gives nothing of it away.
pub(crate) struct HostSecret(hmac::Key);

impl HostSecret {
    fn of(key: &HostKey) -> Self {
        // ed25519 signs the same message the same way, and no other message begins like this one.
        let signed = Zeroizing::new(key.sign(b"clawker-host-secret/1\n"));
        Self(hmac::Key::new(hmac::HMAC_SHA256, signed.as_ref()))
    }

    /// A key of 32 bytes for one purpose, the same as long as the host key is.
    pub fn key_for(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let tag = hmac::sign(&self.0, purpose.as_bytes());
        let mut key = Zeroizing::new([0; 32]);
        key.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        key
    }
}

impl std::fmt::Debug for HostSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostSecret")
    }
}

/// Whether `key` signed this message.
pub(crate) fn signed(key: &PublicKey, message: &[u8], signature: &Sealed) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_host_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("host.key.new"), "cut off").expect("write");
        let (made, new) = HostKey::open(dir.path()).expect("made");
        let (read, again) = HostKey::open(dir.path()).expect("read");
        assert_eq!((new, again, made.public()), (true, false, read.public()));
        let mode = std::fs::metadata(dir.path().join(FILE))
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let signature = made.sign(b"x");
        assert!(signed(&read.public(), b"x", &signature));
        assert!(!signed(&read.public(), b"y", &signature));
        let other = tempfile::tempdir().expect("dir");
        let other = HostKey::open(other.path()).expect("made").0;
        assert!(!signed(&other.public(), b"x", &signature));
    }

    #[test]
    fn a_key_for_a_purpose_is_of_that_host_and_purpose_alone() {
        let dir = tempfile::tempdir().expect("dir");
        let key = |dir: &Path, purpose: &str| {
            let (key, _) = HostKey::open(dir).expect("a key");
            *key.secret().key_for(purpose)
        };
        assert_eq!(key(dir.path(), "plugins"), key(dir.path(), "plugins"));
        assert_ne!(key(dir.path(), "plugins"), key(dir.path(), "plugin"));
        let other = tempfile::tempdir().expect("dir");
        assert_ne!(key(dir.path(), "plugins"), key(other.path(), "plugins"));
    }

    #[test]
    fn a_damaged_host_key_is_named_and_left_alone() {
        for bad in ["", "abc", &"g".repeat(64), &"a".repeat(66), "\u{0}"] {
            let dir = tempfile::tempdir().expect("dir");
            let file = dir.path().join(FILE);
            std::fs::write(&file, bad).expect("write");
            let e = HostKey::open(dir.path()).err().expect("damaged");
            assert!(
                matches!(&e, Error::HostKey { file: named, .. } if *named == file),
                "{e}"
            );
            assert!(e.to_string().contains("clawker restore"), "{e}");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), bad);
        }
    }
}
