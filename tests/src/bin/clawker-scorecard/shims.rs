//! The peer of a restart: a containerd of its own, with as many tasks, whose shims outlive it as clawkerd outlives the
//! control plane.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_tests::{bins, host, wait};

use crate::scale::{FLIGHT, PATIENCE};

const LOOK: Duration = Duration::from_millis(5);

pub struct Shims {
    containerd: Option<Child>,
    count: usize,
    dir: tempfile::TempDir,
}

impl Shims {
    /// Starts containerd and so many tasks that sleep.
    pub fn start(count: usize) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}-shims-", crate::NAME))
            .tempdir()?;
        let bin = dir.path().join("root/bin");
        std::fs::create_dir_all(&bin)?;
        for folder in ["proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(dir.path().join("root").join(folder))?;
        }
        std::fs::copy(bins::busybox()?, bin.join("sleep")).context("copying busybox")?;
        std::fs::write(
            dir.path().join("config.toml"),
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
        )?;
        let mut shims = Self {
            containerd: None,
            count,
            dir,
        };
        shims.begin()?;
        shims.until(0)?;
        let mut starting: Vec<Child> = Vec::new();
        for n in 0..count {
            if starting.len() >= FLIGHT / 4 {
                let mut first = starting.remove(0);
                ensure!(first.wait()?.success(), "ctr run failed");
            }
            let root = shims.path("root");
            let mut run = shims.ctr();
            run.args(["run", "--detach", "--rootfs"]).arg(root);
            run.args([&format!("t{n}"), "/bin/sleep", "100000"]);
            starting.push(run.stdout(Stdio::null()).spawn().context("starting ctr")?);
        }
        for mut one in starting {
            ensure!(one.wait()?.success(), "ctr run failed");
        }
        shims.until(count)?;
        Ok(shims)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address")
            .arg(self.path("containerd.sock"))
            .stdin(Stdio::null());
        ctr
    }

    fn begin(&mut self) -> Result<()> {
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.path("config.toml"));
        command.arg("--address").arg(self.path("containerd.sock"));
        command
            .arg("--root")
            .arg(self.path("lib"))
            .arg("--state")
            .arg(self.path("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        host::end_with_us(&mut command);
        self.containerd = Some(command.spawn().context("starting containerd")?);
        Ok(())
    }

    /// Until it lists so many running tasks.
    fn until(&self, count: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let listed = self.ctr().args(["tasks", "ls"]).stderr(Stdio::null()).output()?;
            let running = String::from_utf8_lossy(&listed.stdout).matches("RUNNING").count();
            if listed.status.success() && running >= count {
                return Ok(());
            }
            ensure!(!wait::interrupted(), "interrupted");
            ensure!(Instant::now() < end, "containerd lists {running} of {count} tasks");
            std::thread::sleep(LOOK);
        }
    }

    /// SIGKILL, and a new one: milliseconds from its start until it lists every task as running.
    pub fn restart(&mut self) -> Result<f64> {
        if let Some(mut child) = self.containerd.take() {
            child.kill()?;
            child.wait()?;
        }
        let began = Instant::now();
        self.begin()?;
        self.until(self.count)?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

impl Drop for Shims {
    fn drop(&mut self) {
        for n in 0..self.count {
            // Kills the task and ends its shim; one that was never made is an error of no interest.
            let _ = self
                .ctr()
                .args(["tasks", "rm", "--force", &format!("t{n}")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        if let Some(mut child) = self.containerd.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
