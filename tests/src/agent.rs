//! An agent: made by `clawker run`, looked at through `clawker ps`, tried out through `clawker exec`.

mod builder;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::listener::Listener;
use crate::ran::Ran;
use crate::wait::{PATIENCE, until, until_true};

pub use builder::AgentBuilder;

/// An agent that exists.
#[derive(Clone)]
pub struct Agent<'h> {
    pub host: &'h Host,
    pub name: String,
}

impl Agent<'_> {
    /// `project.agent`, as people write it.
    pub fn short(&self) -> String {
        format!("{}.{}", self.host.project(), self.name)
    }

    /// `clawker.project.agent`, as the journal has it.
    pub fn full(&self) -> String {
        format!("clawker.{}", self.short())
    }

    /// What `clawker ps --json` says of it.
    pub fn view(&self) -> Result<Value> {
        let full = self.full();
        let all = self.host.ps()?;
        let found = all.iter().find(|view| view["name"] == full.as_str());
        Ok(found.with_context(|| format!("`clawker ps` has no {full}"))?.clone())
    }

    pub fn container(&self) -> Result<String> {
        let view = self.view()?;
        // None while it is being created.
        let id = view["container_id"].as_str().filter(|id| !id.is_empty());
        id.context("it has no container yet").map(str::to_owned)
    }

    pub fn inspect(&self) -> Result<Value> {
        self.host
            .docker
            .inspect(&self.container()?)?
            .context("the container is gone")
    }

    /// The folder with its sockets, as this machine has it.
    pub fn run_folder(&self) -> Result<std::path::PathBuf> {
        let inspected = self.inspect()?;
        let mut mounts = inspected["Mounts"].as_array().into_iter().flatten();
        let run = mounts.find(|mount| mount["Destination"] == "/.clawker-run");
        let source = run.and_then(|mount| mount["Source"].as_str());
        Ok(source.context("the run folder's mount")?.into())
    }

    /// The pid of its init, as Docker has it.
    pub fn init_pid(&self) -> Result<i32> {
        let pid = self.inspect()?["State"]["Pid"].as_i64().unwrap_or(0);
        ensure!(pid > 0, "{} doesn't run", self.full());
        Ok(i32::try_from(pid)?)
    }

    /// What its command and clawkerd have printed in all its starts.
    pub fn logs(&self) -> Result<String> {
        self.host.docker.logs(&self.container()?)
    }

    /// Waits until it has printed `line`.
    pub fn expect_log(&self, line: &str) -> Result<()> {
        until_true(&format!("{} to print {line:?}", self.name), PATIENCE, || {
            let logs = self.logs()?;
            ensure!(logs.lines().any(|l| l == line), "it printed\n{logs}");
            Ok(true)
        })
    }

    /// Runs something in it, as its own user.
    pub fn exec<const N: usize>(&self, argv: [&str; N]) -> Result<Ran> {
        self.exec_with(&[], &argv)
    }

    /// Runs something in it as root.
    pub fn exec_as_root<const N: usize>(&self, argv: [&str; N]) -> Result<Ran> {
        self.exec_with(&["--user", "0"], &argv)
    }

    fn exec_with(&self, options: &[&str], argv: &[&str]) -> Result<Ran> {
        let short = self.short();
        let args: Vec<&str> = ["exec"]
            .iter()
            .chain(options)
            .copied()
            .chain([short.as_str(), "--"])
            .collect();
        self.host.cli(args.iter().chain(argv))
    }

    /// Whether a connection of its own gets an answer from there.
    pub fn tries_to_reach(&self, listener: &Listener) -> Result<bool> {
        self.fetches(&format!("http://{}/", listener.address()))
    }

    /// Whether it gets an answer from there within 2 s. Not by wget's own `-T`, with which a static busybox crashes.
    pub fn fetches(&self, url: &str) -> Result<bool> {
        let ran = self.exec(["timeout", "2", "wget", "-q", "-O", "-", url])?;
        ensure!(!ran.stderr.contains("Segmentation fault"), "{ran:?}");
        Ok(ran.code == 0)
    }

    /// Whether the next attempt of an [`AgentBuilder::attempting`] agent gets through. Needs no control plane.
    pub fn attempts(&self, container: &str, listener: &Listener) -> Result<bool> {
        let number = self.is_told_to_try(listener)?;
        until(&format!("attempt {number} of {}", self.name), PATIENCE, || {
            let logs = self.host.docker.logs(container)?;
            let found = |outcome: &str| logs.lines().any(|line| line == format!("{number} {outcome}"));
            Ok(if found("reached") {
                Some(true)
            } else {
                found("failed").then_some(false)
            })
        })
    }

    /// Gives the order alone, for an agent that may not live to tell; its number.
    pub fn is_told_to_try(&self, listener: &Listener) -> Result<usize> {
        let orders = self.host.shared_dir().join(format!("orders-{}", self.name));
        let number = std::fs::read_dir(&orders).context("reading orders")?.count() + 1;
        // Written beside the folder and renamed, so that it is read whole.
        let beside = self.host.shared_dir().join(format!("order-{}-{number}", self.name));
        std::fs::write(&beside, listener.address()).context("writing an order")?;
        std::fs::rename(&beside, orders.join(number.to_string())).context("giving an order")?;
        Ok(number)
    }

    pub fn contain(&self, action: &str) -> Result<Value> {
        self.contain_with(action, &[])
    }

    pub fn contain_with(&self, action: &str, options: &[&str]) -> Result<Value> {
        let short = self.short();
        let args = ["contain", short.as_str(), action, "--json", "--reason", "a test"];
        let ran = self
            .host
            .cli(args.iter().chain(options))?
            .ok()
            .with_context(|| self.host.log_tail())?;
        ran.objects()?
            .into_iter()
            .next()
            .context("`clawker contain` says what is in force")
    }

    pub fn release(&self) -> Result<Value> {
        let ran = self
            .host
            .cli(["release", &self.short(), "--json"])?
            .ok()
            .with_context(|| self.host.log_tail())?;
        ran.objects()?
            .into_iter()
            .next()
            .context("`clawker release` says what is in force")
    }

    /// Waits until the containment that is in force holds `word`.
    pub fn expect_containment(&self, word: &str) -> Result<()> {
        self.expect("containment", |view| {
            view["containment"].as_str().is_some_and(|text| text.contains(word))
        })
        .with_context(|| format!("{} should be {word}", self.name))
    }

    /// Waits until `clawker ps` says of it what `wanted` asks.
    pub fn expect(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        until_true(&format!("{}'s {what}", self.name), PATIENCE, || {
            let view = self.view()?;
            ensure!(wanted(&view), "it is {view}");
            Ok(true)
        })
        .with_context(|| self.host.log_tail())
    }

    /// Waits until the control plane holds its session and trusts it.
    pub fn expect_session(&self) -> Result<()> {
        self.expect("session", |view| {
            view["session"] == "connected" && view["trust"] == "trusted"
        })
    }

    pub fn expect_exited(&self, code: i32) -> Result<()> {
        self.expect("exit", |view| view["status"] == "exited" && view["exit_code"] == code)
    }

    /// The exit code that `clawker wait` gives.
    pub fn wait_exit(&self) -> Result<i32> {
        let ran = self.host.cli(["wait", &self.short()])?.ok()?;
        ran.stdout
            .trim()
            .parse()
            .with_context(|| format!("`clawker wait` printed {:?}", ran.stdout))
    }

    /// How often AgentReady was carried out, and how often the command's first line was printed.
    pub fn times_printed(&self, line: &str) -> Result<usize> {
        Ok(self.logs()?.lines().filter(|l| *l == line).count())
    }

    /// Pids of the container's processes, as this machine counts, with their command lines.
    pub fn processes(&self) -> Result<Vec<Process>> {
        processes_of(&self.container()?)
    }

    /// Its current session half, as this machine counts.
    pub fn session_half(&self) -> Result<i32> {
        until("a session half", PATIENCE, || {
            let all = self.processes()?;
            Ok(all
                .iter()
                .find(|p| p.command.starts_with("clawkerd session "))
                .map(|p| p.pid))
        })
    }

    pub fn wait_for_log(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        until(&format!("{}'s output", self.name), patience, || {
            let logs = self.logs()?;
            Ok(wanted(&logs).then_some(logs))
        })
    }
}

/// A process of a container.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    /// Arguments, joined by spaces; empty for a zombie.
    pub command: String,
    pub zombie: bool,
}

/// Every process whose cgroup names the container.
pub fn processes_of(container: &str) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Processes end while they are looked at.
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file));
        let (Ok(cgroup), Ok(stat)) = (read("cgroup"), read("stat")) else {
            continue;
        };
        if !cgroup.contains(container) {
            continue;
        }
        let command = read("cmdline")
            .unwrap_or_default()
            .trim_end_matches('\0')
            .replace('\0', " ");
        let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        found.push(Process { pid, command, zombie });
    }
    Ok(found)
}
