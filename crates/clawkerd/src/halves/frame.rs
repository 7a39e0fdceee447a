//! Frames of the internal wire: version, place of the body, postcard.
//!
//! A body that a datagram might not hold travels in a sealed memfd, the frame's first descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clawker_proc::{fdpass, memfd};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::VERSION;

/// Most bytes of a frame on the socket.
pub const MAX_INLINE: usize = 64 * 1024;
/// Most bytes of a body in a memfd: a gRPC message and what postcard makes of it.
pub const MAX_BODY: usize = 2 * clawker_wire::MAX_MESSAGE;
/// Most descriptors of a frame: two and the body's.
pub const MAX_FDS: usize = 3;

const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame of version {0}, this is version {VERSION}")]
    Version(u8),
    #[error("frame is cut off or malformed")]
    Malformed,
    #[error("frame of {len} bytes, the limit is {max}")]
    TooLong { len: usize, max: usize },
    #[error("frame's body in a memfd: {0}")]
    Body(io::Error),
    #[error("sending or receiving a frame: {0}")]
    Io(#[from] io::Error),
}

/// A frame ready to be sent, with its descriptors.
pub struct Frame {
    bytes: Zeroizing<Vec<u8>>,
    fds: Vec<OwnedFd>,
}

impl Frame {
    pub fn new<T: Serialize>(message: &T, fds: Vec<OwnedFd>) -> Result<Self, FrameError> {
        let body = Zeroizing::new(postcard::to_stdvec(message).map_err(|_| FrameError::Malformed)?);
        if body.len() > MAX_BODY {
            return Err(FrameError::TooLong {
                len: body.len(),
                max: MAX_BODY,
            });
        }
        if body.len() + 2 <= MAX_INLINE {
            let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + 2));
            bytes.extend_from_slice(&[VERSION, INLINE]);
            bytes.extend_from_slice(&body);
            return Ok(Self { bytes, fds });
        }
        let mut all = vec![memfd::sealed("clawker-frame", &body).map_err(FrameError::Body)?];
        all.extend(fds);
        Ok(Self {
            bytes: Zeroizing::new(vec![VERSION, IN_MEMFD]),
            fds: all,
        })
    }

    /// `WouldBlock` leaves the frame to be sent again.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        fdpass::send(socket, &self.bytes, &fds)
    }
}

/// The next message with its descriptors; `None` at the end.
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
    let mut buf = Zeroizing::new(vec![0; MAX_INLINE]);
    let (n, mut fds) = fdpass::recv(socket, &mut buf, MAX_FDS)?;
    if n == 0 {
        return Ok(None);
    }
    decode(&buf[..n], &mut fds).map(|message| Some((message, fds)))
}

/// A frame's message; takes the body's descriptor from `fds`.
pub fn decode<T: DeserializeOwned>(frame: &[u8], fds: &mut Vec<OwnedFd>) -> Result<T, FrameError> {
    let [version, place, body @ ..] = frame else {
        return Err(FrameError::Malformed);
    };
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    match *place {
        INLINE => whole(body),
        IN_MEMFD if body.is_empty() && !fds.is_empty() => {
            let fd = fds.remove(0);
            let body = Zeroizing::new(memfd::read_sealed(fd.as_fd(), MAX_BODY).map_err(FrameError::Body)?);
            whole(&body)
        }
        _ => Err(FrameError::Malformed),
    }
}

/// All of the bytes are the message, not only the first ones.
fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::halves::{ExecSpec, Request, Stage, ToInit};

    fn exec(env: Vec<String>) -> ToInit {
        ToInit::Request {
            id: 7,
            request: Request::Exec(Box::new(ExecSpec {
                exec_id: "abc/1".to_owned(),
                stages: vec![Stage {
                    argv: vec!["sh".to_owned(), "-c".to_owned()],
                    user: "agent".to_owned(),
                    env,
                    cwd: "/work".to_owned(),
                }],
                timeout: 5,
                lossy: false,
                stdin: true,
                tty: Some((24, 80)),
            })),
        }
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .expect("socketpair")
    }

    #[test]
    fn a_frame_round_trips_small_and_large() {
        let (a, b) = pair();
        for env in [vec!["A=1".to_owned()], vec!["x".repeat(MAX_INLINE)]] {
            let message = exec(env);
            let null = OwnedFd::from(std::fs::File::open("/dev/null").expect("null"));
            Frame::new(&message, vec![null])
                .expect("fits")
                .send(a.as_fd())
                .expect("sent");
            let (got, fds) = recv::<ToInit>(b.as_fd()).expect("received").expect("not the end");
            assert!(got == message, "another message came out");
            assert_eq!(fds.len(), 1, "the body's own descriptor is not the message's");
        }
        drop(a);
        assert!(recv::<ToInit>(b.as_fd()).expect("end").is_none());
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_refused() {
        let frame = Frame::new(&exec(vec!["A=1".to_owned()]), Vec::new()).expect("fits");
        for end in 0..frame.bytes.len() {
            assert!(
                decode::<ToInit>(&frame.bytes[..end], &mut Vec::new()).is_err(),
                "cut at {end}"
            );
        }
        let mut longer = frame.bytes.to_vec();
        longer.push(0);
        assert!(decode::<ToInit>(&longer, &mut Vec::new()).is_err(), "a byte too many");
    }

    #[test]
    fn another_version_or_place_is_refused() {
        let frame = Frame::new(&ToInit::Heartbeat, Vec::new()).expect("fits");
        let mut other = frame.bytes.to_vec();
        other[0] = VERSION + 1;
        assert!(matches!(
            decode::<ToInit>(&other, &mut Vec::new()),
            Err(FrameError::Version(v)) if v == VERSION + 1
        ));
        let mut other = frame.bytes.to_vec();
        other[1] = 2;
        assert!(decode::<ToInit>(&other, &mut Vec::new()).is_err());
        other[1] = IN_MEMFD;
        assert!(
            decode::<ToInit>(&other, &mut Vec::new()).is_err(),
            "no memfd came along"
        );
    }

    #[test]
    fn a_body_over_the_cap_is_refused() {
        let huge = exec(vec!["x".repeat(MAX_BODY)]);
        assert!(matches!(Frame::new(&huge, Vec::new()), Err(FrameError::TooLong { .. })));
    }
}
