//! Calling a step, again and again, until it has no more effects to ask for.
//!
//! ```text
//! history [] ──► run ──► asks effect 0, not recorded ──► Effect(0)     the caller performs and records it
//! history [0] ──► run ──► 0 answered, asks effect 1 ──► Effect(1)
//! history [0, 1] ──► run ──► 0, 1 answered, returns ──► Completed | Failed
//! ```

use std::sync::Arc;

use clawker_model::{Effect, EffectNote, EffectResult, FullName};

use crate::bindings::step::clawker::plugin::step_types as wit;
use crate::engine::unavailable;
use crate::limits::{MAX_EFFECTS, MAX_TEXT, cut};
use crate::plugin::Code;
use crate::state::{CallState, Ended, Replay};
use crate::{Host, Plugin, Unavailable};

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

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let Code::Step(pre) = &call.plugin.code else {
            return Err(Unavailable::Missing);
        };
        if call.history.len() > MAX_EFFECTS {
            return Err(Unavailable::BadOutput(format!("more than {MAX_EFFECTS} effects")));
        }
        let mut state = CallState::new(&call.plugin.name, call.settings.clone(), &self.step_limits);
        state.replay = Some(Replay {
            history: call.history.clone(),
            secrets: call.secrets.clone(),
            taken: Vec::new(),
            asked: 0,
            ended: None,
        });
        let (_pass, mut store) = self.begin(state, &self.step_limits)?;
        let context = wit::Context {
            agent: call.context.agent.to_string(),
            project: call.context.agent.project().map(ToString::to_string),
            start: call.context.start,
            first_start: call.context.first_start,
            image: call.context.image.clone(),
        };
        let outcome = pre
            .instantiate(&mut store)
            .and_then(|guest| guest.call_run(&mut store, &context));
        let replay = store.data_mut().replay.take();
        match replay.as_ref().and_then(|replay| replay.ended.as_ref()) {
            Some(Ended::Effect(effect)) => return Ok(StepTurn::Effect(effect.clone())),
            Some(Ended::Denied(what)) => return Ok(StepTurn::Denied { what: what.clone() }),
            Some(Ended::Bad(problem)) => return Err(Unavailable::BadOutput(problem.clone())),
            Some(Ended::Differs { n, recorded, asked }) => {
                let (recorded, asked) = (recorded.clone(), asked.clone());
                return Ok(StepTurn::NonDeterministic {
                    n: *n as u32,
                    recorded,
                    asked,
                });
            }
            None => {}
        }
        let outcome = outcome.map_err(|error| unavailable(&error, store.data()))?;
        if let Some((n, recorded)) = replay.as_ref().and_then(Replay::left_over) {
            let asked = "nothing more".to_owned();
            return Ok(StepTurn::NonDeterministic {
                n: n as u32,
                recorded: recorded.what.clone(),
                asked,
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
}

impl Replay {
    /// The first recorded effect that the step didn't ask for.
    fn left_over(&self) -> Option<(usize, &EffectNote)> {
        self.history.get(self.asked).map(|(note, _)| (self.asked, note))
    }
}
