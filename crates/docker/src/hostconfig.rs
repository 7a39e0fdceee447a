//! A container's configuration, built from scratch out of typed options.
//!
//! What isn't a field of [`CreateContainer`] can't be set: privileges, capabilities, host namespaces, devices,
//! security options, cgroup parents, runtimes and volumes-from have no way in. What an agent always gets stands
//! in [`body`]; what its creator may choose is checked in `mounts` and `publish`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use clawker_model::{FullName, Network, Resources};

use crate::{mounts, publish};

/// Where an agent finds clawkerd.
pub const AGENT_DIR: &str = "/.clawker";
/// Where an agent finds its sockets.
pub const RUN_DIR: &str = "/.clawker-run";

/// All that can be said about a container.
#[derive(Debug, Clone)]
pub struct CreateContainer {
    /// Container name and hostname.
    pub name: FullName,
    /// `sha256:…`
    pub image_id: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub mounts: Vec<clawker_model::Mount>,
    /// What of this host is mounted; `None` for an engine elsewhere, which has nothing of this host to mount.
    pub mounted: Option<Mounted>,
    /// `[[addr:]port:]port[/proto]`
    pub publish: Vec<String>,
    pub network: Network,
    /// The network of [`Network::Default`].
    pub default_network: String,
    pub resources: Resources,
    pub unsafe_options: Vec<String>,
    /// Host paths that no mount may show, over and above the fixed ones: state and admin socket.
    pub protected: Vec<PathBuf>,
}

/// What every agent on this host has mounted.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// Host directory with clawkerd, read-only at [`AGENT_DIR`].
    pub agent_dir: PathBuf,
    /// The agent's run folder, read-only at [`RUN_DIR`].
    pub run_dir: PathBuf,
}

/// A limit that the operator may lift by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsafe {
    /// Mounts may show the host's own directories, though never ours or an engine's.
    Mount,
}

impl Unsafe {
    pub fn parse(name: &str) -> Result<Self, SpecError> {
        match name {
            "mount" => Ok(Unsafe::Mount),
            other => Err(SpecError::Unsafe { name: shown(other) }),
        }
    }
}

/// Why options for a container were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("`--unsafe-{name}` is not something that can be lifted")]
    Unsafe { name: String },
    #[error("{count} {what}, the limit is {max}")]
    TooMany {
        what: &'static str,
        count: usize,
        max: usize,
    },
    #[error("mount source `{source_path}` is neither an absolute path nor a volume's name")]
    MountSource { source_path: String },
    #[error("mount source `{source_path}` is a path of this host, and the engine is elsewhere")]
    MountElsewhere { source_path: String },
    #[error("mount source `{source_path}`: {message}")]
    MountSourceUnusable { source_path: String, message: String },
    #[error("mount source `{source_path}` shows `{protected}` of the host")]
    MountProtected { source_path: String, protected: String },
    #[error("mount source `{source_path}` is an engine's socket")]
    MountSocket { source_path: String },
    #[error("volume `{volume}` has a driver or options of its own, which can stand for any path of the host")]
    Volume { volume: String },
    #[error("mount target `{target}`: {why}")]
    MountTarget { target: String, why: &'static str },
    #[error("two mounts at `{target}`")]
    DuplicateTarget { target: String },
    #[error("published port `{publish}`: {why}")]
    Publish { publish: String, why: &'static str },
    #[error("network `{network}`: {why}")]
    Network { network: String, why: &'static str },
    #[error("{what} of {value} is out of range")]
    Resource { what: &'static str, value: u64 },
}

impl SpecError {
    pub fn hint(&self) -> &'static str {
        match self {
            SpecError::Unsafe { .. } => "only `--unsafe-mount` exists",
            SpecError::TooMany { .. } => "give fewer",
            SpecError::MountSource { .. } => "give an absolute path; `$PWD/...` makes one of a relative path",
            SpecError::MountElsewhere { .. } => "use a volume of that engine by its name",
            SpecError::MountSourceUnusable { .. } => "the path must exist; make it first",
            SpecError::MountProtected { .. } => "mount a folder of the work itself; `--unsafe-mount` lifts what can be",
            SpecError::MountSocket { .. } => "who holds an engine's socket holds the host; this can't be lifted",
            SpecError::Volume { .. } => "use a plain volume, or a path",
            SpecError::MountTarget { .. } | SpecError::DuplicateTarget { .. } => {
                "choose another place in the container"
            }
            SpecError::Publish { .. } => "write it as `[[addr:]port:]port[/tcp|/udp]`",
            SpecError::Network { .. } => "leave it out for clawker's own network, or name one of `docker network ls`",
            SpecError::Resource { .. } => "give a smaller number",
        }
    }
}

/// The beginning of something that a caller wrote, for an error.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The request body. `binds` are the caller's mounts, already checked.
pub(crate) fn body(spec: &CreateContainer, binds: Vec<Mount>) -> Result<ContainerCreateBody, SpecError> {
    let ports = publish::bindings(&spec.publish)?;
    let mut exposed: Vec<String> = ports.keys().cloned().collect();
    exposed.sort();
    Ok(ContainerCreateBody {
        hostname: Some(spec.name.to_string()),
        user: Some("0:0".into()),
        attach_stdin: Some(spec.open_stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        tty: Some(spec.tty),
        open_stdin: Some(spec.open_stdin),
        // The end of what is attached is the end of the command's input.
        stdin_once: Some(spec.open_stdin),
        cmd: Some(spec.cmd.clone()),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..Default::default()
        }),
        image: Some(spec.image_id.clone()),
        working_dir: Some("/".into()),
        entrypoint: Some(spec.entrypoint.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        // PID 1 gives the command the image's own stop signal.
        stop_signal: Some("SIGTERM".into()),
        host_config: Some(host_config(spec, binds, ports)?),
        ..Default::default()
    })
}

fn host_config(
    spec: &CreateContainer,
    binds: Vec<Mount>,
    ports: bollard::models::PortMap,
) -> Result<HostConfig, SpecError> {
    let ours = spec.mounted.iter().flat_map(|mounted| {
        [
            bind(&mounted.agent_dir, AGENT_DIR, true),
            bind(&mounted.run_dir, RUN_DIR, true),
        ]
    });
    let all: Vec<Mount> = ours.chain(binds).collect();
    let Resources {
        memory,
        nano_cpus,
        pids,
    } = spec.resources.clone();
    Ok(HostConfig {
        memory: memory.map(|value| signed("memory", value)).transpose()?,
        nano_cpus: nano_cpus.map(|value| signed("CPUs", value)).transpose()?,
        pids_limit: pids.map(i64::from),
        init: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some([("max-size".into(), "10m".into()), ("max-file".into(), "3".into())].into()),
        }),
        network_mode: Some(network_mode(spec)?),
        port_bindings: (!ports.is_empty()).then_some(ports),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        mounts: Some(all),
        cap_drop: Some(vec!["NET_RAW".into()]),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".into()),
        privileged: Some(false),
        publish_all_ports: Some(false),
        ..Default::default()
    })
}

/// A bind whose source must exist: Docker's older `-v` would mount an empty folder in its place.
pub(crate) fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        target: Some(target.to_owned()),
        source: Some(source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn network_mode(spec: &CreateContainer) -> Result<String, SpecError> {
    let Some(name) = spec.network.name(&spec.default_network) else {
        return Ok("none".into());
    };
    let refuse = |why| {
        Err(SpecError::Network {
            network: shown(name),
            why,
        })
    };
    if name == "host" || name.starts_with("container:") || name.starts_with("ns:") {
        return refuse("an agent has a network namespace of its own, or it couldn't be contained");
    }
    if name == "none" || name == "default" {
        return refuse("the word has a meaning of its own to Docker");
    }
    if !mounts::is_docker_name(name) {
        return refuse("not a network's name");
    }
    Ok(name.to_owned())
}

fn signed(what: &'static str, value: u64) -> Result<i64, SpecError> {
    match i64::try_from(value) {
        Ok(0) | Err(_) => Err(SpecError::Resource { what, value }),
        Ok(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests;
