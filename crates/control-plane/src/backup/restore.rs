//! Restoring: a backup takes the place of a stopped control plane's state.
//!
//! ```text
//! restore.tmp    being unpacked and checked; removed by the next try
//! restore.ready  whole and checked, on its way into place; a control plane doesn't start while it is there
//! replaced-<ms>  what was there before
//! ```
//! The rename of the first to the second is the moment from which there is no way back but another restore.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clawker_model::exit;
use clawker_store::{BadSeal, Finding, Store};
use sha2::{Digest as _, Sha256};

use super::{AUTHORITY, FORMAT, HOST_KEY, JOURNAL, MANIFEST, Manifest, archive};

const UNPACKING: &str = "restore.tmp";
const READY: &str = "restore.ready";

const MAX_MANIFEST: u64 = 1 << 20;
/// Journal, host key, and what an authority has.
const MAX_FILES: usize = 70;

/// What of a state folder a backup replaces.
const REPLACED: [&str; 8] = [
    "journal.db",
    "journal.db-wal",
    "journal.db-shm",
    "state.db",
    "state.db-wal",
    "state.db-shm",
    HOST_KEY,
    AUTHORITY,
];

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("opening the backup {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no backup that can be restored: {what}; nothing was changed", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{}: a control plane runs on it; end it first: `clawker down`", dir.display())]
    Running { dir: PathBuf },
    #[error(
        "{}: there is a state already ({found}); with --force it is moved aside, into a folder beside it, and not deleted",
        dir.display()
    )]
    Exists { dir: PathBuf, found: &'static str },
    #[error("restoring: {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("restoring: {0}")]
    Store(clawker_store::Error),
    #[error("{}: a restore was cut off; begin it again: `clawker restore --force FILE`", dir.display())]
    Half { dir: PathBuf },
}

impl RestoreError {
    pub fn exit_code(&self) -> u8 {
        match self {
            RestoreError::Open { .. } | RestoreError::Damaged { .. } => exit::NO_INPUT,
            RestoreError::Exists { .. } | RestoreError::Running { .. } => exit::CANT_CREATE,
            RestoreError::Half { .. } => exit::MISCONFIGURED,
            RestoreError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                exit::NOT_PERMITTED
            }
            RestoreError::File { .. } | RestoreError::Store(_) => exit::FAILED,
        }
    }
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    pub state_dir: PathBuf,
    pub journal: String,
    /// The journal's last row.
    pub rows: u64,
    pub made_ms: u64,
    /// Where what was there is now.
    pub replaced: Option<PathBuf>,
}

/// A control plane must not begin an empty journal between two steps of a restore.
pub fn refuse_half_restored(state_dir: &Path) -> Result<(), RestoreError> {
    if state_dir.join(READY).exists() {
        let dir = state_dir.to_owned();
        return Err(RestoreError::Half { dir });
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    move |source| RestoreError::File {
        path: path.to_owned(),
        source,
    }
}

/// Puts a backup in the place of a state folder, which is made if there is none.
pub async fn restore(backup: &Path, state_dir: &Path, force: bool, now_ms: u64) -> Result<Restored, RestoreError> {
    let open = File::open(backup).map_err(|source| RestoreError::Open {
        path: backup.to_owned(),
        source,
    })?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state_dir)
        .map_err(failed(state_dir))?;
    let _lock = clawker_store::lock(state_dir).map_err(|error| match error {
        clawker_store::Error::Locked { dir } => RestoreError::Running { dir },
        other => RestoreError::Store(other),
    })?;
    let there = REPLACED.into_iter().find(|name| state_dir.join(name).exists());
    if let Some(found) = there.filter(|_| !force) {
        let dir = state_dir.to_owned();
        return Err(RestoreError::Exists { dir, found });
    }
    let (unpacking, ready) = (state_dir.join(UNPACKING), state_dir.join(READY));
    for old in [&unpacking, &ready] {
        remove(old)?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&unpacking)
        .map_err(failed(&unpacking))?;
    let checked = match unpack(backup, open, &unpacking) {
        Ok(manifest) => check(backup, &unpacking, manifest).await,
        Err(error) => Err(error),
    };
    let (manifest, rows) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            remove(&unpacking)?;
            return Err(error);
        }
    };
    fs::rename(&unpacking, &ready).map_err(failed(&ready))?;
    sync(state_dir)?;
    let replaced = put_aside(state_dir, now_ms)?;
    put_in_place(&ready, state_dir)?;
    Ok(Restored {
        state_dir: state_dir.to_owned(),
        journal: manifest.head.journal,
        rows,
        made_ms: manifest.made_ms,
        replaced,
    })
}

fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path)(e)),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), RestoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

/// Unpacks exactly what the manifest lists.
fn unpack(backup: &Path, open: File, into: &Path) -> Result<Manifest, RestoreError> {
    let damaged = |what: String| RestoreError::Damaged {
        path: backup.to_owned(),
        what,
    };
    let broken = |error: io::Error| damaged(error.to_string());
    let mut from = BufReader::new(open);
    let first = archive::next(&mut from).map_err(broken)?;
    let Some(first) = first.filter(|entry| entry.name == MANIFEST && entry.bytes <= MAX_MANIFEST) else {
        return Err(damaged(format!("it doesn't begin with {MANIFEST}")));
    };
    let mut text = Vec::new();
    archive::take(&mut from, &first, &mut text).map_err(broken)?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| damaged(format!("{MANIFEST}: {e}")))?;
    if manifest.format != FORMAT {
        return Err(damaged(format!(
            "its format is `{}`, this version reads `{FORMAT}`",
            manifest.format
        )));
    }
    let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    if !names.contains(&JOURNAL) || !names.contains(&HOST_KEY) || names.len() > MAX_FILES {
        return Err(damaged("the manifest doesn't list what a backup has".into()));
    }
    for listed in &manifest.files {
        let entry = archive::next(&mut from).map_err(broken)?;
        let expected = archive::Entry {
            name: listed.name.clone(),
            bytes: listed.bytes,
        };
        if entry.as_ref() != Some(&expected) || !is_ours(&listed.name) {
            return Err(damaged(format!("`{}` isn't as the manifest lists it", listed.name)));
        }
        let digest = unpack_one(&mut from, &expected, into).map_err(|error| match error {
            // The archive's fault, and not that of the disk it is unpacked to.
            RestoreError::File { source, .. } if source.kind() == io::ErrorKind::InvalidData => broken(source),
            other => other,
        })?;
        if digest != listed.sha256 {
            return Err(damaged(format!(
                "`{}` isn't what was backed up: its digest is another",
                listed.name
            )));
        }
    }
    if archive::next(&mut from).map_err(broken)?.is_some() {
        return Err(damaged("it has more than the manifest lists".into()));
    }
    Ok(manifest)
}

fn is_ours(name: &str) -> bool {
    match name.split_once('/') {
        None => name == JOURNAL || name == HOST_KEY,
        Some((folder, file)) => folder == AUTHORITY && !file.contains('/'),
    }
}

/// Returns the digest of what was written.
fn unpack_one(from: &mut impl Read, entry: &archive::Entry, into: &Path) -> Result<String, RestoreError> {
    let path = into.join(&entry.name);
    if let Some(folder) = path.parent().filter(|folder| *folder != into) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut out = Digesting {
        file: made.map_err(failed(&path))?,
        digest: Sha256::new(),
    };
    archive::take(from, entry, &mut out).map_err(failed(&path))?;
    out.file.sync_all().map_err(failed(&path))?;
    Ok(out.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Digesting {
    file: File,
    digest: Sha256,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens what was unpacked as a control plane would, and audits it. Returns the journal's last row.
async fn check(backup: &Path, unpacked: &Path, manifest: Manifest) -> Result<(Manifest, u64), RestoreError> {
    let damaged = |what: String| RestoreError::Damaged {
        path: backup.to_owned(),
        what,
    };
    let store = Store::open(unpacked, "restore").map_err(|error| damaged(error.to_string()))?;
    let audited = store.audit(vec![manifest.head.clone()]).await;
    let rows = store.last_seq();
    store.close().await;
    let audit = audited.map_err(|error| damaged(error.to_string()))?;
    // A host that lost its key once has heads of a stranger for as long as it keeps them; the last one must be its own.
    let of_a_lost_key = |finding: &&Finding| match finding {
        Finding::Head { seq, why } => *why == BadSeal::Stranger && audit.key == manifest.head.key && *seq < rows,
        _ => false,
    };
    if let Some(finding) = audit.findings.iter().find(|finding| !of_a_lost_key(finding)) {
        return Err(damaged(finding.to_string()));
    }
    // It was the store's own lock; the state folder has one.
    let lock = unpacked.join("lock");
    fs::remove_file(&lock).map_err(failed(&lock))?;
    sync(unpacked)?;
    Ok((manifest, rows))
}

/// Moves what is there into a folder of its own.
fn put_aside(state_dir: &Path, now_ms: u64) -> Result<Option<PathBuf>, RestoreError> {
    let there: Vec<&str> = REPLACED
        .into_iter()
        .filter(|name| state_dir.join(name).exists())
        .collect();
    if there.is_empty() {
        return Ok(None);
    }
    let aside = state_dir.join(format!("replaced-{now_ms}"));
    DirBuilder::new().mode(0o700).create(&aside).map_err(failed(&aside))?;
    for name in there {
        fs::rename(state_dir.join(name), aside.join(name)).map_err(failed(&aside))?;
    }
    sync(&aside)?;
    sync(state_dir)?;
    Ok(Some(aside))
}

fn put_in_place(ready: &Path, state_dir: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(ready).map_err(failed(ready))? {
        let name = entry.map_err(failed(ready))?.file_name();
        fs::rename(ready.join(&name), state_dir.join(&name)).map_err(failed(state_dir))?;
    }
    sync(state_dir)?;
    fs::remove_dir(ready).map_err(failed(ready))?;
    sync(state_dir)
}
