//! Making a backup of a control plane that runs.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clawker_store::{SignedHead, Store};
use sha2::{Digest as _, Sha256};

use super::{AUTHORITY, FORMAT, HOST_KEY, JOURNAL, Listed, MANIFEST, Manifest, archive};

/// The copy of the journal stands here until it is in the archive.
const WORK: &str = "backup.tmp";

/// The authority's folder is small: keys and certificates.
const MAX_KEYS: usize = 64;
const MAX_KEY_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("{0}")]
    Store(#[from] clawker_store::Error),
    #[error("making a backup: {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("making a backup: {} is larger or holds more than a backup takes", path.display())]
    TooMuch { path: PathBuf },
}

/// What goes into a backup, as of one moment. The copy of the journal goes with it.
#[derive(Debug)]
pub struct Files {
    manifest: Manifest,
    files: Vec<(Listed, File)>,
    work: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        // What stays is removed by the next backup.
        let _ = fs::remove_dir_all(&self.work);
    }
}

impl Files {
    /// Copies the journal and opens the rest. One at a time: who calls it owns that.
    pub async fn collect(store: &Store, state_dir: &Path, now_ms: u64) -> Result<Self, MakeError> {
        let work = state_dir.join(WORK);
        let file = |path: &Path, source| MakeError::File {
            path: path.to_owned(),
            source,
        };
        match fs::remove_dir_all(&work) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file(&work, e)),
            _ => {}
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&work)
            .map_err(|e| file(&work, e))?;
        let copy = work.join(JOURNAL);
        let collected = match store.backup(&copy).await {
            Ok(head) => {
                let (state_dir, copy) = (state_dir.to_owned(), copy.clone());
                let listing = move || list(&state_dir, &copy);
                match tokio::task::spawn_blocking(listing).await {
                    Ok(files) => files.map(|files| (head, files)),
                    Err(_) => Err(MakeError::Store(clawker_store::Error::Closed)),
                }
            }
            Err(e) => Err(e.into()),
        };
        match collected {
            Ok((head, files)) => Ok(Self {
                manifest: manifest(head, &files, now_ms),
                files,
                work,
            }),
            Err(e) => {
                let _ = fs::remove_dir_all(&work);
                Err(e)
            }
        }
    }
}

#[cfg(test)]
impl Files {
    /// With another's host key, listed as if it were its own.
    pub fn swap_key(&mut self, mut other: Self) {
        self.files[1] = other.files.remove(1);
        self.manifest.files[1] = other.manifest.files[1].clone();
    }
}

fn manifest(head: SignedHead, files: &[(Listed, File)], made_ms: u64) -> Manifest {
    Manifest {
        format: FORMAT.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        made_ms,
        head,
        files: files.iter().map(|(listed, _)| listed.clone()).collect(),
    }
}

fn list(state_dir: &Path, journal: &Path) -> Result<Vec<(Listed, File)>, MakeError> {
    let mut files = vec![listed(JOURNAL.into(), journal, archive::MAX_FILE)?];
    files.push(listed(HOST_KEY.into(), &state_dir.join(HOST_KEY), MAX_KEY_BYTES)?);
    let authority = state_dir.join(AUTHORITY);
    let failed = |source| MakeError::File {
        path: authority.clone(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&authority).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = format!("{AUTHORITY}/{}", entry.file_name().to_string_lossy());
        // Not what is being written at this moment under another name.
        if entry.file_type().map_err(failed)?.is_file() && archive::is_plain(&name) {
            names.push((name, entry.path()));
        }
    }
    if names.len() > MAX_KEYS {
        return Err(MakeError::TooMuch { path: authority });
    }
    names.sort();
    for (name, path) in names {
        files.push(listed(name, &path, MAX_KEY_BYTES)?);
    }
    Ok(files)
}

fn listed(name: String, path: &Path, most: u64) -> Result<(Listed, File), MakeError> {
    let failed = |source| MakeError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = Sha256::new();
    let bytes = io::copy(&mut (&mut file).take(most + 1), &mut digest).map_err(failed)?;
    if bytes > most {
        return Err(MakeError::TooMuch { path: path.to_owned() });
    }
    file.rewind().map_err(failed)?;
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((Listed { name, bytes, sha256 }, file))
}

/// Writes the archive. Blocks.
pub fn write(files: &mut Files, out: &mut impl Write) -> io::Result<()> {
    let manifest = serde_json::to_vec_pretty(&files.manifest).map_err(io::Error::other)?;
    archive::put(out, MANIFEST, manifest.len() as u64, &mut &manifest[..])?;
    for (listed, file) in &mut files.files {
        archive::put(out, &listed.name, listed.bytes, file)?;
    }
    archive::end(out)
}
