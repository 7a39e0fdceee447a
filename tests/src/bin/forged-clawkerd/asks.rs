//! Calls on the agent socket: what the control plane says to whoever asks.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use clawker_wire::agent::agent_service_client::AgentServiceClient;
use clawker_wire::agent::{RegisterRequest, Welcome, WhoAmIRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::identity::Shown;
use crate::say;

/// Project and agent of a full name.
pub fn names(full: &str) -> (String, String) {
    let mut parts: Vec<&str> = full.split('.').skip(1).collect();
    let agent = parts.pop().unwrap_or_default().to_owned();
    (parts.join("."), agent)
}

/// Connects and shows `shown`. The refusal of a TLS 1.3 server comes with the first answer, not here.
pub async fn connect(path: &Path, shown: &Shown) -> Result<Channel> {
    let stream = UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(shown.client()?))
        .connect(ServerName::try_from("clawker-cp")?, stream)
        .await
        .context("TLS")?;
    let mut once = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let taken = once.take();
        async move { taken.ok_or_else(|| std::io::Error::other("used up")) }
    });
    let endpoint = Endpoint::from_static("http://clawker-cp");
    endpoint.connect_with_connector(connector).await.context("HTTP/2")
}

/// Registers; `authorization` is the whole header.
pub async fn register(
    channel: &Channel,
    (project, agent): (String, String),
    authorization: Option<String>,
) -> Result<(), String> {
    let mut request = Request::new(RegisterRequest { project, agent });
    if let Some(authorization) = authorization {
        let value = authorization.parse().map_err(|_| "a header is ASCII".to_owned())?;
        request.metadata_mut().insert("authorization", value);
    }
    told(
        AgentServiceClient::new(channel.clone())
            .register(request)
            .await
            .map(drop),
    )
}

pub async fn who_am_i(channel: &Channel) -> Result<(), String> {
    told(
        AgentServiceClient::new(channel.clone())
            .who_am_i(WhoAmIRequest {})
            .await
            .map(drop),
    )
}

/// A method by its path, with an empty message.
pub async fn call(channel: &Channel, path: &'static str) -> Result<(), String> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| error.to_string())?;
    let codec = tonic_prost::ProstCodec::<WhoAmIRequest, Welcome>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    told(
        client
            .unary(Request::new(WhoAmIRequest {}), path, codec)
            .await
            .map(drop),
    )
}

fn told(answer: Result<(), Status>) -> Result<(), String> {
    answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

/// Asks for all that there is to be had without a token, and says what became of it.
pub async fn everything(path: &Path, name: &str, shown: &Shown) {
    let channel = match connect(path, shown).await {
        Ok(channel) => channel,
        Err(error) => return say(&json!({"asked": "connect", "ok": false, "why": format!("{error:#}")})),
    };
    let guessed = Some("Bearer a-token-that-was-never-minted".to_owned());
    report("register", register(&channel, names(name), guessed).await);
    report("who-am-i", who_am_i(&channel).await);
    for (what, method) in [
        ("an unknown method", "/clawker.agent.v1.AgentService/Promote"),
        ("the session's service", "/clawker.session.v1.SessionService/Session"),
        ("the operators' service", "/clawker.admin.v1.AdminService/ListAgents"),
    ] {
        report(what, call(&channel, method).await);
    }
}

pub fn report(what: &str, answer: Result<(), String>) {
    say(&json!({"asked": what, "ok": answer.is_ok(), "why": answer.err()}));
}
