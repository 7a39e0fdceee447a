//! A policy's case.

use clawker_engine::containment::asked;
use clawker_model::event::Cause;
use clawker_model::{Row, Verdict};

use super::file::{Budget, CaseEvent, Expected, PolicyCase};
use super::{Line, Report};
use crate::policy::Watch;
use crate::{Error, Sandbox};

pub(super) fn run(sandbox: &Sandbox, case: &PolicyCase) -> Result<Report, Error> {
    let mut watch = Watch::new(sandbox, &case.settings)?;
    let mut report = Report {
        name: case.name.clone(),
        ..Report::default()
    };
    let mut causes: Vec<Cause> = Vec::new();
    for (number, event) in (1..).zip(&case.events) {
        let row = row(case, number, event);
        let containment = event.containment.clone().unwrap_or_else(|| asked(&causes));
        let mut line = Line {
            at: event.at,
            what: event.event.kind().to_owned(),
            ..Line::default()
        };
        let problems = match watch.see(&row, &containment) {
            None => match &event.expect {
                Some(expected) if !expected.is_empty() => vec![format!(
                    "the policy isn't asked about {}: it isn't in its events",
                    event.event.kind()
                )],
                _ => Vec::new(),
            },
            Some(Err(unavailable)) => {
                line.said.push(format!("unavailable: {unavailable}"));
                vec![unavailable.to_string()]
            }
            Some(Ok(reply)) => {
                report.events.insert(event.event.kind().to_owned());
                (line.fuel, line.micros) = (reply.fuel, reply.micros);
                line.said = reply.verdicts.iter().map(say).collect();
                report
                    .actions
                    .extend(reply.verdicts.iter().map(|verdict| verdict.action.name().to_owned()));
                causes.extend(reply.verdicts.iter().map(|verdict| cause(sandbox, verdict, &row)));
                let mut problems = over(case.budget, reply.fuel, reply.micros);
                problems.extend(
                    event
                        .expect
                        .as_ref()
                        .and_then(|expected| unlike(expected, &reply.verdicts)),
                );
                problems
            }
        };
        let named = |problem| format!("event {number}, {} at {} ms: {problem}", line.what, line.at);
        report.failures.extend(problems.into_iter().map(named));
        report.lines.push(line);
    }
    report.state = watch.state(&case.agent).to_owned();
    Ok(report)
}

pub(crate) fn row(case: &PolicyCase, number: u64, event: &CaseEvent) -> Row {
    Row {
        seq: number,
        at_ms: event.at,
        cp_life: "case".into(),
        agent: Some(case.agent.clone()),
        event: event.event.clone(),
    }
}

fn cause(sandbox: &Sandbox, verdict: &Verdict, row: &Row) -> Cause {
    Cause {
        by: format!("policy:{}", sandbox.plugin.name),
        action: verdict.action.clone(),
        reason: verdict.reason.clone(),
        event: row.seq,
        at_ms: row.at_ms,
    }
}

fn say(verdict: &Verdict) -> String {
    format!("{}: {}", verdict.action, verdict.reason)
}

fn over(budget: Budget, fuel: u64, micros: u64) -> Vec<String> {
    let check = |what, used: u64, budget: Option<u64>| {
        let budget = budget.filter(|budget| used > *budget)?;
        Some(format!("{used} {what}, the budget is {budget}"))
    };
    [check("fuel", fuel, budget.fuel), check("µs", micros, budget.micros)]
        .into_iter()
        .flatten()
        .collect()
}

fn unlike(expected: &[Expected], verdicts: &[Verdict]) -> Option<String> {
    let like = |(expected, verdict): (&Expected, &Verdict)| match expected {
        Expected::Action(action) => action == verdict.action.name(),
        Expected::Verdict { action, reason } => {
            action == verdict.action.name() && verdict.reason.contains(reason.as_str())
        }
    };
    if expected.len() == verdicts.len() && expected.iter().zip(verdicts).all(like) {
        return None;
    }
    let expected: Vec<String> = expected
        .iter()
        .map(|expected| match expected {
            Expected::Action(action) => action.clone(),
            Expected::Verdict { action, reason } => format!("{action} because of `{reason}`"),
        })
        .collect();
    let said: Vec<String> = verdicts.iter().map(say).collect();
    let none = |list: &[String]| match list {
        [] => "nothing".to_owned(),
        list => list.join(", "),
    };
    Some(format!("expected {}, it said {}", none(&expected), none(&said)))
}
