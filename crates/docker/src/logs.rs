//! What a container wrote so far, and goes on writing.

use bytes::{Bytes, BytesMut};
use clawker_model::ContainerId;
use futures::Stream;

use crate::demux::Demux;
use crate::raw::Streaming;
use crate::{Docker, Error, StdStream};

#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// The container's own setting: a terminal's log isn't framed.
    pub tty: bool,
    pub follow: bool,
    /// The last lines only.
    pub tail: Option<u32>,
    /// Each line begins with its time.
    pub timestamps: bool,
}

struct Reading {
    streaming: Streaming,
    buffer: BytesMut,
    demux: Demux,
}

impl Docker {
    /// The log, piece by piece. An error is the last item.
    pub fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> impl Stream<Item = Result<(StdStream, Bytes), Error>> + Send + use<> {
        enum At {
            Begin,
            Reading(Reading),
        }
        let docker = self.clone();
        let call = format!("logs of container {}", id.short());
        let id = id.clone();
        futures::stream::try_unfold(At::Begin, move |at| {
            let (docker, call, id) = (docker.clone(), call.clone(), id.clone());
            async move {
                let mut reading = match at {
                    At::Begin => Reading {
                        streaming: docker.open_log(&call, &id, options).await?,
                        buffer: BytesMut::new(),
                        demux: Demux::new(options.tty),
                    },
                    At::Reading(reading) => reading,
                };
                Ok(reading.next(&call).await?.map(|piece| (piece, At::Reading(reading))))
            }
        })
    }

    async fn open_log(&self, call: &str, id: &ContainerId, options: LogOptions) -> Result<Streaming, Error> {
        let LogOptions {
            follow,
            tail,
            timestamps,
            tty: _,
        } = options;
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let path =
            format!("/containers/{id}/logs?stdout=1&stderr=1&follow={follow}&timestamps={timestamps}&tail={tail}");
        self.get(call, &path).await.map_err(|error| match error {
            Error::Engine { status: 404, .. } => Error::NoSuchContainer {
                id: id.short().to_owned(),
            },
            other => other,
        })
    }
}

impl Reading {
    async fn next(&mut self, call: &str) -> Result<Option<(StdStream, Bytes)>, Error> {
        loop {
            let piece = self.demux.next(&mut self.buffer).map_err(|error| Error::Malformed {
                call: call.to_owned(),
                message: error.to_string(),
            })?;
            if piece.is_some() {
                return Ok(piece);
            }
            match self.streaming.next(call).await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}
