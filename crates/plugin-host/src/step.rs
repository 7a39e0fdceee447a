//! Calling a step, again and again, until it has no more effects to ask for.
//!
//! ```text
//! history [] ──► run ──► asks effect 0, not recorded ──► Effect(0)     the caller performs and records it
//! history [0] ──► run ──► 0 answered, asks effect 1 ──► Effect(1)
//! history [0, 1] ──► run ──► 0, 1 answered, returns ──► Completed | Failed
//! ```

use std::sync::Arc;

use clawker_model::{Effect, EffectNote, EffectResult, FullName};

use crate::bindings::step::clawker::plugin::step_types::{self as wit, Context};
use crate::engine::unavailable;
use crate::limits::{MAX_EFFECTS, MAX_TEXT, cut};
use crate::log::Line;
use crate::plugin::Code;
use crate::state::{CallState, Ended, Replay};
use crate::{Host, Limits, Plugin, Unavailable};

/// One turn of a step.
#[derive(Debug)]
pub struct StepCall {
    pub plugin: Arc<Plugin>,
    /// A JSON object.
    pub settings: String,
    /// Names of the secrets that it may put into its effects.
    pub secrets: Vec<String>,
    pub context: StepContext,
    /// Every effect so far with its result, in order.
    pub history: Arc<Vec<(EffectNote, EffectResult)>>,
}

/// For which agent, in which of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepContext {
    pub agent: FullName,
    /// Lives of the container's init, counted from 1.
    pub start: u64,
    pub first_start: bool,
    /// As the operator wrote it.
    pub image: String,
}

impl StepContext {
    pub(crate) fn raw(&self) -> Context {
        Context {
            agent: self.agent.to_string(),
            project: self.agent.project().map(ToString::to_string),
            start: self.start,
            first_start: self.first_start,
            image: self.image.clone(),
        }
    }
}

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StepTurn {
    /// Perform this, record the result, call again.
    Effect(Effect),
    Completed {
        message: String,
    },
    Failed {
        message: String,
    },
    /// It asked for what isn't granted.
    Denied {
        what: String,
    },
    /// The `n`th effect (from 0) is not the recorded one, or the step asked for fewer than are recorded.
    NonDeterministic {
        n: u32,
        recorded: String,
        asked: String,
    },
    Unavailable(Unavailable),
}

impl Host {
    /// Runs the step from its beginning, answering what is recorded. Blocks for as long as the step computes.
    pub fn step(&self, call: &StepCall) -> StepTurn {
        self.turn(call).unwrap_or_else(StepTurn::Unavailable)
    }

    fn turn(&self, call: &StepCall) -> Result<StepTurn, Unavailable> {
        let context = call.context.raw();
        let (settings, secrets) = (call.settings.clone(), call.secrets.clone());
        let (turn, lines) = {
            let (plugin, history) = (&call.plugin, call.history.clone());
            self.take_turn(&plugin.code, &plugin.limits, settings, secrets, &context, history)
        };
        crate::log::tell(&call.plugin.name, lines);
        turn
    }

    /// One call: how far the step came, and what it wrote to the log.
    pub(crate) fn take_turn(
        &self,
        code: &Code,
        limits: &Limits,
        settings: String,
        secrets: Vec<String>,
        context: &Context,
        history: Arc<Vec<(EffectNote, EffectResult)>>,
    ) -> (Result<StepTurn, Unavailable>, Vec<Line>) {
        let Code::Step(pre) = code else {
            return (Err(Unavailable::Missing), Vec::new());
        };
        if history.len() > MAX_EFFECTS {
            let many = Unavailable::BadOutput(format!("more than {MAX_EFFECTS} effects"));
            return (Err(many), Vec::new());
        }
        let mut state = CallState::new(settings, limits);
        state.replay = Some(Replay {
            history,
            secrets,
            taken: Vec::new(),
            asked: 0,
            ended: None,
        });
        let (_pass, mut store) = match self.begin(state, limits) {
            Ok(begun) => begun,
            Err(unavailable) => return (Err(unavailable), Vec::new()),
        };
        let outcome = pre
            .instantiate(&mut store)
            .and_then(|guest| guest.call_run(&mut store, context))
            .map_err(|error| unavailable(&error, store.data()));
        let state = store.data_mut();
        let turn = match state.replay.take() {
            Some(replay) => replay.turn(outcome),
            None => Err(Unavailable::Missing),
        };
        (turn, state.log.take())
    }
}

impl Replay {
    /// What the call came to, with what the guest returned if the host didn't end it.
    fn turn(self, outcome: Result<Result<wit::Outcome, wit::Failure>, Unavailable>) -> Result<StepTurn, Unavailable> {
        match self.ended {
            Some(Ended::Effect(effect)) => return Ok(StepTurn::Effect(effect)),
            Some(Ended::Denied(what)) => return Ok(StepTurn::Denied { what }),
            Some(Ended::Bad(problem)) => return Err(Unavailable::BadOutput(problem)),
            Some(Ended::Differs { n, recorded, asked }) => {
                return Ok(StepTurn::NonDeterministic {
                    n: n as u32,
                    recorded,
                    asked,
                });
            }
            None => {}
        }
        let outcome = outcome?;
        if let Some((n, recorded)) = self.left_over() {
            return Ok(StepTurn::NonDeterministic {
                n: n as u32,
                recorded: recorded.what.clone(),
                asked: "nothing more".to_owned(),
            });
        }
        Ok(match outcome {
            Ok(wit::Outcome { message }) => StepTurn::Completed {
                message: cut(message, MAX_TEXT),
            },
            Err(wit::Failure { message }) => StepTurn::Failed {
                message: cut(message, MAX_TEXT),
            },
        })
    }

    /// The first recorded effect that the step didn't ask for.
    fn left_over(&self) -> Option<(usize, &EffectNote)> {
        self.history.get(self.asked).map(|(note, _)| (self.asked, note))
    }
}
