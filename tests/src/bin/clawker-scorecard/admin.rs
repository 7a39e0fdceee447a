//! An operator's connection to a control plane: what `clawker` does, without starting a program.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clawker_wire::admin::admin_service_client::AdminServiceClient;
use clawker_wire::admin::{
    CreateAgentRequest, ExecInput, ExecStart, RemoveAgentRequest, StartAgentRequest, exec_input, exec_output,
    start_progress,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

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

    /// Makes an agent and starts it, until its command runs. Its container's id.
    pub async fn run(&mut self, request: CreateAgentRequest) -> Result<(String, String)> {
        let made = self.0.create_agent(request).await?.into_inner();
        let start = StartAgentRequest {
            agent: made.name.clone(),
            detach: true,
        };
        let mut progress = self.0.start_agent(start).await?.into_inner();
        while let Some(message) = progress.message().await? {
            match message.body {
                Some(start_progress::Body::Ready(_) | start_progress::Body::Exit(_)) => {
                    return Ok((made.name, made.container_id));
                }
                Some(start_progress::Body::Refused(refused)) => bail!("{}: {}", made.name, refused.reason),
                _ => {}
            }
        }
        bail!("{} was never said to run", made.name)
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
        let start = ExecStart {
            agent: agent.to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecStart::default()
        };
        let first = ExecInput {
            body: Some(exec_input::Body::Start(start)),
        };
        let mut output = self.0.exec(tokio_stream::once(first)).await?.into_inner();
        while let Some(message) = output.message().await? {
            if let Some(exec_output::Body::Exit(exit)) = message.body {
                anyhow::ensure!(exit.code == 0, "the command ended with {}", exit.code);
                return Ok(());
            }
        }
        bail!("the command's exit was never told")
    }
}
