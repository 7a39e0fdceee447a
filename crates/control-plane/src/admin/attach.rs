//! The standard streams of an agent's own command, through Docker: before it starts, or while it runs.
//!
//! What was written in between two attachments is in the log. When the operator goes, the command goes on.

use std::sync::Arc;

use clawker_docker::{AttachReader, AttachWriter, StdStream};
use clawker_model::{ContainerId, FullName};
use clawker_wire::admin::{AttachInput, AttachOutput, Attached, Resize, attach_input, attach_output};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::error::Fault;
use super::lifecycle;
use super::resolve::resolve;
use super::restarts;
use super::socket::Peer;
use crate::agent::{AgentStatus, ContainerState};
use crate::core::Core;

const FIRST: Duration = Duration::from_secs(10);

pub type Output = ReceiverStream<Result<AttachOutput, Status>>;

/// Attaches to the agent that the first message names; `attached` is the first answer.
pub async fn attach(core: Arc<Core>, peer: Peer, mut input: Streaming<AttachInput>) -> Result<Output, Fault> {
    let wanted = match tokio::time::timeout(FIRST, input.message()).await {
        Ok(Ok(Some(AttachInput {
            body: Some(attach_input::Body::Agent(wanted)),
        }))) => wanted,
        _ => {
            return Err(Fault::usage(
                "attaching begins with an agent's name",
                "this is a fault of the client",
            ));
        }
    };
    let found = resolve(&core, &wanted).await?;
    let container = found.made()?;
    let Some(inspect) = core.docker.inspect(&container).await? else {
        return Err(Fault::missing(
            format!("`{}` has no container any more", found.name),
            "see `clawker ps --all`",
        ));
    };
    let (reader, writer) = core.docker.attach(&container, inspect.tty).await?;
    let (out, output) = mpsc::channel(16);
    let _ = out.try_send(Ok(message(attach_output::Body::Attached(Attached {
        tty: inspect.tty,
    }))));
    let status = found.handle.as_ref().map(crate::agent::AgentHandle::watch);
    let relay = Relay {
        core: core.clone(),
        name: found.name,
        container,
        peer,
        out,
        size: None,
        status,
    };
    core.tasks.spawn(relay.run(reader, writer, input));
    Ok(ReceiverStream::new(output))
}

fn message(body: attach_output::Body) -> AttachOutput {
    AttachOutput { body: Some(body) }
}

struct Relay {
    core: Arc<Core>,
    name: FullName,
    container: ContainerId,
    peer: Peer,
    out: mpsc::Sender<Result<AttachOutput, Status>>,
    /// The terminal's size, if the container wasn't there yet to take it.
    size: Option<Resize>,
    status: Option<tokio::sync::watch::Receiver<AgentStatus>>,
}

impl Relay {
    /// Input and output move independently; the end of output, or of the operator, ends both.
    async fn run(self, reader: AttachReader, writer: AttachWriter, input: Streaming<AttachInput>) {
        let (out, shutdown) = (self.out.clone(), self.core.shutdown.clone());
        let output = output(reader, &out);
        tokio::select! {
            last = output => if let Some(fault) = last {
                let _ = out.send(Err(fault.into())).await;
            },
            () = self.input(writer, input) => {}
            () = out.closed() => {}
            () = shutdown.cancelled() => {
                let _ = out.send(Err(Fault::stopping().into())).await;
            }
        }
    }

    /// Returns only when the operator's connection broke.
    async fn input(mut self, writer: AttachWriter, mut input: Streaming<AttachInput>) {
        let mut writer = Some(writer);
        loop {
            let body = tokio::select! {
                message = input.message() => match message {
                    Ok(Some(AttachInput { body })) => body,
                    Ok(None) => {
                        close(&mut writer).await;
                        return std::future::pending().await;
                    }
                    Err(_) => return,
                },
                () = running(&mut self.status), if self.size.is_some() => {
                    if let Some(size) = self.size.take() {
                        self.resize(size).await;
                    }
                    continue;
                }
            };
            match body {
                Some(attach_input::Body::Stdin(bytes)) => {
                    if let Some(open) = &mut writer
                        && open.write(&bytes).await.is_err()
                    {
                        // The command reads no more; its output says how it ends.
                        writer = None;
                    }
                }
                Some(attach_input::Body::StdinEof(_)) => close(&mut writer).await,
                Some(attach_input::Body::Resize(size)) => self.resize(size).await,
                Some(attach_input::Body::Signal(signo)) => self.signal(signo).await,
                Some(attach_input::Body::Agent(_)) | None => {}
            }
        }
    }

    async fn resize(&mut self, size: Resize) {
        let dimension = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let resized = self
            .core
            .docker
            .resize_tty(&self.container, dimension(size.rows), dimension(size.cols))
            .await;
        // Before the start there is no terminal yet.
        self.size = resized.is_err().then_some(size);
        if self.size.is_some() && is_running(self.status.as_ref()) {
            self.size = None;
        }
    }

    async fn signal(&self, signo: u32) {
        if !(1..=64).contains(&signo) {
            return;
        }
        let passed = async {
            if restarts::ends_by(signo) {
                let found = resolve(&self.core, &self.name.to_string()).await?;
                restarts::end(&self.core, &found, self.peer, &format!("signal {signo}")).await?;
            }
            lifecycle::pass_signal(&self.core, &self.name, &self.container, signo).await
        };
        if let Err(fault) = passed.await {
            tracing::debug!(agent = %self.name, signo, %fault, "passing a signal on");
        }
    }
}

async fn close(writer: &mut Option<AttachWriter>) {
    if let Some(writer) = writer.take() {
        writer.close().await;
    }
}

/// Passes output on until its end.
async fn output(mut reader: AttachReader, out: &mpsc::Sender<Result<AttachOutput, Status>>) -> Option<Fault> {
    loop {
        let body = match reader.next().await {
            Ok(Some((StdStream::Stdout, bytes))) => attach_output::Body::Stdout(bytes),
            Ok(Some((StdStream::Stderr, bytes))) => attach_output::Body::Stderr(bytes),
            Ok(None) => return None,
            Err(error) => return Some(error.into()),
        };
        if out.send(Ok(message(body))).await.is_err() {
            return None;
        }
    }
}

fn is_running(status: Option<&tokio::sync::watch::Receiver<AgentStatus>>) -> bool {
    status.is_some_and(|status| status.borrow().state == ContainerState::Running)
}

/// Resolves once the container runs; never if nobody can say.
async fn running(status: &mut Option<tokio::sync::watch::Receiver<AgentStatus>>) {
    if let Some(status) = status
        && status
            .wait_for(|status| status.state == ContainerState::Running)
            .await
            .is_ok()
    {
        return;
    }
    std::future::pending().await
}
