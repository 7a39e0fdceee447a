//! The plugins of this host on disk: components by their digest, and the lockfile that names them.
//!
//! ```text
//! plugins/lock              held by whoever has the store open
//!         plugins.lock      what is installed
//!         blobs/<hex>.wasm  a component, <hex>.sig its signature
//!         incoming/         unfinished; emptied at open
//!
//! put:    incoming/x ─write─sync─rename─► blobs/<hex>.wasm ─sync of the folder─┐
//! commit: plugins.lock.new ─write─sync─rename─► plugins.lock ─sync─► blobs that nothing names are removed
//! ```
//! A component is there before a lockfile names it, and gone only after none does: cut anywhere, the old or the new state is
//! whole. What is read is held against its digest each time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clawker_model::PluginDigest;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{Entry, Lock, LockError, MAX_LOCK, MAX_SIGNATURE, Signature};

/// Bytes of a component.
pub const MAX_COMPONENT: usize = 32 << 20;
/// Bytes of all components together.
pub const MAX_STORE: u64 = 2 << 30;

/// Why the store can't be used, or doesn't take something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("a component of {0} bytes, the limit is {MAX_COMPONENT}")]
    TooLarge(usize),
    #[error("the plugins' components would have more than {MAX_STORE} bytes together: remove some plugins")]
    Full,
    #[error("the component {0} isn't in the store: install its plugin anew")]
    Missing(PluginDigest),
    #[error("the component {0} in the store was changed: install its plugin anew")]
    Changed(PluginDigest),
    #[error("the signature of {digest} in the store: {problem}")]
    Signature { digest: PluginDigest, problem: String },
}

/// Points between two of the store's changes, where a test cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Written,
    Synced,
    Placed,
    LockWritten,
    LockSynced,
    LockPlaced,
    Swept,
}

/// Fails at a point; nothing in production.
pub type Faults = Option<Box<dyn Fn(Point) -> io::Result<()> + Send>>;

/// The store, held by one process.
pub struct Store {
    dir: PathBuf,
    key: Zeroizing<[u8; 32]>,
    lock: Lock,
    faults: Faults,
    /// Locked as long as this lives.
    _held: File,
}

impl Store {
    /// Opens the store in `dir`, which is made for its owner alone; `key` is the host's, for the lockfile. What a crash left
    /// unfinished is removed.
    pub fn open(dir: &Path, key: Zeroizing<[u8; 32]>, faults: Faults) -> Result<Self, StoreError> {
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700);
        for part in ["", "blobs", "incoming"] {
            let path = dir.join(part);
            folder.create(&path).map_err(io_error("making", &path))?;
        }
        let path = dir.join("lock");
        let held = open_options(&path, true)?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io_error("locking", &path)(source)),
        }
        let path = dir.join("plugins.lock");
        let lock = match read_at_most(&path, MAX_LOCK)? {
            Some(bytes) => Lock::parse(&String::from_utf8_lossy(&bytes), &key)?,
            None => Lock::default(),
        };
        let store = Self {
            dir: dir.to_owned(),
            key,
            lock,
            faults,
            _held: held,
        };
        let incoming = dir.join("incoming");
        for path in list(&incoming)? {
            fs::remove_file(&path).map_err(io_error("removing", &path))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// What is installed, by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.lock.plugins
    }

    /// How often the lockfile was written.
    pub fn serial(&self) -> u64 {
        self.lock.serial
    }

    /// Keeps a component and its signature until the next [`commit`](Self::commit), and from then on if that names it.
    pub fn put(&self, component: &[u8], signature: &Signature) -> Result<PluginDigest, StoreError> {
        if component.len() > MAX_COMPONENT {
            return Err(StoreError::TooLarge(component.len()));
        }
        let digest = digest(component);
        let have: u64 = list(&self.dir.join("blobs"))?
            .iter()
            .filter_map(|path| Some(path.metadata().ok()?.len()))
            .sum();
        if have.saturating_add(component.len() as u64) > MAX_STORE {
            return Err(StoreError::Full);
        }
        self.place(&self.blob(&digest, "sig"), signature.to_json().as_bytes())?;
        // One that was damaged is written again.
        if self.read(&digest).is_err() {
            self.place(&self.blob(&digest, "wasm"), component)?;
        }
        Ok(digest)
    }

    /// A component, as it was put.
    pub fn read(&self, digest: &PluginDigest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest, "wasm");
        let bytes = read_at_most(&path, MAX_COMPONENT)?.ok_or_else(|| StoreError::Missing(digest.clone()))?;
        if self::digest(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(StoreError::Changed(digest.clone()))
        }
    }

    /// A component's signature.
    pub fn signature(&self, digest: &PluginDigest) -> Result<Signature, StoreError> {
        let path = self.blob(digest, "sig");
        let bytes = read_at_most(&path, MAX_SIGNATURE)?.ok_or_else(|| StoreError::Missing(digest.clone()))?;
        Signature::parse(&bytes).map_err(|error| StoreError::Signature {
            digest: digest.clone(),
            problem: error.to_string(),
        })
    }

    /// Changes what is installed: as a whole or not at all.
    pub fn commit(&mut self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) -> Result<(), StoreError> {
        let mut lock = self.lock.clone();
        change(&mut lock.plugins);
        lock.serial = lock.serial.saturating_add(1);
        let text = lock.write(&self.key)?;
        let (path, beside) = (self.dir.join("plugins.lock"), self.dir.join("plugins.lock.new"));
        self.write(&beside, text.as_bytes())?;
        self.at(Point::LockWritten, &beside)?;
        fs::rename(&beside, &path).map_err(io_error("placing", &path))?;
        // From here on it is what the next start reads.
        self.lock = lock;
        self.at(Point::LockPlaced, &path)?;
        sync_folder(&self.dir)?;
        self.at(Point::LockSynced, &path)?;
        self.sweep()?;
        self.at(Point::Swept, &path)
    }

    /// Removes components that nothing names.
    fn sweep(&self) -> Result<(), StoreError> {
        let named: BTreeSet<&str> = self
            .lock
            .plugins
            .values()
            .flat_map(Entry::pins)
            .map(|pin| pin.digest.as_str())
            .collect();
        for path in list(&self.dir.join("blobs"))? {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !named.contains(stem) {
                fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(())
    }

    fn blob(&self, digest: &PluginDigest, extension: &str) -> PathBuf {
        self.dir.join("blobs").join(format!("{digest}.{extension}"))
    }

    fn place(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let beside = self.dir.join("incoming").join(path.file_name().unwrap_or_default());
        self.write(&beside, bytes)?;
        fs::rename(&beside, path).map_err(io_error("placing", path))?;
        self.at(Point::Placed, path)?;
        sync_folder(&self.dir.join("blobs"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = open_options(path, false)?;
        file.write_all(bytes).map_err(io_error("writing", path))?;
        self.at(Point::Written, path)?;
        file.sync_all().map_err(io_error("writing", path))?;
        self.at(Point::Synced, path)
    }

    fn at(&self, point: Point, path: &Path) -> Result<(), StoreError> {
        match &self.faults {
            Some(fault) => fault(point).map_err(io_error("stopping at", path)),
            None => Ok(()),
        }
    }
}

/// The digest of a component.
pub fn digest(component: &[u8]) -> PluginDigest {
    PluginDigest::of(&Sha256::digest(component).into())
}

fn open_options(path: &Path, keep: bool) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(!keep).mode(0o600);
    options.open(path).map_err(io_error("opening", path))
}

fn read_at_most(path: &Path, max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening", path)(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(io_error("reading", path))?;
    if bytes.len() > max {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes"));
        return Err(io_error("reading", path)(error));
    }
    Ok(Some(bytes))
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(dir).map_err(io_error("listing", dir))?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    entries.collect::<io::Result<_>>().map_err(io_error("listing", dir))
}

fn sync_folder(dir: &Path) -> Result<(), StoreError> {
    let folder = File::open(dir).and_then(|dir| dir.sync_all());
    folder.map_err(io_error("syncing", dir))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

#[cfg(test)]
mod tests;
