//! The session as its client speaks it: commands, their answers, events, and the streams of an exec.

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::io_frame::Body as Frame;
use clawker_wire::session::response::Body;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::{self as pb};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::host::PATIENCE;

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

pub struct Session {
    client: SessionServiceClient<Channel>,
    commands: mpsc::Sender<pb::Command>,
    responses: Streaming<pb::Response>,
    last_id: u64,
    pub ack: pb::HelloAck,
}

impl Session {
    /// The first words on a connection, up to HelloAck.
    pub async fn begin(
        mut client: SessionServiceClient<Channel>,
        protocol: u32,
        lease: Option<pb::Lease>,
    ) -> Result<Self, tonic::Status> {
        let (commands, queue) = mpsc::channel(64);
        let hello = pb::Command {
            id: 1,
            body: Some(Command::Hello(pb::Hello {
                protocol,
                cp_life: "test".to_owned(),
                lease,
            })),
        };
        commands.send(hello).await.expect("queued");
        let responses = client.session(ReceiverStream::new(queue)).await?.into_inner();
        let mut session = Self {
            client,
            commands,
            responses,
            last_id: 1,
            ack: pb::HelloAck::default(),
        };
        let first = within(session.try_next()).await?;
        match (first.id, first.body) {
            (1, Some(Body::HelloAck(ack))) => session.ack = ack,
            other => panic!("{other:?} instead of HelloAck"),
        }
        Ok(session)
    }

    pub async fn next(&mut self) -> (u64, Body) {
        let response = within(self.responses.message())
            .await
            .expect("a response")
            .expect("not the end");
        (response.id, response.body.expect("a body"))
    }

    pub async fn send(&mut self, body: Command) -> u64 {
        self.last_id += 1;
        let command = pb::Command {
            id: self.last_id,
            body: Some(body),
        };
        self.commands.send(command).await.expect("queued");
        self.last_id
    }

    /// The answer to this command; events on the way are dropped.
    pub async fn ask(&mut self, body: Command) -> Body {
        let id = self.send(body).await;
        loop {
            match self.next().await {
                (answered, body) if answered == id => return body,
                (0, _) => {}
                other => panic!("{other:?} answers nothing that was asked"),
            }
        }
    }

    /// The next event that `wanted` knows.
    pub async fn event<T>(&mut self, wanted: impl Fn(Body) -> Option<T>) -> T {
        loop {
            let (id, body) = self.next().await;
            if let (0, Some(found)) = (id, wanted(body)) {
                return found;
            }
        }
    }

    pub async fn exec(&mut self, id: &str, script: &str) -> Body {
        self.ask(Command::Exec(exec(id, script))).await
    }

    pub async fn exited(&mut self, id: &str) -> (i32, i32) {
        self.event(|body| match body {
            Body::Exited(exited) if exited.exec_id == id => Some((exited.code, exited.signal)),
            _ => None,
        })
        .await
    }

    pub async fn drained(&mut self, id: &str) -> bool {
        self.event(|body| match body {
            Body::Drained(drained) if drained.exec_id == id => Some(drained.held_by_descendants),
            _ => None,
        })
        .await
    }

    pub async fn ready(&mut self, main: pb::Main) -> Body {
        self.ask(Command::AgentReady(pb::AgentReady {
            main: Some(main),
            ..pb::AgentReady::default()
        }))
        .await
    }

    pub async fn io(&mut self, id: &str, stdout_from: u64) -> Io {
        within(self.attached(id, stdout_from, 0)).await.expect("attached").0
    }

    /// Attaches from these offsets, unless the session is gone.
    pub fn attached(
        &self,
        id: &str,
        stdout_from: u64,
        stderr_from: u64,
    ) -> impl Future<Output = Result<(Io, pb::Opened), tonic::Status>> + use<> {
        let mut client = self.client.clone();
        let open = pb::Open {
            exec_id: id.to_owned(),
            stdout_from,
            stderr_from,
        };
        async move {
            let (frames, queue) = mpsc::channel(64);
            let first = pb::IoFrame {
                body: Some(Frame::Open(open)),
            };
            frames.send(first).await.expect("queued");
            let mut incoming = client.io(ReceiverStream::new(queue)).await?.into_inner();
            match incoming.message().await?.and_then(|frame| frame.body) {
                Some(Frame::Opened(opened)) => Ok((Io { frames, incoming }, opened)),
                other => panic!("{other:?} instead of Opened"),
            }
        }
    }

    /// The next response, or why there is none any more.
    pub async fn try_next(&mut self) -> Result<pb::Response, tonic::Status> {
        let cut = || tonic::Status::unavailable("cut");
        self.responses.message().await?.ok_or_else(cut)
    }

    /// Asks without waiting for an answer; false when the session is gone.
    pub async fn try_send(&mut self, body: Command) -> bool {
        self.last_id += 1;
        let command = pb::Command {
            id: self.last_id,
            body: Some(body),
        };
        self.commands.send(command).await.is_ok()
    }
}

pub struct Io {
    pub frames: mpsc::Sender<pb::IoFrame>,
    pub incoming: Streaming<pb::IoFrame>,
}

impl Io {
    pub async fn next(&mut self) -> Option<Frame> {
        within(self.incoming.message())
            .await
            .ok()
            .flatten()
            .and_then(|frame| frame.body)
    }

    pub async fn send(&self, body: Frame) {
        self.frames
            .send(pb::IoFrame { body: Some(body) })
            .await
            .expect("queued");
    }

    /// All of both streams to their ends, acknowledged as it comes: standard output, standard error.
    pub async fn all(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut got = [Vec::new(), Vec::new()];
        let mut open = 2;
        while open > 0 {
            match self.next().await.expect("more") {
                Frame::Data(data) => {
                    let stream = usize::from(data.stream() == pb::Stream::Stderr);
                    got[stream].extend_from_slice(&data.bytes);
                    let ack = pb::Ack {
                        stream: data.stream,
                        offset: data.offset + data.bytes.len() as u64,
                    };
                    self.send(Frame::Ack(ack)).await;
                }
                Frame::StreamEof(_) => open -= 1,
                Frame::Ack(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let [stdout, stderr] = got;
        (stdout, stderr)
    }
}

pub fn exec(id: &str, script: &str) -> pb::Exec {
    pb::Exec {
        exec_id: id.to_owned(),
        stages: vec![pb::Stage {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..pb::Stage::default()
        }],
        ..pb::Exec::default()
    }
}

pub fn main(script: &str) -> pb::Main {
    pb::Main {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        no_new_privs: true,
        ..pb::Main::default()
    }
}
