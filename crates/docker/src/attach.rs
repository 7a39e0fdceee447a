//! The standard streams of a container's init, over an upgraded connection.
//!
//! A container that hasn't started yet can be attached to: what it writes from its first moment arrives here.

use bytes::{Bytes, BytesMut};
use clawker_model::ContainerId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::demux::Demux;
use crate::{Docker, Error, StdStream};

/// Most bytes of output held at once.
const READ_SIZE: usize = 64 * 1024;

/// What the container writes.
#[derive(Debug)]
pub struct AttachReader {
    call: String,
    stream: OwnedReadHalf,
    buffer: BytesMut,
    demux: Demux,
}

/// What the container reads. Dropping it, or [`close`](Self::close), is the end of its input.
#[derive(Debug)]
pub struct AttachWriter {
    call: String,
    stream: OwnedWriteHalf,
}

impl Docker {
    /// Attaches to all streams. `tty` must be the container's own setting.
    pub async fn attach(&self, id: &ContainerId, tty: bool) -> Result<(AttachReader, AttachWriter), Error> {
        let call = format!("attach to container {}", id.short());
        let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let upgraded = self.upgrade(&call, &path).await.map_err(|error| match error {
            Error::Engine { status: 404, .. } => Error::NoSuchContainer {
                id: id.short().to_owned(),
            },
            other => other,
        })?;
        let (read, write) = upgraded.stream.into_split();
        let reader = AttachReader {
            call: call.clone(),
            stream: read,
            buffer: upgraded.already_read,
            demux: Demux::new(tty),
        };
        Ok((reader, AttachWriter { call, stream: write }))
    }
}

impl AttachReader {
    /// The next piece of output, at most 64 KiB; `None` at its end. Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Result<Option<(StdStream, Bytes)>, Error> {
        loop {
            let piece = self.demux.next(&mut self.buffer).map_err(|error| Error::Malformed {
                call: self.call.clone(),
                message: error.to_string(),
            })?;
            if piece.is_some() {
                return Ok(piece);
            }
            self.buffer.reserve(READ_SIZE);
            let mut window = bytes::BufMut::limit(&mut self.buffer, READ_SIZE);
            let read = self.stream.read_buf(&mut window).await;
            match read {
                Ok(0) if self.buffer.is_empty() && self.demux.at_boundary() => return Ok(None),
                Ok(0) => {
                    return Err(Error::Malformed {
                        call: self.call.clone(),
                        message: "the stream ended inside a frame".into(),
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    return Err(Error::Transport {
                        call: self.call.clone(),
                        message: error.to_string(),
                    });
                }
            }
        }
    }
}

impl AttachWriter {
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).await.map_err(|error| Error::Transport {
            call: self.call.clone(),
            message: error.to_string(),
        })
    }

    /// Ends the container's input; its output goes on.
    pub async fn close(mut self) {
        // It fails only when the peer has gone, which the reader sees.
        let _ = self.stream.shutdown().await;
    }
}
