//! What the engine says of containers: one in full, or all of ours in short.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use bollard::models::{ContainerInspectResponse, ContainerSummary, PortBinding};
use bollard::query_parameters::ListContainersOptions;
use clawker_model::ContainerId;

use crate::{Docker, Error};

/// A container, as inspect has it. What Docker left out is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspect {
    pub id: ContainerId,
    /// Without the leading slash.
    pub name: String,
    /// `sha256:…`
    pub image_id: String,
    pub running: bool,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// The init's pid on the host; 0 when it doesn't run.
    pub pid: i32,
    pub exit_code: i64,
    pub oom_killed: bool,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<InspectMount>,
    pub network_mode: String,
    /// Network → address.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// Port of TCP in the container → where it is published first.
    pub published: BTreeMap<u16, SocketAddr>,
    pub cgroup_parent: String,
    /// RFC 3339, as Docker writes it.
    pub created: String,
    pub started_at: String,
    /// RFC 3339; of year 1 before its first end.
    pub finished_at: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub user: String,
    pub env: Vec<String>,
    pub tty: bool,
    pub open_stdin: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectMount {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: ContainerId,
    pub name: String,
    pub state: String,
    pub labels: BTreeMap<String, String>,
    /// As it was asked for at create: `bridge`, `none`, a network's name, `container:<id or name>`.
    pub network_mode: String,
}

impl Docker {
    /// `None` when there is no such container.
    pub async fn inspect(&self, id: &ContainerId) -> Result<Option<Inspect>, Error> {
        let call = format!("inspect container {}", id.short());
        let answer = self
            .query(&call, async |docker| docker.inspect_container(id.as_str(), None).await)
            .await;
        match answer {
            Ok(answer) => Inspect::read(&call, answer).map(Some),
            Err(Error::Engine { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every container with the label (`key` or `key=value`), stopped ones included. An answer is complete.
    pub async fn list(&self, label: &str) -> Result<Vec<Summary>, Error> {
        self.list_by("label", label).await
    }

    /// Every container of the engine, whoever's, stopped ones included. An answer is complete.
    pub async fn list_all(&self) -> Result<Vec<Summary>, Error> {
        self.list_where("list containers", HashMap::new()).await
    }

    /// The container whose id begins with `prefix`.
    pub async fn resolve(&self, prefix: &str) -> Result<ContainerId, Error> {
        let well_formed = !prefix.is_empty() && prefix.len() <= 64 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if !well_formed {
            return Err(Error::BadPrefix {
                prefix: crate::hostconfig::shown(prefix),
            });
        }
        let prefix = prefix.to_ascii_lowercase();
        let mut found: Vec<ContainerId> = self.list_by("id", &prefix).await?.into_iter().map(|c| c.id).collect();
        found.retain(|id| id.as_str().starts_with(&prefix));
        match (found.pop(), found.len()) {
            (None, _) => Err(Error::NoSuchContainer { id: prefix }),
            (Some(id), 0) => Ok(id),
            (Some(_), others) => Err(Error::Ambiguous {
                prefix,
                count: others + 1,
            }),
        }
    }

    async fn list_by(&self, filter: &str, value: &str) -> Result<Vec<Summary>, Error> {
        let call = format!("list containers with {filter} {value}");
        let filters = HashMap::from([(filter.to_owned(), vec![value.to_owned()])]);
        self.list_where(&call, filters).await
    }

    async fn list_where(&self, call: &str, filters: HashMap<String, Vec<String>>) -> Result<Vec<Summary>, Error> {
        let options = ListContainersOptions {
            all: true,
            filters: (!filters.is_empty()).then_some(filters),
            ..Default::default()
        };
        let answer = self
            .query(call, async move |docker| docker.list_containers(Some(options)).await)
            .await?;
        answer.into_iter().map(|summary| Summary::read(call, summary)).collect()
    }
}

fn container_id(call: &str, id: Option<String>) -> Result<ContainerId, Error> {
    ContainerId::parse(id.as_deref().unwrap_or_default()).map_err(|error| Error::Malformed {
        call: call.to_owned(),
        message: error.to_string(),
    })
}

pub(crate) fn plain_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

/// Of `7117/tcp` and its bindings, the first that can be connected to.
fn published_at((port, bindings): (String, Option<Vec<PortBinding>>)) -> Option<(u16, SocketAddr)> {
    let port = port.strip_suffix("/tcp")?.parse().ok()?;
    let addresses = bindings.into_iter().flatten().filter_map(|binding| {
        let ip: IpAddr = binding.host_ip?.parse().ok()?;
        Some(SocketAddr::new(ip, binding.host_port?.parse().ok()?))
    });
    let mut usable = addresses.filter(|address| !address.ip().is_unspecified() && address.port() != 0);
    usable.next().map(|address| (port, address))
}

impl Summary {
    pub(crate) fn read(call: &str, answer: ContainerSummary) -> Result<Self, Error> {
        Ok(Self {
            id: container_id(call, answer.id)?,
            name: answer
                .names
                .iter()
                .flatten()
                .next()
                .map(|name| plain_name(name))
                .unwrap_or_default(),
            state: answer.state.map(|state| state.to_string()).unwrap_or_default(),
            labels: answer.labels.unwrap_or_default().into_iter().collect(),
            network_mode: answer
                .host_config
                .and_then(|host| host.network_mode)
                .unwrap_or_default(),
        })
    }
}

impl Inspect {
    pub(crate) fn read(call: &str, answer: ContainerInspectResponse) -> Result<Self, Error> {
        let state = answer.state.unwrap_or_default();
        let config = answer.config.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let settings = answer.network_settings.unwrap_or_default();
        let networks = settings.networks.unwrap_or_default();
        let published = settings.ports.unwrap_or_default();
        Ok(Self {
            id: container_id(call, answer.id)?,
            name: plain_name(answer.name.as_deref().unwrap_or_default()),
            image_id: answer.image.unwrap_or_default(),
            running: state.running.unwrap_or_default(),
            status: state.status.map(|status| status.to_string()).unwrap_or_default(),
            // A pid that isn't one must not become a process group (0 and below mean groups to the kernel).
            pid: state
                .pid
                .and_then(|pid| i32::try_from(pid).ok())
                .filter(|pid| *pid > 0)
                .unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
            oom_killed: state.oom_killed.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            mounts: answer
                .mounts
                .unwrap_or_default()
                .into_iter()
                .map(|mount| InspectMount {
                    source: mount.source.unwrap_or_default(),
                    target: mount.destination.unwrap_or_default(),
                    read_only: !mount.rw.unwrap_or(true),
                })
                .collect(),
            network_mode: host.network_mode.unwrap_or_default(),
            networks: networks
                .into_iter()
                .map(|(name, endpoint)| (name, endpoint.ip_address.and_then(|ip| ip.parse().ok())))
                .collect(),
            published: published.into_iter().filter_map(published_at).collect(),
            cgroup_parent: host.cgroup_parent.unwrap_or_default(),
            created: answer.created.unwrap_or_default(),
            started_at: state.started_at.unwrap_or_default(),
            finished_at: state.finished_at.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            tty: config.tty.unwrap_or_default(),
            open_stdin: config.open_stdin.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_survives_what_docker_leaves_out_or_makes_up() {
        let id = "ab".repeat(32);
        let read = |json: &str| Inspect::read("inspect", serde_json::from_str(json).expect("json"));
        let bare = read(&format!(r#"{{"Id":"{id}"}}"#)).expect("bare");
        assert_eq!((bare.pid, bare.running, bare.status.as_str()), (0, false, ""));
        for pid in ["-1", "0", "99999999999"] {
            let json = format!(r#"{{"Id":"{id}","State":{{"Pid":{pid},"Status":"running","Running":true}}}}"#);
            assert_eq!(read(&json).expect("odd pid").pid, 0, "{pid}");
        }
        let mounted = format!(
            r#"{{"Id":"{id}","Name":"/clawker.a","Mounts":[{{"Source":"/s","Destination":"/t","RW":false}},{{"Source":"/u"}}]}}"#
        );
        let mounted = read(&mounted).expect("mounts");
        assert_eq!(mounted.name, "clawker.a");
        assert!(mounted.mounts[0].read_only && !mounted.mounts[1].read_only);
        let ports = r#"{"7117/tcp":[{"HostIp":"10.0.0.2","HostPort":"49153"}],"80/tcp":null,
            "53/udp":[{"HostIp":"10.0.0.2","HostPort":"53"}],"90/tcp":[{"HostIp":"0.0.0.0","HostPort":"90"}]}"#;
        let published = format!(r#"{{"Id":"{id}","NetworkSettings":{{"Ports":{ports}}}}}"#);
        let published = read(&published).expect("ports").published;
        assert_eq!(
            published,
            BTreeMap::from([(7117, "10.0.0.2:49153".parse().expect("one"))])
        );
        assert!(matches!(read(r#"{"Id":"abc"}"#), Err(Error::Malformed { .. })));
        assert!(matches!(read("{}"), Err(Error::Malformed { .. })));
    }
}
