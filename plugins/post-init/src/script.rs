//! A script of the operator's: what `post-init` and `pre-run` have in common.

use clawker_plugin_sdk::step::{Command, Container, Failure, Form, Output};

/// Seconds that a script may take; as many as an effect may.
const MAX_TIMEOUT: u32 = 600;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub script: String,
    #[serde(default = "shell")]
    pub interpreter: Vec<String>,
    #[serde(default = "timeout")]
    pub timeout: u32,
    #[serde(default)]
    pub cwd: Option<String>,
    #[serde(default)]
    pub secret: Option<String>,
}

fn shell() -> Vec<String> {
    ["sh", "-e", "-c"].map(str::to_owned).to_vec()
}

fn timeout() -> u32 {
    MAX_TIMEOUT
}

impl Script {
    /// Runs it as the image's user; `name` is what it sees as its own.
    pub fn run(self, name: &str, container: &mut impl Container) -> Result<Output, Failure> {
        if self.interpreter.is_empty() {
            return Err(Failure::new(
                "`interpreter` is empty; it is like [\"sh\", \"-e\", \"-c\"]",
            ));
        }
        if !(1..=MAX_TIMEOUT).contains(&self.timeout) {
            let given = self.timeout;
            return Err(Failure::new(format!(
                "`timeout` of {given} s, allowed are 1 to {MAX_TIMEOUT}"
            )));
        }
        let mut command = Command::new(self.interpreter.into_iter().chain([self.script, name.to_owned()]));
        command.timeout = self.timeout;
        command.cwd = self.cwd;
        if let Some(secret) = self.secret {
            let secret = container.secret(&secret, Form::Plain);
            command = command.stdin(secret).stdin("\n");
        }
        Ok(container.exec(command)?.success()?)
    }
}
