//! A supervised host of its own: state folder, label prefix, network, admin socket and control plane.

mod lives;
mod setup;

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{Agent, AgentBuilder};
use crate::bins;
use crate::cleanup;
use crate::docker::Docker;
use crate::events::{Events, Row};
use crate::image::Image;
use crate::listener::{Listener, Reachable};
use crate::ran::{self, Ran, Running};
use crate::wait::{PATIENCE, until, until_true};

pub use setup::Setup;

/// What labels of tests begin with.
pub const TEST_PREFIX: &str = "test.clawker";
/// What folders of tests begin with.
const DIR_PREFIX: &str = "clawker-e2e-";

/// What is started must not outlive a test that is killed.
pub fn end_with_us(command: &mut Command) {
    // SAFETY: prctl alone, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
}

/// See the module.
pub struct Host {
    setup: Setup,
    dir: TempDir,
    state: PathBuf,
    pub docker: Docker,
    control_plane: Option<Child>,
    events: RefCell<Events>,
}

impl Host {
    /// A host of its own with a control plane that is ready.
    pub fn start() -> Result<Self> {
        Setup::test()?.start()
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn prefix(&self) -> &str {
        &self.setup.prefix
    }

    pub fn network(&self) -> &str {
        &self.setup.network
    }

    pub fn project(&self) -> &str {
        &self.setup.project
    }

    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Where the control plane keeps its authority's key.
    pub fn identity_dir(&self) -> PathBuf {
        self.state.join("ca")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("control-plane.toml")
    }

    /// A folder of this machine that agents may mount.
    pub fn shared_dir(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("control-plane.log")
    }

    fn libexec(&self) -> Result<PathBuf> {
        if self.setup.compromised || self.setup.wrapped.is_some() || self.setup.older {
            return Ok(self.dir.path().join("libexec"));
        }
        bins::libexec()
    }

    /// A libexec like the real one but for clawkerd.
    fn replace_clawkerd(&self) -> Result<()> {
        let (libexec, real) = (self.libexec()?, bins::libexec()?);
        fs::create_dir_all(libexec.join("agent"))?;
        std::os::unix::fs::symlink(real.join("plugins"), libexec.join("plugins"))?;
        if let Some(script) = &self.setup.wrapped {
            return fs::write(libexec.join("agent/clawkerd"), script).context("replacing clawkerd");
        }
        if self.setup.older {
            return another_build(&real.join("agent/clawkerd"), &libexec.join("agent/clawkerd"));
        }
        let adversary = bins::adversary_dir()?.join(bins::ADVERSARY);
        fs::copy(adversary, libexec.join("agent/clawkerd")).context("replacing clawkerd")?;
        fs::copy(real.join("agent/clawkerd"), libexec.join("agent/clawkerd.real")).context("keeping clawkerd")?;
        Ok(())
    }

    /// The next control plane finds another clawkerd beside it; agents keep the mount that they have.
    pub fn update(&mut self) {
        self.setup.older = false;
    }

    fn write_config(&self) -> Result<()> {
        let text = format!(
            "state_dir = {:?}\nadmin_socket = {:?}\ndocker_socket = {:?}\nlabel_prefix = {:?}\nnetwork = {:?}\n\
             lease_seconds = {}\n{}{}",
            self.state,
            self.socket(),
            self.docker.socket,
            self.setup.prefix,
            self.setup.network,
            self.setup.lease_seconds,
            self.setup.config,
            self.setup.tables
        );
        fs::write(self.config_file(), text).context("writing the configuration")
    }

    /// A control plane of this host as a command, not yet run.
    pub fn control_plane_command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config_file());
        command
            .env("CLAWKER_LIBEXEC", self.libexec()?)
            .env_remove("FAILPOINTS")
            .env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).process_group(0);
        end_with_us(&mut command);
        Ok(command)
    }

    /// Brings up a control plane and waits until it answers. Sessions of an earlier one come back by themselves.
    pub fn restart_control_plane(&mut self) -> Result<()> {
        let program = bins::control_plane()?;
        self.begin_control_plane(&program, None)
    }

    /// Like [`Self::restart_control_plane`], with a fault point: `mid-plan` dies where that is passed first.
    pub fn restart_control_plane_with_fault(&mut self, point: &str) -> Result<()> {
        let program = bins::control_plane_with_faults()?;
        self.begin_control_plane(&program, Some(point))
    }

    fn spawn_control_plane(&mut self, program: &Path, fault: Option<&str>) -> Result<()> {
        ensure!(self.control_plane.is_none(), "this host's control plane runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .context("the log")?;
        let mut command = self.control_plane_command(program)?;
        if let Some(point) = fault {
            command.env("FAILPOINTS", format!("{point}=1*return"));
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting clawker-cp")?;
        self.control_plane = Some(child);
        Ok(())
    }

    fn begin_control_plane(&mut self, program: &Path, fault: Option<&str>) -> Result<()> {
        self.spawn_control_plane(program, fault)?;
        until_true("the control plane to answer", PATIENCE, || {
            if let Some(status) = self
                .control_plane
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
            {
                bail!("clawker-cp ended with {:?}", status?);
            }
            Ok(self.cli(["status", "--json"])?.code == 0)
        })
        .with_context(|| self.log_tail())?;
        self.events.borrow_mut().follow(&self.socket())
    }

    pub fn control_plane_pid(&self) -> Result<i32> {
        let child = self.control_plane.as_ref().context("no control plane runs")?;
        i32::try_from(child.id()).context("a pid")
    }

    fn signal_control_plane(&mut self, signal: Signal) -> Result<ExitStatus> {
        let pid = Pid::from_raw(self.control_plane_pid()?).context("a pid")?;
        rustix::process::kill_process(pid, signal).context("signalling clawker-cp")?;
        self.control_plane_ended()
    }

    /// Waits until the control plane has ended by itself, as a fault point makes it.
    pub fn control_plane_ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.control_plane.take().context("no control plane runs")?;
        self.events.borrow_mut().stop();
        let ended = until("the control plane's end", PATIENCE, || Ok(child.try_wait()?));
        if ended.is_err() {
            self.control_plane = Some(child);
        }
        ended.with_context(|| self.log_tail())
    }

    /// SIGKILL, by its pid.
    pub fn kill_control_plane(&mut self) -> Result<()> {
        self.signal_control_plane(Signal::KILL).map(drop)
    }

    /// SIGTERM, and its end.
    pub fn stop_control_plane(&mut self) -> Result<ExitStatus> {
        self.signal_control_plane(Signal::TERM)
    }

    /// The end of its log, for an error.
    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = fs::File::open(self.log_file())?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(6000)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        format!("clawker-cp's log ends with:\n{}", read().unwrap_or_default())
    }

    fn cli_command<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I) -> Result<Command> {
        let mut command = Command::new(bins::clawker()?);
        command.arg("--socket").arg(self.socket()).args(args);
        command.env("NO_COLOR", "1");
        Ok(command)
    }

    /// Runs the real `clawker`.
    pub fn cli<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I) -> Result<Ran> {
        ran::run(&mut self.cli_command(args)?, PATIENCE)
    }

    /// Starts the real `clawker`, to be finished later.
    pub fn cli_in_background<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I) -> Result<Running> {
        ran::start(&mut self.cli_command(args)?)
    }

    /// As [`Host::cli_in_background`], with standard input.
    pub fn cli_fed<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I, stdin: Vec<u8>) -> Result<Running> {
        ran::start_fed(&mut self.cli_command(args)?, stdin)
    }

    /// An agent to be: busybox, `sleep` for ever, open network, unless told otherwise.
    pub fn agent(&self, name: &str) -> AgentBuilder<'_> {
        AgentBuilder::new(self, name)
    }

    /// An agent that exists, by the name it was given.
    pub fn existing(&self, name: &str) -> Agent<'_> {
        Agent {
            host: self,
            name: name.to_owned(),
        }
    }

    /// The name of this host's ordinary image.
    pub fn busybox(&self) -> Result<String> {
        self.busybox_recipe()?.make(&self.docker)
    }

    /// A recipe to build on.
    pub fn busybox_recipe(&self) -> Result<Image> {
        Image::busybox(&format!("{}-busybox", self.setup.image_repo))
    }

    /// Something to be reached on this host's network.
    pub fn listener(&self, name: &str) -> Result<Listener> {
        Listener::start(self, name, self.network())
    }

    /// A server of the test's own that agents of this host's network can reach, until it is dropped.
    pub fn reachable(&self) -> Result<Reachable> {
        Reachable::start(&self.docker.gateway(self.network())?)
    }

    /// Every agent as `clawker ps --all --json` has it.
    pub fn ps(&self) -> Result<Vec<Value>> {
        self.cli(["ps", "--all", "--json"])?.ok()?.objects()
    }

    /// Number of the newest event that was seen.
    pub fn mark(&self) -> u64 {
        self.events.borrow().last()
    }

    pub fn events(&self) -> Vec<Row> {
        self.events.borrow().rows()
    }

    /// The first event of this kind for which `wanted` holds, waited for.
    pub fn expect_event(&self, kind: &str, wanted: impl Fn(&Row) -> bool) -> Result<Row> {
        self.expect_event_after(0, kind, wanted)
    }

    pub fn expect_event_after(&self, mark: u64, kind: &str, wanted: impl Fn(&Row) -> bool) -> Result<Row> {
        self.events
            .borrow()
            .expect(mark, kind, PATIENCE, wanted)
            .with_context(|| self.log_tail())
    }

    /// Waits until nothing may leave or enter the agent any more, as read back.
    pub fn expect_locked(&self, agent: &str) -> Result<()> {
        self.existing(agent).expect_containment("locked")
    }

    /// Removes all that bears this host's labels.
    pub fn clean(&self) -> Result<()> {
        cleanup::remove_all(&self.docker, &self.setup.prefix, Some(&self.setup.network))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.events.borrow_mut().stop();
        if let Some(mut child) = self.control_plane.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if let Err(error) = self.clean() {
            eprintln!("removing what {} left: {error:#}", self.setup.prefix);
        }
    }
}

/// The same program under an older build's name.
fn another_build(from: &Path, to: &Path) -> Result<()> {
    let name = clawker_wire::CLAWKERD;
    let older = name.replace("clawkerd ", "clawkerd-");
    let mut bytes = fs::read(from).context("reading clawkerd")?;
    let mut at = 0;
    let found = |bytes: &[u8]| bytes.windows(name.len()).position(|window| window == name.as_bytes());
    while let Some(next) = found(&bytes[at..]) {
        at += next;
        bytes[at..at + name.len()].copy_from_slice(older.as_bytes());
    }
    anyhow::ensure!(at > 0, "clawkerd doesn't hold its name");
    fs::write(to, bytes).context("replacing clawkerd")?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(to, executable).context("replacing clawkerd")
}
