//! Descriptors over a unix socket, as SCM_RIGHTS of one message.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors in one message (`SCM_MAX_FD` is 253).
pub const MAX_FDS: usize = 16;

/// Room for MAX_FDS descriptors and the header, in units of the header's alignment.
type Control = [u64; 12];

/// Sends `bytes` with `fds`. On a stream socket `bytes` must not be empty when there are descriptors.
/// A full socket that doesn't block is `WouldBlock`; nothing is sent then.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(invalid(format!(
            "{} descriptors in one message, the limit is {MAX_FDS}",
            fds.len()
        )));
    }
    let mut control: Control = [0; 12];
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let len = size_of_val(fds) / size_of::<BorrowedFd<'_>>() * size_of::<RawFd>();
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: these macros only compute; MAX_FDS descriptors fit into `control` (16 + 64 = 80 of 96 bytes), the
        // first header exists because msg_controllen covers it, and CMSG_DATA points at `len` bytes inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(len as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len as u32) as _;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, fd) in fds.iter().enumerate() {
                data.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    let sent = retry(|| {
        // SAFETY: `message` points at `iov` and `control`, both alive here.
        unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
    })?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("{sent} of {} bytes were sent", bytes.len()),
        ))
    }
}

/// Receives one message, or what a stream has; every descriptor is close-on-exec. (0, none) is the end.
/// More than `max_fds` descriptors, or a datagram larger than `buf`, is an error; what came is closed.
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8], max_fds: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
    if max_fds > MAX_FDS {
        return Err(invalid(format!(
            "room for {max_fds} descriptors, the limit is {MAX_FDS}"
        )));
    }
    let mut control: Control = [0; 12];
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // CMSG_LEN, not CMSG_SPACE: the padding would be room for one descriptor too many.
    // SAFETY: the macro only computes.
    message.msg_controllen = unsafe { libc::CMSG_LEN((max_fds * size_of::<RawFd>()) as u32) } as _;
    let received = retry(|| {
        // SAFETY: `message` points at `iov` and `control`, both alive here.
        unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) }
    })?;
    // Owned first, so that an error below closes them.
    let fds = take_fds(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(invalid("control data was truncated".to_owned()));
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(invalid(format!("message of more than {} bytes", buf.len())));
    }
    Ok((received, fds))
}

fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote well-formed headers into the msg_controllen bytes of msg_control; each SCM_RIGHTS
    // carries (cmsg_len - header) / 4 new descriptors that nobody else owns.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let result = call();
        if let Ok(n) = usize::try_from(result) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn open_fds() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("proc").count()
    }

    #[test]
    fn a_descriptor_arrives_with_its_message_and_is_closed_on_exec() {
        let (a, b) = UnixStream::pair().expect("pair");
        let (mut read, write) = std::io::pipe().expect("pipe");
        send(a.as_fd(), b"one", &[write.as_fd()]).expect("sent");
        drop(write);
        let mut buf = [0; 16];
        let (n, mut fds) = recv(b.as_fd(), &mut buf, 1).expect("received");
        assert_eq!(&buf[..n], b"one");
        assert_eq!(fds.len(), 1);
        let fd = fds.remove(0);
        // SAFETY: no pointer is passed.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        File::from(fd).write_all(b"x").expect("it is the pipe");
        let mut got = [0];
        read.read_exact(&mut got).expect("the byte came");
    }

    #[test]
    fn more_descriptors_than_expected_is_an_error_and_leaks_none() {
        let (a, b) = UnixStream::pair().expect("pair");
        let null = File::open("/dev/null").expect("null");
        for (sent, room) in [(2, 1), (3, 2), (1, 0), (MAX_FDS, 3)] {
            let before = open_fds();
            send(a.as_fd(), b"x", &vec![null.as_fd(); sent]).expect("sent");
            let mut buf = [0; 16];
            let error = recv(b.as_fd(), &mut buf, room).expect_err("too many");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{sent} into {room}");
            assert_eq!(open_fds(), before, "{sent} into {room} leaked");
        }
        send(a.as_fd(), b"x", &[null.as_fd(); MAX_FDS]).expect("sent");
        assert_eq!(recv(b.as_fd(), &mut [0; 4], MAX_FDS).expect("all").1.len(), MAX_FDS);
    }

    #[test]
    fn more_than_the_cap_is_refused_at_both_ends() {
        let (a, b) = UnixStream::pair().expect("pair");
        let null = File::open("/dev/null").expect("null");
        assert!(send(a.as_fd(), b"x", &[null.as_fd(); MAX_FDS + 1]).is_err());
        assert!(recv(b.as_fd(), &mut [0; 4], MAX_FDS + 1).is_err());
    }

    #[test]
    fn the_end_is_zero_bytes() {
        let (a, b) = UnixStream::pair().expect("pair");
        drop(a);
        assert_eq!(recv(b.as_fd(), &mut [0; 4], 1).expect("end").0, 0);
    }
}
