//! The plan executor: steps in order, each until it has ended under its key.
//!
//! ```text
//! step ─▶ ended under its key? ─┬ completed ─────────────────────────▶ next
//!                               ├ failed in this start ──▶ halt | next
//!                               └ no, or in an earlier start ─▶ run ─┬ completed ─▶ journal ─▶ next
//!                                                                    ├ failed ────▶ journal ─▶ halt | next
//!                                                                    └ session lost: nothing is journaled, and
//!                                                                      the next session resumes at the effect
//! ```
//! Every agent's plan runs in a task of its own, so none waits for another's.

mod failure;
mod replies;
mod secret;
mod step;

use std::sync::Arc;

use clawker_model::event::{InitFailure, InitStepCompleted, InitStepFailed, InitStepStarted};
use clawker_model::{AgentSpec, ContainerId, OnFailure, PluginDigest, Step, When};
use clawker_plugin_host::Plugin;
use clawker_store::StepEnd;
use tokio::time::Instant;

use super::AgentError;
use super::drive::Context;
use super::session::Session;
use crate::plugins::PluginsError;
use failure::StepFailed;
pub use failure::end_of;
pub use secret::Secrets;

/// Where and why a plan stopped.
#[derive(Debug)]
pub struct PlanFailed {
    pub step: String,
    pub reason: InitFailure,
    pub detail: String,
}

/// Runs what is left of the plan. The outer error is ours (journal, session); the inner is the plan's.
pub async fn run(ctx: &Context, spec: &AgentSpec, session: &Session) -> Result<Result<(), PlanFailed>, AgentError> {
    let store = &ctx.core.store;
    let count = spec.plan.steps.len().try_into().unwrap_or(u32::MAX);
    for (index, step) in (1_u32..).zip(&spec.plan.steps) {
        let plugin = plugin(ctx, step).await?;
        // A component that is gone for good still has a key, under which it fails.
        let digest = plugin.as_ref().map_or(&step.plugin, |plugin| &plugin.digest);
        let key = key(step, digest, &ctx.container, ctx.start);
        let failed = match store.step_end(&key).await? {
            Some(StepEnd::Completed) => continue,
            Some(StepEnd::Failed(failed)) if failed.start == ctx.start => StepFailed {
                reason: failed.reason,
                detail: failed.detail,
            },
            _ => {
                ctx.status
                    .send_modify(|status| status.plan = format!("{index}/{count} {}", step.name));
                let started = InitStepStarted {
                    name: step.name.clone(),
                    index,
                    count,
                    key: key.clone(),
                };
                store.append(Some(&ctx.name), started).await?;
                let begun = Instant::now();
                let outcome = step::run(ctx, spec, step, plugin, &key, session).await?;
                let duration_ms = begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
                match outcome {
                    Ok(message) => {
                        let completed = InitStepCompleted {
                            name: step.name.clone(),
                            index,
                            key,
                            duration_ms,
                            message,
                        };
                        store.append(Some(&ctx.name), completed).await?;
                        continue;
                    }
                    Err(failed) => {
                        let row = InitStepFailed {
                            name: step.name.clone(),
                            index,
                            key,
                            start: ctx.start,
                            reason: failed.reason,
                            detail: failed.detail.clone(),
                            duration_ms,
                        };
                        store.append(Some(&ctx.name), row).await?;
                        failed
                    }
                }
            }
        };
        if step.on_failure == OnFailure::Halt {
            return Ok(Err(PlanFailed {
                step: step.name.clone(),
                reason: failed.reason,
                detail: failed.detail,
            }));
        }
    }
    Ok(Ok(()))
}

/// Notes of each step that runs once that it ran, before the journal was lost: the agent was initialized, and it is
/// only after its whole plan.
pub async fn taken_as_done(ctx: &Context, spec: &AgentSpec) -> Result<(), AgentError> {
    for (index, step) in (1_u32..)
        .zip(&spec.plan.steps)
        .filter(|(_, step)| step.when == When::Once)
    {
        let plugin = plugin(ctx, step).await?;
        let digest = plugin.as_ref().map_or(&step.plugin, |plugin| &plugin.digest);
        let completed = InitStepCompleted {
            name: step.name.clone(),
            index,
            key: key(step, digest, &ctx.container, ctx.start),
            duration_ms: 0,
            message: "it ran before the journal was lost".to_owned(),
        };
        ctx.core.store.append(Some(&ctx.name), completed).await?;
    }
    Ok(())
}

/// On a thread that may compile.
async fn plugin(ctx: &Context, step: &Step) -> Result<Result<Arc<Plugin>, PluginsError>, AgentError> {
    let (plugins, step) = (ctx.core.plugins.clone(), step.clone());
    let found = tokio::task::spawn_blocking(move || plugins.step(&step)).await;
    found.map_err(|error| AgentError::Preparing(error.to_string()))
}

/// Under which a step's end and effects are kept: plugin, settings, container, and how often it is to run.
fn key(step: &Step, plugin: &PluginDigest, container: &ContainerId, start: u64) -> String {
    let settings = clawker_identity::thumbprint(step.settings.as_bytes());
    let key = format!("{plugin}/{settings}/{container}");
    match step.when {
        When::Once => format!("{key}/once"),
        When::Start => format!("{key}/{start}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_plugin_settings_container_and_for_each_start_its_number() {
        let digest = |letter: &str| PluginDigest::parse(&letter.repeat(64)).expect("digest");
        let container = |letter: &str| ContainerId::parse(&letter.repeat(64)).expect("container");
        let step = |settings: &str, when| Step {
            name: "s".into(),
            plugin: digest("0"),
            settings: settings.into(),
            secrets: vec![],
            when,
            on_failure: OnFailure::Halt,
            timeout_s: 1,
        };
        let once = step("{}", When::Once);
        let first = key(&once, &digest("a"), &container("c"), 1);
        assert_eq!(first.len(), 3 * 64 + "///once".len(), "nothing is cut short: {first}");
        assert_eq!(first, key(&once, &digest("a"), &container("c"), 2));
        assert_ne!(first, key(&once, &digest("b"), &container("c"), 1));
        assert_ne!(first, key(&once, &digest("a"), &container("d"), 1));
        assert_ne!(
            first,
            key(&step(r#"{"a":1}"#, When::Once), &digest("a"), &container("c"), 1)
        );
        let start = step("{}", When::Start);
        assert_ne!(first, key(&start, &digest("a"), &container("c"), 1));
        assert_ne!(
            key(&start, &digest("a"), &container("c"), 1),
            key(&start, &digest("a"), &container("c"), 2)
        );
    }
}
