//! One step: called again and again with what its effects came to, until it asks for nothing more.
//!
//! ```text
//! history ─▶ call plugin ─┬ effect n ─▶ granted? ─▶ journal intent ─▶ carry out ─▶ keep answer, journal note ─┐
//!    ▲                    │                                                                                  │
//!    └────────────────────┼──────────────────────────────────────────────────────────────────────────────────┘
//!                         ├ completed
//!                         └ gave up, unavailable, not granted, another effect than was noted ─▶ failed
//! ```
//! A crash anywhere resumes at effect n: an exec is asked for again under the same id, and clawkerd answers with the
//! one that it knows. Time that the agent is frozen isn't the step's.

use std::sync::Arc;

use clawker_model::event::{InitEffectDone, InitEffectIntended, InitFailure};
use clawker_model::{AgentSpec, Effect, EffectNote, EffectResult, Step};
use clawker_plugin_host::{Plugin, StepCall, StepContext, StepTurn, note, note_result};
use tokio::time::{Duration, Instant};

use super::failure::StepFailed;
use super::replies::Replies;
use super::secret::Secrets;
use crate::agent::AgentError;
use crate::agent::drive::Context;
use crate::agent::effect::Performer;
use crate::agent::session::Session;
use crate::fault::fault_point;
use crate::plugins::PluginsError;

/// How often one effect is begun. A session that is lost each time will be lost the next time too.
const MAX_TRIES: u32 = 10;

type History = Arc<Vec<(EffectNote, EffectResult)>>;

/// What is under way.
struct Running<'a> {
    ctx: &'a Context,
    step: &'a Step,
    key: &'a str,
    replies: Replies,
    performer: Performer<'a>,
    deadline: Instant,
    history: History,
    /// The effect that was intended last and has no answer: perhaps done, perhaps not.
    cut: Option<(EffectNote, u32)>,
}

/// Runs the step to its end, from wherever an earlier session left off. Its message, or why it failed.
pub async fn run(
    ctx: &Context,
    spec: &AgentSpec,
    step: &Step,
    plugin: Result<Arc<Plugin>, PluginsError>,
    key: &str,
    session: &Session,
) -> Result<Result<String, StepFailed>, AgentError> {
    let plugin = match plugin {
        Ok(plugin) => plugin,
        Err(error) => return Ok(Err(StepFailed::new(InitFailure::PluginFailed, error.to_string()))),
    };
    let all = spec.secrets.iter().map(|secret| secret.name.clone()).collect();
    let secrets = Secrets::read(&ctx.core, &ctx.container, all).await?;
    let mut running = Running {
        ctx,
        step,
        key,
        replies: Replies::new(&ctx.core.secrets_dir(&ctx.container), key),
        performer: Performer { spec, session, secrets },
        deadline: Instant::now() + Duration::from_secs(u64::from(step.timeout_s)),
        history: History::default(),
        cut: None,
    };
    let outcome = match running.recall().await? {
        Ok(()) => running.run_to_its_end(spec, plugin).await?,
        Err(failed) => Err(failed),
    };
    running.replies.forget().await;
    Ok(outcome)
}

impl Running<'_> {
    /// Takes up what an earlier session has noted.
    async fn recall(&mut self) -> Result<Result<(), StepFailed>, AgentError> {
        let mut history = Vec::new();
        for record in self.ctx.core.store.effects(self.key).await? {
            let Some(result) = record.result else {
                self.cut = Some((record.effect, record.tries));
                continue;
            };
            let Some(answer) = self.replies.get(record.n, &result).await else {
                let detail = format!("the answer to effect {} is lost; another start tries again", record.n);
                return Ok(Err(StepFailed::new(InitFailure::PluginFailed, detail)));
            };
            history.push((record.effect, answer));
        }
        if let Some(n) = history.len().checked_sub(1) {
            // Its answer was noted; whether PID 1 was told to forget it is not known.
            self.performer.forget_exec(&self.exec_id(n)).await?;
        }
        self.history = Arc::new(history);
        Ok(Ok(()))
    }

    async fn run_to_its_end(
        &mut self,
        spec: &AgentSpec,
        plugin: Arc<Plugin>,
    ) -> Result<Result<String, StepFailed>, AgentError> {
        let mut call = StepCall {
            plugin,
            settings: self.step.settings.clone(),
            secrets: self.step.secrets.clone(),
            context: StepContext {
                agent: spec.name.clone(),
                start: self.ctx.start,
                first_start: self.ctx.start == 1,
                image: spec.image.clone(),
            },
            history: self.history.clone(),
        };
        loop {
            let turn;
            (turn, call) = self.turn(call).await?;
            let n = self.history.len();
            let plugin_failed = |why: String| Ok(Err(StepFailed::new(InitFailure::PluginFailed, why)));
            let effect = match turn {
                StepTurn::Completed { message } => return Ok(Ok(message)),
                StepTurn::Failed { message } => {
                    return Ok(Err(StepFailed::gave_up(&message, self.history.last())));
                }
                StepTurn::Denied { what } => return Ok(Err(self.denied(&what))),
                StepTurn::NonDeterministic { n, recorded, asked } => {
                    return plugin_failed(format!("effect {n} was {recorded}, and is {asked} now"));
                }
                StepTurn::Unavailable(why) => return plugin_failed(why.to_string()),
                StepTurn::Effect(effect) => effect,
            };
            if Instant::now() >= self.deadline {
                return Ok(Err(StepFailed::timeout(self.step.timeout_s)));
            }
            if let Some(what) = self.ungranted(&effect) {
                return Ok(Err(self.denied(&what)));
            }
            if let Some((intended, tries)) = self.cut.take() {
                if intended != note(&effect) {
                    return plugin_failed(format!("effect {n} isn't the one that was intended before"));
                }
                if tries >= MAX_TRIES {
                    let detail = format!(
                        "the session was lost {tries} times during effect {n}, {}",
                        intended.what
                    );
                    return Ok(Err(StepFailed::new(InitFailure::SessionLost, detail)));
                }
            }
            // Ours alone while it grows.
            call.history = History::default();
            self.carry_out(effect).await?;
            call.history = self.history.clone();
        }
    }

    /// One call of the plugin, on a thread that may compute.
    async fn turn(&mut self, call: StepCall) -> Result<(StepTurn, StepCall), AgentError> {
        let host = self.ctx.core.plugins.host.clone();
        let turn = tokio::task::spawn_blocking(move || {
            let turn = host.step(&call);
            (turn, call)
        });
        turn.await.map_err(|error| AgentError::Preparing(error.to_string()))
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), AgentError> {
        let held = Instant::now();
        self.ctx.runnable().await;
        self.deadline += held.elapsed();

        let n = self.history.len();
        let (store, name) = (&self.ctx.core.store, Some(&self.ctx.name));
        let number = u32::try_from(n).unwrap_or(u32::MAX);
        let intended = InitEffectIntended {
            key: self.key.to_owned(),
            n: number,
            effect: note(&effect),
        };
        store.append(name, intended).await?;
        fault_point!("mid-plan");
        let done = self.performer.perform(&self.exec_id(n), &effect, self.deadline).await?;
        fault_point!("effect-done-unnoted");
        let kept = self.replies.keep(number, &done.result).await;
        kept.map_err(|source| AgentError::Preparing(format!("keeping the answer to effect {n}: {source}")))?;
        let row = InitEffectDone {
            key: self.key.to_owned(),
            n: number,
            result: note_result(&done.result),
        };
        store.append_synced(name, row).await?;
        if let Some(exec) = done.exec {
            exec.ack().await?;
        }
        Arc::make_mut(&mut self.history).push((note(&effect), done.result));
        Ok(())
    }

    fn exec_id(&self, n: usize) -> String {
        format!("{}/{n}", self.key)
    }

    /// What of it the plugin wasn't granted, or a secret that the step's settings don't name. The plugin's host has looked
    /// for that already; what it says is not taken on trust.
    fn ungranted(&self, effect: &Effect) -> Option<String> {
        let foreign = effect.foreign_secret(&self.step.secrets);
        let foreign = foreign.map(|name| format!("secret `{name}`"));
        foreign.or_else(|| self.ctx.core.plugins.ungranted(&self.step.name, effect))
    }

    fn denied(&self, what: &str) -> StepFailed {
        let detail = format!("denied: {what} isn't granted to step `{}`", self.step.name);
        StepFailed::new(InitFailure::PluginDenied, detail)
    }
}
