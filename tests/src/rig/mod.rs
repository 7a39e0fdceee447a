//! Containers without an engine of containers: a double of Docker's API whose "containers" are real processes.
//!
//! ```text
//! clawker-cp, unmodified ─▶ unix socket ─▶ [serve] ─▶ [engine] ─▶ [container]: clone ─▶ cgroups ─▶ root, mounts ─▶ exec
//!          ▲                                                          clawkerd, PID 1 of its namespaces, in the
//!          └──── attested by the kernel's own word ◀───────────────── cgroup that Docker would have made
//! ```
//! It is a load generator: on two processors Docker starts a few containers a second, this a few hundred, so that the
//! control plane meets 200 or 1,000 sessions. It stands in for nothing that is claimed of Docker itself. It leaves out
//! images and layers (the root is a tmpfs with a busybox), networks (a namespace with a loopback device and no veth),
//! seccomp and AppArmor, logs, resource limits, exec and attach. What the control plane reads of a container by the
//! kernel (pid, namespaces, cgroups of every controller, mounts, start time) is as under Docker.

mod answers;
mod cgroups;
mod container;
mod engine;
pub mod proxy;
pub mod serve;

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::docker::Docker;
use crate::wait::{self, PATIENCE};
use crate::{bins, host};

/// The only image there is.
pub const IMAGE: &str = "clawker-rig";

/// The engine's double, in a process of its own so that what it costs isn't counted as anybody else's. Dropping it
/// ends every container.
pub struct Rig {
    child: Child,
    pub docker: Docker,
    dir: TempDir,
}

impl Rig {
    /// `prefix` begins the name of its folder.
    pub fn start(prefix: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .context("making a folder")?;
        let socket = dir.path().join("docker.sock");
        let log = std::fs::File::create(dir.path().join("rig.log")).context("the rig's log")?;
        let mut command = Command::new(bins::rig()?);
        command.arg(&socket).arg(dir.path()).stdin(Stdio::null());
        // A group of its own: a Ctrl-C is for whoever drops this.
        command.stdout(Stdio::null()).stderr(log).process_group(0);
        host::end_with_us(&mut command);
        let child = command.spawn().context("starting clawker-rig")?;
        let mut rig = Self {
            child,
            docker: Docker { socket },
            dir,
        };
        let ready = wait::until_true("clawker-rig to answer", PATIENCE, || {
            if let Some(status) = rig.child.try_wait()? {
                bail!("clawker-rig ended with {status}");
            }
            rig.docker.request("GET", "/version", None).map(|_| true)
        });
        ready.with_context(|| rig.log())?;
        Ok(rig)
    }

    pub fn pid(&self) -> Result<i32> {
        i32::try_from(self.child.id()).context("a pid")
    }

    /// What it and its containers wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("rig.log")).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().ok().and_then(Pid::from_raw) {
            // It ends its containers and removes their cgroups.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let ended = wait::until_true("clawker-rig's end", PATIENCE, || Ok(self.child.try_wait()?.is_some()));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
