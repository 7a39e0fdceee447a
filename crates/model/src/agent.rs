//! What an agent is made from: the options of its creator, checked and complete.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Absence, EgressRule, FullName, OnOrphan, Plan, Restart};

/// All that the control plane keeps of how an agent was created. Holds no secret, only their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    pub name: FullName,
    /// As the caller wrote it.
    pub image: String,
    /// `sha256:…`, what the image was resolved to.
    pub image_id: String,
    /// Whoever created it: `uid:<n>` for the admin socket.
    pub owner: String,
    pub main: MainSpec,
    pub health: Option<HealthSpec>,
    pub secrets: Vec<SecretRef>,
    pub mounts: Vec<Mount>,
    /// As Docker's `--publish` has it, `[[addr:]port:]port[/proto]`.
    pub publish: Vec<String>,
    pub network: Network,
    pub egress: Egress,
    pub resources: Resources,
    pub plan: Plan,
    /// Remove the container when its command has ended.
    pub remove: bool,
    pub on_orphan: OnOrphan,
    #[serde(default)]
    pub absence: Absence,
    #[serde(default)]
    pub restart: Restart,
    /// Limits that the operator lifted by name (`--unsafe-<what>`), as journaled.
    pub unsafe_options: Vec<String>,
}

/// The agent's own command, exec `main`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MainSpec {
    /// Entrypoint and command, already joined.
    pub argv: Vec<String>,
    /// Docker's USER string, resolved by PID 1 against the image's files. Empty is root.
    pub user: String,
    /// `NAME=value`, of the image and the caller.
    pub env: Vec<String>,
    /// Empty is `/`.
    pub cwd: String,
    pub tty: bool,
    pub open_stdin: bool,
    pub stop_signal: Option<String>,
    pub no_new_privs: bool,
}

/// The image's health check, run by clawkerd as the image's user after AgentReady.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    pub argv: Vec<String>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub start_period_ms: u64,
    pub retries: u32,
}

/// A secret by name; its content is only ever in the control plane's secrets folder and in PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    pub name: String,
    pub kind: SecretKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    Env,
    File,
    /// For steps alone: the command doesn't get it.
    Step,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// A host path (absolute) or the name of a volume.
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "network")]
pub enum Network {
    /// The control plane's own bridge.
    #[default]
    Default,
    /// No interface but loopback.
    None,
    /// A Docker network that exists.
    Named { name: String },
}

impl Network {
    /// Docker's name of it, where the control plane's own bridge is `own`; `None` is none.
    pub fn name<'a>(&'a self, own: &'a str) -> Option<&'a str> {
        match self {
            Network::Default => Some(own),
            Network::None => None,
            Network::Named { name } => Some(name),
        }
    }
}

/// Where an agent may connect to while nothing contains it further.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "egress")]
pub enum Egress {
    #[default]
    Open,
    Only {
        allow: Vec<EgressRule>,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<u64>,
    /// Billionths of a CPU, as Docker's NanoCpus.
    pub nano_cpus: Option<u64>,
    pub pids: Option<u32>,
}

/// The labels that make a container one of ours, below the control plane's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub prefix: String,
}

impl Labels {
    pub fn managed(&self) -> String {
        format!("{}.managed", self.prefix)
    }

    /// Holds the [`AgentSpec`] as JSON, so that an agent whose journal is lost can be taken over.
    pub fn spec(&self) -> String {
        format!("{}.spec", self.prefix)
    }

    /// The name of the run folder that a container's labels claim.
    pub fn run_in(&self, labels: &BTreeMap<String, String>) -> Option<crate::RunId> {
        crate::RunId::parse(labels.get(&format!("{}.run", self.prefix))?).ok()
    }

    /// Labels that say whose an agent is and where its sockets are; the one with its definition comes on top.
    pub fn of(&self, name: &FullName, owner: &str, run: &crate::RunId) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (self.managed(), "true".to_owned()),
            (format!("{}.purpose", self.prefix), "agent".to_owned()),
            (format!("{}.agent", self.prefix), name.agent().to_string()),
            (format!("{}.owner", self.prefix), owner.to_owned()),
            (format!("{}.run", self.prefix), run.to_string()),
        ]);
        if let Some(project) = name.project() {
            labels.insert(format!("{}.project", self.prefix), project.to_string());
        }
        labels
    }

    /// The name that a container's labels claim; `None` when they are incomplete or malformed.
    pub fn name_in(&self, labels: &BTreeMap<String, String>) -> Option<FullName> {
        let get = |key: &str| labels.get(&format!("{}.{key}", self.prefix));
        let agent = crate::AgentName::parse(get("agent")?).ok()?;
        let project = match get("project") {
            Some(project) => Some(crate::ProjectName::parse(project).ok()?),
            None => None,
        };
        Some(FullName::new(project, agent))
    }
}
