//! Making an agent, whole or not at all.
//!
//! ```text
//! checked ─▶ image ─▶ run folder ─▶ AgentCreating ─▶ container ─▶ secrets ─▶ AgentCreated ─▶ looked after
//!                                        └─────────────┴──────────┴──▶ all of it undone, AgentCreateFailed
//! ```

use clawker_docker::{CreateContainer, Docker, Image};
use clawker_model::event::{AgentCreateFailed, AgentCreated, AgentCreating, OperatorCommand, Seen};
use clawker_model::{AgentSpec, ContainerId, Egress, FullName, Mount, Network, OnAbsent, Resources, RunId, exit};
use clawker_store::AgentRecord;
use clawker_wire::admin::{CreateAgentRequest, CreateAgentResponse, Secret};
use futures::StreamExt as _;
use tonic::Code;

use super::absence::Wanted;
use super::error::Fault;
use super::naming::{Creating, name, taken};
use super::socket::Peer;
use super::{container, egress, limits, merge, project, secrets, steps};
use crate::core::Core;

/// What the request says, before image and engine are asked.
struct Wish {
    name: FullName,
    egress: Egress,
    network: Network,
    without: Wanted,
    secrets: Vec<clawker_model::SecretRef>,
}

impl Wish {
    fn read(request: &CreateAgentRequest) -> Result<Self, Fault> {
        limits::check(request)?;
        limits::text("image", &request.image, limits::MAX_PATH)?;
        Ok(Self {
            name: name(&request.project, &request.agent)?,
            egress: egress::egress(&request.egress)?.unwrap_or_default(),
            network: match request.network.as_str() {
                "" => Network::Default,
                "none" => Network::None,
                name => Network::Named { name: name.to_owned() },
            },
            without: Wanted::read(request)?,
            secrets: secrets::references(&request.secrets)?,
        })
    }
}

impl Wish {
    /// What the kernel of another host can't be asked for is refused here, and not found missing later.
    fn can_be_elsewhere(&self) -> Result<(), Fault> {
        let refuse = |what: &str, hint: &str| {
            let message = format!("the engine is elsewhere (`transport = \"tcp\"`), and there {what}");
            Err(Fault::new(Code::FailedPrecondition, exit::CANT_CREATE, message, hint))
        };
        if self.egress != Egress::Open {
            return refuse(
                "containment is reduced: `--egress` can't be put in force",
                "leave `--egress` out, or run this agent on an engine of the control plane's own host",
            );
        }
        if self.network == Network::None {
            return refuse(
                "an agent without a network can't be reached",
                "leave `--network none` out; `clawker contain AGENT lock-network` disconnects it later",
            );
        }
        if matches!(self.without.absence.on_absent, OnAbsent::Defaults { .. }) {
            return refuse(
                "`--on-absent defaults` would run the command before anybody has joined it",
                "use `--on-absent await`",
            );
        }
        Ok(())
    }
}

/// Makes the agent. Its container is there, stopped, when this returns.
pub async fn create(
    core: &Core,
    creating: &Creating,
    request: CreateAgentRequest,
    peer: Peer,
) -> Result<CreateAgentResponse, Fault> {
    let wish = Wish::read(&request)?;
    let name = wish.name.clone();
    project::check(&core.config.project, &request)?;
    if core.config.engine.is_elsewhere() {
        wish.can_be_elsewhere()?;
    }
    let _claim = creating.claim(&name)?;
    let there = core.store.agent(&name).await?;
    if let (true, Some(there)) = (request.from_project, &there) {
        return unchanged(core, &wish, there, &request, peer).await;
    }
    if there.is_some() || core.agents.get(&name).is_some() {
        return Err(taken(&name));
    }
    let asked = OperatorCommand {
        by: peer.operator(),
        command: "create".into(),
        detail: request.image.clone(),
    };
    core.store.append(Some(&name), asked).await?;
    let image = image(&core.docker, &request.image).await?;
    network(core, &wish.network).await?;
    let spec = spec(core, &wish, &image, &request, peer).await?;
    let label = container::label(&spec)?;

    let run = core.agents.prepare_run().await?;
    let options = match container::options(core, &spec, &run.id, label) {
        Ok(options) => options,
        Err(fault) => {
            core.agents.discard_run(&run.id).await;
            return Err(fault);
        }
    };
    let making = AgentCreating {
        spec: Box::new(spec),
        run: run.id.clone(),
    };
    if let Err(error) = core.store.append_synced(Some(&name), making).await {
        core.agents.discard_run(&run.id).await;
        return Err(error.into());
    }
    match make(core, &name, &run.id, &options, request.secrets).await {
        Ok(id) => Ok(CreateAgentResponse {
            name: name.to_string(),
            container_id: id.to_string(),
            unchanged: false,
        }),
        Err(fault) => {
            core.agents.discard_run(&run.id).await;
            let failed = AgentCreateFailed {
                message: fault.message.clone(),
            };
            if let Err(error) = core.store.append(Some(&name), failed).await {
                core.board
                    .degraded("journal", format!("{name} wasn't made: {error}"))
                    .await;
            }
            Err(fault)
        }
    }
}

/// There is an agent of that name: whether it is what the request says.
async fn unchanged(
    core: &Core,
    wish: &Wish,
    there: &AgentRecord,
    request: &CreateAgentRequest,
    peer: Peer,
) -> Result<CreateAgentResponse, Fault> {
    let Some(container) = &there.container else {
        return Err(taken(&wish.name));
    };
    let image = image(&core.docker, &request.image).await?;
    let spec = spec(core, wish, &image, request, peer).await?;
    let mut differing = project::differences(&there.spec, &spec);
    let same_secrets = project::same_secrets(&core.secrets_dir(container), &request.secrets).await;
    if !same_secrets && !differing.contains(&"secrets") {
        differing.push("secrets");
    }
    if !differing.is_empty() {
        return Err(project::differs(&wish.name, &differing));
    }
    Ok(CreateAgentResponse {
        name: wish.name.to_string(),
        container_id: container.to_string(),
        unchanged: true,
    })
}

/// Container, secrets, row. What was made is unmade on an error.
async fn make(
    core: &Core,
    name: &FullName,
    run: &RunId,
    spec: &CreateContainer,
    secrets: Vec<Secret>,
) -> Result<ContainerId, Fault> {
    let id = core.docker.create(spec).await?;
    let rest = async {
        secrets::store(core.secrets_dir(&id), secrets).await?;
        let created = AgentCreated {
            container: id.clone(),
            run: run.clone(),
        };
        core.store.append_synced(Some(name), created).await?;
        core.agents.created(name).await?;
        Ok::<_, Fault>(())
    };
    if let Err(fault) = rest.await {
        secrets::discard(&core.secrets_dir(&id)).await;
        if let Err(error) = core.docker.remove(&id, true).await {
            core.board
                .degraded(
                    "engine",
                    format!("{name} wasn't made, its container {} is left: {error}", id.short()),
                )
                .await;
        }
        core.agents.gone(&id, Seen::Own).await;
        return Err(fault);
    }
    Ok(id)
}

/// The image by reference, pulled if it isn't there.
async fn image(docker: &Docker, reference: &str) -> Result<Image, Fault> {
    let image = match docker.image(reference).await? {
        Some(image) => image,
        None => {
            let mut lines = Box::pin(docker.pull(reference));
            while let Some(line) = lines.next().await {
                // Not within the macro: what is logged at no level isn't looked at.
                let line = line?;
                tracing::debug!(image = reference, line, "pull");
            }
            let missing = clawker_docker::Error::NoSuchImage {
                image: reference.to_owned(),
            };
            docker.image(reference).await?.ok_or(missing)?
        }
    };
    if !image.os.is_empty() && image.os != "linux" {
        return Err(Fault::new(
            Code::FailedPrecondition,
            exit::CANT_CREATE,
            format!("image `{reference}` is for {}", image.os),
            "use an image for Linux",
        ));
    }
    Ok(image)
}

async fn network(core: &Core, network: &Network) -> Result<(), Fault> {
    match network {
        Network::None => Ok(()),
        // Made when the control plane began, and again if somebody removed it.
        Network::Default => {
            let label = format!("{}.managed", core.config.label_prefix);
            Ok(core.docker.ensure_network(&core.config.network, &label).await?)
        }
        Network::Named { name } => match core.docker.network_exists(name).await? {
            true => Ok(()),
            false => Err(clawker_docker::Error::NoSuchNetwork { network: name.clone() }.into()),
        },
    }
}

async fn spec(
    core: &Core,
    wish: &Wish,
    image: &Image,
    request: &CreateAgentRequest,
    peer: Peer,
) -> Result<AgentSpec, Fault> {
    let mount = |mount: &clawker_wire::admin::Mount| Mount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    };
    Ok(AgentSpec {
        name: wish.name.clone(),
        image: request.image.clone(),
        image_id: image.id.clone(),
        owner: peer.owner(),
        main: merge::main_spec(image, request, &wish.name.to_string())?,
        health: image.health.clone(),
        secrets: wish.secrets.clone(),
        mounts: request.mounts.iter().map(mount).collect(),
        publish: request.publish.clone(),
        network: wish.network.clone(),
        egress: wish.egress.clone(),
        resources: Resources {
            memory: request.memory,
            nano_cpus: request.nano_cpus,
            pids: request.pids,
        },
        plan: steps::plan(core, &request.steps, &wish.secrets).await?,
        remove: request.remove,
        on_orphan: wish.without.on_orphan,
        absence: wish.without.absence.clone(),
        restart: wish.without.restart,
        unsafe_options: request.unsafe_options.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_or_refused_by_name() {
        let read = |change: fn(&mut CreateAgentRequest)| {
            let mut request = CreateAgentRequest {
                agent: "a".into(),
                image: "i".into(),
                ..Default::default()
            };
            change(&mut request);
            Wish::read(&request)
        };
        let plain = read(|_| {}).expect("plain");
        assert_eq!(
            (plain.egress, plain.network, plain.without),
            (Egress::Open, Network::Default, Wanted::default())
        );
        assert_eq!(
            read(|r| r.network = "none".into()).expect("none").network,
            Network::None
        );
        let elsewhere = |change| read(change).expect("read").can_be_elsewhere();
        assert!(elsewhere(|_| {}).is_ok());
        for (change, named) in [
            (
                (|r| r.egress = vec!["192.0.2.1:443".into()]) as fn(&mut CreateAgentRequest),
                "--egress",
            ),
            (|r| r.network = "none".into(), "without a network"),
            (
                |r| (r.on_absent, r.unverified_network) = ("defaults:5".into(), true),
                "--on-absent defaults",
            ),
        ] {
            let fault = elsewhere(change).expect_err(named);
            assert!(
                fault.message.contains(named) && fault.message.contains("elsewhere"),
                "{fault:?}"
            );
        }
        for change in [
            (|r| r.on_orphan = "hope".into()) as fn(&mut CreateAgentRequest),
            |r| r.egress = vec!["example.org:1".into()],
            |r| r.agent = "A".into(),
            |r| r.command = vec!["x\0".into()],
        ] {
            assert!(read(change).is_err());
        }
    }
}
