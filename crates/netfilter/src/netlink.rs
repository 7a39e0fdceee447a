//! Netlink over plain descriptors: requests, dumps, batches. Bytes in, bytes out; no meaning.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

use crate::Error;

/// The kernel fills at most 32 KiB of a dump's buffer at a time (net/netlink/af_netlink.c).
const BUFFER: usize = 64 * 1024;
/// A batch is one message, and its acknowledgements come at once: both exceed the default of 208 KiB.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// The kernel answers within the call; this only keeps a fault from stopping the thread for good.
const PATIENCE: Duration = Duration::from_secs(2);
const HEADER: usize = 16;

/// A netlink socket of the namespace that its maker was in.
pub(crate) struct Socket {
    fd: OwnedFd,
    seq: u32,
}

/// Receive buffer whose start is aligned as a netlink header needs.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

/// One message: its header's fields and all its bytes, header included.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) bytes: &'a [u8],
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let bytes = vec![0; BUFFER + 8];
        let start = bytes.as_ptr().align_offset(8).min(8);
        Self { bytes, start }
    }

    fn whole(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + BUFFER]
    }
}

impl Message<'_> {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }
}

impl Socket {
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        sockopt::set_socket_send_buffer_size_force(&fd, SOCKET_BUFFER)?;
        sockopt::set_socket_recv_buffer_size_force(&fd, SOCKET_BUFFER)?;
        Ok(Self { fd, seq: 0 })
    }

    /// For whoever closes it.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Asks for a dump and hands over each message of it. `Interrupted` when it changed meanwhile.
    pub(crate) fn dump(
        &mut self,
        what: &'static str,
        kind: u16,
        payload: &[u8],
        buffer: &mut Buffer,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let fail = |source| Error::Netlink { what, source };
        self.seq = self.seq.wrapping_add(1);
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        self.forget_the_rest(buffer);
        self.send(&request(kind, flags, self.seq, payload)).map_err(fail)?;
        let mut interrupted = false;
        loop {
            let n = self.receive(buffer).map_err(fail)?;
            for message in messages(what, &buffer.whole()[..n]) {
                let message = message?;
                if message.seq != self.seq {
                    continue;
                }
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE if interrupted => return Err(fail(io::ErrorKind::Interrupted.into())),
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return Err(fail(error_code(what, &message)?)),
                    _ => each(&message)?,
                }
            }
        }
    }

    /// Sends a whole batch and waits for the acknowledgement of each of `seqs`; the first refusal is the error.
    pub(crate) fn batch(
        &mut self,
        what: &'static str,
        batch: &[u8],
        seqs: std::ops::Range<u32>,
        buffer: &mut Buffer,
    ) -> Result<(), Error> {
        let fail = |source| Error::Netlink { what, source };
        self.forget_the_rest(buffer);
        self.send(batch).map_err(fail)?;
        let mut outstanding = seqs.len();
        let mut refusal = None;
        while outstanding > 0 {
            let n = match self.receive(buffer) {
                Ok(n) => n,
                // A batch that is refused as a whole has fewer answers.
                Err(e) => return Err(fail(refusal.unwrap_or(e))),
            };
            for message in messages(what, &buffer.whole()[..n]) {
                let message = message?;
                if i32::from(message.kind) != libc::NLMSG_ERROR || !(seqs.contains(&message.seq) || message.seq == 0) {
                    continue;
                }
                outstanding = outstanding.saturating_sub(1);
                let code = error_code(what, &message)?;
                if code.raw_os_error() != Some(0) {
                    // The batch's own header is refused with one answer for all.
                    if message.seq == seqs.start || message.seq == 0 {
                        return Err(fail(refusal.unwrap_or(code)));
                    }
                    refusal.get_or_insert(code);
                }
            }
        }
        refusal.map_or(Ok(()), |code| Err(fail(code)))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = rustix::io::retry_on_intr(|| send(&self.fd, bytes, SendFlags::empty()))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    fn receive(&self, buffer: &mut Buffer) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| recv(&self.fd, buffer.whole(), RecvFlags::empty()))?.0)
    }

    /// Answers that an earlier, failed request left behind would be taken for ours.
    fn forget_the_rest(&self, buffer: &mut Buffer) {
        while recv(&self.fd, buffer.whole(), RecvFlags::DONTWAIT).is_ok_and(|(n, _)| n > 0) {}
    }
}

/// A request with the header before `payload`.
fn request(kind: u16, flags: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}

/// The messages in one datagram.
pub(crate) fn messages<'a>(what: &'static str, mut rest: &'a [u8]) -> impl Iterator<Item = Result<Message<'a>, Error>> {
    std::iter::from_fn(move || {
        if rest.len() < HEADER {
            return None;
        }
        let len = u32_at(rest, 0) as usize;
        if len < HEADER || len > rest.len() {
            let problem = format!("a message of {len} bytes in {}", rest.len());
            rest = &[];
            return Some(Err(Error::Malformed { what, problem }));
        }
        let bytes = &rest[..len];
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind: u16_at(bytes, 4),
            flags: u16_at(bytes, 6),
            seq: u32_at(bytes, 8),
            bytes,
        }))
    })
}

/// The attributes of a message, by type.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        if rest.len() < 4 {
            return None;
        }
        let len = usize::from(u16_at(rest, 0));
        let value = rest.get(4..len)?;
        let kind = u16_at(rest, 2);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

pub(crate) fn error_code(what: &'static str, message: &Message<'_>) -> Result<io::Error, Error> {
    let Some(code) = message.payload().get(..4) else {
        return Err(Error::Malformed {
            what,
            problem: "an error without a code".into(),
        });
    };
    // The kernel's are small and negative; whatever it is, it is no reason to stop.
    Ok(io::Error::from_raw_os_error(
        u32_at(code, 0).cast_signed().wrapping_neg(),
    ))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_longer_than_its_datagram_is_an_error() {
        let good = request(16, 0, 7, &[1, 2, 3, 4]);
        let parsed: Vec<_> = messages("test", &good).collect::<Result<_, _>>().expect("well-formed");
        assert_eq!(
            (parsed.len(), parsed[0].seq, parsed[0].payload()),
            (1, 7, &[1u8, 2, 3, 4][..])
        );
        for cut in HEADER..good.len() {
            assert!(messages("test", &good[..cut]).any(|m| m.is_err()), "cut at {cut}");
        }
        let mut short = good.clone();
        short[0] = 3;
        assert!(messages("test", &short).any(|m| m.is_err()));
    }

    #[test]
    fn attributes_end_where_they_lie_about_their_length() {
        let two = [5, 0, 3, 0, b'x', 0, 0, 0, 6, 0, 4, 0, 1, 2, 0, 0];
        assert_eq!(attributes(&two).collect::<Vec<_>>(), [(3, &b"x"[..]), (4, &[1, 2][..])]);
        for lie in [[0u8, 0, 1, 0], [200, 0, 1, 0], [3, 0, 1, 0]] {
            assert_eq!(attributes(&lie).count(), 0, "{lie:?}");
        }
    }
}
