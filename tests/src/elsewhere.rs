//! An engine elsewhere: a second dockerd in a network namespace of its own, reached by address alone.
//!
//! ```text
//!  this host                     │ namespace of the second dockerd (network and mounts)
//!  clawker-cp ── veth .1 ────────┼── veth .2 ── tcp://….2:2375 dockerd ── bridge of the agents' network .65
//!       └── route to the agents' network via .2 ───────────────────────────────└── containers .66 …
//! ```
//! The namespaces have no name: they are gone with dockerd and its containers, and so are the veth pair, the route and
//! every mount. The engine speaks plain TCP, which only a test may.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::cleanup::of_the_dead;
use crate::docker::Docker;
use crate::host::{self, Setup};
use crate::wait::{PATIENCE, until, until_true};

/// What its folder's name begins with, before `p<pid>x`.
pub const DIR_PREFIX: &str = "clawker-e2e-elsewhere-";

/// See the module.
pub struct Elsewhere {
    dockerd: Child,
    dir: TempDir,
    /// The first three numbers of all its addresses.
    net: String,
    veth: String,
    pub docker: Docker,
}

impl Elsewhere {
    pub fn start() -> Result<Self> {
        sweep()?;
        let mut random = [0_u8; 6];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .context("randomness")?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("{DIR_PREFIX}p{}x", std::process::id()))
            .tempdir()
            .context("making a folder")?;
        let net = format!("10.{}.{}", 200 + random[0] % 40, random[1]);
        let veth = format!("ck{:02x}{:02x}{:02x}{:02x}", random[2], random[3], random[4], random[5]);
        let docker = Docker {
            socket: dir.path().join("docker.sock"),
        };
        let mut engine = Self {
            dockerd: hold(&dir, &net, &docker)?,
            dir,
            net,
            veth,
            docker,
        };
        engine.lay_wires()?;
        let mut go = engine.dockerd.stdin.take().context("dockerd's stdin")?;
        go.write_all(b"go\n").context("letting dockerd begin")?;
        drop(go);
        until_true("the second dockerd to answer", PATIENCE, || {
            if let Some(status) = engine.dockerd.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(engine.docker.networks().is_ok())
        })
        .with_context(|| engine.log())?;
        Ok(engine)
    }

    /// Where control planes find it.
    pub fn address(&self) -> String {
        format!("tcp://{}.2:2375", self.net)
    }

    /// A host whose agents run here.
    pub fn setup(&self) -> Result<Setup> {
        self.setup_with("")
    }

    /// The same, with session ports published on the engine's own address.
    pub fn setup_published(&self) -> Result<Setup> {
        self.setup_with(&format!("publish = \"{}.2\"\n", self.net))
    }

    fn setup_with(&self, more: &str) -> Result<Setup> {
        let setup = Setup::test()?.engine(&self.docker).config_tables(&format!(
            "[engine]\ntransport = \"tcp\"\nhost = \"{}\"\n{more}",
            self.address()
        ));
        let subnet = format!("{}.64/26", self.net);
        self.docker.request(
            "POST",
            "/networks/create",
            Some(&json!({
                "Name": setup.network(),
                "Driver": "bridge",
                "CheckDuplicate": true,
                "IPAM": {"Config": [{"Subnet": subnet, "Gateway": format!("{}.65", self.net)}]},
            })),
        )?;
        Ok(setup)
    }

    fn lay_wires(&self) -> Result<()> {
        let pid = self.dockerd.id();
        let (net, veth) = (&self.net, &self.veth);
        // `unshare` has done its work when the namespace is another than ours.
        until_true("a network namespace", PATIENCE, || {
            let ours = fs::read_link("/proc/self/ns/net")?;
            Ok(fs::read_link(format!("/proc/{pid}/ns/net"))? != ours)
        })?;
        ip(&["link", "add", veth, "type", "veth", "peer", "name", &format!("{veth}e")])?;
        ip(&["link", "set", &format!("{veth}e"), "netns", &pid.to_string()])?;
        ip(&["addr", "add", &format!("{net}.1/30"), "dev", veth])?;
        ip(&["link", "set", veth, "up"])?;
        let inside = format!("--net=/proc/{pid}/ns/net");
        for words in [
            vec!["addr", "add", &format!("{net}.2/30"), "dev", &format!("{veth}e")],
            vec!["link", "set", &format!("{veth}e"), "up"],
            vec!["link", "set", "lo", "up"],
        ] {
            run(Command::new("nsenter").arg(&inside).arg("ip").args(words))?;
        }
        ip(&["route", "add", &format!("{net}.64/26"), "via", &format!("{net}.2")])
    }

    /// The end of its log, for an error.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(30)..];
        format!("the second dockerd's log ends with:\n{}", tail.join("\n"))
    }

    fn stop(&mut self) -> Result<()> {
        for container in self.docker.all_containers()? {
            if let Some(id) = container["Id"].as_str() {
                crate::cleanup::remove_container(&self.docker, id)?;
            }
        }
        let pid = Pid::from_raw(i32::try_from(self.dockerd.id())?).context("a pid")?;
        kill_process(pid, Signal::TERM).context("ending dockerd")?;
        until("the second dockerd's end", PATIENCE, || Ok(self.dockerd.try_wait()?)).map(drop)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Err(error) = self.stop() {
            eprintln!("ending the second dockerd: {error:#}");
            let _ = self.dockerd.kill();
            let _ = self.dockerd.wait();
            kill_all_of(self.dir.path().to_str().unwrap_or("nowhere"));
        }
        // Gone with its peer, as a rule.
        let _ = ip(&["link", "del", &self.veth]);
    }
}

/// dockerd to be, in its namespaces, waiting for a line.
fn hold(dir: &TempDir, net: &str, docker: &Docker) -> Result<Child> {
    let at = dir.path().display();
    let log = fs::File::create(dir.path().join("dockerd.log")).context("the log")?;
    let script = format!(
        "read go; exec dockerd --data-root {at}/data --exec-root {at}/exec --pidfile {at}/pid --bridge none \
         --iptables=false --ip6tables=false --ip-masq=false --tls=false -H unix://{} -H tcp://{net}.2:2375",
        docker.socket.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", &script]);
    command.env_remove("DOCKER_HOST").env_remove("LD_LIBRARY_PATH");
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone().context("sharing the log")?)
        .stderr(log);
    host::end_with_us(&mut command);
    command.spawn().context("starting a second dockerd")
}

fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words))
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}

/// Ends what engines left whose test was killed: dockerd dies with it, its shims and their containers don't.
pub fn sweep() -> Result<()> {
    for (_, arguments) in processes() {
        let Some((_, rest)) = arguments.split_once(DIR_PREFIX) else {
            continue;
        };
        let folder = rest.split(['/', '\0']).next().unwrap_or_default();
        if of_the_dead(folder) {
            kill_all_of(&format!("{DIR_PREFIX}{folder}"));
        }
    }
    crate::cleanup::remove_dirs(|name| name.strip_prefix(DIR_PREFIX).is_some_and(of_the_dead))
}

/// SIGKILL to every process whose arguments name the folder, and before to the children of each: a shim's container.
fn kill_all_of(folder: &str) {
    let kill = |pid: i32| {
        if let Some(pid) = Pid::from_raw(pid) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    };
    for (pid, _) in processes()
        .into_iter()
        .filter(|(_, arguments)| arguments.contains(folder))
    {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .for_each(kill);
        kill(pid);
    }
}

/// Every process of this machine with its arguments, but ours.
fn processes() -> Vec<(i32, String)> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry
                .file_name()
                .to_str()?
                .parse::<i32>()
                .ok()
                .filter(|pid| *pid != own)?;
            let arguments = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&arguments).into_owned()))
        })
        .collect()
}
