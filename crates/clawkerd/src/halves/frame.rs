//! Frames of the internal wire: version, place of the body, postcard.
//!
//! A body that a datagram might not hold travels in a sealed memfd, the frame's first descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clawker_proc::{fdpass, memfd};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::VERSION;

/// Most bytes of a frame on the socket.
pub const MAX_INLINE: usize = 64 * 1024;
/// Most bytes of a body in a memfd: a gRPC message and what postcard makes of it.
pub const MAX_BODY: usize = 2 * clawker_wire::MAX_MESSAGE;
/// Most descriptors of a frame: two and the body's.
pub const MAX_FDS: usize = 3;

/// Version and place of the body.
const HEADER: usize = 2;
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

/// A frame that is kept until it can be sent, with its descriptors.
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
        if body.len() <= MAX_INLINE - HEADER {
            let mut bytes = Zeroizing::new(Vec::with_capacity(body.len().saturating_add(HEADER)));
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

/// Sends a message without descriptors out of `scratch`, without an allocation. False if it has to be a [`Frame`]:
/// it doesn't fit, or the socket is full.
pub fn send_inline<T: Serialize>(socket: BorrowedFd<'_>, message: &T, scratch: &mut [u8]) -> io::Result<bool> {
    let Some((header, room)) = scratch.split_first_chunk_mut::<HEADER>() else {
        return Ok(false);
    };
    *header = [VERSION, INLINE];
    let Ok(body) = postcard::to_slice(message, room) else {
        return Ok(false);
    };
    let len = body.len().saturating_add(HEADER);
    match fdpass::send(socket, scratch.get(..len).unwrap_or_default(), &[]) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// A frame that came. Its bytes may hold secrets and are wiped when it is dropped.
pub struct Received<'b> {
    frame: &'b mut [u8],
    /// The body, where it came in a memfd.
    body: Option<Zeroizing<Vec<u8>>>,
    /// The message's descriptors.
    pub fds: Vec<OwnedFd>,
}

impl Received<'_> {
    /// The message, which may borrow from the frame.
    pub fn message<'s, T: Deserialize<'s>>(&'s self) -> Result<T, FrameError> {
        match (&self.body, &*self.frame) {
            (Some(body), _) => whole(body),
            (None, [_, _, body @ ..]) => whole(body),
            (None, _) => Err(FrameError::Malformed),
        }
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.frame.zeroize();
    }
}

/// The next frame, read into `buf`, which is best [`MAX_INLINE`] long; `None` at the end.
pub fn recv<'b>(socket: BorrowedFd<'_>, buf: &'b mut [u8]) -> Result<Option<Received<'b>>, FrameError> {
    let (n, fds) = fdpass::recv(socket, buf, MAX_FDS)?;
    let (frame, _) = buf.split_at_mut_checked(n).ok_or(FrameError::Malformed)?;
    if frame.is_empty() {
        return Ok(None);
    }
    opened(frame, fds).map(Some)
}

/// Takes the body's descriptor from the frame's.
fn opened(frame: &mut [u8], mut fds: Vec<OwnedFd>) -> Result<Received<'_>, FrameError> {
    let body = match *frame {
        [VERSION, INLINE, ..] => None,
        [VERSION, IN_MEMFD] if !fds.is_empty() => {
            let fd = fds.remove(0);
            Some(Zeroizing::new(
                memfd::read_sealed(fd.as_fd(), MAX_BODY).map_err(FrameError::Body)?,
            ))
        }
        [version, _, ..] if version != VERSION => return Err(FrameError::Version(version)),
        _ => return Err(FrameError::Malformed),
    };
    Ok(Received { frame, body, fds })
}

/// All of the bytes are the message, not only the first ones.
fn whole<'s, T: Deserialize<'s>>(body: &'s [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

/// For tests and fuzzing: what these bytes, a frame without descriptors, mean as a message of either side.
pub fn probe(frame: &[u8]) -> [bool; 2] {
    let mut bytes = frame.to_vec();
    let Ok(received) = opened(&mut bytes, Vec::new()) else {
        return [false; 2];
    };
    [
        received.message::<super::ToHalf>().is_ok(),
        received.message::<super::ToInit<'_>>().is_ok(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::halves::{ExecSpec, Goodbye, Request, Stage, ToInit};

    fn exec(env: Vec<String>) -> ToInit<'static> {
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
                on_disconnect: Some((Goodbye::Hangup, 60)),
            })),
        }
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .expect("socketpair")
    }

    fn decoded(bytes: &[u8]) -> Result<(), FrameError> {
        let mut bytes = bytes.to_vec();
        opened(&mut bytes, Vec::new())?.message::<ToInit<'_>>().map(drop)
    }

    #[test]
    fn a_frame_round_trips_small_and_large_and_is_wiped_after() {
        let (a, b) = pair();
        let mut buf = vec![0; MAX_INLINE];
        for env in [vec!["A=1".to_owned()], vec!["x".repeat(MAX_INLINE)]] {
            let message = exec(env);
            let null = OwnedFd::from(std::fs::File::open("/dev/null").expect("null"));
            Frame::new(&message, vec![null])
                .expect("fits")
                .send(a.as_fd())
                .expect("sent");
            let received = recv(b.as_fd(), &mut buf).expect("received").expect("not the end");
            assert!(
                received.message::<ToInit<'_>>().expect("a message") == message,
                "another message came out"
            );
            assert_eq!(received.fds.len(), 1, "the body's own descriptor is not the message's");
            drop(received);
            assert!(buf.iter().all(|byte| *byte == 0), "the frame is still to be read");
        }
        drop(a);
        assert!(recv(b.as_fd(), &mut buf).expect("end").is_none());
    }

    #[test]
    fn a_message_goes_out_of_the_scratch_until_the_socket_is_full() {
        let (a, b) = pair();
        let (mut scratch, mut buf) = (vec![0; MAX_INLINE], vec![0; MAX_INLINE]);
        let message = ToInit::Resize {
            exec: 3,
            rows: 1,
            cols: 2,
        };
        let mut sent = 0;
        while send_inline(a.as_fd(), &message, &mut scratch).expect("open") {
            sent += 1;
        }
        assert!(sent > 0);
        for _ in 0..sent {
            let received = recv(b.as_fd(), &mut buf).expect("received").expect("not the end");
            assert!(received.message::<ToInit<'_>>().expect("a message") == message);
        }
        let huge = exec(vec!["x".repeat(MAX_INLINE)]);
        assert!(
            !send_inline(a.as_fd(), &huge, &mut scratch).expect("open"),
            "it can't fit"
        );
        assert!(!send_inline(a.as_fd(), &message, &mut scratch[..1]).expect("open"));
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_refused() {
        let frame = Frame::new(&exec(vec!["A=1".to_owned()]), Vec::new()).expect("fits");
        for end in 0..frame.bytes.len() {
            assert!(decoded(&frame.bytes[..end]).is_err(), "cut at {end}");
        }
        let mut longer = frame.bytes.to_vec();
        longer.push(0);
        assert!(decoded(&longer).is_err(), "a byte too many");
    }

    #[test]
    fn another_version_or_place_is_refused() {
        let frame = Frame::new(&ToInit::Heartbeat, Vec::new()).expect("fits");
        let mut other = frame.bytes.to_vec();
        other[0] = VERSION + 1;
        assert!(matches!(decoded(&other), Err(FrameError::Version(v)) if v == VERSION + 1));
        let mut other = frame.bytes.to_vec();
        other[1] = 2;
        assert!(decoded(&other).is_err());
        other[1] = IN_MEMFD;
        assert!(decoded(&other).is_err(), "no memfd came along");
    }

    #[test]
    fn a_body_over_the_cap_is_refused() {
        let huge = exec(vec!["x".repeat(MAX_BODY)]);
        assert!(matches!(Frame::new(&huge, Vec::new()), Err(FrameError::TooLong { .. })));
    }
}
