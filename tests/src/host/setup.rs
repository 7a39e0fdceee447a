//! How a host is set up, before there is one.

use std::cell::RefCell;
use std::fs;
use std::io::Read;

use anyhow::{Context, Result, ensure};

use super::{DIR_PREFIX, Host, TEST_PREFIX};
use crate::bins::SETUP;
use crate::cleanup;
use crate::docker::Docker;

/// How a host is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) prefix: String,
    pub(super) network: String,
    pub(super) project: String,
    pub(super) image_repo: String,
    /// How the names of its folders begin.
    pub(super) dir_prefix: String,
    /// TOML at the end of the configuration.
    pub(super) config: String,
    /// Tables after that.
    pub(super) tables: String,
    pub(super) lease_seconds: u32,
    /// Another engine than this machine's.
    pub(super) engine: Option<Docker>,
    /// Agents get an adversary in clawkerd's place.
    pub(super) compromised: bool,
    /// A script in clawkerd's place.
    pub(super) wrapped: Option<String>,
    /// Agents get a clawkerd of another build than the control plane's.
    pub(super) older: bool,
}

impl Setup {
    /// Names of its own, so that hosts don't meet.
    pub fn test() -> Result<Self> {
        let mut random = [0_u8; 6];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .context("randomness")?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            prefix: format!("{TEST_PREFIX}.p{}x{random}", std::process::id()),
            network: format!("clawker-test-{random}"),
            project: format!("t{random}"),
            image_repo: "clawker-test".to_owned(),
            dir_prefix: format!("{DIR_PREFIX}p{}x", std::process::id()),
            config: String::new(),
            tables: String::new(),
            lease_seconds: 120,
            engine: None,
            compromised: false,
            wrapped: None,
            older: false,
        })
    }

    /// Names that stay the same, so that what was left behind is found again.
    pub fn named(prefix: &str, name: &str, project: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            network: name.to_owned(),
            project: project.to_owned(),
            image_repo: name.to_owned(),
            dir_prefix: format!("{name}-"),
            config: String::new(),
            tables: String::new(),
            lease_seconds: 120,
            engine: None,
            compromised: false,
            wrapped: None,
            older: false,
        }
    }

    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// Tables, which stand after everything that [`Self::config`] adds.
    #[must_use]
    pub fn config_tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self
    }

    #[must_use]
    pub fn lease_seconds(mut self, seconds: u32) -> Self {
        self.lease_seconds = seconds;
        self
    }

    /// An engine other than this machine's: a rig, or what stands before an engine.
    #[must_use]
    pub fn engine(mut self, engine: &Docker) -> Self {
        self.engine = Some(engine.clone());
        self
    }

    /// Every agent that plays a script has `forged-clawkerd` in clawkerd's place, as if somebody had taken over PID 1:
    /// it is created, attested and given an identity like any other, and does what its command, the script, says.
    #[must_use]
    pub fn compromised(mut self) -> Self {
        self.compromised = true;
        self
    }

    /// A script that is put in clawkerd's place, for an image that holds the real one elsewhere.
    #[must_use]
    pub fn wrapped(mut self, script: &str) -> Self {
        self.wrapped = Some(script.to_owned());
        self
    }

    /// What agents get is clawkerd under the name of another build, until [`Host::update`].
    #[must_use]
    pub fn older(mut self) -> Self {
        self.older = true;
        self
    }

    pub fn network(&self) -> &str {
        &self.network
    }

    /// Makes the folders and brings the control plane up.
    pub fn start(self) -> Result<Host> {
        let mut host = self.prepare()?;
        host.restart_control_plane()?;
        Ok(host)
    }

    /// Everything but a control plane.
    pub fn prepare(self) -> Result<Host> {
        ensure!(rustix::process::geteuid().is_root(), "not root: {SETUP}");
        let docker = match &self.engine {
            Some(engine) => engine.clone(),
            None => Docker::of_this_host()?,
        };
        if self.prefix.starts_with(TEST_PREFIX) {
            cleanup::sweep(&docker, TEST_PREFIX, DIR_PREFIX)?;
        }
        let dir = tempfile::Builder::new()
            .prefix(&self.dir_prefix)
            .tempdir()
            .context("making a folder")?;
        // Longer than a unix socket's path may be: nobody may rely on plain paths below the state folder.
        let state = dir
            .path()
            .join("a-state-folder-with-a-long-name".repeat(3))
            .join("state");
        let host = Host {
            setup: self,
            dir,
            state,
            docker,
            control_plane: None,
            events: RefCell::default(),
        };
        fs::create_dir(host.shared_dir())?;
        if host.setup.compromised || host.setup.wrapped.is_some() || host.setup.older {
            host.replace_clawkerd()?;
        }
        host.write_config()?;
        Ok(host)
    }
}
