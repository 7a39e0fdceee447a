//! P8: the control plane is killed and started anew, with many agents: how soon their containment has been verified,
//! and how soon every session is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::figure::{Bound, Figure};
use crate::scale::{Member, PATIENCE, Scale};
use crate::shims::Shims;
use crate::stats::Samples;
use crate::{Bench, ROUNDS, doing};

pub const AGENTS: usize = 200;
const LOOK: Duration = Duration::from_millis(5);

/// Milliseconds from the start of the new process.
struct Back {
    answers: f64,
    contained: f64,
    sessions: f64,
}

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    doing(&format!("P8, {AGENTS} agents"))?;
    let mut scale = Scale::start(bench, |_| Ok(None))?;
    let members = scale.run(bench, (0..AGENTS).map(|n| format!("a{n}")))?;
    doing(&format!("P8, {AGENTS} shims of containerd"))?;
    let mut shims = Shims::start(AGENTS);
    let (mut answers, mut contained, mut sessions, mut beside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P8, round {round} of {ROUNDS}"))?;
        let back = restart(bench, &mut scale, &members)?;
        let theirs = shims.as_mut().ok().map(Shims::restart).transpose()?;
        if round > 0 {
            answers.push(back.answers);
            contained.push(back.contained);
            sessions.push(back.sessions);
            beside.extend(theirs);
        }
    }
    let peer = match &shims {
        Ok(_) => "containerd restarted with as many tasks, until it lists them running",
        Err(_) => "none: containerd couldn't be started",
    };
    let first = Samples::of(answers).p50();
    let why = shims
        .err()
        .map_or(String::new(), |error| format!("; the peer: {error:#}"));
    let contained = Figure::times(
        "P8",
        "restart with 200 agents: containment of all verified",
        "ms",
        Samples::of(contained),
        (peer, Samples::of(beside.clone())),
    );
    let sessions = Figure::times(
        "P8",
        "restart with 200 agents: all sessions back",
        "ms",
        Samples::of(sessions),
        (peer, Samples::of(beside)),
    );
    let note = format!(
        "SIGKILL, then from the new process's start, as an operator sees it; it answers first after {first:.0} ms{why}"
    );
    Ok(vec![
        contained
            .bounds(|f| vec![Bound::at_most("p50", f.value, 100.0, "ms")])
            .note(note.clone()),
        sessions
            .bounds(|f| vec![Bound::at_most("p50", f.value, 1000.0, "ms")])
            .note(note),
    ])
}

fn restart(bench: &Bench, scale: &mut Scale, members: &[Member]) -> Result<Back> {
    scale.kill()?;
    let began = scale.begin()?;
    scale.connect(bench)?;
    let millis = || began.elapsed().as_secs_f64() * 1e3;
    let (mut answers, mut contained) = (None, None);
    let end = Instant::now() + PATIENCE;
    loop {
        let views = scale.views(bench)?;
        answers.get_or_insert_with(millis);
        let all = |holds: &dyn Fn(&clawker_wire::admin::AgentView) -> bool| {
            members
                .iter()
                .all(|member| views.get(&member.container).is_some_and(holds))
        };
        // In force and read back by this life of the control plane; else it says nothing, or that it isn't known.
        if all(&|view| view.containment == "open") {
            contained.get_or_insert_with(millis);
        }
        if all(&|view| view.session == "connected" && view.trust == "trusted")
            && let (Some(answers), Some(contained)) = (answers, contained)
        {
            return Ok(Back {
                answers,
                contained,
                sessions: millis(),
            });
        }
        ensure!(
            Instant::now() < end,
            "not all sessions came back; {}",
            scale.host.log_tail()
        );
        std::thread::sleep(LOOK);
    }
}
