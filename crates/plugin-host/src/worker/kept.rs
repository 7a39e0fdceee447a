//! Compiled code on disk, so that a start compiles nothing.
//!
//! To run compiled code is to trust it, so it is kept under a MAC with a key of this host, made over the engine, the
//! component's digest and the code; what doesn't bear it is compiled anew. The folder's name is the engine's: its full
//! version, its configuration and the processor's features. Code of another engine is deleted.
//!
//! ```text
//! <folder>/<engine>/<component digest>.cwasm = MAC (32 bytes), code
//! ```

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use clawker_model::PluginDigest;
use clawker_proc::memfd;
use ring::hmac;
use sha2::{Digest, Sha256};

use super::channel::MAX_MESSAGE;
use crate::{Error, LoadError};

const TAG: usize = 32;

/// What vouches for compiled code on this host: 32 bytes that its control plane alone knows.
pub struct CodeKey(hmac::Key);

impl CodeKey {
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey")
    }
}

/// Where compiled code is kept, if anywhere.
pub(super) struct Kept(Option<Place>);

struct Place {
    folder: PathBuf,
    engine: String,
    key: CodeKey,
}

impl Kept {
    pub fn open(place: Option<(PathBuf, CodeKey)>) -> Result<Self, Error> {
        let Some((folder, key)) = place else {
            return Ok(Self(None));
        };
        let engine = name_of(&crate::engine::compiling()?);
        let kept = |source| Error::Kept {
            path: folder.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder.join(&engine))
            .map_err(kept)?;
        for entry in fs::read_dir(&folder).map_err(kept)? {
            let entry = entry.map_err(kept)?;
            if entry.file_name() != engine.as_str() {
                fs::remove_dir_all(entry.path()).map_err(kept)?;
            }
        }
        let folder = folder.join(&engine);
        Ok(Self(Some(Place { folder, engine, key })))
    }

    /// The code of a component in a sealed memfd: what is kept, else what `compile` makes.
    pub fn get_or(
        &self,
        digest: &PluginDigest,
        compile: impl FnOnce() -> Result<Vec<u8>, LoadError>,
    ) -> Result<OwnedFd, LoadError> {
        let sealed = |code: &[u8]| {
            memfd::sealed("plugin-code", code).map_err(|error| LoadError::Compile(format!("handing it over: {error}")))
        };
        let Some(place) = &self.0 else {
            return sealed(&compile()?);
        };
        match place.read(digest) {
            Ok(Some(code)) => return sealed(&code),
            Ok(None) => {}
            Err(error) => tracing::warn!(%digest, %error, "kept code isn't used, compiling anew"),
        }
        let code = compile()?;
        // Not kept is slow the next time, and nothing else.
        if let Err(error) = place.write(digest, &code) {
            tracing::warn!(%digest, %error, "compiled code isn't kept");
        }
        sealed(&code)
    }
}

impl Place {
    fn path(&self, digest: &PluginDigest) -> PathBuf {
        self.folder.join(format!("{digest}.cwasm"))
    }

    /// What the MAC is made over, but for the code.
    fn context(&self, digest: &PluginDigest) -> Vec<u8> {
        format!("clawker-compiled/1\n{}\n{digest}\n", self.engine).into_bytes()
    }

    fn read(&self, digest: &PluginDigest) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(self.path(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let max = MAX_MESSAGE.saturating_add(TAG);
        file.take((max as u64).saturating_add(1)).read_to_end(&mut bytes)?;
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let (tag, code) = bytes.split_at_checked(TAG).ok_or_else(|| bad("it is cut short"))?;
        let signed = [&self.context(digest), code].concat();
        hmac::verify(&self.key.0, &signed, tag).map_err(|_| bad("its MAC is wrong"))?;
        Ok(Some(code.to_vec()))
    }

    fn write(&self, digest: &PluginDigest, code: &[u8]) -> io::Result<()> {
        let signed = [&self.context(digest), code].concat();
        let tag = hmac::sign(&self.key.0, &signed);
        let path = self.path(digest);
        let beside = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(tag.as_ref())?;
        file.write_all(code)?;
        // Not synced: after a crash it may be cut, which the MAC shows.
        fs::rename(&beside, &path)
    }
}

/// A folder's name for everything that compiled code depends on.
fn name_of(engine: &wasmtime::Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    sha.0
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn digest() -> PluginDigest {
        crate::digest(b"component")
    }

    fn open(folder: &Path, key: u8) -> Kept {
        Kept::open(Some((folder.to_owned(), CodeKey::new(&[key; 32])))).expect("opens")
    }

    fn get(kept: &Kept, compiled: &[u8]) -> (Vec<u8>, bool) {
        let mut asked = false;
        let fd = kept.get_or(&digest(), || {
            asked = true;
            Ok(compiled.to_vec())
        });
        let code = memfd::read_sealed(std::os::fd::AsFd::as_fd(&fd.expect("code")), 1 << 20).expect("sealed");
        (code, asked)
    }

    #[test]
    fn code_is_compiled_once() {
        let dir = tempfile::tempdir().expect("folder");
        assert_eq!(get(&open(dir.path(), 1), b"code"), (b"code".to_vec(), true));
        assert_eq!(get(&open(dir.path(), 1), b"other"), (b"code".to_vec(), false));
    }

    #[test]
    fn code_without_our_mac_is_compiled_anew() {
        let dir = tempfile::tempdir().expect("folder");
        let kept = open(dir.path(), 1);
        get(&kept, b"code");
        let path = kept.0.as_ref().expect("kept").path(&digest());
        let whole = fs::read(&path).expect("there");
        for len in [0, 1, TAG, whole.len() - 1] {
            fs::write(&path, &whole[..len]).expect("cut");
            assert_eq!(get(&kept, b"code"), (b"code".to_vec(), true), "{len} bytes");
        }
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            fs::write(&path, &flipped).expect("written");
            assert_eq!(get(&kept, b"code"), (b"code".to_vec(), true), "byte {byte}");
        }
        assert_eq!(
            get(&open(dir.path(), 2), b"mine"),
            (b"mine".to_vec(), true),
            "another key"
        );
    }

    #[test]
    fn code_of_another_component_is_not_taken_for_it() {
        let dir = tempfile::tempdir().expect("folder");
        let kept = open(dir.path(), 1);
        get(&kept, b"code");
        let place = kept.0.as_ref().expect("kept");
        let other = crate::digest(b"another");
        fs::copy(place.path(&digest()), place.path(&other)).expect("copied");
        let mut asked = false;
        let code = kept.get_or(&other, || {
            asked = true;
            Ok(b"its own".to_vec())
        });
        assert!(code.is_ok() && asked);
    }

    #[test]
    fn code_of_another_engine_is_deleted() {
        let dir = tempfile::tempdir().expect("folder");
        let other = dir.path().join("0123");
        fs::create_dir(&other).expect("made");
        fs::write(other.join("x.cwasm"), b"x").expect("written");
        open(dir.path(), 1);
        assert!(!other.exists());
    }
}
