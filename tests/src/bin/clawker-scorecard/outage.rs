//! R4: a flood of events with stalls, then a Docker that answers nothing; while agents come and go behind the control
//! plane's back. How soon the control plane knows what the engine knows, once that answers again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_tests::Docker;
use clawker_tests::rig::proxy::{Mode, Proxy};

use crate::figure::{Bound, Figure};
use crate::scale::{Member, PATIENCE, Scale};
use crate::stats::Samples;
use crate::{Bench, NAME, doing};

const EVENTS: usize = 5000;
const STALL: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(10);
/// How long one flood lasts.
const FLOOD: Duration = Duration::from_secs(3);

struct Form {
    name: &'static str,
    agents: usize,
    rounds: usize,
    hang: Duration,
}

const SHORT: Form = Form {
    name: "short",
    agents: 40,
    rounds: 2,
    hang: Duration::from_secs(10),
};
const FULL: Form = Form {
    name: "full",
    agents: 200,
    rounds: 3,
    hang: Duration::from_secs(60),
};

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let form = if bench.full { FULL } else { SHORT };
    let began = Instant::now();
    let dir = tempfile::Builder::new().prefix(&format!("{NAME}-proxy-")).tempdir()?;
    let socket = dir.path().join("docker.sock");
    let mut proxy = None;
    let scale = Scale::start(bench, |rig| {
        let _entered = bench.runtime.enter();
        proxy = Some(Proxy::start(&socket, &rig.docker.socket)?);
        Ok(Some(Docker { socket: socket.clone() }))
    })?;
    let proxy = proxy.context("a proxy")?;
    let mut own = Vec::new();
    for round in 1..=form.rounds {
        doing(&format!("R4, round {round} of {}, {} agents", form.rounds, form.agents))?;
        let names = (0..form.agents).map(|n| format!("r{round}a{n}"));
        let members = scale.run(bench, names)?;
        own.push(outage(bench, &scale, &proxy, &members, form.hang)?);
        doing("R4, removing what is left")?;
        let left = scale.views(bench)?;
        let members: Vec<Member> = left
            .into_values()
            .map(|view| Member {
                name: view.name,
                container: view.container_id,
            })
            .collect();
        scale.remove(bench, &members)?;
    }
    let figure = Figure::times(
        "R4",
        "engine answers again to registry equals engine",
        "s",
        Samples::of(own),
        ("none", Samples::default()),
    );
    Ok(
        vec![figure.bounds(|f| vec![Bound::at_most("the longest", f.own.quantile(1.0), 1.1, "s")]).note(
        format!(
            "{} form, {:.0} s: {EVENTS} events through a socket that stalls for {} ms a piece, then {} s without an \
             answer; meanwhile a fifth of {} agents is removed, a fifth killed, a fifth killed and started, by the \
             engine alone",
            form.name,
            began.elapsed().as_secs_f64(),
            STALL.as_millis(),
            form.hang.as_secs(),
            form.agents,
        ),
    )],
    )
}

fn outage(bench: &Bench, scale: &Scale, proxy: &Proxy, members: &[Member], hang: Duration) -> Result<f64> {
    let engine = &scale.rig.docker;
    proxy.set(Mode::Stalling(STALL));
    engine.request("POST", &format!("/rig/burst?count={EVENTS}"), None)?;
    let fifth = members.len() / 5;
    let change = |members: &[Member]| -> Result<()> {
        let (removed, rest) = members.split_at(members.len() / 3);
        let (killed, restarted) = rest.split_at(members.len() / 3);
        for member in removed {
            engine.remove(&member.container)?;
        }
        for member in killed.iter().chain(restarted) {
            engine.kill(&member.container)?;
        }
        for member in restarted {
            engine.request("POST", &format!("/containers/{}/restart?t=0", member.container), None)?;
        }
        Ok(())
    };
    // Half of the changes in the flood, half of them while nothing is heard.
    let (first, second) = members[..fifth * 3].split_at(fifth * 3 / 2);
    change(first)?;
    std::thread::sleep(FLOOD);
    proxy.set(Mode::Hung);
    let until = Instant::now() + hang;
    change(second)?;
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    let began = Instant::now();
    proxy.set(Mode::Passing);
    loop {
        let wrong = difference(bench, scale)?;
        if wrong.is_empty() {
            return Ok(began.elapsed().as_secs_f64());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{}; {}",
            wrong.join("; "),
            scale.host.log_tail()
        );
        std::thread::sleep(LOOK);
    }
}

/// What the control plane has otherwise than the engine.
fn difference(bench: &Bench, scale: &Scale) -> Result<Vec<String>> {
    let engine: BTreeMap<String, String> = scale
        .rig
        .docker
        .all_containers()?
        .iter()
        .filter_map(|one| Some((one["Id"].as_str()?.to_owned(), one["State"].as_str()?.to_owned())))
        .collect();
    let views = scale.views(bench)?;
    let mut wrong = Vec::new();
    for (id, state) in &engine {
        match views.get(id) {
            Some(view) if view.status == *state => {}
            Some(view) => wrong.push(format!("{} is {state}, not {}", view.name, view.status)),
            None => wrong.push(format!("{id} isn't known")),
        }
    }
    wrong.extend(
        views
            .values()
            .filter(|view| !engine.contains_key(&view.container_id))
            .map(|view| format!("{} is gone", view.name)),
    );
    Ok(wrong)
}
