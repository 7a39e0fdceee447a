//! A container in which something else stands in clawkerd's place: our labels, a run folder, another authority.
//!
//! Made through Docker's API behind the control plane's back. Its PID 1 is the test crate's `forged-clawkerd`,
//! which says on its output what it was sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::bins;
use crate::forge::Shown;
use crate::host::Host;
use crate::listener::Listener;

/// The forged container, which looks like an agent.
pub struct Forged<'h> {
    pub agent: Agent<'h>,
    pub container: String,
}

/// How a forged container differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct Unlike {
    /// Shows what is left in its folder by [`Forged::shows`], not a leaf of another authority.
    pub shows: bool,
    /// Another agent's run folder instead of one of its own.
    pub run: Option<String>,
    /// The container whose network it uses, and that whose processes it sees.
    pub network_of: Option<String>,
    pub processes_of: Option<String>,
}

impl<'h> Forged<'h> {
    /// Makes and starts it. It tries to reach `target` all the time.
    pub fn start(host: &'h Host, name: &str, target: &Listener) -> Result<Self> {
        let forged = Self::create(host, name, &target.address(), &Unlike::default())?;
        host.docker.start(&forged.container)?;
        Ok(forged)
    }

    /// Makes it.
    pub fn create(host: &'h Host, name: &str, target: &str, unlike: &Unlike) -> Result<Self> {
        let run = match &unlike.run {
            Some(run) => run.clone(),
            None => run_folder(host, name)?,
        };
        let agent = host.existing(name);
        let label = |key: &str| format!("{}.{key}", host.prefix());
        let labels = json!({
            label("managed"): "true",
            label("purpose"): "agent",
            label("project"): host.project(),
            label("agent"): name,
            label("owner"): "uid:0",
            label("run"): run,
        });
        let mount = |source: &std::path::Path, at: &str| json!({"Type": "bind", "Source": source, "Target": at, "ReadOnly": true});
        let run_folder = host.state_dir().join("run").join(&run);
        let mut mounts = vec![
            mount(&bins::adversary_dir()?, "/.clawker"),
            mount(&run_folder, "/.clawker-run"),
        ];
        let mut command = vec![agent.full(), target.to_owned()];
        if unlike.shows {
            let shown = shown_dir(host, name);
            fs::create_dir_all(&shown)?;
            mounts.push(mount(&shown, SHOWN));
            command.push(SHOWN.to_owned());
        }
        let container_of = |id: &String| format!("container:{id}");
        let network = unlike
            .network_of
            .as_ref()
            .map_or(host.network().to_owned(), container_of);
        // A container in another's network can't have a name of its own there.
        let hostname = unlike.network_of.is_none().then(|| agent.full());
        let body = json!({
            "Image": host.busybox()?,
            "Hostname": hostname,
            "User": "0:0",
            "Entrypoint": [format!("/.clawker/{}", bins::ADVERSARY), "init"],
            "Cmd": command,
            "Labels": labels,
            "HostConfig": {
                "NetworkMode": network,
                "PidMode": unlike.processes_of.as_ref().map(container_of),
                "CapDrop": ["NET_RAW"],
                "Mounts": mounts,
            },
        });
        let container = host.docker.create(&agent.full(), &body)?;
        Ok(Self { agent, container })
    }

    /// Leaves what it is to show, and starts it.
    pub fn shows(&self, shown: &Shown) -> Result<()> {
        shown.save(&shown_dir(self.agent.host, &self.agent.name))?;
        self.agent.host.docker.start(&self.container)
    }

    /// One that was started before.
    pub fn existing(host: &'h Host, name: &str) -> Result<Self> {
        let agent = host.existing(name);
        let container = host.docker.inspect(&agent.full())?.context("the forged container")?;
        let container = container["Id"].as_str().context("its id")?.to_owned();
        Ok(Self { agent, container })
    }

    /// What it has said so far, one object a line.
    pub fn said(&self) -> Result<Vec<Value>> {
        let logs = self.agent.host.docker.logs(&self.container)?;
        Ok(logs
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// How many messages of this kind it was sent.
    pub fn was_sent(&self, kind: &str) -> Result<usize> {
        Ok(self.said()?.iter().filter(|said| said["sent"] == kind).count())
    }

    /// Every kind of message that it was sent.
    pub fn kinds_sent(&self) -> Result<Vec<String>> {
        let mut kinds: Vec<String> = self
            .said()?
            .iter()
            .filter_map(|said| Some(said["sent"].as_str()?.to_owned()))
            .collect();
        kinds.sort();
        kinds.dedup();
        Ok(kinds)
    }

    /// How often it was given an identity.
    pub fn bundles(&self) -> Result<usize> {
        let given = |said: &Value| {
            said["preamble"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|k| k == "Bundle"))
        };
        Ok(self.said()?.iter().filter(|said| given(said)).count())
    }

    /// What the control plane said to each of its calls: what it asked, whether it got it, and why not.
    pub fn answers(&self) -> Result<Vec<(String, bool, String)>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let answer = |said: &Value| (text(&said["asked"]), said["ok"] == true, text(&said["why"]));
        let said = self.said()?;
        Ok(said
            .iter()
            .filter(|said| !said["asked"].is_null())
            .map(answer)
            .collect())
    }

    /// Whether the newest of its own attempts to reach its target got through, and how many there were.
    pub fn reaches(&self) -> Result<(usize, bool)> {
        let said = self.said()?;
        let attempts: Vec<bool> = said.iter().filter_map(|said| said["reached"].as_bool()).collect();
        Ok((attempts.len(), attempts.last().copied().unwrap_or(false)))
    }
}

/// Where a forged container finds what it is to show.
const SHOWN: &str = "/shown";

fn shown_dir(host: &Host, name: &str) -> PathBuf {
    host.shared_dir().join(format!("shown-{name}"))
}

/// A run folder as the control plane makes them.
fn run_folder(host: &Host, name: &str) -> Result<String> {
    let letters = [name, host.project(), "Forged0000000000000000"].concat();
    let id: String = letters.chars().filter(char::is_ascii_alphanumeric).take(22).collect();
    let path = host.state_dir().join("run").join(&id);
    fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(id)
}
