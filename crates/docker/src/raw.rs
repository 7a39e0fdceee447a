//! A connection of our own to the engine, for what bollard's decoder would spoil: one request each, HTTP/1.1.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::{Docker, Error};

/// Most bytes of an error's body that are read.
const MAX_ERROR_BODY: usize = 16 * 1024;

/// An upgraded connection: the socket, and what had come before we took it over.
pub(crate) struct Upgraded {
    pub(crate) stream: UnixStream,
    pub(crate) already_read: BytesMut,
}

/// A response that is being read. Dropping it closes the connection.
pub(crate) struct Streaming {
    body: Incoming,
    /// Drives the connection.
    _connection: JoinSet<()>,
}

impl Streaming {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self, call: &str) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| transport(call, &error))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Docker {
    /// `GET path`, whose answer is read piece by piece.
    pub(crate) async fn get(&self, call: &str, path: &str) -> Result<Streaming, Error> {
        self.within(call, self.limits().query, async {
            let (response, connection) = self.send(call, Method::GET, path, false).await?;
            let status = response.status();
            let body = response.into_body();
            if status != StatusCode::OK {
                return Err(refused(call, status, body).await);
            }
            Ok(Streaming {
                body,
                _connection: connection,
            })
        })
        .await
    }

    /// `POST path` with an upgrade to a plain connection.
    pub(crate) async fn upgrade(&self, call: &str, path: &str) -> Result<Upgraded, Error> {
        self.within(call, self.limits().query, async {
            let (response, _connection) = self.send(call, Method::POST, path, true).await?;
            let status = response.status();
            if status != StatusCode::SWITCHING_PROTOCOLS {
                return Err(refused(call, status, response.into_body()).await);
            }
            let upgraded = hyper::upgrade::on(response)
                .await
                .map_err(|error| transport(call, &error))?;
            let parts = upgraded
                .downcast::<TokioIo<UnixStream>>()
                .map_err(|_| Error::Transport {
                    call: call.to_owned(),
                    message: "the upgraded connection isn't ours".into(),
                })?;
            Ok(Upgraded {
                stream: parts.io.into_inner(),
                already_read: BytesMut::from(parts.read_buf.as_ref()),
            })
        })
        .await
    }

    async fn send(
        &self,
        call: &str,
        method: Method,
        path: &str,
        upgrade: bool,
    ) -> Result<(http::Response<Incoming>, JoinSet<()>), Error> {
        let uri = format!("/{}{path}", self.api().await?);
        let stream = self
            .endpoint()
            .connect()
            .await
            .map_err(|error| Error::connecting(self.endpoint(), call, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| transport(call, &error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its end is seen by whoever reads the body.
            let _ = connection.with_upgrades().await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, "docker");
        if upgrade {
            request = request
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "tcp");
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| Error::Transport {
            call: call.to_owned(),
            message: error.to_string(),
        })?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| transport(call, &error))?;
        Ok((response, driver))
    }
}

fn transport(call: &str, error: &hyper::Error) -> Error {
    Error::Transport {
        call: call.to_owned(),
        message: error.to_string(),
    }
}

/// The error that a response stands for.
async fn refused(call: &str, status: StatusCode, mut body: Incoming) -> Error {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > MAX_ERROR_BODY {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    let message = match serde_json::from_slice::<Message>(&bytes) {
        Ok(message) => message.message,
        Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
    };
    Error::status(call, status.as_u16(), message)
}
