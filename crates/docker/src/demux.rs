//! Docker's multiplexed stream: frames of an eight-byte header (stream, three zeros, length) and a payload.
//!
//! A payload is passed on as it arrives, never gathered: a header may announce 4 GiB without costing us a byte.

use bytes::{Buf, Bytes, BytesMut};

/// Which of a command's streams bytes belong to. A terminal has only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StdStream {
    Stdout,
    Stderr,
}

/// Splits what comes over a connection into pieces of streams. Total: any bytes give pieces or an error.
#[derive(Debug)]
pub(crate) enum Demux {
    /// A terminal: all bytes are its own.
    Raw,
    Header,
    Payload {
        stream: StdStream,
        left: usize,
    },
}

/// The header's first byte is none of Docker's streams.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of stream {0}, expected 0, 1 or 2")]
pub(crate) struct BadFrame(u8);

impl Demux {
    pub(crate) fn new(tty: bool) -> Self {
        if tty { Demux::Raw } else { Demux::Header }
    }

    /// Takes the next piece out of `buffer`; `None` when more bytes are needed first.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<(StdStream, Bytes)>, BadFrame> {
        loop {
            match *self {
                Demux::Raw if buffer.is_empty() => return Ok(None),
                Demux::Raw => return Ok(Some((StdStream::Stdout, buffer.split().freeze()))),
                Demux::Header => {
                    let Some((&[kind, _, _, _, a, b, c, d], _)) = buffer.split_first_chunk::<8>() else {
                        return Ok(None);
                    };
                    let stream = match kind {
                        0 | 1 => StdStream::Stdout,
                        2 => StdStream::Stderr,
                        other => return Err(BadFrame(other)),
                    };
                    buffer.advance(8);
                    let left = u32::from_be_bytes([a, b, c, d]) as usize;
                    if left > 0 {
                        *self = Demux::Payload { stream, left };
                    }
                }
                Demux::Payload { .. } if buffer.is_empty() => return Ok(None),
                Demux::Payload { stream, left } => {
                    let piece = buffer.split_to(left.min(buffer.len())).freeze();
                    *self = match left - piece.len() {
                        0 => Demux::Header,
                        left => Demux::Payload { stream, left },
                    };
                    return Ok(Some((stream, piece)));
                }
            }
        }
    }

    /// Whether the connection may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        !matches!(self, Demux::Payload { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn gather(demux: &mut Demux, chunks: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), BadFrame> {
        let (mut out, mut err, mut buffer) = (Vec::new(), Vec::new(), BytesMut::new());
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some((stream, bytes)) = demux.next(&mut buffer)? {
                assert!(!bytes.is_empty(), "an empty piece would read as the end");
                match stream {
                    StdStream::Stdout => out.extend_from_slice(&bytes),
                    StdStream::Stderr => err.extend_from_slice(&bytes),
                }
            }
        }
        Ok((out, err))
    }

    #[test]
    fn streams_come_apart_however_the_bytes_are_cut() {
        let wire = [
            frame(1, b"one\n"),
            frame(2, b"two"),
            frame(1, b""),
            frame(1, b"\x00\x01\x02"),
        ]
        .concat();
        for cut in 0..wire.len() {
            let got = gather(&mut Demux::new(false), &[&wire[..cut], &wire[cut..]]).expect("well formed");
            assert_eq!(got, (b"one\n\x00\x01\x02".to_vec(), b"two".to_vec()), "cut at {cut}");
        }
    }

    #[test]
    fn a_terminals_bytes_pass_as_they_are() {
        let wire = b"\x01\x02\x00\x00\x00\x00\x00\x05hello";
        let got = gather(&mut Demux::new(true), &[wire]).expect("raw");
        assert_eq!(got.0, wire);
    }

    #[test]
    fn a_frame_of_four_gigabytes_costs_nothing() {
        let mut demux = Demux::new(false);
        let mut wire = frame(1, b"");
        wire[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        wire.extend(b"abc");
        assert_eq!(gather(&mut demux, &[&wire]).expect("partial").0, b"abc");
        assert!(!demux.at_boundary());
    }

    #[test]
    fn an_unknown_stream_is_an_error() {
        assert_eq!(gather(&mut Demux::new(false), &[&frame(3, b"x")]), Err(BadFrame(3)));
    }
}
