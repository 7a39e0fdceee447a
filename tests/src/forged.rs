//! A container in which something else stands in clawkerd's place: our labels, a run folder, another authority.
//!
//! Made through Docker's API behind the control plane's back. Its PID 1 is the test crate's `forged-clawkerd`,
//! which says on its output what it was sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::bins;
use crate::host::Host;
use crate::listener::Listener;

/// The forged container, which looks like an agent.
pub struct Forged<'h> {
    pub agent: Agent<'h>,
    pub container: String,
}

impl<'h> Forged<'h> {
    /// Makes and starts it. It tries to reach `target` all the time.
    pub fn start(host: &'h Host, name: &str, target: &Listener) -> Result<Self> {
        let run = run_folder(host, name)?;
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
        let body = json!({
            "Image": host.busybox()?,
            "Hostname": agent.full(),
            "User": "0:0",
            "Entrypoint": [format!("/.clawker/{}", bins::ADVERSARY), "init"],
            "Cmd": [agent.full(), target.address()],
            "Labels": labels,
            "HostConfig": {
                "NetworkMode": host.network(),
                "CapDrop": ["NET_RAW"],
                "Mounts": [mount(&bins::adversary_dir()?, "/.clawker"), mount(&run_folder, "/.clawker-run")],
            },
        });
        let container = host.docker.create(&agent.full(), &body)?;
        host.docker.start(&container)?;
        Ok(Self { agent, container })
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

    /// Whether the newest of its own attempts to reach its target got through, and how many there were.
    pub fn reaches(&self) -> Result<(usize, bool)> {
        let said = self.said()?;
        let attempts: Vec<bool> = said.iter().filter_map(|said| said["reached"].as_bool()).collect();
        Ok((attempts.len(), attempts.last().copied().unwrap_or(false)))
    }
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
