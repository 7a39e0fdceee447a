//! An operator's connection to a control plane: what `clawker` does, without starting a program.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clawker_wire::admin::admin_service_client::AdminServiceClient;
use clawker_wire::admin::{
    AgentView, ContainRequest, CreateAgentRequest, ExecInput, ExecStart, ListAgentsRequest, RemoveAgentRequest,
    StartAgentRequest, WatchEventsRequest, exec_input, exec_output, start_progress,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::scale::Seen;

#[derive(Clone)]
pub struct Operator(AdminServiceClient<Channel>);

impl Operator {
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://control-plane")
            .connect_with_connector(connector)
            .await
            .context("connecting to the control plane")?;
        Ok(Self(AdminServiceClient::new(channel)))
    }

    /// Makes an agent and starts it, until its command runs. Its name, and its container's id.
    pub async fn run(&mut self, request: CreateAgentRequest) -> Result<(String, String)> {
        let (name, container) = self.create(request).await?;
        self.start(&name).await?;
        Ok((name, container))
    }

    /// Makes an agent.
    pub async fn create(&mut self, request: CreateAgentRequest) -> Result<(String, String)> {
        let made = self.0.create_agent(request).await?.into_inner();
        Ok((made.name, made.container_id))
    }

    /// Starts it, until its command runs.
    pub async fn start(&mut self, agent: &str) -> Result<()> {
        let start = StartAgentRequest {
            agent: agent.to_owned(),
            detach: true,
        };
        let mut progress = self.0.start_agent(start).await?.into_inner();
        while let Some(message) = progress.message().await? {
            match message.body {
                Some(start_progress::Body::Ready(_) | start_progress::Body::Exit(_)) => return Ok(()),
                Some(start_progress::Body::Refused(refused)) => bail!("{agent}: {}", refused.reason),
                _ => {}
            }
        }
        bail!("{agent} was never said to run")
    }

    /// Asks for an action on it, until that is in force.
    pub async fn contain(&mut self, agent: &str, action: &str) -> Result<()> {
        let request = ContainRequest {
            agent: agent.to_owned(),
            action: action.to_owned(),
            reason: "scorecard".to_owned(),
            ..ContainRequest::default()
        };
        self.0.contain(request).await?;
        Ok(())
    }

    /// Every agent.
    pub async fn list(&mut self) -> Result<Vec<AgentView>> {
        Ok(self
            .0
            .list_agents(ListAgentsRequest { all: true })
            .await?
            .into_inner()
            .agents)
    }

    /// Tells `each` of every row after `after`, until the control plane ends.
    pub async fn follow(mut self, after: u64, each: impl Fn(Seen)) -> Result<()> {
        let request = WatchEventsRequest {
            follow: true,
            after_seq: Some(after),
            ..WatchEventsRequest::default()
        };
        let mut rows = self.0.watch_events(request).await?.into_inner();
        while let Some(row) = rows.message().await? {
            each(Seen {
                at: Instant::now(),
                seq: row.seq,
                kind: row.kind,
                agent: row.agent,
            });
        }
        Ok(())
    }

    pub async fn remove(&mut self, agent: &str) -> Result<()> {
        let request = RemoveAgentRequest {
            agent: agent.to_owned(),
            force: true,
        };
        self.0.remove_agent(request).await?;
        Ok(())
    }

    /// Runs a command in the agent, to its exit code, which has to be 0.
    pub async fn exec(&mut self, agent: &str, argv: &[&str]) -> Result<()> {
        let nothing = None::<std::iter::Empty<Bytes>>;
        self.exec_with(agent, argv, nothing).await.map(drop)
    }

    /// The same with what it is given to read. How many bytes came out of it, and what it said on standard error.
    pub async fn exec_with(
        &mut self,
        agent: &str,
        argv: &[&str],
        input: Option<impl Iterator<Item = Bytes> + Send + 'static>,
    ) -> Result<(u64, String)> {
        let start = ExecStart {
            agent: agent.to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            stdin: input.is_some(),
            ..ExecStart::default()
        };
        let bodies = std::iter::once(exec_input::Body::Start(start))
            .chain(input.into_iter().flatten().map(exec_input::Body::Stdin));
        let input = bodies.map(|body| ExecInput { body: Some(body) });
        let mut output = self.0.exec(tokio_stream::iter(input)).await?.into_inner();
        let (mut len, mut said) = (0, Vec::new());
        while let Some(message) = output.message().await? {
            match message.body {
                Some(exec_output::Body::Stdout(bytes)) => len += bytes.len() as u64,
                Some(exec_output::Body::Stderr(bytes)) => said.extend_from_slice(&bytes),
                Some(exec_output::Body::Exit(exit)) => {
                    let said = String::from_utf8_lossy(&said).into_owned();
                    anyhow::ensure!(exit.code == 0, "the command ended with {}: {said}", exit.code);
                    return Ok((len, said));
                }
                _ => {}
            }
        }
        bail!("the command's exit was never told")
    }
}
