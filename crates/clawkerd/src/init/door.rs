//! The way in for a control plane elsewhere: the join file is awaited, then PID 1 listens and the control plane dials.
//!
//! ```text
//!  Awaiting --the file is whole: read, unlinked--> Open --accepted: our preamble goes out--> (Established)
//! ```
//! Whoever else connects fails in the session half's handshake, and costs the session nothing. A container that was
//! started behind the control plane's back has no join file yet; the control plane notices and puts one.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clawker_wire::join::{Join, MAX_JOIN};
use clawker_wire::preamble::{self, PreambleError, ServerPreamble, WIRE};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use zeroize::Zeroizing;

use super::agent::{GiftError, Gifts};
use super::later;
use super::link::Established;

/// How often an absent join file is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps for us; they are taken at once.
const BACKLOG: i32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("the join file {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the join file {path} isn't a regular file of root's")]
    Foreign { path: PathBuf },
    #[error("the join file: {0}")]
    Malformed(#[from] PreambleError),
    #[error("the join file: {0}")]
    Gift(#[from] GiftError),
    #[error("listening on port {port}: {source}")]
    Listen { port: u16, source: io::Error },
}

#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    state: State,
    handed_over: bool,
}

#[derive(Debug)]
enum State {
    Awaiting { look: Instant },
    Open { listener: OwnedFd },
}

impl Door {
    /// Looks for the join file at once: nothing else may run before it is read and gone.
    pub fn new(path: PathBuf, now: Instant, gifts: &mut Gifts) -> Result<Self, DoorError> {
        let mut door = Self {
            path,
            state: State::Awaiting { look: now },
            handed_over: false,
        };
        door.join(now, gifts)?;
        Ok(door)
    }

    pub fn is_handed_over(&self) -> bool {
        self.handed_over
    }

    pub fn lost(&mut self) {
        self.handed_over = false;
    }

    pub fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Awaiting { .. } => None,
            State::Open { listener } => Some((listener.as_fd(), PollFlags::IN)),
        }
    }

    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Awaiting { look } => Some(*look),
            State::Open { .. } => None,
        }
    }

    /// Goes on as far as it can without waiting: at most one connection, that is the session half's from then on.
    pub fn advance(&mut self, now: Instant, gifts: &mut Gifts) -> Result<Option<Established>, DoorError> {
        self.join(now, gifts)?;
        let State::Open { listener } = &self.state else {
            return Ok(None);
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Whatever keeps one from being accepted, the next turn tries again.
        let Ok(socket) = rustix::net::accept_with(listener, flags) else {
            return Ok(None);
        };
        let hello = gifts.hello();
        // A new socket's buffer holds it whole; one whose peer has left is of no use to anybody.
        let greeting = preamble::encode_framed("preamble", &hello)?;
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        match rustix::net::send(&socket, &greeting, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == greeting.len() => {}
            _ => return Ok(None),
        }
        self.handed_over = true;
        Ok(Some(Established {
            socket,
            preamble: ServerPreamble {
                wire: WIRE,
                start: gifts.start,
                generation: hello.held_generation,
                descriptors: Vec::new(),
            },
            descriptors: Vec::new(),
        }))
    }

    /// To be called before anything of the user's runs: whatever came too late is nobody's.
    pub fn clear(&self) {
        if matches!(self.state, State::Open { .. }) {
            // It isn't there, as a rule.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn join(&mut self, now: Instant, gifts: &mut Gifts) -> Result<(), DoorError> {
        match &mut self.state {
            State::Awaiting { look } if now >= *look => *look = later(now, LOOK),
            _ => return Ok(()),
        }
        let Some(join) = read(&self.path)? else { return Ok(()) };
        std::fs::remove_file(&self.path).map_err(|source| DoorError::File {
            path: self.path.clone(),
            source,
        })?;
        let listener = listen(join.port).map_err(|source| DoorError::Listen {
            port: join.port,
            source,
        })?;
        gifts.join(join.start, join.bundle)?;
        self.state = State::Open { listener };
        Ok(())
    }
}

/// What the file says, once it is there and whole.
fn read(path: &Path) -> Result<Option<Join>, DoorError> {
    let fail = |source| DoorError::File {
        path: path.to_owned(),
        source,
    };
    let opened = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(DoorError::Foreign { path: path.to_owned() });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_JOIN));
    file.take(MAX_JOIN as u64).read_to_end(&mut bytes).map_err(fail)?;
    Ok(Join::decode(&bytes)?)
}

fn listen(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawker_wire::preamble::{Bundle, ClientPreamble, decode};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn file(port: u16) -> Vec<u8> {
        let bundle = Bundle {
            generation: 3,
            project: String::new(),
            agent: "a".to_owned(),
            leaf: vec![1],
            key: vec![2],
            roots: vec![vec![3]],
            join: Some("token".to_owned()),
        };
        Join::new(5, port, bundle).encode().expect("small")
    }

    /// One that nobody has right now.
    fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("address").port()
    }

    #[test]
    fn the_join_file_is_awaited_read_once_and_gone_before_anybody_is_let_in() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("join");
        let (mut gifts, now, port) = (Gifts::default(), Instant::now(), free_port());
        let mut door = Door::new(path.clone(), now, &mut gifts).expect("not there yet");
        assert!(door.poll().is_none() && !gifts.is_joined());

        let whole = file(port);
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("half of it");
        let later = now + LOOK;
        assert!(door.advance(later, &mut gifts).expect("not whole").is_none());
        assert!(path.exists(), "a file that Docker still writes stays");
        std::fs::write(&path, &whole).expect("all of it");
        let later = later + LOOK;
        assert!(door.advance(later, &mut gifts).expect("joined").is_none());
        assert!(!path.exists() && gifts.is_joined());
        assert_eq!((gifts.start, gifts.hello().held_generation), (5, 3));

        let mut peer = TcpStream::connect(("127.0.0.1", port)).expect("let in");
        let established = loop {
            if let Some(established) = door.advance(later, &mut gifts).expect("open") {
                break established;
            }
        };
        assert!(door.is_handed_over());
        let mut prefix = [0; 4];
        peer.read_exact(&mut prefix).expect("a preamble");
        let mut body = vec![0; preamble::body_len("preamble", prefix).expect("short")];
        peer.read_exact(&mut body).expect("whole");
        let hello: ClientPreamble = decode("preamble", &body).expect("good");
        assert_eq!((hello.held_generation, established.preamble.start), (3, 5));

        std::fs::write(&path, b"late").expect("late");
        door.clear();
        assert!(!path.exists(), "what came too late is nobody's");
    }

    #[test]
    fn a_join_file_that_is_a_link_or_no_join_file_is_an_error() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("join");
        let real = dir.path().join("real");
        std::fs::File::create(&real)
            .and_then(|mut f| f.write_all(&file(free_port())))
            .expect("real");
        std::os::unix::fs::symlink(&real, &path).expect("link");
        let new = |path: &Path| Door::new(path.to_owned(), Instant::now(), &mut Gifts::default());
        assert!(matches!(new(&path), Err(DoorError::File { .. })));
        std::fs::write(&real, [0, 0, 0, 2, 255, 255]).expect("nonsense");
        assert!(matches!(new(&real), Err(DoorError::Malformed(_))));
    }
}
