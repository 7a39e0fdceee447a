//! `/var/run/clawker/ready`: says to processes in the container that its agent's command was spawned.
//!
//! The directories belong to the image and, after the first start, to the agent. So nothing is followed out of the
//! root or through a magic link, the file is made anew under a name of ours and renamed, and a failure only means
//! that the file is missing.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::confined;

const DIRECTORY: &str = "var/run/clawker";

/// At each start of PID 1.
pub fn remove() {
    if let Ok(dir) = directory(false) {
        let _ = rustix::fs::unlinkat(&dir, "ready", AtFlags::empty());
    }
}

pub fn write(start: u64) -> io::Result<()> {
    let dir = directory(true)?;
    let at_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    let text = format!("{{\"start\":{start},\"at_ms\":{at_ms}}}\n");
    let _ = rustix::fs::unlinkat(&dir, ".ready.new", AtFlags::empty());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, ".ready.new", flags, Mode::from_raw_mode(0o444))?;
    rustix::io::write(&file, text.as_bytes())?;
    rustix::fs::renameat(&dir, ".ready.new", &dir, "ready")?;
    Ok(())
}

fn directory(create: bool) -> io::Result<OwnedFd> {
    let ours = confined::Made {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    confined::open_directory(&confined::root()?, DIRECTORY, create.then_some(ours))
}
