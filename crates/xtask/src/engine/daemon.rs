//! dockerd where no init system starts it: starting, recognising and repairing the one that is ours.
//!
//! Which one is ours is written down, as pid and start time, on a file system that a reboot empties; a pid alone is
//! used again. Repairs touch nothing that belongs to an engine of somebody else.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::engine::api::Api;
use crate::project::{Project, which};
use crate::run::{self, unmet};
use crate::say::say;

const STATE: &str = "/run/clawker-xtask/dockerd";
const PID_FILE: &str = "/var/run/docker.pid";
const READY: Duration = Duration::from_secs(60);

/// The init system that owns services here.
pub fn init_system() -> Option<&'static str> {
    if Path::new("/run/systemd/system").exists() {
        return Some("systemd");
    }
    if Path::new("/run/openrc").exists() {
        return Some("OpenRC");
    }
    fs::read_to_string("/proc/1/comm")
        .is_ok_and(|comm| comm.trim() == "init" && Path::new("/run/initctl").exists())
        .then_some("init")
}

/// Starts dockerd in a session of its own, so that it outlives us, and waits until it answers.
pub fn start(project: &Project, api: &Api) -> Result<()> {
    let dockerd = which("dockerd").context("looking for dockerd")?;
    clear_pid_file()?;
    let log = project.ours().join("dockerd.log");
    fs::create_dir_all(project.ours()).with_context(|| format!("making {}", project.ours().display()))?;
    let out = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
    let mut command = Command::new(which("setsid").unwrap_or_else(|| dockerd.clone()));
    if which("setsid").is_some() {
        command.arg(&dockerd);
    }
    command.arg("--host").arg(format!("unix://{}", api.socket.display()));
    for name in std::env::vars_os().map(|(name, _)| name) {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO") || text.starts_with("RUST") || text == "LD_LIBRARY_PATH" || text == "DOCKER_HOST" {
            command.env_remove(&name);
        }
    }
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(out.try_clone().context("sharing the log")?)
        .stdout(out);
    say("setup", format!("dockerd's log is {}", log.display()));
    let mut child = command.spawn().context("starting dockerd")?;
    remember(child.id())?;
    wait_until_it_answers(&mut child, api, &log)
}

fn wait_until_it_answers(child: &mut Child, api: &Api, log: &Path) -> Result<()> {
    let since = Instant::now();
    let mut told = 0;
    while !api.answers() {
        run::check()?;
        if let Some(status) = child.try_wait().context("watching dockerd")? {
            return Err(unmet(format!(
                "dockerd ended at once with {status}: {}",
                last_words(log)
            )));
        }
        if since.elapsed() > READY {
            let _ = child.kill();
            return Err(unmet(format!(
                "dockerd doesn't answer after {} s: {}",
                READY.as_secs(),
                last_words(log)
            )));
        }
        if since.elapsed().as_secs() >= told + 5 {
            told = since.elapsed().as_secs();
            say("setup", format!("still waiting for dockerd, {told} s"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What it said before it ended: its errors, else its last lines.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("failed to start") || line.contains("level=fatal"))
        .collect();
    let lines = if errors.is_empty() {
        text.lines().collect()
    } else {
        errors
    };
    let tail = &lines[lines.len().saturating_sub(3)..];
    format!("\n  {}\n  (all of it: {})", tail.join("\n  "), log.display())
}

/// A pid file keeps dockerd from starting. Nothing answers on the socket, so it is stale unless the process that it
/// names is a dockerd, which then is somebody's, or hangs.
fn clear_pid_file() -> Result<()> {
    let Ok(text) = fs::read_to_string(PID_FILE) else {
        return Ok(());
    };
    let pid = text.trim();
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let ended = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    if comm.trim() == "dockerd" && !ended {
        return Err(unmet(format!(
            "dockerd runs as process {pid} ({PID_FILE}) but doesn't answer on its socket: look at it, end it with \
             `kill {pid}`, then run this again"
        )));
    }
    say(
        "setup",
        format!("{PID_FILE} names process {pid}, which is no dockerd: removing it"),
    );
    fs::remove_file(PID_FILE).with_context(|| format!("removing {PID_FILE}"))
}

fn remember(pid: u32) -> Result<()> {
    let started = start_time(pid).context("reading dockerd's start time")?;
    let state = Path::new(STATE);
    fs::create_dir_all(state.parent().unwrap_or(Path::new("/run"))).context("making /run/clawker-xtask")?;
    fs::write(state, format!("{pid} {started}\n")).with_context(|| format!("writing {STATE}"))
}

/// Whether the engine that runs is the one that we started.
pub fn is_ours() -> bool {
    let Ok(state) = fs::read_to_string(STATE) else {
        return false;
    };
    let mut words = state.split_whitespace();
    let (Some(pid), Some(started)) = (words.next(), words.next()) else {
        return false;
    };
    let running = fs::read_to_string(PID_FILE).is_ok_and(|text| text.trim() == pid);
    running
        && pid
            .parse()
            .ok()
            .and_then(start_time)
            .is_some_and(|now| now.to_string() == started)
}

/// In clock ticks since boot: field 22 of stat, counted after the name, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(19)?.parse().ok()
}

/// The default network's bridge, where the engine knows it and the kernel doesn't.
pub struct Bridge {
    pub name: String,
    address: Option<String>,
}

pub fn missing_bridge(api: &Api) -> Option<Bridge> {
    let interfaces = fs::read_to_string("/proc/net/dev").ok()?;
    bridge_of(&api.get("/networks/bridge").ok()?).filter(|bridge| !has_interface(&interfaces, &bridge.name))
}

/// `  eth0:  12345 …`, one a line, of this network namespace (sysfs may show another's).
fn has_interface(interfaces: &str, name: &str) -> bool {
    interfaces.lines().any(|line| {
        line.split_once(':')
            .is_some_and(|(interface, _)| interface.trim() == name)
    })
}

fn bridge_of(network: &Value) -> Option<Bridge> {
    let name = network["Options"]["com.docker.network.bridge.name"]
        .as_str()?
        .to_owned();
    let config = &network["IPAM"]["Config"][0];
    let length = config["Subnet"]
        .as_str()
        .and_then(|subnet| subnet.split_once('/'))
        .map(|(_, length)| length);
    // Docker leaves the gateway out when it chose the first address itself.
    let gateway = config["Gateway"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| first_address(config["Subnet"].as_str()?));
    Some(Bridge {
        name,
        address: gateway
            .zip(length)
            .map(|(gateway, length)| format!("{gateway}/{length}")),
    })
}

fn first_address(subnet: &str) -> Option<String> {
    let network: std::net::Ipv4Addr = subnet.split_once('/')?.0.parse().ok()?;
    Some(std::net::Ipv4Addr::from(u32::from(network).checked_add(1)?).to_string())
}

impl Bridge {
    pub fn add(&self) -> Result<()> {
        let ip = which("ip").context("looking for `ip`")?;
        run::output(Command::new(&ip).args(["link", "add", "name", &self.name, "type", "bridge"]))?;
        if let Some(address) = &self.address {
            run::output(Command::new(&ip).args(["address", "add", address, "dev", &self.name]))?;
        }
        run::output(Command::new(&ip).args(["link", "set", &self.name, "up"])).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bridge_is_read_from_the_network() {
        let with = json!({"Options": {"com.docker.network.bridge.name": "docker0"},
            "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]}});
        assert_eq!(bridge_of(&with).unwrap().address.as_deref(), Some("172.17.0.1/16"));
        let without = json!({"Options": {"com.docker.network.bridge.name": "b"}, "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}});
        assert_eq!(bridge_of(&without).unwrap().address.as_deref(), Some("10.1.0.1/24"));
        assert!(bridge_of(&json!({"Options": {}})).is_none());
    }

    #[test]
    fn interfaces_are_read_by_their_whole_name() {
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 1 2\ndocker01: 3 4\n";
        assert!(has_interface(dev, "lo") && has_interface(dev, "docker01"));
        assert!(!has_interface(dev, "docker0"));
    }

    #[test]
    fn a_start_time_is_read_past_any_name() {
        assert!(start_time(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert!(start_time(u32::MAX).is_none());
    }
}
