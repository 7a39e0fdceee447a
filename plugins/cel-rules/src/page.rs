//! The examples of docs/plugins/rules.md, for the tests of `cel-rules` and `rego-rules`.

use std::collections::BTreeMap;

use clawker_plugin_sdk::policy::{Containment, Event, Facts, Network, Processes, Verdict, WindowCount};

use crate::watched;

/// One event, and what the page says to it.
pub struct Line {
    pub event: Event,
    pub facts: Facts,
    pub said: String,
}

/// Settings as the control plane hands them over, and a story.
pub struct Example {
    pub settings: String,
    pub lines: Vec<Line>,
}

/// Those of one plugin, in the page's order.
pub fn examples(plugin: &str) -> Vec<Example> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins/rules.md");
    let page = std::fs::read_to_string(page).expect("docs/plugins/rules.md");
    let mut examples = Vec::new();
    for rest in page.split("```toml\n").skip(1) {
        let (toml, rest) = rest.split_once("\n```\n").expect("the end of a block");
        let story = rest.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
        let config: toml::Table = toml.parse().expect("TOML");
        let policy = &config["policies"][0];
        if policy["plugin"].as_str() == Some(plugin) {
            examples.push(Example {
                settings: serde_json::to_string(&policy["settings"]).expect("JSON"),
                lines: lines(story.expect("a story")),
            });
        }
    }
    examples
}

/// What a policy said, in the page's words.
pub fn words(verdicts: &[Verdict]) -> String {
    let word = |verdict: &Verdict| format!("{}: {}", verdict.action, verdict.reason);
    match verdicts {
        [] => "nothing".into(),
        some => some.iter().map(word).collect::<Vec<_>>().join("; "),
    }
}

/// What a control plane would have done.
pub fn follow(containment: &mut Containment, verdicts: &[Verdict]) {
    for verdict in verdicts {
        match verdict.action {
            "lock-network" => containment.network = Network::Locked,
            "freeze" => containment.processes = Processes::Frozen,
            "kill" => containment.processes = Processes::Killed,
            _ => {}
        }
    }
}

/// `70  EgressDenied {"count":1}    nothing`
fn lines(story: &str) -> Vec<Line> {
    let mut seen: Vec<(String, u64)> = Vec::new();
    let mut lines = Vec::new();
    for (seq, line) in (1..).zip(story.lines()) {
        let (second, rest) = line.trim_start().split_once("  ").expect("a second");
        let (event, said) = rest.trim_start().split_once("}  ").expect("an event and what is said");
        let (kind, body) = event.split_once(' ').expect("a kind and a body");
        let at = second.parse::<u64>().expect("a number") * 1000;
        seen.push((kind.into(), at));
        let count = |seconds: u32, kind: &str| {
            let inside = |(seen, then): &&(String, u64)| seen == kind && then + u64::from(seconds) * 1000 > at;
            seen.iter().filter(inside).count() as u64
        };
        let counts = watched::WINDOWS.iter().map(|window| WindowCount {
            kind: window.kind.into(),
            seconds: window.seconds,
            count: count(window.seconds, window.kind),
        });
        lines.push(Line {
            facts: Facts {
                counts: counts.collect(),
                ..Facts::default()
            },
            event: Event {
                kind: kind.into(),
                seq,
                at,
                agent: Some("clawker.demo.a".into()),
                body: format!("{body}}}"),
            },
            said: said.trim_start().into(),
        });
    }
    lines
}

/// The page names every kind and every window, and no other.
pub fn check_lists() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins/rules.md");
    let page = std::fs::read_to_string(page).expect("docs/plugins/rules.md");
    let (_, section) = page.split_once("## What they are asked about").expect("a section");
    let (kinds, rest) = section.split_once("and for counts").expect("a list of kinds");
    let kinds: Vec<&str> = kinds.split('`').skip(1).step_by(2).collect();
    assert_eq!(kinds, watched::EVENTS);
    let mut windows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for window in watched::WINDOWS {
        windows.entry(window.kind).or_default().push(window.seconds.to_string());
    }
    let rows: Vec<String> = windows
        .iter()
        .map(|(kind, seconds)| format!("| `{kind}` | {} |", seconds.join(", ")))
        .collect();
    let table: Vec<&str> = rest
        .lines()
        .filter(|line| line.starts_with("| `"))
        .take(rows.len())
        .collect();
    assert_eq!(table, rows);
}
