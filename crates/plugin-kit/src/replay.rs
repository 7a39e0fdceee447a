//! What a policy would have said: recorded events played to it, its verdicts held against those in the journal.
//!
//! ```text
//! row ──► containment as the journal had it ──► Watch::see ──► verdicts ─┐
//! PolicyDecided of the same policy ──► recorded verdicts of event `seq` ─┴──► same | flip | new | missing
//! ```
//!
//! Facts come from the rows alone: windows are counted from them, and containment is what `ContainmentAsked` and
//! `Released` rows say. A journal that begins in the middle therefore counts too little at first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, Read as _};

use clawker_model::event::PolicyDecided;
use clawker_model::{Containment, Event, FullName, Row, Verdict};
use serde::{Deserialize, Serialize};

use crate::policy::Watch;
use crate::{Error, Sandbox};

/// Bytes of a line of the journal.
pub const MAX_LINE: usize = 1 << 20;
/// Rows of a replay.
pub const MAX_ROWS: usize = 1_000_000;

/// What a replay came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub rows: u64,
    /// Lines that this program doesn't know the kind of, e.g. of a newer control plane.
    pub unknown: u64,
    /// Rows that the policy was asked about.
    pub asked: u64,
    /// Those of them that the journal has a decision of the same policy for.
    pub recorded: u64,
    /// Decisions that differ in an action.
    pub flips: Vec<Flip>,
    /// Calls without an answer, by why.
    pub unavailable: BTreeMap<String, u64>,
    /// Verdicts of this replay, by action.
    pub actions: BTreeMap<String, u64>,
    /// Fuel of all calls.
    pub fuel: u64,
    /// Of one call.
    pub p50_micros: u64,
    pub p99_micros: u64,
}

/// An event that is judged otherwise now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flip {
    pub seq: u64,
    pub kind: String,
    pub agent: String,
    /// Actions of the recorded decision; `unavailable: why` if it had none.
    pub was: Vec<String>,
    /// Actions, or why there is no answer.
    pub is: Vec<String>,
    /// Reasons of the new ones.
    pub reasons: Vec<String>,
}

/// The rows of a journal: one JSON object a line, as `clawker events --json` prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    pub rows: Vec<Row>,
    /// Lines of kinds that aren't known here.
    pub unknown: u64,
}

#[derive(Deserialize)]
struct Line {
    /// `clawker events` says where it begins anew.
    resync: Option<serde_json::Value>,
    seq: Option<u64>,
    at_ms: Option<u64>,
    #[serde(default)]
    agent: Option<String>,
    kind: Option<String>,
    body: Option<serde_json::Value>,
}

impl Journal {
    /// Reads all of it; `name` is for messages.
    pub fn read(mut from: impl BufRead, name: &str) -> Result<Self, Error> {
        let mut journal = Self::default();
        let (mut text, mut number) = (Vec::new(), 0u64);
        loop {
            text.clear();
            number += 1;
            let wrong = |problem: String| Error::Unusable(format!("{name}, line {number}: {problem}"));
            let read = (&mut from).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut text);
            if read.map_err(|error| wrong(error.to_string()))? == 0 {
                return Ok(journal);
            }
            if text.len() > MAX_LINE {
                return Err(wrong(format!("longer than {MAX_LINE} bytes")));
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(&text)
                .map_err(|error| wrong(format!("{error}; lines are those of `clawker events --json`")))?;
            if line.resync.is_some() {
                continue;
            }
            match line.row().map_err(wrong)? {
                Some(row) => journal.rows.push(row),
                None => journal.unknown += 1,
            }
            if journal.rows.len() > MAX_ROWS {
                return Err(wrong(format!(
                    "more than {MAX_ROWS} rows: take fewer with `clawker events --since`"
                )));
            }
        }
    }
}

impl Line {
    /// `None` for a kind that isn't known.
    fn row(self) -> Result<Option<Row>, String> {
        let missing = |field| format!("there is no `{field}`; lines are those of `clawker events --json`");
        let kind = self.kind.ok_or_else(|| missing("kind"))?;
        if !Event::KINDS.contains(&kind.as_str()) {
            return Ok(None);
        }
        let body = self.body.ok_or_else(|| missing("body"))?;
        let event = serde_json::from_value(serde_json::json!({"kind": kind, "body": body}))
            .map_err(|error| format!("body of {kind}: {error}"))?;
        let agent = self.agent.filter(|agent| !agent.is_empty());
        let agent = agent.map(|agent| FullName::parse(&agent)).transpose();
        Ok(Some(Row {
            seq: self.seq.ok_or_else(|| missing("seq"))?,
            at_ms: self.at_ms.ok_or_else(|| missing("at_ms"))?,
            cp_life: "replay".into(),
            agent: agent.map_err(|error| format!("agent: {error}"))?,
            event,
        }))
    }
}

/// Plays a journal. The recorded decisions are those of `policy`, the name that it was configured with.
pub fn run(sandbox: &Sandbox, settings: &str, journal: &Journal, policy: &str) -> Result<Summary, Error> {
    let mut watch = Watch::new(sandbox, settings)?;
    let recorded = recorded(journal, policy);
    let mut contained: HashMap<FullName, Containment> = HashMap::new();
    let mut summary = Summary {
        rows: journal.rows.len() as u64,
        unknown: journal.unknown,
        ..Summary::default()
    };
    let mut micros = Vec::new();
    for row in &journal.rows {
        follow(&mut contained, row);
        let nothing = Containment::default();
        let containment = row.agent.as_ref().and_then(|agent| contained.get(agent));
        let Some(answer) = watch.see(row, containment.unwrap_or(&nothing)) else {
            continue;
        };
        summary.asked += 1;
        let (is, reasons) = match answer {
            Ok(reply) => {
                summary.fuel += reply.fuel;
                micros.push(reply.micros);
                for verdict in &reply.verdicts {
                    *summary.actions.entry(verdict.action.name().to_owned()).or_default() += 1;
                }
                let reasons = reply.verdicts.iter().map(|verdict| verdict.reason.clone()).collect();
                (actions(&reply.verdicts), reasons)
            }
            Err(why) => {
                *summary.unavailable.entry(why.to_string()).or_default() += 1;
                (vec![format!("unavailable: {why}")], Vec::new())
            }
        };
        let Some(decided) = recorded.get(&row.seq) else {
            continue;
        };
        summary.recorded += 1;
        let was = match &decided.unavailable {
            Some(why) => vec![format!("unavailable: {why}")],
            None => actions(&decided.verdicts),
        };
        if was != is {
            summary.flips.push(Flip {
                seq: row.seq,
                kind: row.event.kind().to_owned(),
                agent: row.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
                was,
                is,
                reasons,
            });
        }
    }
    micros.sort_unstable();
    summary.p50_micros = percentile(&micros, 50);
    summary.p99_micros = percentile(&micros, 99);
    Ok(summary)
}

/// Policies that the journal has decisions of, for a person who has to name one.
pub fn policies(journal: &Journal) -> Vec<String> {
    let names: HashSet<&str> = journal
        .rows
        .iter()
        .filter_map(|row| match &row.event {
            Event::PolicyDecided(decided) => Some(decided.policy.as_str()),
            _ => None,
        })
        .collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

fn recorded<'a>(journal: &'a Journal, policy: &str) -> HashMap<u64, &'a PolicyDecided> {
    let decided = |row: &'a Row| match &row.event {
        Event::PolicyDecided(decided) if decided.policy == policy => Some((decided.seq, decided)),
        _ => None,
    };
    journal.rows.iter().filter_map(decided).collect()
}

/// What is asked for an agent after this row.
fn follow(contained: &mut HashMap<FullName, Containment>, row: &Row) {
    let Some(agent) = &row.agent else { return };
    match &row.event {
        Event::ContainmentAsked(said) => contained.insert(agent.clone(), said.asked.clone()),
        Event::Released(said) => contained.insert(agent.clone(), said.asked.clone()),
        Event::AgentRemoved(_) => contained.remove(agent),
        _ => None,
    };
}

/// With their lists: an egress rule that differs is another action.
fn actions(verdicts: &[Verdict]) -> Vec<String> {
    verdicts.iter().map(|verdict| verdict.action.to_string()).collect()
}

/// Of sorted numbers, the smallest that at least `percent` of them don't exceed; 0 of none.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_events_verb_are_rows() {
        let text = r#"{"resync":{"reason":"x","from":"","detail":""}}
{"seq":1,"at_ms":5,"kind":"EgressDenied","agent":"clawker.a","body":{"count":1,"total":1},"cursor":"c"}

{"seq":2,"at_ms":6,"kind":"SomethingNew","agent":"","body":{}}
{"seq":3,"at_ms":7,"kind":"ControlPlaneStopping","agent":"","body":{"agents":"leave"}}
"#;
        let journal = Journal::read(text.as_bytes(), "x").expect("reads");
        let seqs: Vec<u64> = journal.rows.iter().map(|row| row.seq).collect();
        assert_eq!((seqs, journal.unknown), (vec![1, 3], 1));
        assert_eq!(journal.rows[1].agent, None);
    }

    #[test]
    fn lines_that_are_no_rows_are_refused_by_number() {
        for (text, says) in [
            ("\n{", "x, line 2: "),
            ("{\"kind\":\"EgressDenied\"}", "there is no `body`"),
            (
                "{\"kind\":\"EgressDenied\",\"body\":{}}",
                "body of EgressDenied: missing field",
            ),
            ("{\"seq\":1}", "clawker events --json"),
            (&"x".repeat(MAX_LINE + 1), "longer than 1048576 bytes"),
        ] {
            let error = Journal::read(text.as_bytes(), "x").expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn containment_is_what_the_rows_say_until_it_is_released_or_the_agent_is_gone() {
        let agent = FullName::parse("clawker.a").expect("name");
        let locked = Containment {
            network: clawker_model::NetworkState::Locked,
            ..Containment::default()
        };
        let row = |kind: &str, body: serde_json::Value| {
            let line = serde_json::json!({"seq": 1, "at_ms": 1, "kind": kind, "agent": "clawker.a", "body": body});
            let line: Line = serde_json::from_value(line).expect("a line");
            line.row().expect("a row").expect("known")
        };
        let cause = serde_json::json!({
            "by": "operator:x", "action": {"action": "lock-network"}, "reason": "", "event": 0, "at_ms": 1,
        });
        let asked = row("ContainmentAsked", serde_json::json!({"cause": cause, "asked": locked}));
        let mut contained = HashMap::new();
        follow(&mut contained, &asked);
        assert_eq!(contained[&agent], locked);
        let released = serde_json::json!({"by": "operator:x", "causes": 1, "asked": Containment::default()});
        follow(&mut contained, &row("Released", released));
        assert_eq!(contained[&agent], Containment::default());
        follow(&mut contained, &asked);
        follow(
            &mut contained,
            &row("AgentRemoved", serde_json::json!({"container": null})),
        );
        assert!(contained.is_empty());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let measured: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&measured, 50), percentile(&measured, 99)), (50, 99));
        assert_eq!((percentile(&[7], 99), percentile(&[], 50)), (7, 0));
    }
}
