//! Reading a file that may be anything: only regular ones, never more than a limit, never waiting for a writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

use crate::SourceError;

/// The whole of a file of `max` bytes at most. Symlinks are followed: the person may well have made them.
pub(crate) fn read(doing: &'static str, path: &Path, max: u64) -> Result<Vec<u8>, SourceError> {
    read_opened(doing, path, open(doing, path)?, max)
}

/// Opens a regular file, and waits for nobody.
pub(crate) fn open(doing: &'static str, path: &Path) -> Result<File, SourceError> {
    let io = |source| SourceError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    // Opening a device may already do something, so it isn't opened to find that out.
    let found = std::fs::metadata(path).map_err(io)?;
    regular(path, FileType::from_raw_mode(found.mode()))?;
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(io)
}

/// The rest of a file that was opened without waiting.
pub(crate) fn read_opened(doing: &'static str, path: &Path, file: File, max: u64) -> Result<Vec<u8>, SourceError> {
    let io = |source| SourceError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    let found = file.metadata().map_err(io)?;
    regular(path, FileType::from_raw_mode(found.mode()))?;
    let too_large = |len| SourceError::TooLarge {
        what: path.display().to_string(),
        len,
        max,
    };
    if found.len() > max {
        return Err(too_large(found.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
    // It may have grown.
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Refuses what isn't a regular file.
pub(crate) fn regular(path: &Path, found: FileType) -> Result<(), SourceError> {
    let kind = match found {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a folder",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::Symlink => "a symlink",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "something else",
    };
    Err(SourceError::NotAFile {
        path: path.to_owned(),
        kind,
    })
}

/// The same for what may be missing.
pub(crate) fn read_if_there(doing: &'static str, path: &Path, max: u64) -> Result<Option<Vec<u8>>, SourceError> {
    match read(doing, path, max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads files where waiting for a disk holds nobody up.
pub(crate) async fn aside<T: Send + 'static>(
    path: PathBuf,
    read: impl FnOnce(&Path) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let about = path.clone();
    match tokio::task::spawn_blocking(move || read(&path)).await {
        Ok(read) => read,
        Err(error) => Err(SourceError::Io {
            doing: "reading",
            path: about,
            source: io::Error::other(error),
        }),
    }
}
