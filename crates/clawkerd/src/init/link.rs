//! The connection to the control plane: dialled, greeted with the preamble, handed over, dialled again.
//!
//! ```text
//!  Waiting --connect--> Greeting --answer--> (Established) --> HandedOver
//!     ^                    |                                      |
//!     +---- refused, cut, 35 s over ----<------ session lost -----+
//! ```
//! After a loss the next try is within 250 ms, for 10 s; then with backoff to 5 s. Never blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clawker_proc::fdpass;
use clawker_wire::preamble::{self, ClientPreamble, Descriptor, PreambleError, ServerPreamble, WIRE};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::later;

/// The control plane may take 30 s to find out whom it is talking to.
const GREETING_DEADLINE: Duration = Duration::from_secs(35);
const EAGER: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Most descriptors of a preamble's answer.
const MAX_FDS: usize = 4;
/// Bytes of the length in front of a preamble.
const PREFIX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("connecting to {path}: {source}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("the control plane's preamble: {0}")]
    Preamble(#[from] PreambleError),
    #[error("the control plane speaks preamble {0}, this is {WIRE}")]
    Wire(u32),
    #[error("the preamble announces {announced} descriptors, {received} came")]
    Descriptors { announced: usize, received: usize },
    #[error("the control plane closed the connection before its preamble")]
    Closed,
    #[error("no preamble came within {} s", GREETING_DEADLINE.as_secs())]
    TimedOut,
    #[error("talking to the control plane: {0}")]
    Io(#[from] io::Error),
}

/// A connection whose peer has attested us and answered.
#[derive(Debug)]
pub struct Established {
    pub socket: OwnedFd,
    pub preamble: ServerPreamble,
    pub descriptors: Vec<(Descriptor, OwnedFd)>,
}

#[derive(Debug)]
pub struct Link {
    path: PathBuf,
    state: State,
    lost_at: Instant,
    backoff: Duration,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Greeting(Greeting),
    HandedOver,
}

#[derive(Debug)]
struct Greeting {
    socket: OwnedFd,
    output: Vec<u8>,
    input: Vec<u8>,
    /// Bytes that `input` needs before it can be looked at again.
    need: usize,
    fds: Vec<OwnedFd>,
    deadline: Instant,
}

impl Link {
    pub fn new(path: PathBuf, now: Instant) -> Self {
        Self {
            path,
            state: State::Waiting { until: now },
            lost_at: now,
            backoff: FIRST_BACKOFF,
        }
    }

    pub fn is_handed_over(&self) -> bool {
        matches!(self.state, State::HandedOver)
    }

    /// Dials again although the session still is: the next connection takes its place.
    pub fn anew(&mut self, now: Instant) {
        self.state = State::Waiting { until: now };
        self.lost_at = now;
        self.backoff = FIRST_BACKOFF;
    }

    /// The connection is gone, or was of no use; the next one is dialled after the delay.
    pub fn lost(&mut self, now: Instant) {
        if self.is_handed_over() {
            self.lost_at = now;
            self.backoff = FIRST_BACKOFF;
        }
        let delay = if now.saturating_duration_since(self.lost_at) < EAGER {
            FIRST_BACKOFF
        } else {
            self.backoff = self.backoff.saturating_mul(2).min(MAX_BACKOFF);
            self.backoff
        };
        self.state = State::Waiting {
            until: later(now, uniform(delay)),
        };
    }

    /// What to poll for.
    pub fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let State::Greeting(greeting) = &self.state else {
            return None;
        };
        let mut flags = PollFlags::IN;
        if !greeting.output.is_empty() {
            flags |= PollFlags::OUT;
        }
        Some((greeting.socket.as_fd(), flags))
    }

    /// When [`Self::advance`] has something to do even if the socket hasn't.
    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Greeting(greeting) => Some(greeting.deadline),
            State::HandedOver => None,
        }
    }

    /// Goes on as far as it can without waiting. An error is of this one attempt; the next is already planned.
    pub fn advance(&mut self, now: Instant, hello: &ClientPreamble) -> Result<Option<Established>, LinkError> {
        match self.try_advance(now, hello) {
            Ok(Some(established)) => {
                self.state = State::HandedOver;
                Ok(Some(established))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.lost(now);
                Err(error)
            }
        }
    }

    fn try_advance(&mut self, now: Instant, hello: &ClientPreamble) -> Result<Option<Established>, LinkError> {
        if let State::Waiting { until } = &self.state {
            if now < *until {
                return Ok(None);
            }
            self.state = State::Greeting(Greeting {
                socket: dial(&self.path)?,
                output: preamble::encode_framed("preamble", hello)?,
                input: Vec::new(),
                need: PREFIX,
                fds: Vec::new(),
                deadline: later(now, GREETING_DEADLINE),
            });
        }
        let State::Greeting(greeting) = &mut self.state else {
            return Ok(None);
        };
        if now >= greeting.deadline {
            return Err(LinkError::TimedOut);
        }
        greeting.write()?;
        let Some(preamble) = greeting.read()? else {
            return Ok(None);
        };
        // Only now: the state that is left behind is replaced by the caller.
        let State::Greeting(greeting) = std::mem::replace(&mut self.state, State::HandedOver) else {
            return Ok(None);
        };
        greeting.finish(preamble).map(Some)
    }
}

impl Greeting {
    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match rustix::net::send(&self.socket, &self.output, rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.output.drain(..n.min(self.output.len()));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Never reads a byte beyond the preamble: what follows is TLS, and the session half's.
    fn read(&mut self) -> Result<Option<ServerPreamble>, LinkError> {
        loop {
            while self.input.len() < self.need {
                let mut buf = vec![0; self.need.saturating_sub(self.input.len())];
                match fdpass::recv(self.socket.as_fd(), &mut buf, MAX_FDS) {
                    Ok((0, _)) => return Err(LinkError::Closed),
                    Ok((n, fds)) => {
                        self.input.extend_from_slice(buf.get(..n).unwrap_or_default());
                        self.fds.extend(fds);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(e) => return Err(e.into()),
                }
                if self.fds.len() > MAX_FDS {
                    return Err(LinkError::Descriptors {
                        announced: MAX_FDS,
                        received: self.fds.len(),
                    });
                }
            }
            let Some((prefix, body)) = self.input.split_first_chunk::<PREFIX>() else {
                self.need = PREFIX;
                continue;
            };
            let announced = preamble::body_len("preamble", *prefix)?;
            if body.len() == announced {
                return Ok(Some(preamble::decode("preamble", body)?));
            }
            self.need = announced.saturating_add(PREFIX);
        }
    }

    fn finish(self, preamble: ServerPreamble) -> Result<Established, LinkError> {
        if preamble.wire != WIRE {
            return Err(LinkError::Wire(preamble.wire));
        }
        if preamble.descriptors.len() != self.fds.len() {
            return Err(LinkError::Descriptors {
                announced: preamble.descriptors.len(),
                received: self.fds.len(),
            });
        }
        let descriptors = preamble.descriptors.iter().copied().zip(self.fds).collect();
        Ok(Established {
            socket: self.socket,
            preamble,
            descriptors,
        })
    }
}

/// Connects without waiting: on a unix socket it succeeds or fails at once.
pub fn dial(path: &Path) -> Result<OwnedFd, LinkError> {
    let connect = || -> rustix::io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    };
    connect().map_err(|source| LinkError::Connect {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// From zero to `max`, so that many agents don't come back in the same instant.
fn uniform(max: Duration) -> Duration {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let share = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    max.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawker_wire::preamble::encode_framed;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    fn hello() -> ClientPreamble {
        ClientPreamble {
            wire: WIRE,
            held_generation: 0,
            root_ids: Vec::new(),
        }
    }

    fn answer(descriptors: Vec<Descriptor>) -> Vec<u8> {
        encode_framed(
            "preamble",
            &ServerPreamble {
                wire: WIRE,
                start: 1,
                generation: 1,
                descriptors,
            },
        )
        .expect("small")
    }

    fn listening() -> (tempfile::TempDir, UnixListener, Link) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("session.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        (dir, listener, Link::new(path, Instant::now()))
    }

    #[test]
    fn the_answer_may_come_in_any_pieces_and_what_follows_is_left_alone() {
        let (_dir, listener, mut link) = listening();
        let now = Instant::now();
        assert!(link.advance(now, &hello()).expect("dialled").is_none());
        let (mut peer, _) = listener.accept().expect("accepted");
        let null = std::fs::File::open("/dev/null").expect("null");
        let bytes = answer(vec![Descriptor::Freeze]);
        fdpass::send(peer.as_fd(), &bytes[..3], &[null.as_fd()]).expect("sent");
        assert!(link.advance(now, &hello()).expect("going on").is_none());
        peer.write_all(&bytes[3..]).expect("sent");
        peer.write_all(b"TLS").expect("sent");
        let mut established = link.advance(now, &hello()).expect("answered").expect("whole");
        assert_eq!(established.preamble.start, 1);
        assert_eq!(established.descriptors[0].0, Descriptor::Freeze);
        assert!(link.is_handed_over());
        let mut rest = [0; 3];
        std::fs::File::from(std::mem::replace(&mut established.socket, null.into()))
            .read_exact(&mut rest)
            .expect("still there");
        assert_eq!(&rest, b"TLS");
    }

    #[test]
    fn a_bad_answer_ends_the_attempt_and_another_follows() {
        let wrong_wire = encode_framed(
            "preamble",
            &ServerPreamble {
                wire: WIRE + 1,
                start: 1,
                generation: 1,
                descriptors: Vec::new(),
            },
        )
        .expect("small");
        for bytes in [
            answer(vec![Descriptor::Bundle]),
            u32::MAX.to_be_bytes().to_vec(),
            vec![0, 0, 0, 2, 255, 255],
            wrong_wire,
            Vec::new(),
        ] {
            let (_dir, listener, mut link) = listening();
            let now = Instant::now();
            assert!(link.advance(now, &hello()).expect("dialled").is_none());
            let (mut peer, _) = listener.accept().expect("accepted");
            peer.write_all(&bytes).expect("sent");
            drop(peer);
            assert!(link.advance(now, &hello()).is_err(), "{bytes:?} was accepted");
            let due = link.due().expect("planned");
            assert!(due <= now + FIRST_BACKOFF);
            link.advance(due, &hello()).expect("dialled again");
        }
    }

    #[test]
    fn without_an_answer_it_gives_up_and_without_a_listener_it_backs_off() {
        let (dir, listener, mut link) = listening();
        let mut now = Instant::now();
        link.advance(now, &hello()).expect("dialled");
        now += GREETING_DEADLINE;
        assert!(matches!(link.advance(now, &hello()), Err(LinkError::TimedOut)));
        drop((listener, dir));
        for _ in 0..20 {
            now = link.due().expect("planned");
            assert!(matches!(link.advance(now, &hello()), Err(LinkError::Connect { .. })));
        }
        assert_eq!(link.backoff, MAX_BACKOFF);
        assert!(link.due().expect("planned") <= now + MAX_BACKOFF);
    }
}
