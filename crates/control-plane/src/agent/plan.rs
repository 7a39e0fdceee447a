//! The plan executor: steps in order, each step's effects by replay.
//!
//! ```text
//! step ─▶ completed under its key? ─yes▶ next
//!      └─▶ call plugin with the recorded history ─┬ effect n ─▶ journal intent ─▶ carry out ─▶ journal result ─┐
//!                          ▲──────────────────────┼───────────────────────────────────────────────────────────┘
//!                                                 ├ completed ─▶ journal ─▶ next
//!                                                 └ failed, unavailable, other effect than recorded ─▶ halt | continue
//! ```
//! A crash anywhere resumes at effect n: an exec is asked for again under the same id, and clawkerd answers with
//! the one that it knows.

use clawker_model::event::{
    InitEffectDone, InitEffectIntended, InitFailure, InitStepCompleted, InitStepFailed, InitStepStarted,
};
use clawker_model::{AgentSpec, Effect, EffectResult, OnFailure, Step, When};
use clawker_plugin_host::{StepCall, StepContext, StepTurn};
use tokio::time::{Duration, Instant};

use super::AgentError;
use super::drive::Context;
use super::effect;
use super::session::Session;
use crate::fault::fault_point;

/// Most effects of one step.
const MAX_EFFECTS: u32 = 256;

/// Where and why a plan stopped.
#[derive(Debug)]
pub struct PlanFailed {
    pub step: String,
    pub reason: InitFailure,
    pub detail: String,
}

/// Why a step failed.
struct StepFailed {
    reason: InitFailure,
    detail: String,
}

impl StepFailed {
    fn new(reason: InitFailure, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Runs what is left of the plan. The outer error is ours (journal, session); the inner is the plan's.
pub async fn run(ctx: &Context, spec: &AgentSpec, session: &Session) -> Result<Result<(), PlanFailed>, AgentError> {
    let count = spec.plan.steps.len().try_into().unwrap_or(u32::MAX);
    for (position, step) in spec.plan.steps.iter().enumerate() {
        let index = u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1);
        let key = key(ctx, step);
        if ctx.core.store.step_completed(&key).await? {
            continue;
        }
        ctx.status
            .send_modify(|status| status.plan = format!("{index}/{count} {}", step.name));
        let started = InitStepStarted {
            name: step.name.clone(),
            index,
            count,
            key: key.clone(),
        };
        ctx.core.store.append(Some(&ctx.name), started).await?;

        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(u64::from(step.timeout_s));
        let outcome = match tokio::time::timeout_at(deadline, run_step(ctx, spec, step, &key, session)).await {
            Ok(outcome) => outcome?,
            Err(_) => Err(StepFailed::new(
                InitFailure::Timeout,
                format!("not done after {} s", step.timeout_s),
            )),
        };
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
                ctx.core.store.append(Some(&ctx.name), completed).await?;
            }
            Err(StepFailed { reason, detail }) => {
                let failed = InitStepFailed {
                    name: step.name.clone(),
                    index,
                    key,
                    reason,
                    detail: detail.clone(),
                    duration_ms,
                };
                ctx.core.store.append(Some(&ctx.name), failed).await?;
                if step.on_failure == OnFailure::Halt {
                    return Ok(Err(PlanFailed {
                        step: step.name.clone(),
                        reason,
                        detail,
                    }));
                }
            }
        }
    }
    Ok(Ok(()))
}

/// Under which a step's completion and effects are kept: plugin, settings, and how often it is to run.
fn key(ctx: &Context, step: &Step) -> String {
    let settings = clawker_identity::thumbprint(step.settings.as_bytes());
    let settings = settings.get(..16).unwrap_or_default();
    let plugin = step.plugin.as_str().get(..16).unwrap_or_default();
    let container = ctx.container.short();
    match step.when {
        When::Once => format!("{plugin}.{settings}/{container}/{}/once", step.name),
        When::Start => format!("{plugin}.{settings}/{container}/{}/{}", step.name, ctx.start),
    }
}

async fn run_step(
    ctx: &Context,
    spec: &AgentSpec,
    step: &Step,
    key: &str,
    session: &Session,
) -> Result<Result<String, StepFailed>, AgentError> {
    let store = &ctx.core.store;
    let Some(plugin) = ctx.core.plugins.step(&step.plugin) else {
        let detail = format!("plugin {} isn't installed", step.plugin);
        return Ok(Err(StepFailed::new(InitFailure::PluginFailed, detail)));
    };
    let mut history: Vec<(Effect, EffectResult)> = Vec::new();
    let mut cut: Option<Effect> = None;
    for record in store.effects(key).await? {
        match record.result {
            Some(result) => history.push((record.effect, result)),
            // Intended, perhaps done, never recorded: the same effect is asked for again under the same id.
            None => cut = Some(record.effect),
        }
    }
    loop {
        let n = u32::try_from(history.len()).unwrap_or(u32::MAX);
        let call = StepCall {
            plugin: plugin.clone(),
            settings: step.settings.clone(),
            context: StepContext {
                agent: spec.name.clone(),
                start: ctx.start,
                first_start: ctx.start == 1,
                image: spec.image.clone(),
            },
            history: history.clone(),
        };
        let host = ctx.core.plugins.host.clone();
        let turn = tokio::task::spawn_blocking(move || host.step(&call))
            .await
            .map_err(|error| AgentError::Preparing(error.to_string()))?;
        let effect = match turn {
            StepTurn::Effect(effect) => effect,
            StepTurn::Completed { message } => return Ok(Ok(message)),
            StepTurn::Failed { message } => return Ok(Err(StepFailed::new(InitFailure::ExitNonzero, message))),
            StepTurn::NonDeterministic { .. } => {
                let detail = format!("effect {n} isn't the one that was recorded");
                return Ok(Err(StepFailed::new(InitFailure::PluginFailed, detail)));
            }
            StepTurn::Unavailable(why) => {
                return Ok(Err(StepFailed::new(InitFailure::PluginFailed, why.to_string())));
            }
        };
        if n >= MAX_EFFECTS {
            let detail = format!("more than {MAX_EFFECTS} effects");
            return Ok(Err(StepFailed::new(InitFailure::PluginDenied, detail)));
        }
        match cut.take() {
            Some(intended) if intended != effect => {
                let detail = format!("effect {n} isn't the one that was intended before");
                return Ok(Err(StepFailed::new(InitFailure::PluginFailed, detail)));
            }
            Some(_) => {}
            None => {
                let intended = InitEffectIntended {
                    key: key.to_owned(),
                    n,
                    effect: effect.clone(),
                };
                store.append(Some(&ctx.name), intended).await?;
            }
        }
        fault_point!("mid-plan");
        let done = effect::perform(spec, session, &format!("{key}/{n}"), &effect).await?;
        let row = InitEffectDone {
            key: key.to_owned(),
            n,
            result: done.result.clone(),
        };
        store.append_synced(Some(&ctx.name), row).await?;
        if let Some(exec) = done.exec {
            exec.ack().await?;
        }
        history.push((effect, done.result));
    }
}
