//! An agent to be: the options of `clawker run`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Agent;
use crate::host::Host;
use crate::listener::Listener;
use crate::ran::{Ran, Running};

/// Options of `clawker run`.
pub struct AgentBuilder<'h> {
    host: &'h Host,
    name: String,
    image: Option<String>,
    options: Vec<String>,
    command: Vec<String>,
}

impl<'h> AgentBuilder<'h> {
    pub fn new(host: &'h Host, name: &str) -> Self {
        let command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
            .map(str::to_owned)
            .to_vec();
        Self {
            host,
            name: name.to_owned(),
            image: None,
            options: Vec::new(),
            command,
        }
    }

    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    #[must_use]
    pub fn command<const N: usize>(mut self, command: [&str; N]) -> Self {
        self.command = command.map(str::to_owned).to_vec();
        self
    }

    /// What the adversary in clawkerd's place does, on a compromised host. The folder for what it leaves is `/shared`.
    #[must_use]
    pub fn plays(self, script: &Value) -> Self {
        self.shared().command([&script.to_string()])
    }

    /// A command for `sh -c`.
    #[must_use]
    pub fn script(self, script: &str) -> Self {
        self.command(["sh", "-c", script])
    }

    /// Any option of `clawker run`.
    #[must_use]
    pub fn option<const N: usize>(mut self, option: [&str; N]) -> Self {
        self.options.extend(option.map(str::to_owned));
        self
    }

    /// The only places that it may connect to.
    #[must_use]
    pub fn egress(self, to: &[&Listener]) -> Self {
        to.iter()
            .fold(self, |agent, listener| agent.option(["--egress", &listener.address()]))
    }

    #[must_use]
    pub fn root(self) -> Self {
        self.option(["--user", "0"])
    }

    /// The host's shared folder at `/shared`.
    #[must_use]
    pub fn shared(self) -> Self {
        let volume = format!("{}:/shared", self.host.shared_dir().display());
        self.option(["--volume", &volume])
    }

    /// Its command is told by [`Agent::attempts`] when to try to reach something.
    pub fn attempting(self) -> Result<Self> {
        let orders = self.host.shared_dir().join(format!("orders-{}", self.name));
        std::fs::create_dir_all(&orders).with_context(|| format!("making {}", orders.display()))?;
        // One SYN an attempt: it is over before the kernel would send a second one.
        let script = format!(
            "n=1; while :; do until [ -e /shared/orders-{0}/$n ]; do sleep 0.05; done; \
             if timeout 0.8 wget -q -O /dev/null http://$(cat /shared/orders-{0}/$n)/; then echo \"$n reached\"; \
             else echo \"$n failed\"; fi; n=$((n+1)); done",
            self.name
        );
        Ok(self.shared().script(&script))
    }

    /// The static adversary at `/adversary`.
    pub fn adversary(self) -> Result<Self> {
        let volume = format!("{}:/adversary:ro", crate::bins::adversary_dir()?.display());
        Ok(self.option(["--volume", &volume]))
    }

    fn args(&self, detach: bool) -> Result<Vec<String>> {
        let image = match &self.image {
            Some(image) => image.clone(),
            None => self.host.busybox()?,
        };
        let mut args = vec!["run".to_owned()];
        if detach {
            args.push("--detach".to_owned());
        }
        args.extend(["--project", self.host.project(), "--name", &self.name].map(str::to_owned));
        args.extend(self.options.clone());
        args.extend([image, "--".to_owned()]);
        args.extend(self.command.clone());
        Ok(args)
    }

    /// Makes and starts it, and returns when its command runs.
    pub fn run(self) -> Result<Agent<'h>> {
        let args = self.args(true)?;
        self.host.cli(&args)?.ok().with_context(|| self.host.log_tail())?;
        Ok(Agent {
            host: self.host,
            name: self.name,
        })
    }

    /// Makes and starts it, whatever becomes of it.
    pub fn tries(self) -> Result<Agent<'h>> {
        let args = self.args(true)?;
        self.host.cli(&args)?;
        Ok(Agent {
            host: self.host,
            name: self.name,
        })
    }

    /// `clawker run` in the foreground, to its end.
    pub fn run_to_end(self) -> Result<Ran> {
        let args = self.args(false)?;
        self.host.cli(&args)
    }

    /// `clawker run --detach` of which nobody waits for the end.
    pub fn run_in_background(self) -> Result<(Agent<'h>, Running)> {
        let args = self.args(true)?;
        let running = self.host.cli_in_background(&args)?;
        Ok((
            Agent {
                host: self.host,
                name: self.name,
            },
            running,
        ))
    }
}
