//! The admin socket: where it is, who may connect, and who did.
//!
//! Mode 0660, owned by root and by the group of the folder that it stands in. Who connects is judged again by the
//! kernel's word, because a folder's mode may let more in: root, ourselves, or a member of the socket's group.
//! That group is as good as root, since who may create agents may mount the host's files into them.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use clawker_model::exit;
use clawker_proc::peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;

/// Between two tries to accept when descriptors are short.
const RETRY: Duration = Duration::from_millis(100);

/// Why operators can't be listened to.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("admin socket {}: another control plane answers there; stop it, or choose another `admin_socket`", path.display())]
    InUse { path: PathBuf },
    #[error("admin socket {}: a file that is no socket is in the way; remove it, or choose another `admin_socket`", path.display())]
    NotASocket { path: PathBuf },
    #[error("admin socket {}: {doing}: {source}", path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
}

impl AdminError {
    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        exit::CANT_CREATE
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
}

impl Peer {
    /// As the store has an agent's owner.
    pub fn owner(&self) -> String {
        format!("uid:{}", self.uid)
    }

    /// As journal and containment have it.
    pub fn operator(&self) -> String {
        format!("operator:uid:{}", self.uid)
    }
}

/// Listens, and takes its socket away when it is dropped.
pub struct AdminListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our socket: one that came later isn't ours to remove.
    identity: Option<(u64, u64)>,
    group: u32,
}

/// Makes the socket. One that nobody answers on gives way.
pub fn bind(path: &Path) -> Result<AdminListener, AdminError> {
    let fail = |doing| {
        move |source| AdminError::Io {
            path: path.to_owned(),
            doing,
            source,
        }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(fail("making its folder"))?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail("looking at it")(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(AdminError::NotASocket { path: path.to_owned() }),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(AdminError::InUse { path: path.to_owned() }),
            Err(_) => std::fs::remove_file(path).map_err(fail("removing the one left behind"))?,
        },
    }
    let listener = UnixListener::bind(path).map_err(fail("binding"))?;
    let group = std::fs::metadata(folder).map_err(fail("looking at its folder"))?.gid();
    std::os::unix::fs::chown(path, None, Some(group)).map_err(fail("giving it to its group"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail("setting its mode"))?;
    Ok(AdminListener {
        listener,
        identity: identity(path),
        path: path.to_owned(),
        group,
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path)
        .ok()
        .map(|meta| (meta.dev(), meta.ino()))
}

impl AdminListener {
    /// The next connection of somebody who may connect. Others are closed at once.
    pub async fn accept(&self) -> AdminConn {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: said, and tried again, not in a tight loop.
                    tracing::warn!(%error, socket = %self.path.display(), "accepting an operator");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            match judge(&stream, self.group) {
                Ok(Some(peer)) => return AdminConn { stream, peer },
                Ok(None) => tracing::warn!(socket = %self.path.display(), "a peer outside the group was refused"),
                Err(error) => tracing::warn!(%error, "asking the kernel who connected"),
            }
        }
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // What is left would give way to the next control plane anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn judge(stream: &UnixStream, group: u32) -> io::Result<Option<Peer>> {
    let credentials = peer::credentials(stream.as_fd())?;
    let may = credentials.uid == 0
        || credentials.uid == rustix::process::geteuid().as_raw()
        || credentials.gid == group
        || peer::groups(stream.as_fd())?.contains(&group);
    Ok(may.then_some(Peer {
        uid: credentials.uid,
        gid: credentials.gid,
    }))
}

/// A connection whose peer is known.
pub struct AdminConn {
    stream: UnixStream,
    peer: Peer,
}

impl Connected for AdminConn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for AdminConn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for AdminConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_gives_way_and_a_live_one_does_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("sub/admin.sock");
        let listener = bind(&path).expect("first");
        assert_eq!(
            std::fs::metadata(&path).expect("there").permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(bind(&path), Err(AdminError::InUse { .. })));
        drop(listener);
        assert!(!path.exists(), "the socket goes with its listener");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("stale"));
        let second = bind(&path).expect("stale gives way");
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "not ours").expect("file");
        drop(second);
        assert!(path.exists(), "what came later stays");
        assert!(matches!(bind(&path), Err(AdminError::NotASocket { .. })));
    }

    #[tokio::test]
    async fn the_kernel_says_who_connects() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("admin.sock");
        let listener = bind(&path).expect("bind");
        let (_client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        let peer = accepted.connect_info();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.operator(), format!("operator:uid:{}", peer.uid));
    }
}
