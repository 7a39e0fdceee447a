//! Files inside the container, on paths that the agent may have shaped.
//!
//! The kernel resolves them (openat2) below the root and through no magic link, so no symlink leads into another
//! process's descriptors. What isn't a plain file, or lies in a file system of the kernel's own, is refused. A write
//! is a new file under a name of ours, renamed: a reader sees the old or the new content, and a symlink at the end is
//! replaced, never followed. Nothing else but a plain file is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// Most bytes of one file, so that it fits into a gRPC message.
pub const MAX_FILE: usize = clawker_wire::MAX_MESSAGE - 64 * 1024;
const MAX_PATH: usize = 4096;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
pub(crate) const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// proc, sysfs, cgroup, cgroup2, securityfs, debugfs, tracefs, bpf (include/uapi/linux/magic.h).
const KERNELS_OWN: [i64; 8] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
];

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("`{0}` is not an absolute path without `..`")]
    Path(String),
    #[error("{path}: {len} bytes, the limit is {max}")]
    TooLarge { path: String, len: u64, max: u64 },
    #[error("{0} is not a plain file")]
    NotPlain(String),
    #[error("{0} is the kernel's own")]
    Kernels(String),
    #[error("mode {0:o} is more than 777")]
    Mode(u32),
    #[error("{what} {path}: {source}")]
    Io {
        what: &'static str,
        path: String,
        source: io::Error,
    },
}

impl FileError {
    /// As in `Failed.code`.
    pub fn code(&self) -> &'static str {
        match self {
            FileError::Path(_) | FileError::Mode(_) => "bad_request",
            FileError::TooLarge { .. } => "too_large",
            FileError::NotPlain(_) | FileError::Kernels(_) => "refused",
            FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => "not_found",
            FileError::Io { .. } => "io",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    IfAbsent,
    IfChanged,
}

/// A file to be written.
pub struct NewFile<'a> {
    pub path: &'a str,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub when: When,
    pub content: &'a [u8],
}

/// The container's root.
pub fn root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// `~/` stands for `home`.
pub fn at_home(path: &str, home: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("{}/{rest}", home.trim_end_matches('/')),
        None => path.to_owned(),
    }
}

/// Writes it below `root`, with its parents, which are the file's owner's; whether anything had to be written. With
/// a `/` at its end it is a folder.
pub fn write(root: &OwnedFd, file: &NewFile<'_>) -> Result<bool, FileError> {
    let failed = |what: &'static str| {
        let path = file.path.to_owned();
        move |source: io::Error| FileError::Io { what, path, source }
    };
    let folder = file.path.ends_with('/');
    let parts = parts(file.path.strip_suffix('/').unwrap_or(file.path))?;
    let Some((name, parents)) = parts.split_last() else {
        return Err(FileError::Path(shown(file.path)));
    };
    if folder && !file.content.is_empty() {
        return Err(FileError::Path(shown(file.path)));
    }
    check_size(file.path, file.content.len() as u64, MAX_FILE as u64)?;
    if file.mode > 0o777 {
        return Err(FileError::Mode(file.mode));
    }
    let made = Made {
        // Who keeps a file to its owner doesn't show what else lies beside it.
        mode: if file.mode & 0o077 == 0 { 0o700 } else { 0o755 },
        uid: file.uid,
        gid: file.gid,
    };
    let parent = open_directory(root, &parents.join("/"), Some(made)).map_err(failed("making the directory of"))?;
    refuse_kernels(&parent, file.path)?;
    if folder {
        return make_folder(&parent, name, file).map_err(failed("making"));
    }
    let wanted = match file.when {
        When::Always => true,
        When::IfAbsent => rustix::fs::statat(&parent, *name, AtFlags::SYMLINK_NOFOLLOW).is_err(),
        When::IfChanged => !is_same(&parent, name, file),
    };
    if wanted {
        refuse_special(&parent, name, file.path)?;
        replace(&parent, name, file).map_err(failed("writing"))?;
    }
    Ok(wanted)
}

/// All of a plain file, at most `max` bytes.
pub fn read(root: &OwnedFd, path: &str, max: usize) -> Result<Vec<u8>, FileError> {
    let failed = |source: io::Error| FileError::Io {
        what: "reading",
        path: path.to_owned(),
        source,
    };
    let relative = parts(path)?.join("/");
    // Not blocking: a FIFO must not hold us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(root, relative, flags, Mode::empty(), RESOLVE).map_err(|e| failed(e.into()))?;
    refuse_kernels(&fd, path)?;
    let file = File::from(fd);
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(FileError::NotPlain(path.to_owned()));
    }
    let max = max.min(MAX_FILE) as u64;
    check_size(path, meta.len(), max)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    // It may have grown since.
    check_size(path, bytes.len() as u64, max)?;
    Ok(bytes)
}

/// What directories are that had to be made.
#[derive(Clone, Copy)]
pub struct Made {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A directory below `root` (O_PATH), made where it is missing if `made` says how.
pub fn open_directory(root: &OwnedFd, path: &str, made: Option<Made>) -> io::Result<OwnedFd> {
    let open = |path: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(
            root,
            if path.is_empty() { "." } else { path },
            flags,
            Mode::empty(),
            RESOLVE,
        )
    };
    let made = match (open(path), made) {
        (Err(Errno::NOENT), Some(made)) => made,
        (other, _) => return Ok(other?),
    };
    let mut prefix = String::new();
    let mut here = open("")?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if !prefix.is_empty() {
            prefix.push('/');
        }
        prefix.push_str(part);
        here = match open(&prefix) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(made.mode)) {
                    Ok(()) => give(&here, part, made)?,
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                open(&prefix)?
            }
            other => other?,
        };
    }
    Ok(here)
}

/// To its owner, if it is what was just made there.
fn give(parent: &OwnedFd, name: &str, made: Made) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let (uid, gid) = (Uid::from_raw(made.uid), Gid::from_raw(made.gid));
    Ok(rustix::fs::chownat(
        directory,
        "",
        Some(uid),
        Some(gid),
        AtFlags::EMPTY_PATH,
    )?)
}

/// A folder with mode and owner; one that exists gets them unless it is to be made only if absent.
fn make_folder(parent: &OwnedFd, name: &str, file: &NewFile<'_>) -> io::Result<bool> {
    let absent = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(e) => return Err(e.into()),
    };
    // A symlink is no folder: nothing is changed where it leads.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    let same = stat.st_mode & 0o7777 == file.mode && (stat.st_uid, stat.st_gid) == (file.uid, file.gid);
    if same || (!absent && file.when == When::IfAbsent) {
        return Ok(absent);
    }
    rustix::fs::fchown(&folder, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(file.mode))?;
    Ok(true)
}

fn parts(path: &str) -> Result<Vec<&str>, FileError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let good = path.starts_with('/')
        && path.len() <= MAX_PATH
        && !path.ends_with('/')
        && !parts.is_empty()
        && !path.contains('\0')
        && !parts.contains(&"..");
    if good {
        Ok(parts)
    } else {
        Err(FileError::Path(shown(path)))
    }
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

fn check_size(path: &str, len: u64, max: u64) -> Result<(), FileError> {
    if len <= max {
        return Ok(());
    }
    Err(FileError::TooLarge {
        path: path.to_owned(),
        len,
        max,
    })
}

/// A device, FIFO, socket or folder is there for something: a file in its place would take it from whoever uses it.
fn refuse_special(parent: &OwnedFd, name: &str, path: &str) -> Result<(), FileError> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if !matches!(stat.st_mode & S_IFMT, S_IFREG | S_IFLNK) => Err(FileError::NotPlain(path.to_owned())),
        _ => Ok(()),
    }
}

fn refuse_kernels(fd: &OwnedFd, path: &str) -> Result<(), FileError> {
    #[allow(
        clippy::unnecessary_cast,
        clippy::allow_attributes,
        reason = "the type of f_type depends on the target"
    )]
    let own = rustix::fs::fstatfs(fd).is_ok_and(|stat| KERNELS_OWN.contains(&(stat.f_type as i64)));
    if own {
        Err(FileError::Kernels(path.to_owned()))
    } else {
        Ok(())
    }
}

fn is_same(parent: &OwnedFd, name: &str, file: &NewFile<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(parent, name, flags, Mode::empty()) else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(&fd) else { return false };
    let same = stat.st_mode & S_IFMT == S_IFREG
        && stat.st_mode & 0o7777 == file.mode
        && (stat.st_uid, stat.st_gid) == (file.uid, file.gid)
        && u64::try_from(stat.st_size) == Ok(file.content.len() as u64);
    let mut content = Vec::new();
    same && File::from(fd).take(MAX_FILE as u64).read_to_end(&mut content).is_ok() && content == file.content
}

fn replace(parent: &OwnedFd, name: &str, file: &NewFile<'_>) -> io::Result<()> {
    let mut random = [0u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let temporary = format!(".clawker-{:016x}", u64::from_le_bytes(random));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, &temporary, flags, Mode::from_raw_mode(0o600))?;
    let finish = || -> io::Result<()> {
        File::from(fd.as_fd().try_clone_to_owned()?).write_all(file.content)?;
        rustix::fs::fchown(&fd, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(file.mode))?;
        rustix::fs::renameat(parent, &temporary, parent, name)?;
        Ok(())
    };
    finish().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(parent, &temporary, AtFlags::empty());
    })
}

#[cfg(test)]
#[path = "confined_tests.rs"]
mod tests;
