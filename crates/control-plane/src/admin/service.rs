//! `AdminService`: one method each, passed on to the file of its group.
//!
//! A change goes on to its end in a task of its own even when the operator's connection breaks, so nothing is left
//! half done; what only looks is dropped with the connection.

use std::future::Future;
use std::sync::Arc;

use clawker_model::FullName;
use clawker_model::event::OperatorCommand;
use clawker_wire::MAX_MESSAGE;
use clawker_wire::admin::admin_service_server::{AdminService, AdminServiceServer};
use clawker_wire::admin::{self as wire, Done};
use tonic::{Request, Response, Status, Streaming};

use super::error::Fault;
use super::naming::Creating;
use super::resolve::resolve;
use super::shutdown::{self, Fate};
use super::socket::{self, AdminError, Peer};
use super::{
    attach, audit, authority, backup, contain, create, events, exec, lifecycle, logs, plugins, restarts, status,
};
use crate::core::Core;

/// Listens on the admin socket and serves until shutdown.
pub fn serve(core: Arc<Core>) -> Result<(), AdminError> {
    let listener = socket::bind(&core.config.admin_socket)?;
    let shutdown = core.shutdown.clone();
    let service = AdminServiceServer::new(Service {
        core: core.clone(),
        creating: Arc::default(),
        backing_up: backup::Turn::default(),
    })
    .max_decoding_message_size(2 * MAX_MESSAGE)
    .max_encoding_message_size(2 * MAX_MESSAGE);
    let incoming = futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((Ok::<_, std::io::Error>(accepted), listener))
    });
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let server = tonic::transport::Server::builder().add_service(service);
        if let Err(error) = server
            .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
            .await
        {
            core.board.degraded("admin", error.to_string()).await;
        }
    });
    Ok(())
}

struct Service {
    core: Arc<Core>,
    creating: Arc<Creating>,
    backing_up: backup::Turn,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// Runs a change to its end, whoever stays to hear of it.
    async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        match self.core.tasks.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(Fault::internal(format!("it broke off: {error}"))),
        }
    }

    fn peer<T>(request: &Request<T>) -> Result<Peer, Fault> {
        let peer = request.extensions().get::<Peer>().copied();
        peer.ok_or_else(|| Fault::internal("a connection without a known peer"))
    }
}

/// What an operator is about to change.
async fn note(core: &Core, agent: Option<&FullName>, peer: Peer, command: &str, detail: String) -> Result<(), Fault> {
    let command = OperatorCommand {
        by: peer.operator(),
        command: command.to_owned(),
        detail,
    };
    core.store.append(agent, command).await?;
    Ok(())
}

#[tonic::async_trait]
impl AdminService for Service {
    type StartAgentStream = lifecycle::Progress;
    type AttachStream = attach::Output;
    type ExecStream = exec::Output;
    type LogsStream = logs::Chunks;
    type WatchEventsStream = events::Rows;
    type AuditExportStream = audit::Lines;
    type BackupStream = backup::Pieces;

    async fn create_agent(&self, request: Request<wire::CreateAgentRequest>) -> Answer<wire::CreateAgentResponse> {
        let peer = Self::peer(&request)?;
        let (core, creating, request) = (self.core.clone(), self.creating.clone(), request.into_inner());
        let made = self.whole(async move { create::create(&core, &creating, request, peer).await });
        Ok(Response::new(made.await?))
    }

    async fn start_agent(&self, request: Request<wire::StartAgentRequest>) -> Answer<Self::StartAgentStream> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let started = self.whole(async move {
            let found = resolve(&core, &request.agent).await?;
            note(&core, Some(&found.name), peer, "start", String::new()).await?;
            restarts::begin(&core, &found, peer).await?;
            lifecycle::start(core, request).await
        });
        Ok(Response::new(started.await?))
    }

    async fn stop_agent(&self, request: Request<wire::StopAgentRequest>) -> Answer<Done> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let stopped = self.whole(async move {
            let found = resolve(&core, &request.agent).await?;
            note(&core, Some(&found.name), peer, "stop", seconds(request.timeout)).await?;
            restarts::end(&core, &found, peer, "stop").await?;
            lifecycle::stop(&core, &found, request.timeout).await
        });
        stopped.await?;
        Ok(Response::new(Done {}))
    }

    async fn restart_agent(&self, request: Request<wire::StopAgentRequest>) -> Answer<Done> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let restarted = self.whole(async move {
            let found = resolve(&core, &request.agent).await?;
            note(&core, Some(&found.name), peer, "restart", seconds(request.timeout)).await?;
            restarts::begin(&core, &found, peer).await?;
            lifecycle::restart(&core, &found, request.timeout).await
        });
        restarted.await?;
        Ok(Response::new(Done {}))
    }

    async fn remove_agent(&self, request: Request<wire::RemoveAgentRequest>) -> Answer<Done> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let removed = self.whole(async move {
            let found = resolve(&core, &request.agent).await?;
            let detail = if request.force { "force" } else { "" };
            // A journal that can't be written must not keep a container.
            if let Err(fault) = note(&core, Some(&found.name), peer, "remove", detail.to_owned()).await {
                core.board.degraded("journal", fault.message).await;
            }
            lifecycle::remove(&core, &found, request.force).await
        });
        removed.await?;
        Ok(Response::new(Done {}))
    }

    async fn list_agents(&self, request: Request<wire::ListAgentsRequest>) -> Answer<wire::ListAgentsResponse> {
        let agents = status::list(&self.core, request.get_ref().all).await?;
        Ok(Response::new(wire::ListAgentsResponse { agents }))
    }

    async fn get_agent(&self, request: Request<wire::AgentRef>) -> Answer<wire::AgentView> {
        let found = resolve(&self.core, &request.get_ref().agent).await?;
        Ok(Response::new(status::get(&self.core, &found).await))
    }

    async fn wait_agent(&self, request: Request<wire::AgentRef>) -> Answer<wire::Exit> {
        Ok(Response::new(
            lifecycle::wait(&self.core, &request.get_ref().agent).await?,
        ))
    }

    async fn attach(&self, request: Request<Streaming<wire::AttachInput>>) -> Answer<Self::AttachStream> {
        let peer = Self::peer(&request)?;
        Ok(Response::new(
            attach::attach(self.core.clone(), peer, request.into_inner()).await?,
        ))
    }

    async fn exec(&self, request: Request<Streaming<wire::ExecInput>>) -> Answer<Self::ExecStream> {
        let peer = Self::peer(&request)?;
        Ok(Response::new(
            exec::exec(self.core.clone(), peer, request.into_inner()).await?,
        ))
    }

    async fn logs(&self, request: Request<wire::LogsRequest>) -> Answer<Self::LogsStream> {
        Ok(Response::new(
            logs::logs(self.core.clone(), request.into_inner()).await?,
        ))
    }

    async fn contain(&self, request: Request<wire::ContainRequest>) -> Answer<wire::ContainResponse> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let action = contain::action(&request)?;
        let contained = self.whole(async move {
            let found = resolve(&core, &request.agent).await?;
            note(&core, Some(&found.name), peer, "contain", action.to_string()).await?;
            contain::contain(&core, &found, action, &request.reason, peer).await
        });
        Ok(Response::new(contained.await?))
    }

    async fn release(&self, request: Request<wire::ReleaseRequest>) -> Answer<wire::ContainResponse> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let released = self.whole(async move {
            let found = resolve(&core, &request.agent).await?;
            note(&core, Some(&found.name), peer, "release", String::new()).await?;
            contain::release(&core, &found, peer).await
        });
        Ok(Response::new(released.await?))
    }

    async fn why(&self, request: Request<wire::AgentRef>) -> Answer<wire::WhyResponse> {
        Ok(Response::new(contain::why(&self.core, &request.get_ref().agent).await?))
    }

    async fn watch_events(&self, request: Request<wire::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        Ok(Response::new(
            events::watch(self.core.clone(), request.into_inner()).await?,
        ))
    }

    async fn get_authority(&self, _: Request<wire::GetAuthorityRequest>) -> Answer<wire::Authority> {
        Ok(Response::new(authority::show(&self.core)))
    }

    async fn rotate_authority(&self, request: Request<wire::RotateAuthorityRequest>) -> Answer<wire::Authority> {
        let peer = Self::peer(&request)?;
        let core = self.core.clone();
        let asked = self.whole(async move {
            note(&core, None, peer, "ca rotate", String::new()).await?;
            core.holders.ask(&peer.operator());
            Ok(authority::show(&core))
        });
        Ok(Response::new(asked.await?))
    }

    async fn request_fleet_certificate(
        &self,
        _: Request<wire::RequestFleetCertificateRequest>,
    ) -> Answer<wire::FleetRequest> {
        Ok(Response::new(authority::request(&self.core).await?))
    }

    async fn install_fleet_certificate(
        &self,
        request: Request<wire::InstallFleetCertificateRequest>,
    ) -> Answer<wire::Authority> {
        let peer = Self::peer(&request)?;
        let core = self.core.clone();
        let installed = self.whole(async move {
            note(&core, None, peer, "ca install", String::new()).await?;
            authority::install(&core, request.into_inner().certificate.to_vec()).await
        });
        Ok(Response::new(installed.await?))
    }

    async fn get_status(&self, _: Request<wire::GetStatusRequest>) -> Answer<wire::Status> {
        Ok(Response::new(status::status(&self.core)))
    }

    async fn audit_verify(&self, request: Request<wire::AuditVerifyRequest>) -> Answer<wire::AuditReport> {
        Ok(Response::new(audit::verify(&self.core, request.into_inner()).await?))
    }

    async fn audit_head(&self, _: Request<wire::AuditHeadRequest>) -> Answer<wire::SignedHead> {
        Ok(Response::new(audit::head(&self.core).await?))
    }

    async fn audit_export(&self, request: Request<wire::AuditExportRequest>) -> Answer<Self::AuditExportStream> {
        Ok(Response::new(
            audit::export(self.core.clone(), request.into_inner()).await?,
        ))
    }

    async fn backup(&self, request: Request<wire::BackupRequest>) -> Answer<Self::BackupStream> {
        let peer = Self::peer(&request)?;
        let turn = self.backing_up.take()?;
        note(&self.core, None, peer, "backup", String::new()).await?;
        Ok(Response::new(backup::make(self.core.clone(), turn).await?))
    }

    async fn install_plugin(
        &self,
        request: Request<Streaming<wire::InstallPluginRequest>>,
    ) -> Answer<wire::InstallPluginResponse> {
        let peer = Self::peer(&request)?;
        let core = self.core.clone();
        let (component, about) = plugins::receive(&core, request.into_inner()).await?;
        let installed = self.whole(async move {
            if !about.preview {
                note(&core, None, peer, "plugin install", plugins::detail(&about)).await?;
            }
            plugins::install(&core, component, about).await
        });
        Ok(Response::new(installed.await?))
    }

    async fn list_plugins(&self, _: Request<wire::ListPluginsRequest>) -> Answer<wire::ListPluginsResponse> {
        let plugins = plugins::list(&self.core).await?;
        Ok(Response::new(wire::ListPluginsResponse { plugins }))
    }

    async fn change_plugin(&self, request: Request<wire::ChangePluginRequest>) -> Answer<wire::PluginEntry> {
        let peer = Self::peer(&request)?;
        let (core, request) = (self.core.clone(), request.into_inner());
        let changed = self.whole(async move {
            note(&core, None, peer, "plugin change", format!("{:.64}", request.name)).await?;
            plugins::change(&core, request).await
        });
        Ok(Response::new(changed.await?))
    }

    async fn remove_plugin(&self, request: Request<wire::RemovePluginRequest>) -> Answer<Done> {
        let peer = Self::peer(&request)?;
        let (core, name) = (self.core.clone(), request.into_inner().name);
        let removed = self.whole(async move {
            note(&core, None, peer, "plugin remove", format!("{name:.64}")).await?;
            plugins::remove(&core, name).await
        });
        removed.await?;
        Ok(Response::new(Done {}))
    }

    async fn explain_decision(&self, request: Request<wire::ExplainDecisionRequest>) -> Answer<wire::Explanation> {
        let decision = request.into_inner().decision;
        Ok(Response::new(plugins::explain(&self.core, decision).await?))
    }

    async fn check_plugins(&self, _: Request<wire::CheckPluginsRequest>) -> Answer<wire::CheckPluginsResponse> {
        Ok(Response::new(plugins::check(&self.core).await?))
    }

    async fn shutdown(&self, request: Request<wire::ShutdownRequest>) -> Answer<wire::ShutdownResponse> {
        let peer = Self::peer(&request)?;
        let word = request.into_inner().agents;
        let fate = Fate::parse(&word)?;
        let core = self.core.clone();
        let shut = self.whole(async move {
            note(&core, None, peer, "shutdown", word.clone()).await?;
            shutdown::shut_down(core, fate, &word, peer).await
        });
        let untold = shut.await?;
        Ok(Response::new(wire::ShutdownResponse { untold }))
    }
}

fn seconds(timeout: Option<u32>) -> String {
    timeout.map(|seconds| format!("{seconds} s")).unwrap_or_default()
}
