//! The doors of `clawker-fuzz`, and of nobody else: what comes from the engine, an image or a container, read as the
//! calls read it.

use bytes::BytesMut;

use crate::demux::Demux;
use crate::{ContainerEvent, Error, Image, Inspect, Shape, StdStream, Summary};

/// What a connection gave before its end, or before the first frame that isn't one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Pieces without a byte; each would read as an end.
    pub empty: usize,
    /// It could have ended there.
    pub whole: bool,
    pub bad: bool,
}

/// The streams of a connection whose bytes come in these chunks.
pub fn streams<'c>(tty: bool, chunks: impl IntoIterator<Item = &'c [u8]>) -> Streams {
    let (mut demux, mut buffer) = (Demux::new(tty), BytesMut::new());
    let mut streams = Streams::default();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match demux.next(&mut buffer) {
                Ok(Some((stream, piece))) => {
                    streams.empty += usize::from(piece.is_empty());
                    match stream {
                        StdStream::Stdout => streams.stdout.extend_from_slice(&piece),
                        StdStream::Stderr => streams.stderr.extend_from_slice(&piece),
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    streams.bad = true;
                    return streams;
                }
            }
        }
    }
    streams.whole = demux.at_boundary() && buffer.is_empty();
    streams
}

/// Of `GET /containers/<id>/json`; `None` for what isn't even that JSON.
pub fn inspected(json: &[u8]) -> Option<(Result<Inspect, Error>, Result<Shape, String>)> {
    let answer: bollard::models::ContainerInspectResponse = serde_json::from_slice(json).ok()?;
    Some((Inspect::read("inspect", answer.clone()), crate::shape::shown(answer)))
}

/// Of one container in `GET /containers/json`.
pub fn listed(json: &[u8]) -> Option<Result<Summary, Error>> {
    Some(Summary::read("list", serde_json::from_slice(json).ok()?))
}

/// Of `GET /images/<id>/json`.
pub fn image(json: &[u8]) -> Option<Image> {
    Some(Image::read(serde_json::from_slice(json).ok()?))
}

/// Of a line of `GET /events`.
pub fn event(json: &[u8]) -> Option<ContainerEvent> {
    ContainerEvent::read(serde_json::from_slice(json).ok()?)
}
