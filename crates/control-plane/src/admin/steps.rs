//! The plan of an agent to be: the host's steps, then those of the request, each checked by its plugin's schema.
//!
//! ```text
//! [[plan]] of the host ─▶ steps of the request that run once ─▶ those that run at each start
//! ```

use clawker_model::{OnFailure, Plan, SecretRef, Step, When, exit};
use clawker_wire::admin;
use tonic::Code;

use super::error::Fault;
use super::limits;
use crate::config::{StepConfig, default_timeout};
use crate::core::Core;
use crate::plugins::PluginsError;

pub const MAX_STEPS: usize = 32;
const MAX_NAME: usize = 64;
const MAX_SETTINGS: usize = 64 * 1024;
/// Most seconds of a step, as in the configuration.
const MAX_TIMEOUT: u32 = 3600;

/// The whole plan. The agent has `secrets`.
pub async fn plan(core: &Core, asked: &[admin::Step], secrets: &[SecretRef]) -> Result<Plan, Fault> {
    limits::count("steps", asked.len(), MAX_STEPS)?;
    let asked = asked.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let plugins = core.plugins.clone();
    // On a thread that may compile.
    let steps = tokio::task::spawn_blocking(move || -> Result<Vec<Step>, PluginsError> {
        asked.iter().map(|step| plugins.to_step("steps", step)).collect()
    });
    let mut steps = steps
        .await
        .map_err(|error| Fault::internal(format!("loading plugins: {error}")))??;
    steps.sort_by_key(|step| step.when == When::Start);
    let all: Vec<Step> = core.plugins.plan.steps.iter().cloned().chain(steps).collect();
    for step in &all {
        let missing = |name: &&String| !secrets.iter().any(|secret| secret.name == **name);
        if let Some(name) = step.secrets.iter().find(missing) {
            return Err(Fault::usage(
                format!(
                    "step `{}` needs the secret `{name}`, which the agent doesn't have",
                    step.name
                ),
                format!("give it for steps alone: `--secret {name}=FILE,as=step`, or under `secrets`"),
            ));
        }
    }
    Ok(Plan { steps: all })
}

fn read(step: &admin::Step) -> Result<StepConfig, Fault> {
    limits::text("step's plugin", &step.plugin, MAX_NAME)?;
    limits::bytes("step's settings", step.settings.len(), MAX_SETTINGS)?;
    let plugin = &step.plugin;
    let settings = match step.settings.as_str() {
        "" => Default::default(),
        json => serde_json::from_str(json).map_err(|error| {
            Fault::usage(
                format!("settings of step `{plugin}` are no JSON object: {error}"),
                "give an object",
            )
        })?,
    };
    let word = |what: &str, word: &str, allowed: &str| {
        let word: String = word.chars().take(40).collect();
        Fault::usage(
            format!("step `{plugin}`: `{what}: {word}`"),
            format!("it is one of {allowed}"),
        )
    };
    Ok(StepConfig {
        plugin: plugin.clone(),
        settings,
        when: match step.when.as_str() {
            "" => None,
            "once" => Some(When::Once),
            "start" => Some(When::Start),
            other => return Err(word("when", other, "once, start")),
        },
        on_failure: match step.on_failure.as_str() {
            "" | "halt" => OnFailure::Halt,
            "continue" => OnFailure::Continue,
            other => return Err(word("on_failure", other, "halt, continue")),
        },
        timeout: match step.timeout {
            0 => default_timeout(),
            seconds @ 1..=MAX_TIMEOUT => seconds,
            seconds => {
                return Err(Fault::usage(
                    format!("step `{plugin}`: timeout of {seconds} s"),
                    format!("it is 1 to {MAX_TIMEOUT}"),
                ));
            }
        },
    })
}

impl From<PluginsError> for Fault {
    fn from(error: PluginsError) -> Self {
        match &error {
            PluginsError::Unknown { .. } | PluginsError::Kind { .. } | PluginsError::Settings { .. } => Fault::usage(
                error.to_string(),
                "docs/steps.md says which steps there are, and their settings",
            ),
            _ => Fault::new(
                Code::FailedPrecondition,
                exit::UNAVAILABLE,
                error.to_string(),
                "install clawker's plugins beside it, or set CLAWKER_LIBEXEC",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(change: impl FnOnce(&mut admin::Step)) -> Result<StepConfig, Fault> {
        let mut step = admin::Step {
            plugin: "config".into(),
            ..Default::default()
        };
        change(&mut step);
        read(&step)
    }

    #[test]
    fn a_step_is_read_or_refused_by_name() {
        let plain = step(|_| {}).expect("plain");
        assert_eq!(
            (plain.when, plain.on_failure, plain.timeout),
            (None, OnFailure::Halt, 600)
        );
        let full = step(|s| {
            s.settings = r#"{"a":1}"#.into();
            s.when = "start".into();
            s.on_failure = "continue".into();
            s.timeout = MAX_TIMEOUT;
        })
        .expect("full");
        assert_eq!(
            (full.when, full.on_failure, full.settings.len()),
            (Some(When::Start), OnFailure::Continue, 1)
        );
        for (change, says) in [
            ((|s| s.settings = "[]".into()) as fn(&mut admin::Step), "settings"),
            (|s| s.settings = " ".repeat(MAX_SETTINGS + 1), "settings"),
            (|s| s.plugin = "x".repeat(MAX_NAME + 1), "plugin"),
            (|s| s.when = "never".into(), "when: never"),
            (|s| s.on_failure = "hope".into(), "on_failure: hope"),
            (|s| s.timeout = MAX_TIMEOUT + 1, "timeout"),
        ] {
            let fault = step(change).expect_err(says);
            assert!(fault.exit == 2 && fault.message.contains(says), "{fault:?}");
        }
    }
}
