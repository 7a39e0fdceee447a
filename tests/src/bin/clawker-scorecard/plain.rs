//! The peers: plain Docker, spoken to over its socket as a program would.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_proc::cgroup::{Driver, expected_path};
use clawker_tests::{Docker, Image, cleanup};
use serde_json::{Value, json};

use crate::{Bench, NAME, PREFIX};

/// The network of plain containers, told from the one of a host under measurement.
pub const NETWORK: &str = "clawker-score-plain";

/// How long Docker may take to tell an event.
const PATIENCE: Duration = Duration::from_secs(30);

/// The image of both sides: busybox, and the clock that `cargo xtask scorecard` built.
pub fn image(docker: &Docker) -> Result<String> {
    let profile = clawker_tests::bins::profile_dir()?;
    let clock = profile.parent().context("target")?.join("clawker/test/score-clock");
    let bytes = std::fs::read(&clock).with_context(|| {
        format!(
            "reading {}: run `cargo xtask scorecard`, which builds it",
            clock.display()
        )
    })?;
    Image::busybox(&format!("{NAME}-busybox"))?
        .with_file("bin/score-clock", 0o755, &bytes)
        .make(docker)
}

/// Makes the network of plain containers once.
pub fn network(docker: &Docker) -> Result<()> {
    let there = docker.networks()?.iter().any(|network| network["Name"] == NETWORK);
    if there {
        return Ok(());
    }
    docker.create_network(NETWORK, &format!("{PREFIX}.{}", cleanup::FIXTURE))
}

/// Whether Docker's command line is there to be measured.
pub fn has_cli() -> bool {
    std::process::Command::new("docker").arg("--version").output().is_ok()
}

/// A running container that no control plane knows; removed when dropped.
pub struct Plain {
    pub docker: Docker,
    pub id: String,
}

impl Plain {
    pub fn start(bench: &Bench, name: &str, command: &[&str]) -> Result<Self> {
        let label = format!("{PREFIX}.{}", cleanup::FIXTURE);
        let body = json!({
            "Image": bench.image()?, "Cmd": command, "Labels": {label: "true"},
            "HostConfig": {"NetworkMode": NETWORK},
        });
        let id = bench.docker.create(&format!("{NAME}-{name}"), &body)?;
        let docker = bench.docker.clone();
        let plain = Self { docker, id };
        plain.docker.start(&plain.id)?;
        Ok(plain)
    }

    pub fn init_pid(&self) -> Result<i32> {
        let view = self.docker.inspect(&self.id)?.context("the container is gone")?;
        let pid = view["State"]["Pid"].as_i64().unwrap_or(0);
        ensure!(pid > 0, "the container doesn't run");
        Ok(i32::try_from(pid)?)
    }

    /// Where its cgroup is.
    pub fn cgroup(&self) -> Result<String> {
        let info = self.docker.request("GET", "/info", None)?;
        let driver = match info["CgroupDriver"].as_str() {
            Some("systemd") => Driver::Systemd,
            _ => Driver::Cgroupfs,
        };
        Ok(expected_path(driver, None, &self.id))
    }

    pub fn post(&self, verb: &str) -> Result<Value> {
        let path = format!("/containers/{}/{verb}", self.id);
        self.docker.request("POST", &path, None)
    }

    pub fn network_verb(&self, verb: &str) -> Result<Value> {
        let path = format!("/networks/{NETWORK}/{verb}");
        self.docker.request("POST", &path, Some(&json!({"Container": self.id})))
    }

    /// `docker exec`, to its exit code, by three calls of the API.
    pub fn exec(&self, argv: &[&str]) -> Result<()> {
        let body = json!({"Cmd": argv, "AttachStdout": true, "AttachStderr": true});
        let made = self
            .docker
            .request("POST", &format!("/containers/{}/exec", self.id), Some(&body))?;
        let exec = made["Id"].as_str().context("an exec has an id")?;
        let start = json!({"Detach": false, "Tty": false});
        self.docker
            .request("POST", &format!("/exec/{exec}/start"), Some(&start))?;
        let ended = self.docker.request("GET", &format!("/exec/{exec}/json"), None)?;
        ensure!(ended["ExitCode"] == 0, "docker exec ended with {}", ended["ExitCode"]);
        Ok(())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Err(error) = cleanup::remove_container(&self.docker, &self.id) {
            eprintln!("removing {}: {error:#}", self.id);
        }
    }
}

/// A consumer of `docker events`, of one container's `kill` events alone.
pub struct Consumer {
    lines: BufReader<UnixStream>,
}

impl Consumer {
    pub fn of(plain: &Plain) -> Result<Self> {
        let filters = json!({"container": [plain.id], "event": ["kill"]}).to_string();
        let filters: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = UnixStream::connect(&plain.docker.socket).context("connecting to Docker")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /events?filters={filters} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).context("the head of Docker's events")? > 2 {
            line.clear();
        }
        Ok(Self { lines })
    }

    /// Makes an event happen and waits for it: the moment of the read that completed it.
    pub fn event(&mut self, plain: &Plain) -> Result<Instant> {
        std::thread::scope(|scope| {
            // Whom it is sent to ignores it; the event comes all the same.
            let sent = scope.spawn(|| plain.post("kill?signal=WINCH"));
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).context("waiting for Docker's event");
            let now = Instant::now();
            let told: Value = serde_json::from_str(&line).context("Docker's event")?;
            ensure!(read? > 0 && told["Action"] == "kill", "Docker told {line}");
            sent.join().ok().context("the sender's thread")??;
            Ok(now)
        })
    }
}
