//! The peer of an exec's bytes: two hops of tonic and nothing between them. The first is mutual TLS on a unix socket
//! with the windows that ours has there, the second a plain unix socket, as to an operator.

use std::pin::Pin;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clawker_wire::session::io_frame::Body;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::session_service_server::{SessionService, SessionServiceServer};
use clawker_wire::session::{Ack, Command, Data, IoFrame, Open, Response, StdinEof, Stream, StreamEof};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{StreamExt, iter};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status, Streaming};

use crate::bare::Bare;

pub type Frames = Pin<Box<dyn tokio_stream::Stream<Item = Result<IoFrame, Status>> + Send>>;

/// Bytes of a frame.
pub const CHUNK: usize = clawker_wire::MAX_DATA;
/// As in the control plane's `dial`.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What the far end is asked for.
const GIVE: &str = "give";
const TAKE: &str = "take";

/// So many bytes, in pieces.
pub fn pieces(len: u64) -> impl Iterator<Item = Bytes> + Send + 'static {
    let piece = Bytes::from(vec![0; CHUNK]);
    let whole = std::iter::repeat_n(piece.clone(), usize::try_from(len / CHUNK as u64).unwrap_or(usize::MAX));
    let rest = usize::try_from(len % CHUNK as u64).unwrap_or(0);
    whole.chain((rest > 0).then(|| piece.slice(..rest)))
}

fn data(stream: Stream, len: u64) -> impl Iterator<Item = IoFrame> + Send + 'static {
    pieces(len).scan(0, move |offset, bytes| {
        let data = Data {
            stream: stream.into(),
            offset: *offset,
            bytes,
        };
        *offset += data.bytes.len() as u64;
        Some(frame(Body::Data(data)))
    })
}

fn frame(body: Body) -> IoFrame {
    IoFrame { body: Some(body) }
}

/// The far end: gives as much as it is asked for, or takes what comes and says how much that was.
pub async fn answer(mut frames: Streaming<IoFrame>) -> Result<Frames, Status> {
    let Some(Body::Open(open)) = frames.message().await?.and_then(|frame| frame.body) else {
        return Err(Status::failed_precondition("the first frame is Open"));
    };
    if open.exec_id == GIVE {
        let end = frame(Body::StreamEof(StreamEof {
            stream: Stream::Stdout.into(),
        }));
        return Ok(Box::pin(iter(
            data(Stream::Stdout, open.stdout_from).chain([end]).map(Ok),
        )));
    }
    let (to, answers) = tokio::sync::mpsc::channel(1);
    let mut taking = JoinSet::new();
    taking.spawn(async move {
        let mut offset = 0;
        loop {
            match frames.message().await.map(|frame| frame.and_then(|frame| frame.body)) {
                Ok(Some(Body::Data(data))) => offset += data.bytes.len() as u64,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        let stream = Stream::Stdin.into();
        let _ = to.send(Ok(frame(Body::Ack(Ack { stream, offset })))).await;
    });
    taking.detach_all();
    Ok(Box::pin(ReceiverStream::new(answers)))
}

/// Between the two: frames are decoded and encoded, and no more.
struct Hop(SessionServiceClient<Channel>);

#[tonic::async_trait]
impl SessionService for Hop {
    type SessionStream = ReceiverStream<Result<Response, Status>>;
    type IoStream = Frames;

    async fn session(&self, _: Request<Streaming<Command>>) -> Result<tonic::Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("bytes are all that is relayed"))
    }

    async fn io(&self, request: Request<Streaming<IoFrame>>) -> Result<tonic::Response<Self::IoStream>, Status> {
        let frames = request.into_inner().filter_map(Result::ok);
        let answered = self.0.clone().io(frames).await?.into_inner();
        Ok(tonic::Response::new(Box::pin(answered)))
    }
}

/// Both hops, and a client at the near end.
pub struct Relay {
    client: SessionServiceClient<Channel>,
    _far: Bare,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
    _dir: tempfile::TempDir,
}

impl Relay {
    /// To be called in a runtime, which serves.
    pub async fn start() -> Result<Self> {
        let far = Bare::start()?;
        let endpoint = Endpoint::from_static("http://bare")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let hop = Hop(SessionServiceClient::new(far.client().channel(endpoint).await?));
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}-relay-", crate::NAME))
            .tempdir()?;
        let path = dir.path().join("relay.sock");
        let incoming = UnixListenerStream::new(UnixListener::bind(&path)?);
        let mut serving = JoinSet::new();
        let server = Server::builder().add_service(SessionServiceServer::new(hop));
        serving.spawn(server.serve_with_incoming(incoming));
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://relay")
            .connect_with_connector(connector)
            .await
            .context("connecting to the relay")?;
        Ok(Self {
            client: SessionServiceClient::new(channel),
            _far: far,
            _serving: serving,
            _dir: dir,
        })
    }

    /// How many bytes came of those asked for.
    pub async fn give(&self, len: u64) -> Result<u64> {
        let mut answers = self.open(GIVE, len, std::iter::empty()).await?;
        let mut came = 0;
        while let Some(frame) = answers.message().await? {
            match frame.body {
                Some(Body::Data(data)) => came += data.bytes.len() as u64,
                Some(Body::StreamEof(_)) => return Ok(came),
                _ => {}
            }
        }
        bail!("the relay ended after {came} bytes")
    }

    /// How many bytes arrived of those sent.
    pub async fn take(&self, len: u64) -> Result<u64> {
        let eof = frame(Body::StdinEof(StdinEof {}));
        let mut answers = self.open(TAKE, 0, data(Stream::Stdin, len).chain([eof])).await?;
        while let Some(frame) = answers.message().await? {
            if let Some(Body::Ack(ack)) = frame.body {
                return Ok(ack.offset);
            }
        }
        bail!("the relay ended without a word")
    }

    async fn open(
        &self,
        what: &str,
        len: u64,
        rest: impl Iterator<Item = IoFrame> + Send + 'static,
    ) -> Result<Streaming<IoFrame>> {
        let open = Open {
            exec_id: what.to_owned(),
            stdout_from: len,
            ..Open::default()
        };
        let frames = iter(std::iter::once(frame(Body::Open(open))).chain(rest));
        Ok(self.client.clone().io(frames).await?.into_inner())
    }
}
