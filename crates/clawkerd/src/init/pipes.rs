//! What an exec is connected to: pipes, or a terminal of its own.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, openpt, unlockpt};

use super::exec::Pipes;
use super::spawn::Stdio;

/// `TIOCGPTPEER` (include/uapi/asm-generic/ioctls.h): the other end, without a path that somebody could replace.
const TIOCGPTPEER: libc::c_ulong = 0x5441;

/// The child's ends and ours; ours don't block. Without `stdin` the child reads `/dev/null`.
pub fn pipes(stdin: bool) -> io::Result<(Stdio, Pipes)> {
    let ours = |fd: OwnedFd| -> io::Result<OwnedFd> {
        ioctl_fionbio(&fd, true)?;
        Ok(fd)
    };
    let (stdin, sink) = if stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        (read, Some(ours(write)?))
    } else {
        (OwnedFd::from(std::fs::File::open("/dev/null")?), None)
    };
    let (out_read, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (err_read, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let pipes = Pipes {
        stdin: sink,
        stdout: Some(ours(out_read)?),
        stderr: Some(ours(err_read)?),
        terminal: None,
    };
    Ok((Stdio::Given { stdin, stdout, stderr }, pipes))
}

/// A terminal of this many rows and columns.
pub fn terminal((rows, cols): (u16, u16)) -> io::Result<(Stdio, Pipes)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    // SAFETY: the argument is a number; on success the kernel gives a new descriptor that nobody else owns.
    let slave = unsafe {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let raw = libc::ioctl(master.as_raw_fd(), TIOCGPTPEER, flags);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    ioctl_fionbio(&master, true)?;
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&master, size)?;
    let pipes = Pipes {
        stdin: Some(master.try_clone()?),
        stdout: Some(master.try_clone()?),
        stderr: None,
        terminal: Some(master),
    };
    Ok((Stdio::Terminal(slave), pipes))
}
