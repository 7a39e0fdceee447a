//! The calls themselves, made as clawkerd makes them. What would change this process is a [`Trial`].

use std::io;
use std::os::fd::AsFd;

use clawker_proc::pidfd::PidFd;
use clawker_proc::{fdpass, memfd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::trial::{Trial, start_own};
use super::{Finding, render};
use crate::confined;
use crate::init::pipes;

const MESSAGE: &[u8] = b"clawkerd doctor";

pub(super) fn own_program() -> Finding {
    finding(start_own(&["--version"]).and_then(|said| {
        if said == crate::BUILD {
            Ok("/proc/self/exe starts another of this".to_owned())
        } else {
            Err(unexpected("/proc/self/exe says", &said))
        }
    }))
}

pub(super) fn dev_null() -> Finding {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/null");
    finding(opened.map(|_| "it opens".to_owned()))
}

pub(super) fn signalfd() -> Finding {
    finding(Trial::Signals.start())
}

pub(super) fn pidfd() -> Finding {
    let tried = || {
        let own = PidFd::open(std::process::id().cast_signed())?;
        own.signal(0)?;
        if !own.is_alive()? {
            return Err(unexpected("its pidfd takes this process for", "dead"));
        }
        Ok("opened, polled, signalled".to_owned())
    };
    finding(tried())
}

pub(super) fn memfd() -> Finding {
    let tried = || {
        let sealed = memfd::sealed("clawker-doctor", MESSAGE)?;
        if memfd::read_sealed(sealed.as_fd(), MESSAGE.len())? != MESSAGE {
            return Err(unexpected("a sealed memfd holds", "other bytes"));
        }
        if rustix::io::write(&sealed, b"x").is_ok() {
            return Err(unexpected("a sealed memfd", "was written"));
        }
        memfd::sized("clawker-doctor", 4096)?;
        Ok("written, sealed, read".to_owned())
    };
    finding(tried())
}

pub(super) fn socketpair() -> Finding {
    let tried = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let passed = memfd::sealed("clawker-doctor", MESSAGE)?;
        fdpass::send(ours.as_fd(), MESSAGE, &[passed.as_fd()])?;
        let mut buffer = [0; MESSAGE.len()];
        let (n, fds) = fdpass::recv(theirs.as_fd(), &mut buffer, 1)?;
        let [fd] = fds.as_slice() else {
            return Err(unexpected("a message came with descriptors:", &fds.len().to_string()));
        };
        if buffer.get(..n) != Some(MESSAGE) || memfd::read_sealed(fd.as_fd(), MESSAGE.len())? != MESSAGE {
            return Err(unexpected("a message came as", "another"));
        }
        Ok("a message and a descriptor went through".to_owned())
    };
    finding(tried())
}

pub(super) fn undumpable() -> Finding {
    finding(Trial::Undumpable.start())
}

pub(super) fn no_new_privs() -> Finding {
    finding(Trial::NoNewPrivs.start())
}

pub(super) fn openat2() -> Finding {
    let tried = || {
        let root = confined::root()?;
        confined::open_directory(&root, "", None)?;
        // The working directory of a process, by a link that leads out of everything.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(&root, "proc/self/cwd", flags, Mode::empty(), confined::RESOLVE) {
            Err(Errno::LOOP) => Ok("below the root, and no magic link is followed".to_owned()),
            Err(Errno::NOENT) => Ok("below the root; there is no magic link to be refused".to_owned()),
            Ok(_) => Err(unexpected("a magic link", "was followed")),
            Err(error) => Err(error.into()),
        }
    };
    finding(tried())
}

pub(super) fn close_range() -> Finding {
    finding(Trial::CloseRange.start())
}

pub(super) fn upgrade() -> Finding {
    let noexec = std::fs::read_to_string("/proc/sys/vm/memfd_noexec");
    let noexec = noexec.map_or("no vm.memfd_noexec".to_owned(), |value| {
        format!("vm.memfd_noexec is {}", render::plain(value.trim()))
    });
    match Trial::Upgrade.start() {
        Ok(said) if said == crate::BUILD => Finding::ok(format!("this program ran from a memfd; {noexec}")),
        Ok(said) => Finding::missing(format!("{}; {noexec}", unexpected("from a memfd it says", &said))),
        Err(error) => Finding::missing(format!("{error}; {noexec}")),
    }
}

pub(super) fn pty() -> Finding {
    finding(pipes::terminal((24, 80)).map(|_| "opened, both ends".to_owned()))
}

pub(super) fn mark() -> Finding {
    finding(Trial::Mark.start())
}

fn finding(tried: io::Result<String>) -> Finding {
    match tried {
        Ok(found) => Finding::ok(found),
        Err(error) => Finding::missing(error),
    }
}

fn unexpected(what: &str, found: &str) -> io::Error {
    io::Error::other(format!("{what} {found}"))
}
