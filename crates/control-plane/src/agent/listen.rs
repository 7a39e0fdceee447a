//! Run folders: where an agent's two sockets are.
//!
//! The folder is the control plane's alone (root, 0755, mounted read-only into the container), so nothing below
//! it can be replaced by an agent. Sockets are bound through `/proc/self/fd/<dirfd>/…`, because a path under a
//! long state directory doesn't fit `sun_path` (108 bytes, unix(7)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clawker_model::RunId;
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;

use super::AgentError;
use crate::core::random_word;

/// Where an agent finds its run folder.
pub const IN_CONTAINER: &str = "/.clawker-run";

/// A run folder that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    pub id: RunId,
    pub path: PathBuf,
}

/// An agent's sockets.
#[derive(Debug)]
pub struct Listeners {
    pub session: UnixListener,
    pub agent: UnixListener,
    /// Keeps `/proc/self/fd/<dirfd>` what it was while the sockets live.
    _dir: OwnedFd,
}

/// Makes a new run folder below `root`.
pub fn make(root: &Path) -> Result<RunDir, AgentError> {
    let word = random_word(22).map_err(|error| AgentError::RunDir {
        path: root.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    let id = RunId::parse(&word).map_err(|error| AgentError::RunDir {
        path: root.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    let path = root.join(id.as_str());
    ensure(&path)?;
    Ok(RunDir { id, path })
}

/// Makes the folder `path` unless it is there. It keeps its name for ever: a container's mount refers to it.
pub fn ensure(path: &Path) -> Result<(), AgentError> {
    let fail = |source| AgentError::RunDir {
        path: path.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(fail)
}

/// Listens in the run folder `path`. Sockets of an earlier life of the control plane give way.
pub fn listen(path: &Path) -> Result<Listeners, AgentError> {
    let fail = |source: io::Error| AgentError::Listen {
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
    let bind = |name: &str| -> io::Result<UnixListener> {
        match rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        // Only the container's root may connect, which PID 1 is; who it really was is attested at accept.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let session = bind("session.sock").map_err(fail)?;
    let agent = bind("agent.sock").map_err(fail)?;
    Ok(Listeners {
        session,
        agent,
        _dir: dir,
    })
}

/// Removes a run folder that no container refers to any more.
pub fn discard(root: &Path, id: &RunId) -> io::Result<()> {
    match std::fs::remove_dir_all(root.join(id.as_str())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_work_below_any_path_and_give_way_to_the_next_life() {
        let root = tempfile::tempdir().expect("folder");
        let deep = root.path().join("x".repeat(120));
        let run = make(&deep).expect("made");
        for _life in 0..2 {
            let listeners = listen(&run.path).expect("listening");
            let dir = std::fs::File::open(&run.path).expect("folder");
            let path = format!("/proc/self/fd/{}/session.sock", dir.as_raw_fd());
            let (client, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), listeners.session.accept());
            assert!(client.is_ok() && accepted.is_ok());
        }
        discard(&deep, &run.id).expect("gone");
        discard(&deep, &run.id).expect("gone already");
        assert!(!run.path.exists());
    }

    #[tokio::test]
    async fn a_run_folder_that_is_a_symlink_is_refused() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("real")).expect("dir");
        std::os::unix::fs::symlink(root.path().join("real"), root.path().join("link")).expect("link");
        assert!(listen(&root.path().join("link")).is_err());
    }
}
